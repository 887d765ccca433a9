"""Measure how well a report finds wrong labels: plant some, train k folds, and count those found.

A share of CIFAR-10's training labels is flipped to another class each, by a seed: the dataset is a
folder of links, of which those lie in the wrong class. The list of `vtrain report` over the folds'
joined predictions, which are out-of-sample, is cut at the number that was planted, beside

loss, out of sample   the same predictions ranked by their loss alone
loss, in sample       a model that was trained on all images and labels, by its loss on them
chance                any order

best.pt of a fold is chosen by the images that it judges, wrong labels and all; of the model in
sample it is the last checkpoint. What was stopped goes on when the command is given again.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runs import fit, link

if TYPE_CHECKING:
    from vtrain.report.predictions import Predictions

CONFIG = "configs/vit_cifar_small.yaml"


@dataclass(frozen=True)
class Found:
    """What a ranking is worth at the number of planted labels."""

    precision: float
    recall: float


def main() -> None:
    """Plant, train, rank, and print a table and what to write down with it."""
    parser = argparse.ArgumentParser(
        "scripts/bench planted_labels", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("VTRAIN_CIFAR10"))
    parser.add_argument("--output", type=Path, default=Path("runs/planted_labels"))
    parser.add_argument("--share", type=float, default=0.03, help="of the labels that is flipped")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn, and of the runs")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--images", type=int, help="training images in all; default: every one")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of photographs by --data or VTRAIN_CIFAR10")
    options.output.mkdir(parents=True, exist_ok=True)
    asked = {k: str(v) for k, v in vars(options).items() if k != "output"}
    settings = options.output / "settings.json"
    if settings.exists() and json.loads(settings.read_text()) != asked:
        parser.error(f"{options.output} is of other options: name another folder by --output")
    settings.write_text(json.dumps(asked))
    print(table(*measured(options)))
    print(f"command: {' '.join(sys.argv)}")
    print(f"environment: {options.output}/*/env.json; the page: {options.output}/report.html")


def measured(options: argparse.Namespace) -> tuple[dict[str, Found], int, int]:
    """Return what each ranking finds, the number of planted labels and that of all images."""
    photos = options.output / "photos"
    planted, total = plant(options.data, photos, options.share, options.images, options.seed)
    common = [f"data.root={photos}", "data.follow_links=true", f"train.epochs={options.epochs}"]
    common += [f"seed={options.seed}", *options.overrides]
    folds = [options.output / f"fold_{index}" for index in range(options.folds)]
    for index, run in enumerate(folds):
        fit(CONFIG, run, f"data.fold={{of: {options.folds}, index: {index}}}", *common)
    fit(CONFIG, options.output / "in_sample", *common)
    page = options.output / "report.html"
    runs = [*map(str, folds)]
    command = [sys.executable, "-m", "vtrain", "report", *runs, "--output", str(page), "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    twin = json.loads(page.with_suffix(".json").read_text())
    suspects = [one["image"] for one in twin["predictions"]["labels"]["suspects"]]
    rankings = {
        "vtrain report": suspects,
        "loss, out of sample": by_loss(folds),
        "loss, in sample": by_loss_in_sample(options.output / "in_sample"),
    }
    found = {name: judge(ranked, planted) for name, ranked in rankings.items()}
    chance = len(planted) / total
    return found | {"chance": Found(chance, chance)}, len(planted), total


def plant(
    data: Path, photos: Path, share: float, images: int | None, seed: int
) -> tuple[set[str], int]:
    """Lay out links to the photographs, a share of the training ones in another class.

    Returns:
        The wrong ones as "class/name", and the number of training images.
    """
    classes = sorted(path.name for path in (data / "train").iterdir())
    draw = random.Random(seed)
    placed: list[tuple[str, Path]] = []
    for name in classes:
        # Sorted first: the file system's order would change what is drawn.
        files = sorted((data / "train" / name).iterdir())
        chosen = files if images is None else draw.sample(files, images // len(classes))
        placed += [(name, path) for path in chosen]
        link(photos / "test" / name, data / "test" / name)
    wrong = set(draw.sample(range(len(placed)), round(share * len(placed))))
    planted = set()
    for number, (name, path) in enumerate(placed):
        label = name
        if number in wrong:
            label = draw.choice([other for other in classes if other != name])
            planted.add(f"{label}/{name}_{path.name}")
        # With its class in front: two classes have files of the same name.
        link(photos / "train" / label / f"{name}_{path.name}", path)
    return planted, len(placed)


def judge(ranked: Sequence[str], planted: set[str]) -> Found:
    """Return precision and recall of a list's head, as long as there are planted labels.

    A list that is shorter is judged as it is.
    """
    head = [key(name) for name in ranked[: len(planted)]]
    hits = len(planted & set(head))
    return Found(hits / max(1, len(head)), hits / max(1, len(planted)))


def key(name: str) -> str:
    """Return the class and the name of an image, of its path."""
    return "/".join(Path(name).parts[-2:])


def by_loss(folds: Iterable[Path]) -> list[str]:
    """Return the names of the folds' images, those of the greatest loss first."""
    from vtrain.report.predictions import Predictions, joined

    return ranked_by_loss(joined([Predictions.load(run / "predictions.npz") for run in folds]))


def by_loss_in_sample(run: Path) -> list[str]:
    """Return the names of a run's training images, those of the greatest loss first."""
    from vtrain.inference.loaded import load_model
    from vtrain.run.evaluate import evaluate_model

    predictions = evaluate_model(load_model(run / "last.pt"), (), "train").predictions
    assert predictions is not None, "the run has not diverged, or fit would have failed"
    return ranked_by_loss(predictions)


def ranked_by_loss(predictions: "Predictions") -> list[str]:
    """Return names, those of the greatest loss first."""
    order = (-predictions.scores().loss).argsort(kind="stable")
    return [predictions.ids[index] for index in order]


def table(found: dict[str, Found], planted: int, total: int) -> str:
    """Return the figures as a table, with how much better the report is than each."""
    report = found["vtrain report"].precision
    lines = [f"{planted} of {total} labels are wrong; of as many that are named first:"]
    lines.append(f"{'ranked by':20}  {'precision':>9}  {'recall':>9}  {'report is':>12}")
    for name, one in found.items():
        times = f"{report / one.precision:.2f} x" if one.precision else "-"
        lines.append(f"{name:20}  {one.precision:9.2%}  {one.recall:9.2%}  {times:>12}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
