import pytest

from vtrain.config.keys import all_keys
from vtrain.config.schema import SECTIONS
from vtrain.config.sections import Config, LoggingSection, TrainSection
from vtrain.registry import Component

KEYS = all_keys()


def declared() -> set[str]:
    """Return every dotted key that a signature or a section declares, read without pydantic."""
    names = {"seed", *(f"logging.{key}" for key in LoggingSection.model_fields)}
    sections = {".".join(map(str, section.keys)) for section in SECTIONS}
    names |= {f"train.{key}" for key in TrainSection.model_fields}
    for section in SECTIONS:
        dotted = ".".join(map(str, section.keys))
        components = [Component.of(constructor) for constructor in section.constructors]
        if section.registry is not None:
            components += [section.registry[name] for name in section.registry.names()]
        keys = {name for component in components for name, _, _ in component.parameters()}
        names |= {f"{dotted}.{key}" for key in keys | set(section.base.model_fields)}
    return names - sections


NESTED = {"augment.policy", "data.fold", "model.lora"}
"""Keys that are sections themselves: their own keys are listed in their place."""


def test_every_key_of_every_signature_is_there() -> None:
    assert declared() - NESTED <= set(KEYS)
    assert all(any(key.startswith(f"{nested}.") for key in KEYS) for nested in NESTED)


def test_there_is_no_key_that_nothing_declares() -> None:
    plain = {name for name in KEYS if name.rpartition(".")[0] not in NESTED}
    assert plain <= declared()
    assert {name.partition(".")[0] for name in KEYS} == set(Config.model_fields)


@pytest.mark.parametrize("name", KEYS)
def test_every_key_says_what_it_means_and_what_it_takes(name: str) -> None:
    for variant in KEYS[name].variants:
        assert variant.meaning.endswith((".", ")")), "a sentence, from docstring or type"
        assert variant.type
        assert variant.default


def test_a_model_s_presets_are_variants() -> None:
    variants = KEYS["model.embed_dim"].variants.items()
    widths = {name: variant.default for variant, names in variants for name in names}
    assert (widths["vit_ti"], widths["vit_b"], widths["swin_t"]) == ("192", "768", "96")
    assert KEYS["model.embed_dim"].default == "by name"


def test_ranges_and_choices_are_told_in_words() -> None:
    def kind(name: str) -> str:
        return KEYS[name].main.type

    assert kind("train.epochs") == "integer above 0"
    assert kind("train.loss.label_smoothing") == "number in [0, 1]"
    assert kind("model.drop_path_rate") == "number in [0, 1)"
    assert kind("train.precision") == "one of auto, fp32, bf16, fp16"
    assert kind("train.grad_clip_norm") == "number above 0 or null"
    assert kind("data.mean") == "list of: number in [0, 1) or null"
    assert kind("train.compile") == "auto or true or false"
