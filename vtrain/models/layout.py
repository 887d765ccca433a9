"""What the tokens of a model are: where they lie on the image, and which of them meet.

Everything that draws or measures attention reads it from here and knows no model by name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from vtrain.layers.windows import Windows


@dataclass(frozen=True)
class AttentionLayer:
    """The tokens of one attention module.

    The weights of its windows, (B * nW, H, n, n), have the order of `windows`: window after window
    of an image, image after image. Without windows nW is 1, and the n tokens are those in front and
    then the map, row by row.

    Attributes:
        module: The name of the module, as in `named_modules`.
        features: The name of a module of the same block whose output is these tokens, in the order
            of the map: (B, n, D), (B, rows, columns, D), or (B * nW, n, D) for words.
        rows: Of the map that the tokens are on; it covers the whole image.
        columns: The same.
        prefix: What the tokens in front of the map are.
        windows: How the map is cut into parts whose tokens meet; None where all do.
        level: `words` are inside the patches of another layer, and so a map of their own.
    """

    module: str
    features: str
    rows: int
    columns: int
    prefix: tuple[str, ...] = ()
    windows: Windows | None = None
    level: Literal["patches", "words"] = "patches"


@dataclass(frozen=True)
class AttentionLayout:
    """The attention of a model from input to output, and what its heads read.

    Where the map of a layer is smaller than that of the one before, each of its tokens is made of
    the two by two (at the border, fewer) of the larger map.

    Attributes:
        layers: In the order in which they are computed.
        pooled: The tokens in front of the last map that the heads read, by name; none where they
            read the mean of the map.
    """

    layers: tuple[AttentionLayer, ...]
    pooled: tuple[str, ...] = ()

    @property
    def patches(self) -> tuple[AttentionLayer, ...]:
        """The layers through which an image comes to the heads; not those inside patches."""
        return tuple(layer for layer in self.layers if layer.level == "patches")


def words_of(patches: AttentionLayer, side: int, module: str, features: str) -> AttentionLayer:
    """Return the layer of the words of each patch, `side` x `side`.

    They are a map of their own, whose windows are the patches: words only meet there.
    """
    rows, columns = patches.rows * side, patches.columns * side
    windows = Windows(rows, columns, side)
    return AttentionLayer(module, features, rows, columns, (), windows, "words")


def repeated(
    block: Iterable[AttentionLayer], count: int, pooled: tuple[str, ...]
) -> AttentionLayout:
    """Return the layout of `blocks.0`, `blocks.1`, ... from the layers that each of them has."""
    block = tuple(block)
    return AttentionLayout(
        tuple(
            replace(
                layer,
                module=f"blocks.{i}.{layer.module}",
                features=f"blocks.{i}.{layer.features}",
            )
            for i in range(count)
            for layer in block
        ),
        pooled,
    )
