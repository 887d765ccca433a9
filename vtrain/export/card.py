"""The model card of a folder: what the model is for, where it comes from, and what it is worth."""

import json
from dataclasses import dataclass
from typing import Any

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
        metrics = loaded.checkpoint.metrics
        name = f"{loaded.checkpoint.model.name} on {self.dataset}"
        head: dict[str, Any] = {
            "library_name": "timm",
            "pipeline_tag": "image-classification",
            "tags": ["image-classification", "timm", "vtrain"],
        }
        if "val/top1" in metrics:
            head["model-index"] = [_results(name, self.dataset, metrics["val/top1"])]
        described, geometry = loaded.checkpoint.model, loaded.geometry
        rows = [f"| {key} | {value:.4f} |" for key, value in metrics.items()]
        names = [printable(c) for c in loaded.classes[:SHOWN]]
        more = ["    and others: see config.json"] if len(loaded.classes) > SHOWN else []
        lines = [
            "---",
            dump_yaml(head).rstrip(),
            "---",
            "",
            f"# {name}",
            "",
            f"An image classifier, `{described.name}` at {described.image_size} x "
            f"{described.image_size} pixels, trained with vtrain {loaded.checkpoint.vtrain} and "
            f"written by vtrain {__version__}.",
            "",
            "## Intended use",
            "",
            f"It names one of {len(loaded.classes)} classes for each image:",
            "",
            *[f"    {json.dumps(each, ensure_ascii=False)}" for each in names],
            *more,
            "",
            "It was made for images like those it was trained on. Of anything else it names one of",
            "these classes, too, and its probabilities mean nothing there.",
            "",
            "## Use",
            "",
            "```python",
            "import timm",
            "from PIL import Image",
            "",
            'model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
            'logits = model(transform(Image.open("photo.jpg").convert("RGB"))[None])',
            'print(model.pretrained_cfg["label_names"][logits.argmax()])',
            "```",
            "",
            f"Images are resized by `{geometry.resize}` with the {geometry.interpolation} filter",
            f"and `crop_fraction` {geometry.crop_fraction:g}. One of the model's size already",
            "is taken as it is by vtrain, and cropped like any other by timm.",
            "",
            "## Results",
            "",
            f"On the validation images of `{self.dataset}`, when the weights were saved:",
            "",
            "| metric | value |",
            "|---|---|",
            *rows,
            "",
            f"These files, loaded by timm, were {proof}.",
            "",
            "## Limits",
            "",
            "- Images that it was chosen on are in the results: expect a little less on new ones.",
            "- Nobody has looked for unfairness between groups of people, or for robustness.",
            "- The licence is not stated: those of the images and of weights that it may have",
            "  started from decide. Add it to the head of this file before you publish.",
            "",
            "## How it was made",
            "",
            *[f"    {line}" for line in printable_lines(self.config)],
            "",
        ]
        return "\n".join(lines)


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text without characters that steer a terminal."""
    return [printable(line) for line in text.splitlines()]


def _results(name: str, dataset: str, top1: float) -> dict[str, Any]:
    metric = {"type": "accuracy", "value": round(top1, 4)}
    task = {"type": "image-classification"}
    about = {"name": dataset, "type": dataset, "split": "validation"}
    return {"name": name, "results": [{"task": task, "dataset": about, "metrics": [metric]}]}
