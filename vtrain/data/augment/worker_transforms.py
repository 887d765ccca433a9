"""torchvision v2 transforms by name, for what runs in the workers."""

import inspect
from collections.abc import Callable
from typing import Any, Self

import torch
from pydantic import ConfigDict, model_validator
from torch import Tensor

from vtrain.registry import Section, suggest


class WorkerTransform(Section):
    """One of torchvision's v2 transforms, with its own arguments: `{name: RandomErasing, p: 0.25}`.

    It gets and must return (C, S, S) uint8, and is seeded for each sample.
    """

    model_config = ConfigDict(extra="allow")  # the transform's own arguments

    name: str

    @model_validator(mode="after")
    def _exists_and_binds(self) -> Self:
        try:
            inspect.signature(self._constructor()).bind(**(self.model_extra or {}))
        except TypeError as error:
            raise ValueError(f"{self.name}: {error}") from None
        return self

    def _constructor(self) -> Callable[..., Any]:
        from torchvision.transforms import v2  # slow to import, and seldom asked for

        transforms = {
            name: value
            for name, value in vars(v2).items()
            if inspect.isclass(value) and issubclass(value, v2.Transform)
        }
        if self.name not in transforms:
            hint = suggest(self.name, sorted(transforms))
            raise ValueError(f"torchvision has no v2 transform '{self.name}': {hint}")
        return transforms[self.name]

    def build(self, image_size: int, channels: int = 3) -> Callable[[Tensor], Tensor]:
        """Construct the transform and try it on a black image.

        Raises:
            ValueError: torchvision refuses the arguments, or the result has another shape or type.
        """
        blank = torch.zeros(channels, image_size, image_size, dtype=torch.uint8)
        try:
            transform: Callable[[Tensor], Tensor] = self._constructor()(**(self.model_extra or {}))
            # The trial must not move the generator that the run's own weights come from.
            with torch.random.fork_rng(devices=[]):
                result = transform(blank)
        except Exception as error:  # whatever torchvision raises, the arguments are to blame
            raise ValueError(f"transforms: {self.name}: {error}") from error
        given = type(result).__name__
        if isinstance(result, Tensor):
            given = f"{result.dtype} {tuple(result.shape)}"
        if given != f"{blank.dtype} {tuple(blank.shape)}":
            raise ValueError(
                f"transforms: {self.name} gives {given}, and must give uint8 {tuple(blank.shape)}"
            )
        return transform
