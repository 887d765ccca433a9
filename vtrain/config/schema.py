"""Which keys a config may have: the signatures of the constructors that it configures.

A section's keys are those of its class in `vtrain.config.sections` and the keyword-only parameters
of its constructors, of which one may be chosen by `name`. So a key's type, range, default and
description stand where it is used, and nowhere else.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

from pydantic import Field, create_model

from vtrain.config.sections import (
    CheckpointSection,
    Config,
    DataSection,
    DistillationSection,
    ModelSection,
    OptimizerSection,
    ScheduleSection,
    TrainSection,
)
from vtrain.data.augment.augment import Augment
from vtrain.data.augment.colour import Colour
from vtrain.data.augment.crop_flip import CropFlip
from vtrain.data.augment.erasing import Erasing
from vtrain.data.augment.mixing import Mixing
from vtrain.data.datasets.splits import Split
from vtrain.data.loading.loader import EvalLoader, TrainLoader
from vtrain.data.preprocess import Preprocess
from vtrain.engine.early_stopping import EarlyStopping
from vtrain.errors import ConfigError, printable
from vtrain.files.store import CheckpointStore
from vtrain.files.yaml import Document, Keys
from vtrain.optim.distillation import Distillation
from vtrain.registry import (
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    SOURCES,
    Component,
    ComponentSection,
    Registry,
    Section,
)

ResumeRule: TypeAlias = Literal["free", "changeable", "fixed"]


@dataclass(frozen=True)
class SectionSchema:
    """What the keys of one section come from."""

    keys: Keys
    base: type[Section] = Section
    """Its keys that no constructor declares."""
    constructors: tuple[Callable[..., Any], ...] = ()
    registry: Registry | None = None
    """Where the component is found that the section's key `name` chooses."""
    default_name: str | None = None


SECTIONS = (
    SectionSchema(("model",), ModelSection, (), MODELS),
    SectionSchema(("data",), DataSection, (Preprocess, Split, TrainLoader), SOURCES),
    SectionSchema(("augment",), Section, (CropFlip, Colour, Erasing, Augment, Mixing)),
    SectionSchema(("optimizer",), OptimizerSection, (), OPTIMIZERS),
    SectionSchema(("schedule",), ScheduleSection, (), SCHEDULES, "cosine"),
    SectionSchema(("train", "loss"), ComponentSection, (), LOSSES, "cross_entropy"),
    SectionSchema(("train", "early_stopping"), Section, (EarlyStopping,)),
    SectionSchema(("train", "distillation"), DistillationSection, (Distillation,)),
    SectionSchema(("checkpoint",), CheckpointSection, (CheckpointStore,)),
)
"""Every section that has keys of constructors, in the order in which mistakes are found."""
REGISTRIES = {section.keys: section.registry for section in SECTIONS if section.registry}
"""Sections that name a component, and may be its name alone: `model: swin_t`."""


def build_schema(document: Document) -> type[Config]:
    """Return the schema for the components that a document names; unknown names are mistakes."""
    return _schema(SECTIONS, tuple(_chosen(section, document) for section in SECTIONS))


def _chosen(section: SectionSchema, document: Document) -> Component | None:
    """Return the component that a document names in a section, None if it names none that is."""
    if section.registry is None:
        return None
    # The raw document: which keys a section may have is known only once its name is read.
    raw: Any = document.data
    for key in section.keys:  # the document is not validated yet: anything may stand there
        raw = raw.get(key) if isinstance(raw, dict) else None
    if section.default_name is not None and isinstance(raw, dict):
        raw.setdefault("name", section.default_name)  # `schedule: {floor: 0.1}` is a cosine
    name = raw.get("name") if isinstance(raw, dict) else section.default_name
    if not isinstance(name, str):  # pydantic says that it is missing, or no text
        return None
    try:
        return section.registry[name]
    except ConfigError as error:
        what = f"{'.'.join(map(str, section.keys))}.name: {error.what}"
        where = document.where((*section.keys, "name"))
        # Other programs take a folder there. `os`: of a name that no file can have it says no.
        is_folder = section.keys == ("data",) and os.path.isdir(name)  # noqa: PTH112
        hint = f"did you mean data.root={printable(name)}?" if is_folder else error.hint
        document.mistakes.append(ConfigError(what, where, hint))
        return None


