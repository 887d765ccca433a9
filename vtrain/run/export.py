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
from vtrain.data.progress import said_if_long
from vtrain.errors import ConfigError, DataError, StorageError, printable
from vtrain.export.card import Card
from vtrain.export.foreign import Architecture, Library
from vtrain.export.graph import Input
from vtrain.export.onnx_file import LAST_FOR_INT8, OPSET, Rounding, check_installed, write_onnx
from vtrain.export.program import write_program
from vtrain.export.proof import BATCHES, Evidence, Proof
from vtrain.export.script import SCRIPT, is_script
from vtrain.export.timm_folder import FILES, check_timm, timm_config, write_timm_folder
from vtrain.export.weights import check_supported, write_weights
from vtrain.files.archive import opened
from vtrain.files.atomic import make_folder
from vtrain.files.runs import checkpoint_of
from vtrain.files.yaml import dump_yaml
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.run.evaluate import prepare
from vtrain.run.predict import refuse_existing
from vtrain.run.text.command import argument, literal

log = logging.getLogger(__name__)
Format = Literal["onnx", "program", "safetensors", "timm"]
ENDINGS = {"onnx": ".onnx", "program": ".pt2", "safetensors": ".safetensors", "timm": ""}
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
    names: Library = "timm"

    @property
    def images(self) -> int:
        """How many to compare on, at most."""
        return self.check or (CHECK_ROUNDED if self.rounding else CHECK)

    def path(self, checkpoint: Path) -> Path:
        """Return where the file or folder goes: beside the checkpoint unless it is said.

        Raises:
            ConfigError: Its ending is not that of the format.
        """
        ending = ENDINGS[self.form]
        suffix = f"_{self.rounding or (self.names if self.form == 'safetensors' else '')}"
        name = "timm" if self.form == "timm" else f"model{suffix.rstrip('_')}{ending}"
        path = self.output or checkpoint.with_name(name)
        if ending and path.suffix != ending:
            what = f"the ending of --format {self.form} is {ending}"
            raise ConfigError(what, path, "change --output")
        return path


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
        ConfigError: A package is missing, options do not go together, or another library does not
            support the model.
        DataError: The images cannot be used.
        StorageError: There is already something at the path, or it cannot be written.
    """
    checkpoint = checkpoint_of(ckpt)
    path = order.path(checkpoint)
    # All before the work, which may take minutes.
    check(order, path)
    loaded = load_model(checkpoint)
    if order.form == "safetensors":
        check_supported(Architecture.of(loaded), order.names)
    elif order.form == "timm":
        if loaded.task.thresholds:
            what = "a folder for timm says nothing of thresholds, and this model names by them"
            raise ConfigError(what, "--format", "take onnx, program or safetensors")
        timm_config(loaded, Architecture.of(loaded))
    evidence = gather(loaded, overrides, order.images)
    with said_if_long(f"writing {printable(str(path))}"):
        proof = write(loaded, path, evidence, order)
    hints = {
        "onnx": (
            f"vtrain predict IMAGE --ckpt {argument(path)}",
            f"python {argument(path.with_name(SCRIPT))} IMAGE",
        ),
        "program": (f"torch.export.load({literal(str(path))}).module()(images)",),
        "safetensors": (f"weights = safetensors.torch.load_file({literal(str(path))})",),
        "timm": (f"timm.create_model({literal(f'local-dir:{path}')}, pretrained=True)",),
    }
    return Exported(path, proof, hints[order.form])


def check(order: Order, path: Path) -> None:
    """Refuse what cannot come out well, and make the folder that the file goes into."""
    if order.rounding == "int8" and order.opset > LAST_FOR_INT8:
        what = f"--int8 with --opset {order.opset} gives files that onnxruntime refuses"
        raise ConfigError(what, "command line", f"use --opset {LAST_FOR_INT8} or less")
    if order.form == "onnx":
        check_installed()
    if order.form == "timm":
        check_timm()
        others = [p.name for p in path.iterdir() if p.name not in FILES] if path.is_dir() else []
        if others:  # with --force, too: what is not ours stays ours not to touch
            what = f"this folder holds other files, such as {others[0]}"
            raise StorageError(what, path, "choose another name")
    if not order.force:
        refuse_existing(path)
        if order.form == "onnx" and not is_script(path.with_name(SCRIPT)):
            refuse_existing(path.with_name(SCRIPT))
    make_folder(path.parent)


def write(loaded: LoadedModel, path: Path, evidence: Evidence, order: Order) -> Proof:
    """Write in the format that is asked for."""
    facts = facts_of(loaded)
    if order.form == "onnx":
        return write_onnx(
            loaded,
            path,
            evidence,
            facts,
            opset=order.opset,
            taking=order.taking,
            rounding=order.rounding,
        )
    if order.form == "program":
        return write_program(loaded, path, evidence, facts, order.taking)
    if order.form == "safetensors":
        return write_weights(loaded, path, evidence, facts, order.names)
    config = stored_config(loaded.checkpoint, loaded.path)
    card = Card(config.data.name, facts["config"])
    return write_timm_folder(loaded, path, evidence, facts, card)


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
    for batch in loader.batches("asking the checkpoint"):
        images.append(batch.images)
        targets.append(batch.targets)
        logits.append(subject.predict(batch.images))
    # Few images come again, so that every size of batch is asked for.
    again = torch.arange(max(len(chosen), sum(BATCHES))) % len(chosen)
    arrays = [torch.cat(part)[again].numpy() for part in (images, logits, targets)]
    return Evidence(arrays[0], arrays[1], arrays[2], loaded.task.thresholds)


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
        **({"thresholds": json.dumps(loaded.task.thresholds)} if loaded.task.thresholds else {}),
    }


def portable_config(loaded: LoadedModel) -> str:
    """Return the config of a checkpoint without what is this machine's: its paths and devices."""
    config = stored_config(loaded.checkpoint, loaded.path)
    values: dict[str, Any] = config.model_dump(mode="json")
    values["data"] = {
        name: values["data"][name] for name, value in config.data if not is_a_place(value)
    }
    values["model"]["pretrained"] = None
    # What a run was trained by is not needed to use it, and may be a path of that machine.
    values["train"] |= {"distillation": None, "device": "cpu", "precision": "fp32"}
    return dump_yaml(values)


def is_a_place(value: object) -> bool:
    """Whether a value says where something is: a path, a URL, or several."""
    if isinstance(value, list | tuple):
        return any(map(is_a_place, value))
    return isinstance(value, Path) or (isinstance(value, str) and "://" in value)
