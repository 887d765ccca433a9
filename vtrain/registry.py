"""Name -> constructor. The constructor's signature is the schema of its YAML section.

Parameters before the `*` are handed in by the program; those after it may be set in YAML, with the
type, range and default that the signature states. A default is written nowhere else. Registering
one constructor under several names with different presets makes the sizes of a model family.
"""

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model

from vtrain.errors import ConfigError, shortened

Probability = Annotated[float, Field(ge=0, lt=1)]
"""A number in [0, 1)."""
FREE_ON_RESUME = Field(json_schema_extra={"resume": "free"})
"""Marks a key that may differ when a run goes on: it does not change its result, but for
rounding."""
CHANGEABLE_ON_RESUME = Field(json_schema_extra={"resume": "changeable"})
"""Marks a key that may get another value when a run goes on, which counts from there on: what an
error advises, how long the run is, where its files are (the fingerprint knows the images again)."""

USED_BY_EVAL = Field(json_schema_extra={"eval": "used"})
"""Marks a key beside `data` that an evaluation obeys; what it would ignore it refuses."""


def off(value: Any) -> Any:
    """Mark a key that `--overfit` sets to `value`: any other keeps a model from memorising."""
    return Field(json_schema_extra={"overfit": value})


DropRate = Annotated[Probability, off(0.0)]
"""The chance of dropping something in training, of which memorising wants none."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""

Depth = Annotated[int, Field(ge=1, le=1000)]
"""Blocks of a model, or of a stage: far more than any published one has would never be built."""

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")


class Section(BaseModel):
    """A section of the config: complete, frozen, and closed to keys and types it does not name."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class ComponentSection(Section):
    """A section that names a component; the component's signature adds the other keys."""

    name: str