@lru_cache(maxsize=32)  # pydantic needs a hundred times as long to make one as to use it
def _schema(
    sections: tuple[SectionSchema, ...], chosen: tuple[Component | None, ...]
) -> type[Config]:
    """Return the schema of a config whose sections have chosen these components."""
    # Two levels are all there are: sections of the config, and those of `train` within it.
    fields: dict[str, dict[str, Any]] = {"train": {}, "": {}}
    for section, component in zip(sections, chosen, strict=True):
        *parents, key = map(str, section.keys)
        owner = TrainSection if parents else Config
        fields["".join(parents)][key] = _field(section, component, owner)
    train = create_model("Train", __base__=TrainSection, **fields["train"])
    return create_model("Config", __base__=Config, train=(train, ...), **fields[""])


def _field(
    section: SectionSchema, component: Component | None, owner: type[Section]
) -> tuple[Any, Any]:
    """Return the type and the default of a section as pydantic takes them."""
    schema = _schema_of(section, component)
    declared = owner.model_fields[str(section.keys[-1])]
    if not declared.is_required():  # a section that is off unless it is given
        extra = declared.json_schema_extra
        return schema | None, Field(default=None, json_schema_extra=extra)
    given = {} if section.registry is None else {"name": section.default_name}
    is_chosen = section.registry is None or (component and section.default_name)
    required = {key for key, field in schema.model_fields.items() if field.is_required()}
    # It may be left out if everything in it has a default. (`...` is pydantic's "required".)
    return schema, schema(**given) if is_chosen and required <= given.keys() else ...


@lru_cache(maxsize=128)  # a config that differs in its model has the other sections of all
def _schema_of(section: SectionSchema, component: Component | None) -> type[Section]:
    """Return the schema of a section that has chosen a component."""
    components = [Component.of(constructor) for constructor in section.constructors]
    if section.registry is None:
        return _composed(section.base, components)
    return (
        _composed(section.base, [*components, component]) if component else _anything(section.base)
    )


def _composed(base: type[Section], components: list[Component]) -> type[Section]:
    """Return a section with the keys of several constructors, none of which may be declared twice.

    A component that a user names comes last.
    """
    fields: dict[str, Any] = {}
    for component in components:
        for key, field in component.fields().items():
            assert key not in {**base.model_fields, **fields}, f"two keys are called {key}"
            fields[key] = field
    return create_model("_".join(c.name for c in components), __base__=base, **fields)


def _anything(base: type[Section]) -> type[Section]:
    """Return a section that takes any key, so that one unknown name hides no other mistake."""
    return create_model("Any", __base__=base, __cls_kwargs__={"extra": "ignore"})


def switched_off(section: Section) -> dict[str, Any]:
    """Return the keys that keep a model from memorising images, with what `--overfit` sets."""
    return {
        key: extra["overfit"]
        for key, field in type(section).model_fields.items()
        if isinstance(extra := field.json_schema_extra, dict) and "overfit" in extra
    }


def rule_on_resume(config: Config, dotted: str) -> ResumeRule:
    """Return whether a key may differ when a run goes on.

    `free` changes nothing but rounding, `changeable` counts from there on, `fixed` must stay.
    """
    section: Any = config
    for key in dotted.split("."):
        field = type(section).model_fields.get(key) if isinstance(section, Section) else None
        if field is None:  # a part of a plain mapping, or of a component that the run had before
            return "fixed"
        section = getattr(section, key)
        # A key, or the section that it opens; whatever is in it then follows the same rule.
        extras: list[Any] = [field.json_schema_extra]
        if isinstance(section, Section):
            extras.append(type(section).model_config.get("json_schema_extra"))
        for extra in extras:
            if isinstance(extra, dict) and "resume" in extra:
                return cast(ResumeRule, extra["resume"])
    return "fixed"


def keys_of(*constructors: Callable[..., Any]) -> set[str]:
    """Return the keys that constructors, or components, declare."""
    components = [c if isinstance(c, Component) else Component.of(c) for c in constructors]
    return {name for component in components for name, _, _ in component.parameters()}


def is_used_by_eval(config: Config, name: str, key: str) -> bool:
    """Return whether an evaluation obeys a key of the section `name`: all others it would ignore.

    Of `data` those that say which images and how they are read; how they become the model's input
    is the checkpoint's.
    """
    if name == "data":
        return key == "name" or key in keys_of(SOURCES[config.data.name], Split, EvalLoader)
    extra = type(getattr(config, name)).model_fields[key].json_schema_extra
    return isinstance(extra, dict) and extra.get("eval") == "used"
