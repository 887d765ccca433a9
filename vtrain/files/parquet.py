"""Parquet files of images, by pyarrow: their layout, their labels, and groups of their rows."""

import json
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from vtrain.errors import ConfigError, DataError, printable

INSTALL = "pip install 'vtrain[parquet]', or pip install pyarrow"
USUAL_LABELS = {"label", "labels"}
"""What the column of labels is called, if there are several columns that might be it."""
KEPT = 128 * 2**20
"""Bytes of groups of rows that a process keeps, beside the one that was read last."""


@dataclass(frozen=True)
class ParquetShard:
    """What a file says without its images."""

    path: Path
    size: int
    """Bytes of the file."""
    image: str
    """The column of the images' content, as pyarrow calls it: `image.bytes`."""
    label: str
    names: tuple[str, ...] | None
    """The names of the classes, where the schema has them."""
    labels: tuple[Any, ...]
    """Of each row: a number, a text or None; of several labels a list of them."""
    has_several: bool
    """Whether each row has a list of labels."""
    group_rows: tuple[int, ...]
    """How many rows each group has."""
    largest_group: int
    """Bytes of the largest, unpacked."""

    def each(self) -> Iterator[int | str | None]:
        """Yield every label of every row."""
        for label in self.labels:
            yield from (label or ()) if self.has_several else (label,)

    @property
    def layout(self) -> tuple[object, ...]:
        """What all files of a split have in common."""
        return self.image, self.label, self.names, self.has_several


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn whatever pyarrow raises into a DataError that names the file."""
    try:
        yield
    except ImportError:
        raise ConfigError("a Parquet file needs the package pyarrow", path, INSTALL) from None
    except DataError:
        raise
    except MemoryError:
        raise DataError("too little memory to read this file", path) from None
    except Exception as error:  # ArrowInvalid, OSError, ValueError and others, by what is damaged
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"not a readable Parquet file: {printable(first)[:100]}", path) from None


def open_shard(path: Path, image: str | None, label: str | None) -> ParquetShard:
    """Read what a file says of itself, and its labels; `image` and `label` name its columns.

    Raises:
        DataError: It is damaged, or has no such columns.
        ConfigError: pyarrow is not installed.
    """
    with _named(path):
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            features = _features(schema.metadata)
            content = _image_column(schema, features, image, path)
            chosen = _label_column(schema, features, label, content, path)
            labels = file.read(columns=[chosen], use_threads=False).column(0).to_pylist()
            groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
            return ParquetShard(
                path,
                path.stat().st_size,
                content,
                chosen,
                _names(features.get(chosen)),
                tuple(labels),
                _is_list(schema.field(chosen).type),
                tuple(group.num_rows for group in groups),
                max((group.total_byte_size for group in groups), default=0),
            )


def _features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """Return what `datasets` says of the columns; nothing of a file of another program."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _names(feature: object) -> tuple[str, ...] | None:
    # Of a list it is that of its elements, written in one of the ways of `datasets`' versions.
    if isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    elif isinstance(feature, dict) and "feature" in feature:
        feature = feature["feature"]
    names = feature.get("names") if isinstance(feature, dict) else None
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        return None
    return tuple(names)


def _image_column(schema: Any, features: dict[str, Any], wanted: str | None, path: Path) -> str:
    """Return the column of the images' content."""
    import pyarrow as pa

    def content(field: Any) -> str | None:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            inner, name = kind.field("bytes").type, f"{field.name}.bytes"
        else:
            inner, name = kind, field.name
        return name if pa.types.is_binary(inner) or pa.types.is_large_binary(inner) else None

    found = {field.name: name for field in schema if (name := content(field)) is not None}
    said = [
        n
        for n in found
        if isinstance(features.get(n), dict) and features[n].get("_type") == "Image"
    ]
    return found[_only(wanted, said or list(found), schema, "image", path)]


def _label_column(
    schema: Any, features: dict[str, Any], wanted: str | None, image: str, path: Path
) -> str:
    """Return the column of the labels."""
    import pyarrow as pa

    one = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
    kinds = {field.name: field.type for field in schema if field.name != image}
    kinds = {name: kind.value_type if _is_list(kind) else kind for name, kind in kinds.items()}
    found = [name for name, kind in kinds.items() if any(is_kind(kind) for is_kind in one)]
    said = [name for name in found if _names(features.get(name)) is not None]
    usual = [name for name in found if name in USUAL_LABELS]
    return _only(wanted, said or usual or found, schema, "label", path)


def _only(wanted: str | None, found: list[str], schema: Any, what: str, path: Path) -> str:
    """Return the column that is wanted, or the only one there is."""
    if wanted is not None and wanted in found:
        return wanted
    if wanted is None and len(found) == 1:
        return found[0]
    columns = printable(", ".join(f"{field.name} ({field.type})" for field in schema))[:200]
    if wanted is not None:
        raise DataError(f"there is no column '{wanted}' of {what}s", path, f"there are {columns}")
    many = f"{len(found)} columns of {what}s" if found else f"no column of {what}s"
    hint = f"name one by data.{what}" if found else f"there are {columns}"
    raise DataError(f"{many}{': ' * bool(found)}{printable(', '.join(found))[:100]}", path, hint)


class RowGroups:
    """Reads images out of groups of rows, and keeps the groups that were read last.

    Each process has its own: an open file would be shared by forked workers, position included.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock = os.getpid(), Lock()
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # neither locks nor open files go to another process

    def __setstate__(self, _: dict[str, Any]) -> None:
        self._begin()

    def content(self, path: Path, column: str, group: int, row: int) -> bytes | None:
        """Return the bytes of one image; None if the row has none.

        Raises:
            DataError: The file cannot be read.
        """
        if self._process != os.getpid():
            self._begin()
        with self._lock:  # threads that want the same group read it once
            cells = self._group(path, column, group)
        value = cells[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        return content if isinstance(content, bytes) else None

    def _group(self, path: Path, column: str, group: int) -> Any:
        key = (path, group)
        if key in self._groups:
            self._groups.move_to_end(key)
            return self._groups[key]
        with _named(path):
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                cells = file.read_row_group(group, columns=[column], use_threads=False).column(0)
        self._groups[key] = cells
        while len(self._groups) > 1 and sum(c.nbytes for c in self._groups.values()) > KEPT:
            self._groups.popitem(last=False)
        return cells
