"""What a sweep tries of one key: a range or a list of choices, and the lists of a grid."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from vtrain.registry import Section

if TYPE_CHECKING:  # the extra may not be installed
    from optuna.distributions import BaseDistribution

Number = int | float


class Dimension(Section):
    """The values that a key may take: `{low, high, log, step}`, or `{choices}`."""

    low: Number | None = None
    """The least value; where both ends are whole numbers, so are all values between them."""
    high: Number | None = None
    """The largest value."""
    log: bool = False
    """Whether each factor is as likely as any other, in place of each difference."""
    step: Annotated[Number, Field(gt=0)] | None = None
    """The distance between two values; null takes any."""
    choices: list[Any] | None = None
    """The values, where they are no range."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            if {self.low, self.high, self.step} != {None} or self.log:
                raise ValueError("must be a range or choices, and not both")
            refuse_repeated(self.choices)
            return self
        if self.low is None or self.high is None:
            raise ValueError("must have low and high, or choices")
        if self.low >= self.high:
            raise ValueError(f"must have a low that is less than high, which is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError("must have a low above 0 where log is true")
        if self.log and self.step is not None:
            raise ValueError("must have log or step, and not both")
        # In decimals, as it was written: 0.3 is no multiple of 0.1 in binary.
        low, high, step = (Decimal(str(n)) for n in (self.low, self.high, self.step or 1))
        if self.step is not None and (high - low) % step:
            raise ValueError("must have a step of which high - low is a multiple")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return all(isinstance(n, int) for n in (self.low, self.high, self.step or 1))

    def examples(self) -> list[Any]:
        """Return the values that show whether a config takes all of them."""
        return [self.low, self.high] if self.choices is None else self.choices

    def distribution(self) -> "BaseDistribution":
        """Return the same as optuna has it; choices are their names."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.choices is not None:
            return CategoricalDistribution([name_of(choice) for choice in self.choices])
        assert self.low is not None
        assert self.high is not None
        if self.is_whole:
            step = 1 if self.step is None else int(self.step)
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=step)
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, suggested: Any) -> Any:
        """Return what stands in the config for what optuna suggests."""
        if self.choices is None:
            return suggested
        return next(choice for choice in self.choices if name_of(choice) == suggested)


def name_of(choice: Any) -> str:
    """Return a choice as one line of text: what optuna, its dashboard and the page call it."""
    return choice if isinstance(choice, str) else json.dumps(choice)


def refuse_repeated(choices: Sequence[Any]) -> None:
    """Refuse a list with nothing in it, or with two values that no name tells apart.

    Raises:
        ValueError: It says which value.
    """
    if not choices:
        raise ValueError("must have at least one value")
    names = [name_of(choice) for choice in choices]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"must have each value once, and has {name} twice")


def cells(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, str]]:
    """Yield the names of the values of each cell of a grid; the last key changes first."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, map(name_of, values), strict=True))
