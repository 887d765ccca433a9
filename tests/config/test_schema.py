"""What a config may say, and what is said about its keys."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from vtrain.config import Config, config_from_text, rule_on_resume, switched_off
from vtrain.config.schema import SECTIONS, SectionSchema, build_schema
from vtrain.files.yaml import Document
from vtrain.registry import FREE_ON_RESUME, Component, off

TEXT = """
model: {name: vit_ti, patch_size: 2}
data: {name: digits, image_size: 8}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 1, distillation: {teacher: x}}
"""


def config() -> Config:
    return config_from_text(TEXT, "run.yaml")


def test_a_key_has_one_declaration() -> None:
    """The keys of a section are those of its class and constructors, with their defaults."""
    for section in SECTIONS:
        found: BaseModel = config()
        for key in section.keys:
            found = getattr(found, str(key)) or found
        keys = [key for c in map(Component.of, section.constructors) for key, *_ in c.parameters()]
        assert not set(keys) & set(section.base.model_fields)
        assert len(keys) == len(set(keys))
        if isinstance(found, section.base) and section.keys != ("train", "early_stopping"):
            assert set(keys) <= set(type(found).model_fields)


@pytest.mark.parametrize("constructor", [c for s in SECTIONS for c in s.constructors])
def test_every_key_of_a_constructor_is_described(constructor: Callable[..., Any]) -> None:
    component = Component.of(constructor)
    assert all(component.description(key) for key, *_ in component.parameters())


def test_two_declarations_of_one_key_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*, crop: bool = True) -> None: ...

    twice = SectionSchema(("augment",), constructors=(*SECTIONS[2].constructors, again))
    monkeypatch.setattr("vtrain.config.schema.SECTIONS", (*SECTIONS[:2], twice, *SECTIONS[3:]))
    with pytest.raises(AssertionError, match="two keys are called crop"):
        build_schema(Document("run.yaml", {}))


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("seed", "fixed"),
        ("model.depth", "fixed"),
        ("data.num_workers", "free"),
        ("data.cache", "free"),
        ("data.on_bad_image", "changeable"),
        ("data.val_fraction", "fixed"),
        ("augment.crop", "fixed"),
        ("optimizer.lr", "changeable"),
        ("optimizer.weight_decay", "fixed"),
        ("schedule.warmup_epochs", "changeable"),
        ("schedule.name", "changeable"),
        ("train.epochs", "changeable"),
        ("train.max_steps", "free"),
        ("train.compile", "free"),
        ("train.loss", "fixed"),
        ("train.loss.label_smoothing", "fixed"),
        ("train.early_stopping", "changeable"),
        ("train.early_stopping.patience", "changeable"),
        ("train.distillation", "fixed"),
        ("train.distillation.teacher", "changeable"),
        ("train.distillation.kind", "fixed"),
        ("checkpoint.keep", "free"),
        ("checkpoint.every_steps", "free"),
        ("logging.images", "free"),
        ("augment.no_such_key", "fixed"),
    ],
)
def test_a_key_says_whether_it_may_differ_when_a_run_goes_on(key: str, rule: str) -> None:
    given = config_from_text(TEXT, "run.yaml", ["train.distillation={teacher: run, kind: soft}"])
    assert rule_on_resume(given, key) == rule


def test_a_key_says_what_keeps_a_model_from_memorising() -> None:
    off_in = {name: switched_off(getattr(config(), name)) for name in ("data", "train", "schedule")}
    assert off_in == {
        "data": {"repeats": 1, "balanced": False},
        "train": dict.fromkeys(
            ("max_steps", "max_minutes", "ema_decay", "early_stopping", "distillation")
        ),
        "schedule": {},
    }


def test_a_key_may_say_both() -> None:
    def both(*, n: Annotated[int, FREE_ON_RESUME, off(3)] = 1) -> None: ...

    field = Component.of(both).section().model_fields["n"]
    assert field.json_schema_extra == {"resume": "free", "overfit": 3}
