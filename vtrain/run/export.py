"""`vtrain export`: files for other programs, each compared with the model before it is there."""

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vtrain import __version__, rng
from vtrain.config import stored_config
from vtrain.data.datasets.samples import subset
from vtrain.errors import ConfigError, DataError
from vtrain.export.graph import Input
from vtrain.export.onnx_file import LAST_FOR_INT8, OPSET, Rounding, check_installed, write_onnx
from vtrain.export.proof import BATCHES, Evidence, Proof
from vtrain.export.script import SCRIPT, is_script
from vtrain.files.archive import opened
from vtrain.files.atomic import make_folder
from vtrain.files.runs import checkpoint_of
from vtrain.files.yaml import dump_yaml
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.run.evaluate import prepare
from vtrain.run.predict import refuse_existing

log = logging.getLogger(__name__)
Format = Literal["onnx"]
CHECK, CHECK_ROUNDED = 64, 1000
"""Images to compare on: where only a wrong file differs, and where numbers were rounded."""


@dataclass(frozen=True)
class Order:
    """What the command line asks for; `vtrain export --help` explains each field."""

    form: Format = "onnx"
    output: Path | None = None
    check: int | None = None
    force: bool = False
    opset: int = OPSET
    taking: Input = "pixels"
    rounding: Rounding | None = None

    @property
    def images(self) -> int:
        """How many to compare on, at most."""
        return self.check or (CHECK_ROUNDED if self.rounding else CHECK)

    def path(self, checkpoint: Path) -> Path:
        """Return where the file goes: beside the checkpoint unless it is said."""
        rounding = f"_{self.rounding}" if self.rounding else ""
        return self.output or checkpoint.with_name(f"model{rounding}.onnx")


@dataclass(frozen=True)
class Exported:
    """What was written, and how it compares with its checkpoint."""

    path: Path
    proof: Proof
    hints: tuple[str, ...]
    """What to type next."""

    @property
    def files(self) -> list[Path]:
        """The files of a folder, or the file itself."""
        return sorted(self.path.iterdir()) if self.path.is_dir() else [self.path]


def export(ckpt: Path, overrides: Iterable[str], order: Order) -> Exported:
    """Write a checkpoint for other programs, proved on images of its validation set.

    Overrides of `data` choose other images.

    Raises:
        CheckpointError: The checkpoint cannot be used, or the file is not its model.
        ConfigError: A package is missing, or options do not go together.
        DataError: The images cannot be used.
        StorageError: There is already something at the path, or it cannot be written.
    """
    if order.rounding == "int8" and order.opset > LAST_FOR_INT8:
        what = f"--int8 with --opset {order.opset} gives files that onnxruntime refuses"
        raise ConfigError(what, "command line", f"use --opset {LAST_FOR_INT8} or less")
    checkpoint = checkpoint_of(ckpt)
    path = order.path(checkpoint)
    if path.suffix != ".onnx":
        raise ConfigError("an ONNX file is called .onnx", path, "change --output")
    # Before the work, which may take minutes.
    check_installed()
    script = path.with_name(SCRIPT)
    if not order.force:
        refuse_existing(path)
        if not is_script(script):
            refuse_existing(script)
    make_folder(path.parent)
    loaded = load_model(checkpoint)
    evidence = gather(loaded, overrides, order.images)
    proof = write_onnx(
        loaded,
        path,
        evidence,
        facts_of(loaded),
        opset=order.opset,
        taking=order.taking,
        rounding=order.rounding,
    )
    hints = (f"vtrain predict IMAGE --ckpt {path}", f"python {script} IMAGE")
    return Exported(path, proof, hints)


def gather(loaded: LoadedModel, overrides: Iterable[str], count: int) -> Evidence:
    """Ask the checkpoint, in fp32 on the CPU, for images of its validation set.

    They are drawn from all of the set, as neighbours are often of one class.

    Raises:
        DataError: There are none.
    """
    # Last, so that it wins: a run on a GPU is exported elsewhere, and exact.
    subject = prepare(loaded, [*overrides, "train.device=cpu", "train.precision=fp32"], "val")
    total = len(subject.samples)
    if total == 0:
        raise DataError("there is no validation image to compare on", hint="give data.root=FOLDER")
    chosen = rng.permutation(total, 0)[:count].sort().values
    loader = subject.loader_of(subset(subject.samples, chosen))
    images, targets, logits = [], [], []
    for batch in loader.batches():
        images.append(batch.images)
        targets.append(batch.targets)
        logits.append(subject.predict(batch.images))
    # Few images come again, so that every size of batch is asked for.
    again = torch.arange(max(len(chosen), sum(BATCHES))) % len(chosen)
    parts = (torch.cat(part)[again].numpy() for part in (images, logits, targets))
    return Evidence(*parts)


def facts_of(loaded: LoadedModel) -> dict[str, str]:
    """Return what a file says of where it comes from."""
    with opened(loaded.path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "model": json.dumps(vars(loaded.checkpoint.model)),
        "config": portable_config(loaded),
        "dataset": json.dumps(loaded.checkpoint.dataset),  # to know the run's images again
        "checkpoint_sha256": digest,
        "vtrain_version": __version__,
        "torch_version": torch.__version__,
    }


def portable_config(loaded: LoadedModel) -> str:
    """Return the config of a checkpoint without what is this machine's: its paths and devices."""
    config = stored_config(loaded.checkpoint, loaded.path)
    content: dict[str, Any] = config.model_dump(mode="json")
    content["data"] = {
        name: content["data"][name] for name, value in config.data if not is_a_place(value)
    }
    content["model"]["pretrained"] = None
    content["train"] |= {"distillation": None, "device": "cpu", "precision": "fp32"}
    return dump_yaml(content)


def is_a_place(value: object) -> bool:
    """Whether a value says where something is: a path, a URL, or several."""
    if isinstance(value, list | tuple):
        return any(map(is_a_place, value))
    return isinstance(value, Path) or (isinstance(value, str) and "://" in value)
