"""`vtrain report`: one run as a page with its figures, several as a table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vtrain.data.progress import said_if_long
from vtrain.errors import ConfigError, DataError, StorageError
from vtrain.files.atomic import refuse_unwritable, write_json, write_text
from vtrain.files.plain import plain
from vtrain.files.runs import RunFolder
from vtrain.report.analysis import Analysis, analyse
from vtrain.report.comparison import Comparison, Run, compare_runs, originals
from vtrain.report.document import analysis_data, per_class_csv
from vtrain.report.facts import RunFacts
from vtrain.report.folds import joined_folds
from vtrain.report.label_analysis import LabelAnalysis, analyse_labels
from vtrain.report.measured import Measured
from vtrain.report.page import run_page, runs_page
from vtrain.report.predictions import Predictions
from vtrain.report.thumbnails import Maps, thumbnails
from vtrain.run.gallery_maps import gallery_maps
from vtrain.run.measure import measure
from vtrain.run.predict import refuse_existing
from vtrain.run.run_facts import NAMED_BY, image_reader, images_changed, read_run

log = logging.getLogger(__name__)
ENDINGS = (".html", ".htm")
MAX_DISPUTED = 200
"""Thumbnails of a comparison: at most about 2 MB."""
NO_PREDICTIONS = (
    "There are no predictions in the run's folder, so nothing can be told but how it was trained: "
    "vtrain eval --ckpt {} writes them."
)


CHANGED = (
    "The images have changed since these predictions were made, so a picture may not be the one "
    "that was judged: vtrain eval --ckpt {} judges those that are there now."
)


def report_run(
    path: Path, output: Path | None, *, cost: bool = False, corruptions: bool = False
) -> Analysis | LabelAnalysis | None:
    """Write a run's page, `report.json` and `per_class.csv`, and return the figures.

    Args:
        path: The run's folder.
        output: Where the page goes, if not into the folder; the others go beside it, by its name.
        cost: Time the model.
        corruptions: Evaluate it on damaged images.

    Raises:
        CheckpointError: There is no run, or its predictions are damaged.
        StorageError: It cannot be written there.
    """
    run, page = read_run(path), output or RunFolder(path).report
    try:
        refuse_unwritable(page.parent)
    except StorageError as error:
        error.hint = error.hint if output else "--output PAGE.html writes it elsewhere"
        raise
    measured = measure(path, cost=cost, corruptions=corruptions)
    return write_report(run, page, measured=measured)


def refuse_page(page: Path, *, force: bool) -> None:
    """Refuse a page of another ending, and one that would be written over something.

    Raises:
        ConfigError: Its name does not end in `.html`.
        StorageError: Something is there already, and `force` does not say that it may go.
    """
    if page.suffix not in ENDINGS and not page.is_dir():
        hint = f"name it {page.stem or 'report'}.html; --format prints the figures as JSON or CSV"
        raise ConfigError("a page's name ends in .html", page, hint)
    if force:
        return
    refuse_existing(page)
    for path in written_beside(page):
        refuse_existing(path)


def written_beside(page: Path) -> tuple[Path, Path]:
    """Return where the JSON twin of a page goes, and the table of its classes."""
    table = "per_class.csv" if page.name == RunFolder.report.name else f"{page.stem}_per_class.csv"
    return page.with_suffix(".json"), page.with_name(table)


def write_report(
    run: Run, page: Path, folds: Comparison | None = None, measured: Measured | None = None
) -> Analysis | LabelAnalysis | None:
    """Write the page of a run, or of folds that were joined, and what belongs beside it."""
    facts, predictions = run.facts, run.predictions
    json_twin, table = written_beside(page)
    analysis, read, maps = None, None, None
    if predictions is not None:
        with said_if_long("computing the figures"):
            analysis = _analysed(predictions, facts)
        read = image_reader(facts, predictions)
        write_text(table, per_class_csv(analysis))
        if folds is not None:
            maps = Maps(missing="each fold has a model of its own; the page of a fold has them")
        elif read is not None:
            if images_changed(run):
                facts = replace(facts, notes=[*facts.notes, CHANGED.format(facts.folder)])
            if isinstance(analysis, Analysis):
                chosen = analysis.galleries.indices()
                maps = gallery_maps(Path(facts.folder), predictions, chosen, read)
    missing = NO_PREDICTIONS.format(facts.folder)
    with said_if_long("drawing the page"):
        beside = [json_twin.name] + ([] if analysis is None else [table.name])
        html = run_page(facts, analysis or missing, read, folds, measured, maps, beside)
    write_text(page, html)
    data = None if analysis is None else analysis_data(analysis)
    twin = {"run": facts, "predictions": data, "folds": folds, "measured": measured}
    write_json(json_twin, plain(twin))
    log.info("report %s", page)
    return analysis


def _analysed(predictions: Predictions, facts: RunFacts) -> Analysis | LabelAnalysis:
    if predictions.has_several:
        return analyse_labels(predictions)
    counts = facts.train_counts or {}
    # Of some classes alone the frequencies say nothing of a long tail.
    known = all(name in counts for name in predictions.classes)
    return analyse(predictions, [counts[name] for name in predictions.classes] if known else None)


def report_runs(paths: list[Path], against: Path | None, output: Path | None) -> Comparison:
    """Compare runs, and write a page of it where `output` says.

    The page of the folds of one experiment is that of their predictions, joined.

    Raises:
        CheckpointError: One of them is no run, or its predictions are damaged.
        ConfigError: One of them is named twice.
        StorageError: The page cannot be written there.
    """
    runs, base = _read_all(paths, against)
    if output is not None:
        refuse_unwritable(output.parent)
    with said_if_long("comparing the runs"):
        comparison = compare_runs(runs, base)
    _say_copies(comparison)
    if output is None:
        return comparison
    whole = None if base is not None else _joined(runs, comparison)
    if whole is not None:
        write_report(whole, output, comparison)
    else:
        images = {} if base is None else disputed_images(base, comparison)
        with said_if_long("drawing the page"):
            page = runs_page(comparison, [run.facts for run in runs], images)
        write_text(output, page)
        write_json(written_beside(output)[0], plain(comparison))
        log.info("report %s", output)
    return comparison


def _read_all(paths: list[Path], against: Path | None) -> tuple[list[Run], Run | None]:
    """Return the runs and their base, which is one of them, whether it is listed or not."""
    places = [path.resolve() for path in paths]
    if against is not None and against.resolve() not in places:
        paths, places = [against, *paths], [against.resolve(), *places]
    _refuse_twice(paths)
    runs = named_apart([read_run(path) for path in paths])
    return runs, None if against is None else runs[places.index(against.resolve())]


def _say_copies(comparison: Comparison) -> None:
    counted = {line.name for line in originals(comparison.lines)}
    for line in comparison.lines:
        if line.name not in counted:
            log.warning("%s repeats a run with the same seed: no spread counts it", line.name)


def named_apart(runs: Sequence[Run]) -> list[Run]:
    """Give runs of the same name more of their paths, until every name is another."""
    paths = [Path(run.facts.folder).resolve().parts for run in runs]
    names = [run.facts.name for run in runs]
    for parts in range(NAMED_BY, max(map(len, paths)) + 1):
        names = ["/".join(path[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return [
        replace(run, facts=replace(run.facts, name=name))
        for run, name in zip(runs, names, strict=True)
    ]


def _joined(runs: Sequence[Run], comparison: Comparison) -> Run | None:
    """Return folds as one run; None of what is none, or where they cannot be joined, with why."""
    try:
        return joined_folds(runs, comparison)
    except DataError as error:
        log.warning("the folds are not joined: %s", error)
        return None


def _refuse_twice(paths: list[Path]) -> None:
    """Refuse a run beside itself, or alone: there is nothing that it could be compared with."""
    places = [path.resolve() for path in paths]
    twice = [
        str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1
    ]
    if twice:
        also = "" if len(set(twice)) == 1 else f", also as {twice[1]}"
        raise ConfigError(f"{twice[0]} is named twice{also}", "command line", "name each run once")
    if len(paths) == 1:
        what = "--against names the run that is to be compared"
        raise ConfigError(what, "command line", "name another run")


def disputed_images(base: Run, comparison: Comparison) -> dict[str, str]:
    """Return thumbnails of images that either a run or the base gets right, by their names.

    The first comparisons have them: a page holds no more than `MAX_DISPUTED`.
    """
    names = [one.image for found in comparison.against for one in [*found.lost, *found.won]]
    if not names or base.predictions is None:
        return {}
    read = image_reader(base.facts, base.predictions)
    if read is None:
        return {}
    places = {name: index for index, name in enumerate(base.predictions.ids)}
    chosen = list(dict.fromkeys(names))[:MAX_DISPUTED]
    with said_if_long("reading the images that the runs disagree on"):
        found = thumbnails((places[name] for name in chosen), read)
    return {base.predictions.ids[index]: picture for index, picture in found.items()}
