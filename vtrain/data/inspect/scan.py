"""Look at every image of a dataset before training does: counts, sizes, bad files, duplicates."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
from tqdm import tqdm

from vtrain.data.datasets.folder import shown
from vtrain.data.datasets.samples import (
    ArraySamples,
    FileSamples,
    Samples,
    Source,
    SplitName,
    origin,
    subset,
)
from vtrain.errors import DataError, printable
from vtrain.files.images import decode_image, read_bytes
from vtrain.resources import cpu_count

CHUNK = 64
"""Images that a thread looks at in one go."""


@dataclass(frozen=True)
class BadImage:
    """An image that cannot be used, and why."""

    name: str
    label: str
    what: str


@dataclass(frozen=True)
class SplitReport:
    """What is in one split."""

    images: int
    per_class: dict[str, int]
    sizes: dict[str, int]
    """`width x height` -> images, the most frequent first."""
    ignored: dict[str, int]
    """Ending -> files that are no images."""
    bad: list[BadImage]


@dataclass(frozen=True)
class Copy:
    """One of several files with the same content."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class ScanReport:
    """What is in a dataset."""

    splits: dict[str, SplitReport]
    duplicates: list[list[Copy]]
    """Groups of files with the same content."""
    notes: tuple[str, ...]

    @property
    def leaks(self) -> list[list[Copy]]:
        """The groups with copies in more than one split."""
        return [group for group in self.duplicates if len({copy.split for copy in group}) > 1]

    @property
    def contradictions(self) -> list[list[Copy]]:
        """The groups with copies in more than one class."""
        return [group for group in self.duplicates if len({copy.label for copy in group}) > 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield the report as text, safe to print on a terminal."""
        for name, split in self.splits.items():
            yield from (printable(line) for line in _split_lines(name, split))
        yield from (printable(line) for line in self._duplicate_lines())
        yield from (printable(note) for note in self.notes)

    def _duplicate_lines(self) -> Iterator[str]:
        surplus = sum(len(group) - 1 for group in self.duplicates)
        yield f"duplicates: {surplus:,} files are exact copies of another"
        for groups, what in ((self.leaks, "splits"), (self.contradictions, "classes")):
            yield f"  in more than one of the {what}: {len(groups):,} images"
            for group in groups[:5]:
                yield "    " + " = ".join(copy.name for copy in group[:4])


def scan(source: Source, *, show: bool = True) -> ScanReport:
    """Read and decode every training and validation image.

    Args:
        source: The dataset.
        show: Whether to show progress.

    Raises:
        DataError: A split cannot be read at all.
    """
    names: tuple[SplitName, ...] = ("train", "val")
    splits = {name: source.split(name) for name in names}
    copies = Copies()
    reports: dict[str, SplitReport] = {}
    hide = None if show else True  # None: shown on a terminal only
    with (
        tqdm(total=sum(map(len, splits.values())), unit=" images", disable=hide) as bar,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        for name, samples in splits.items():
            sizes: Counter[str] = Counter()
            bad = []
            chunks = (range(i, min(i + CHUNK, len(samples))) for i in range(0, len(samples), CHUNK))
            for seen in pool.map(lambda chunk, s=samples: [_look(s, i) for i in chunk], chunks):
                for look in seen:
                    if isinstance(look.size, str):
                        sizes[look.size] += 1
                    else:
                        label = source.classes[int(samples.targets[look.index])]
                        name_ = shown(samples.name(look.index))
                        bad.append(BadImage(name_, label, look.size.what))
                    if look.digest is not None:
                        copies.add(look.digest, name, look.index)
                bar.update(len(seen))
            reports[name] = SplitReport(
                images=len(samples),
                per_class=_per_class(samples, source.classes),
                sizes=dict(sizes.most_common()),
                ignored=_ignored(samples),
                bad=bad,
            )
    duplicates = [
        [
            Copy(
                split,
                source.classes[int(splits[split].targets[index])],
                shown(splits[split].name(index)),
            )
            for split, index in group
        ]
        for group in copies.groups.values()
    ]
    return ScanReport(reports, duplicates, source.notes)


class Copies:
    """Finds images of one content, in little memory where there are few."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[SplitName, int]] = {}
        self.groups: dict[bytes, list[tuple[SplitName, int]]] = {}

    def add(self, digest: bytes, split: SplitName, index: int) -> None:
        """Note where a content is."""
        first = self._first.setdefault(digest, (split, index))
        if first != (split, index):
            self.groups.setdefault(digest, [first]).append((split, index))


def readable(samples: Samples, report: SplitReport) -> Samples:
    """Return the samples without those that the report of their split calls bad."""
    if not report.bad:
        return samples
    bad = {image.name for image in report.bad}
    good = [index for index in range(len(samples)) if shown(samples.name(index)) not in bad]
    return subset(samples, torch.tensor(good, dtype=torch.int64))


@dataclass(frozen=True)
class _Look:
    """What was seen of one image: its size or what is wrong, and a digest of its content."""

    index: int
    size: "str | DataError"
    digest: bytes | None


def _look(samples: Samples, index: int) -> _Look:
    digest = None
    try:
        if isinstance(samples, ArraySamples):
            digest = _digest(samples.array[index].numpy().tobytes())
            height, width = samples.array.shape[2:]
            return _Look(index, f"{width} x {height}", digest)
        path = _path(samples, index)
        if path is None:
            image = samples.image(index)
            digest = _digest(image.tobytes())
        else:
            content = read_bytes(path)
            digest = _digest(content)
            image = decode_image(content, path)
        return _Look(index, f"{image.width} x {image.height}", digest)
    except DataError as error:
        return _Look(index, error, digest)


def _path(samples: Samples, index: int) -> str | None:
    """Return the file that a sample is read from, if it has one of its own."""
    samples, index = origin(samples, index)
    return samples.name(index) if isinstance(samples, FileSamples) else None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _per_class(samples: Samples, classes: tuple[str, ...]) -> dict[str, int]:
    counts = torch.bincount(samples.targets, minlength=len(classes)).tolist()
    return dict(zip(classes, counts, strict=True))


def _ignored(samples: Samples) -> dict[str, int]:
    whole, _ = origin(samples, 0)
    return dict(whole.ignored) if isinstance(whole, FileSamples) else {}


def _split_lines(name: str, split: SplitReport) -> Iterator[str]:
    yield f"{name}: {split.images:,} images in {len(split.per_class):,} classes"
    ordered = sorted(split.per_class.items(), key=lambda item: -item[1])
    shown = ordered if len(ordered) <= 20 else [*ordered[:10], ("...", -1), *ordered[-10:]]
    width = max(len(label) for label, _ in shown)
    for label, count in shown:
        part = "" if count < 0 else f"{count:>9,}  {count / max(split.images, 1):6.1%}"
        yield f"  {label:<{width}}  {part}".rstrip()
    most = ", ".join(f"{size} ({n:,})" for size, n in list(split.sizes.items())[:3])
    more = f" and {len(split.sizes) - 3:,} other sizes" if len(split.sizes) > 3 else ""
    yield f"  sizes: {most}{more}"
    if split.ignored:
        kinds = ", ".join(f"{ending or 'no ending'} {n:,}" for ending, n in split.ignored.items())
        yield f"  ignored: {sum(split.ignored.values()):,} files that are no images: {kinds}"
    yield f"  bad: {len(split.bad):,} images cannot be read"
    for bad in split.bad[:20]:
        yield f"    {bad.name}: {bad.what}"
    if len(split.bad) > 20:
        yield f"    and {len(split.bad) - 20:,} more"
    spoilt = Counter(bad.label for bad in split.bad)
    lost = [label for label, count in spoilt.items() if count == split.per_class[label]]
    if lost:
        more = ", ..." if len(lost) > 5 else ""
        yield f"  classes without an image that can be read: {', '.join(lost[:5])}{more}"
