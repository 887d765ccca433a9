"""The model card of a folder: what the model is for, where it comes from, and what it is worth."""

import json
from dataclasses import dataclass
from typing import Any

import jinja2

from vtrain import __version__
from vtrain.errors import printable
from vtrain.export.proof import Proof
from vtrain.files.yaml import dump_yaml
from vtrain.inference.loaded import LoadedModel

SHOWN = 100
"""Classes that the card names; `config.json` has all."""


@dataclass(frozen=True)
class Card:
    """What only the run knows of a model."""

    dataset: str
    """The name of the dataset."""
    config: str
    """The run's config, without paths of the machine."""

    def text(self, loaded: LoadedModel, proof: Proof) -> str:
        """Return the card, in Markdown."""
        checkpoint = loaded.checkpoint
        name = f"{checkpoint.model.name} on {self.dataset}"
        # For the Hugging Face Hub, which takes from `library_name` how to load the folder.
        head: dict[str, Any] = {
            "library_name": "timm",
            "pipeline_tag": "image-classification",
            "tags": ["image-classification", "timm", "vtrain"],
        }
        if "val/top1" in checkpoint.metrics:
            head["model-index"] = [_results(name, self.dataset, checkpoint.metrics["val/top1"])]
        shown = [printable(each) for each in loaded.classes[:SHOWN]]
        return _template().render(
            head=dump_yaml(head).rstrip(),
            name=name,
            model=checkpoint.model,
            trained_with=checkpoint.vtrain,
            written_by=__version__,
            num_classes=len(loaded.classes),
            shown=[json.dumps(each, ensure_ascii=False) for each in shown],
            geometry=loaded.geometry,
            mode="L" if loaded.geometry.channels == 1 else "RGB",
            crop_fraction=f"{loaded.geometry.crop_fraction:g}",
            dataset=self.dataset,
            metrics=checkpoint.metrics,
            proof=proof,
            config=printable_lines(self.config),
        )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vtrain.export", "templates"),
        # Markdown: names of classes stand in blocks that show text as it is.
        autoescape=False,  # noqa: S701
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md")


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text without characters that steer a terminal."""
    return [printable(line) for line in text.splitlines()]


def _results(name: str, dataset: str, top1: float) -> dict[str, Any]:
    metric = {"type": "accuracy", "value": round(top1, 4)}
    task = {"type": "image-classification"}
    about = {"name": dataset, "type": dataset, "split": "validation"}
    return {"name": name, "results": [{"task": task, "dataset": about, "metrics": [metric]}]}
