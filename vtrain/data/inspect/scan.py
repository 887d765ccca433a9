"""Look at every image of a dataset before training does: counts, sizes, bad files, duplicates."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from vtrain.data.datasets.folder_names import printable_name
from vtrain.data.datasets.samples import Samples, Source, SplitName, subset
from vtrain.data.geometry import in_channels, in_range
from vtrain.data.inspect.alike import Signatures, alike, signature
from vtrain.data.inspect.statistics import Moments, PixelStatistics
from vtrain.data.labels import images_per_class, label_text
from vtrain.data.preprocess import Preprocess
from vtrain.data.progress import Progress
from vtrain.errors import DataError
from vtrain.files.images import decode_image, read_bytes
from vtrain.files.lazy_image import Bands, DeepGrey, samples_of
from vtrain.files.surplus import Surplus, surplus_of
from vtrain.resources import cpu_count

N = TypeVar("N", int, float)
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
    paged: int = 0
    """Files of several frames or pages, of which the first is used."""
    deep: int = 0
    """Grey images of more than 8 bits."""
    deep_levels: tuple[int, int] | None = None
    """The darkest and the brightest level of these, of 0 to 255, once they are scaled."""
    deep_values: tuple[float, float] | None = None
    """The smallest and the largest value of these, as they are in the files."""
    banded: int = 0
    """Images of more channels than are used."""
    pixels: PixelStatistics | None = None
    """What the images can be normalised by, as the model sees them."""


@dataclass(frozen=True)
class Copy:
    """One of several files with the same content."""

    split: str
    label: str
    name: str


@dataclass(frozen=True)
class NearCopy:
    """A validation image that looks like a training image, but is another file."""

    train: Copy
    val: Copy
    likeness: float
    """Correlation of their grey levels, at most 1."""


@dataclass(frozen=True)
class ScanReport:
    """What is in a dataset."""

    splits: dict[str, SplitReport]
    duplicates: list[list[Copy]]
    """Groups of files with the same content."""
    notes: tuple[str, ...]
    near_copies: list[NearCopy] = field(default_factory=list)
    """The likest first."""
    has_more_near_copies: bool = False
    """Whether there were too many candidates to look at all of them."""

    @property
    def leaks(self) -> list[list[Copy]]:
        """The groups with copies in more than one split."""
        return [group for group in self.duplicates if len({copy.split for copy in group}) > 1]

    @property
    def contradictions(self) -> list[list[Copy]]:
        """The groups with copies in more than one class."""
        return [group for group in self.duplicates if len({copy.label for copy in group}) > 1]

    @property
    def repeated(self) -> list[list[Copy]]:
        """The groups whose copies are all in one split and one class."""
        return [g for g in self.duplicates if len({(copy.split, copy.label) for copy in g}) == 1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return asdict(self)


def scan(source: Source, *, preprocess: Preprocess | None = None) -> ScanReport:
    """Read and decode every training and validation image.

    With a `preprocess` each is brought to what the model sees, and the pixels are measured.

    Raises:
        DataError: A split cannot be read at all.
    """
    names: tuple[SplitName, ...] = ("train", "val")
    splits = {name: source.split(name) for name in names}
    copies, near = Copies(), {name: Signatures() for name in names}
    reports: dict[str, SplitReport] = {}
    with (
        Progress("reading every image", "images", sum(map(len, splits.values()))) as progress,
        ThreadPoolExecutor(cpu_count()) as pool,
    ):
        for name, samples in splits.items():
            seen = copies.noting(name, look_at_all(samples, pool, progress.add, preprocess))
            seen = signed(near[name], seen)
            reports[name] = scan_split(samples, source.classes, seen, preprocess)

    def copy(split: SplitName, index: int) -> Copy:
        samples = splits[split]
        label = label_text(samples.targets[index], source.classes)
        return Copy(split, label, printable_name(samples.name(index)))

    duplicates = [[copy(split, i) for split, i in group] for group in copies.groups.values()]
    pairs, more = alike(near["train"], near["val"], (splits["train"], splits["val"]))
    content = {place: digest for digest, group in copies.groups.items() for place in group}
    near_copies = [
        NearCopy(copy("train", pair.one), copy("val", pair.other), pair.likeness)
        for pair in pairs
        # Exact copies are told already.
        if content.get(("train", pair.one), b"one") != content.get(("val", pair.other), b"other")
    ]
    # The notes are complete only now, after the splits have been read.
    return ScanReport(reports, duplicates, source.notes, near_copies, more)


def signed(near: Signatures, seen: Iterable["Seen"]) -> Iterator["Seen"]:
    """Pass on what was seen of a split, and note what its images look like."""
    for image in seen:
        if image.signature is not None:
            near.add(image.index, image.signature)
        yield image


@dataclass(frozen=True)
class Seen:
    """What was seen of one image: its size, or what is wrong with it."""

    index: int
    size: str | None = None
    """`width x height`."""
    problem: str | None = None
    digest: bytes | None = None
    """Of its content; None where there was nothing to read."""
    surplus: Surplus = Surplus.NONE
    """What it has beyond what is used."""
    levels: tuple[int, int] | None = None
    """The darkest and the brightest, of 0 to 255, of a grey image of more than 8 bits."""
    values: tuple[float, float] | None = None
    """The smallest and the largest sample of such an image."""
    moments: Moments | None = None
    signature: bytes | None = None
    """What it looks like; None where it cannot be decoded."""


def scan_split(
    samples: Samples,
    classes: tuple[str, ...],
    seen: Iterable[Seen],
    preprocess: Preprocess | None = None,
) -> SplitReport:
    """Sum up what was seen of the images of a split."""
    sizes: Counter[str] = Counter()
    bad, paged, banded = [], 0, 0
    total: Moments | None = None
    levels: list[tuple[int, int]] = []
    values: list[tuple[float, float]] = []
    for image in seen:
        paged += Surplus.PAGES in image.surplus
        banded += Surplus.CHANNELS in image.surplus
        if image.moments is not None:  # added up at once: there may be a million
            total = image.moments if total is None else total + image.moments
        if image.levels is not None:
            levels.append(image.levels)
        if image.values is not None:
            values.append(image.values)
        if image.size is not None:
            sizes[image.size] += 1
        if image.problem is not None:
            label = label_text(samples.targets[image.index], classes)
            bad.append(BadImage(printable_name(samples.name(image.index)), label, image.problem))
    # Counted from the targets, so that a class without any image is in the report.
    counts = images_per_class(samples.targets, len(classes)).tolist()
    return SplitReport(
        images=len(samples),
        per_class=dict(zip(classes, counts, strict=True)),
        sizes=dict(sizes.most_common()),
        ignored=dict(samples.ignored),
        bad=bad,
        paged=paged,
        deep=len(levels),
        deep_levels=_around(levels),
        deep_values=_around(values),
        banded=banded,
        pixels=PixelStatistics.of(total, preprocess.image_size) if preprocess and total else None,
    )


def _around(ranges: list[tuple[N, N]]) -> tuple[N, N] | None:
    """Return the range that all of them are in."""
    if not ranges:
        return None
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def look_at_all(
    samples: Samples,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object],
    preprocess: Preprocess | None = None,
) -> Iterator[Seen]:
    """Look at every image, in threads: decoding releases Python's lock."""

    def look_at(chunk: range) -> list[Seen]:
        return [look(samples, index, preprocess) for index in chunk]

    # In chunks, because a thread takes longer to be told of one small image than to decode it.
    chunks = (range(i, min(i + CHUNK, len(samples))) for i in range(0, len(samples), CHUNK))
    for seen in pool.map(look_at, chunks):
        yield from seen
        progress(len(seen))


