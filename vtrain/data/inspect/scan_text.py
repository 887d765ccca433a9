"""The report on a dataset as text, safe to print on a terminal."""

from collections import Counter
from collections.abc import Iterator

from vtrain.data.inspect.kinds import kind_lines
from vtrain.data.inspect.scan import ScanReport, SplitReport
from vtrain.errors import counted, printable


def scan_lines(report: ScanReport) -> Iterator[str]:
    """Yield the report line by line."""
    for name, split in report.splits.items():
        yield from map(printable, _split_lines(name, split))
    yield from map(printable, _duplicate_lines(report))
    yield from map(printable, _near_lines(report))
    yield from map(printable, report.notes)


def _duplicate_lines(report: ScanReport) -> Iterator[str]:
    surplus = sum(len(group) - 1 for group in report.duplicates)  # one of each is no copy
    files = "1 file is an exact copy" if surplus == 1 else f"{surplus:,} files are exact copies"
    yield f"duplicates: {files} of another"
    for groups, where in (
        (report.leaks, "in more than one of the splits"),
        (report.contradictions, "in more than one of the classes"),
        (report.repeated, "in one class of one split"),
    ):
        if groups:
            yield f"  {where}: {len(groups):,} image{'s' * (len(groups) != 1)}"
        for group in groups[:5]:
            yield "    " + " = ".join(copy.name for copy in group[:4])


def _near_lines(report: ScanReport) -> Iterator[str]:
    if not report.near_copies:
        return
    count = counted(len(report.near_copies), "validation image")
    least = "at least " * report.has_more_near_copies
    looks = "looks" if len(report.near_copies) == 1 else "look"
    yield f"near copies: {least}{count} {looks} like a training image, and may be its copy"
    for pair in report.near_copies[:10]:
        yield f"    {pair.train.name} ~ {pair.val.name}  ({pair.likeness:.3f})"
    if len(report.near_copies) > 10:
        yield f"    and {len(report.near_copies) - 10:,} more: --json lists all"


def _split_lines(name: str, split: SplitReport) -> Iterator[str]:
    classes = counted(len(split.per_class), "class", "classes")
    yield f"{name}: {counted(split.images, 'image')} in {classes}"
    yield from _class_lines(split)
    # A dataset of photographs may have thousands of sizes.
    most = ", ".join(f"{size} ({n:,})" for size, n in list(split.sizes.items())[:3])
    more = f" and {len(split.sizes) - 3:,} other sizes" if len(split.sizes) > 3 else ""
    yield f"  sizes: {most}{more}"
    if split.ignored:
        kinds = ", ".join(f"{ending or 'no ending'} {n:,}" for ending, n in split.ignored.items())
        ignored = sum(split.ignored.values())
        what = "file that is no image" if ignored == 1 else "files that are no images"
        yield f"  ignored: {ignored:,} {what}: {kinds}"
    yield from kind_lines(
        split.paged, split.banded, split.deep, split.deep_levels, split.deep_values
    )
    if split.pixels is not None and name == "train":
        yield from split.pixels.lines()
    yield from _bad_lines(split)


def _class_lines(split: SplitReport) -> Iterator[str]:
    """Yield the images of each class; of many classes, the ten largest and the ten smallest."""
    ordered = sorted(split.per_class.items(), key=lambda item: -item[1])
    if len(ordered) > 20:
        ordered = [*ordered[:10], ("...", -1), *ordered[-10:]]
    width = max(len(label) for label, _ in ordered)
    for label, count in ordered:
        part = "" if count < 0 else f"{count:>9,}  {count / max(split.images, 1):6.1%}"
        yield f"  {label:<{width}}  {part}".rstrip()


def _bad_lines(split: SplitReport) -> Iterator[str]:
    yield f"  bad: {counted(len(split.bad), 'image')} cannot be read"
    for bad in split.bad[:20]:
        yield f"    {bad.name}: {bad.what}"
    if len(split.bad) > 20:
        yield f"    and {len(split.bad) - 20:,} more"
    # Training without any image of a class would not fail, only never learn it.
    bad_of_class = Counter(bad.label for bad in split.bad)
    lost = [label for label, count in bad_of_class.items() if count == split.per_class[label]]
    if lost:
        more = ", ..." if len(lost) > 5 else ""
        yield f"  classes without an image that can be read: {', '.join(lost[:5])}{more}"