@dataclass(frozen=True, eq=False)
class Component:
    """One registered name: a constructor and the defaults this name changes."""

    name: str
    constructor: Callable[..., Any]
    preset: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    """The paper that describes it."""

    @classmethod
    def of(cls, constructor: Callable[..., Any]) -> "Component":
        """Return a constructor that no registry has a name for."""
        return cls(constructor.__name__, constructor)

    def parameters(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield (name, annotation, default) of each parameter that YAML may set.

        The default of a required parameter is `inspect.Parameter.empty`.
        """
        function = self.constructor
        # With extras: the ranges and marks in `Annotated` are part of the schema.
        hints = get_type_hints(
            function.__init__ if inspect.isclass(function) else function, include_extras=True
        )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                default = self.preset.get(parameter.name, parameter.default)
                yield parameter.name, hints[parameter.name], default

    def default(self, parameter: str) -> Any:
        """Return the default of any parameter, those that the program hands in included."""
        # A name's preset comes before what the constructor states for all of its names.
        if parameter in self.preset:
            return self.preset[parameter]
        return inspect.signature(self.constructor).parameters[parameter].default

    def fields(self) -> dict[str, Any]:
        """Return each parameter that YAML may set as a field of pydantic: its type and default."""
        return {
            name: (annotation, ... if default is inspect.Parameter.empty else default)
            for name, annotation, default in self.parameters()
        }

    def section(self) -> type[ComponentSection]:
        """Return a section of this component alone."""
        return create_model(self.name, __base__=ComponentSection, **self.fields())

    def arguments(self, section: Section) -> dict[str, Any]:
        """Return the part of a validated section that belongs to the constructor."""
        return {name: getattr(section, name) for name, _, _ in self.parameters()}

    def description(self, parameter: str) -> str:
        """Return what the constructor's docstring says about a parameter; empty if nothing."""
        docstring = inspect.getdoc(self.constructor) or ""
        # From its name to the next name at the same depth, or to the end of the paragraph.
        entry = re.search(rf"^    {parameter}: (.+?)(?=^    \S|^$|\Z)", docstring, re.M | re.S)
        return " ".join(entry[1].split()) if entry else ""

    @property
    def summary(self) -> str:
        """The first line of the constructor's docstring."""
        return (inspect.getdoc(self.constructor) or "").partition("\n")[0]

    def __call__(self, *handed: Any, **arguments: Any) -> Any:
        """Construct the component; a value that it refuses is the user's mistake."""
        return self.constructor(*handed, **{**self.preset, **arguments})


@dataclass(eq=False)
class Registry:
    """The components of one kind, found on first use by importing the modules that register them.

    Those are the module `package`, or all modules of it.
    """

    kind: str
    package: str
    _components: dict[str, Component] = field(default_factory=dict)
    _discovered: bool = False

    def register(self, name: str, *, reference: str = "", **preset: Any) -> Callable[[C], C]:
        """Make a constructor known as `name`, with `preset` in place of its own defaults."""

        def decorate(constructor: C) -> C:
            # A ValueError, for it is our mistake: the user's are ConfigErrors.
            if name in self._components:
                raise ValueError(f"two {self.kind}s are called '{name}'")
            self._components[name] = Component(name, constructor, preset, reference)
            return constructor

        return decorate

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        self._discover()  # nothing is imported before a name is asked for
        return sorted(self._components)

    def __getitem__(self, name: str) -> Component:
        """Return the component called `name`.

        Raises:
            ConfigError: No component has that name; the message offers the nearest ones.
        """
        self._discover()
        if name not in self._components:
            raise ConfigError(
                f"unknown {self.kind} '{shortened(name)}'",
                hint=suggest(_begun(name, self.names()) or name, self.names()),
            )
        return self._components[name]

    def _discover(self) -> None:
        if self._discovered:
            return
        # Importing a module runs its decorators, which call `register`.
        package = importlib.import_module(self.package)
        folder = getattr(package, "__path__", ())  # only a package has one
        for module in pkgutil.iter_modules(folder, prefix=self.package + "."):
            importlib.import_module(module.name)
        self._discovered = True


def bind(constructor: Callable[..., T], section: Section) -> Callable[..., T]:
    """Return a constructor, or a component, with all that a section says to it."""
    if isinstance(constructor, Component):
        return partial(constructor, **constructor.arguments(section))
    return partial(constructor, **Component.of(constructor).arguments(section))


@contextmanager
def section(name: str) -> Iterator[None]:
    """Turn a constructor's refusal of its values into a mistake in the config's section `name`."""
    try:
        yield
    except ValueError as error:  # anything else is a bug, not a mistake
        raise ConfigError(f"{name}: {error}") from error


def suggest(given: str, allowed: list[str]) -> str:
    """Say what is allowed: the nearest name if one is close, else all of them, or the first."""
    # First what differs by capitals and separators alone: AdamW is adamw, although adam is as near.
    of = {_plain(name): name for name in reversed(allowed)}
    # 0.6 is the default of difflib: a letter swapped or missing is near, another word is not.
    near = (
        [_plain(given)]
        if _plain(given) in of
        else difflib.get_close_matches(_plain(given), of, n=1)
    )
    if near:
        return f"did you mean '{of[near[0]]}'?"
    # A guess among names of which none is near would mislead.
    more = f", ... ({len(allowed)} in all)" if len(allowed) > 20 else ""
    return f"choose one of {', '.join(allowed[:20])}{more}"


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _begun(given: str, names: list[str]) -> str | None:
    """Return the longest name that `given` begins with: `CosineAnnealingLR` is more of `cosine`."""
    begins = [n for n in names if len(n) >= SHORTEST and _plain(given).startswith(_plain(n))]
    return max(begins, key=len, default=None)


SHORTEST = 4
"""Characters of a name that others may have made longer."""
MODELS = Registry("model", "vtrain.models")
SOURCES = Registry("dataset", "vtrain.data.datasets")
OPTIMIZERS = Registry("optimizer", "vtrain.optim.optimizers")
SCHEDULES = Registry("schedule", "vtrain.optim.schedules")
LOSSES = Registry("loss", "vtrain.optim.losses")