def look(samples: Samples, index: int, preprocess: Preprocess | None = None) -> Seen:
    """Read and decode one image, and prepare it for the model if it is said how."""
    digest = None
    try:
        path = samples.file(index)
        if path is None:
            image = samples.image(index)
            digest = _digest(image.tobytes())
        else:  # copies are equal as files, and are found even if they cannot be decoded
            content = read_bytes(path)
            digest = _digest(content)
            image = decode_image(content, path)
            image.load()  # a large JPEG may be damaged anywhere
        moments = Moments.of(preprocess(image)) if preprocess is not None else None
    except DataError as error:
        return Seen(index, problem=error.what, digest=digest)
    size, look_of_it = f"{image.width} x {image.height}", signature(image)
    beyond = surplus_of(image, 3 if preprocess is None else preprocess.channels)
    seen = Seen(index, size, None, digest, beyond, moments=moments, signature=look_of_it)
    return replace(seen, **_of_depth(image, preprocess))


def _of_depth(image: Image.Image, preprocess: Preprocess | None) -> dict[str, Any]:
    """Return what `Seen` says of an image of more than 8 bits."""
    value_range = "auto" if preprocess is None else preprocess.value_range
    channels = 3 if preprocess is None else preprocess.channels
    if isinstance(image, DeepGrey):
        samples, grey = image.samples, np.asarray(in_range(image, value_range))
    elif (
        isinstance(image, Bands)
        and image.count == channels
        and (samples := image.read()[0]).dtype != np.uint8
    ):
        grey = samples_of(in_channels(image, channels, value_range, icc=False))
    else:
        return {}
    return {
        "levels": (int(grey.min()), int(grey.max())),
        "values": (float(samples.min()), float(samples.max())),
    }


class Copies:
    """Finds images of one content, in little memory where there are few."""

    def __init__(self) -> None:
        self._first: dict[bytes, tuple[SplitName, int]] = {}
        self.groups: dict[bytes, list[tuple[SplitName, int]]] = {}

    def noting(self, split: SplitName, seen: Iterable[Seen]) -> Iterator[Seen]:
        """Pass on what was seen of a split, and note where each content is."""
        for image in seen:
            if image.digest is not None:
                # Most contents come once: a list is made only for those that come again.
                place = (split, image.index)
                first = self._first.setdefault(image.digest, place)
                if first != place:
                    self.groups.setdefault(image.digest, [first]).append(place)
            yield image


def readable(samples: Samples, report: SplitReport) -> Samples:
    """Return the samples without those that the report of their split calls bad."""
    if not report.bad:
        return samples
    bad = {image.name for image in report.bad}
    # A report knows images by what it prints of them.
    good = [
        index for index in range(len(samples)) if printable_name(samples.name(index)) not in bad
    ]
    return subset(samples, torch.tensor(good, dtype=torch.int64))


def _digest(content: bytes) -> bytes:
    # 128 bits: that two of a million different images agree has a chance of about 10^-27.
    return hashlib.blake2b(content, digest_size=16).digest()
