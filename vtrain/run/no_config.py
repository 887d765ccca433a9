"""What is given in a config's place and is none: say what it is, and what to type."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vtrain.config import Config
from vtrain.config.recipes import YAML
from vtrain.errors import ConfigError
from vtrain.files.image_names import is_image_name
from vtrain.files.runs import RunFolder
from vtrain.files.yaml import MAX_BYTES, parse_yaml
from vtrain.run.text.command import argument, quoted

WEIGHTS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
LISTS = (".csv", ".tsv")
LOOKED_AT = 4096
"""Bytes that tell what a file is."""
RECIPE = "vit_cifar_small"
"""The recipe that commands here begin with: it trains anywhere."""
FORMS = "give a YAML file, a run folder, a folder of images, or what `vtrain recipes` lists"
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""How text begins that Windows writes; who reads the config says that it is not UTF-8."""
STARTS = {b"\xff\xd8\xff": "an image", b"\x89PNG": "an image", b"\x1f\x8b": "a packed file"}
"""How files begin that have the ending of another kind."""


def refuse_other_files(path: Path) -> None:
    """Refuse a file that is no config, before anything is read into it.

    Raises:
        ConfigError: It says what the file is, and what to type; never what is in it.
    """
    of_yaml = path.suffix.lower() in YAML
    if path.suffix.lower() in WEIGHTS and not path.is_dir():  # whether it is there or not
        raise ConfigError("this is a checkpoint, not a config", path, _of_checkpoint(path))
    if not path.is_file() or RunFolder.config == Path(path.name):
        return
    head = _head(path)
    for what, hint in _kinds(path, head, of_yaml):
        raise ConfigError(f"this is {what}, not a config", path, hint)
    if (b"\0" in head and not head.startswith(UTF_16)) or _begins(head):
        raise ConfigError(f"this is {_begins(head) or 'no text'}, and no config", path, FORMS)
    if not of_yaml and not _has_sections(path):
        raise ConfigError("this file has none of the sections of a config", path, FORMS)


def _kinds(path: Path, head: bytes, of_yaml: bool) -> Iterator[tuple[str, str]]:
    """Yield what a file is that vtrain has a use for elsewhere, and what to type."""
    ending = "" if of_yaml else path.suffix.lower()
    if ending == ".onnx":
        yield "an ONNX file", f"name classes with: vtrain predict IMAGE --ckpt {argument(path)}"
    if _is_of_a_run(path):
        yield "a file of a run", f"name the folder of its run: {argument(path.parent)}"
    if head[257:262] == b"ustar" or ".tar" in map(str.lower, path.suffixes):
        yield "a tar file", _of_shard(path)
    if ending in LISTS:
        yield "a table", _of_list(path, head)
    if (not of_yaml and is_image_name(path.name)) or _begins(head) == "an image":
        more = f"name its class with: vtrain predict {argument(path)}"
        yield "an image", f"name a folder of images, or {more}"


def _is_of_a_run(path: Path) -> bool:
    run = RunFolder(path.parent)
    written = (run.metrics, run.summary, run.status, run.environment, run.manifest, run.log)
    return run.is_started and path in (*written, run.predictions, run.report)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LOOKED_AT)
    except OSError:  # who reads the config says why
        return b""


def _begins(head: bytes) -> str:
    return next((kind for start, kind in STARTS.items() if head.startswith(start)), "")


def _of_checkpoint(path: Path) -> str:
    folder = path.parent
    if RunFolder(folder).is_started:
        return f"name the folder of its run: {argument(folder)}"
    weights = quoted(f"model.pretrained={path}")
    return f"name the folder of its run, or start from it: vtrain fit RECIPE {weights}"


def _of_list(path: Path, head: bytes) -> str:
    first = re.split(rb"[\r\n]", head)[0].decode("utf-8-sig", "replace")
    columns = {name.strip().strip(chr(34)) for name in first.split(",")}
    if not {"path", "label"} <= columns:
        return "a list of images has the columns path and label; a config is a YAML file"
    more = "" if "split" in columns else ", val_fraction: 0.1"
    return _fit(f"{{name: csv, file: {_scalar(path)}, image_size: 32{more}}}")


def _of_shard(path: Path) -> str:
    if not path.name.lower().endswith(".tar"):
        return "a shard is called NAME.tar, and is not packed"
    has_train = any(path.parent.glob("train*.tar"))
    more = "" if has_train else f", train: {_scalar(Path(path.name))}"
    has_val = any(path.parent.glob("val*.tar"))
    return _fit(
        f"{{name: webdataset, root: {_scalar(path.parent)}{more}, image_size: 32"
        f"{'' if has_val else ', val_fraction: 0.1'}}}"
    )


def _scalar(path: Path) -> str:
    """Write a path as YAML takes it between braces."""
    text = str(path)
    is_plain = re.fullmatch(r"[\w./-]+", text) and not text.startswith("-")
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _fit(data: str) -> str:
    return f"to train on it, type for example: vtrain fit {RECIPE} {quoted(f'data={data}')}"


def _has_sections(path: Path) -> bool:
    """Return whether a file of any ending may be meant as a config."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            document = parse_yaml(file.read(MAX_BYTES), path.name)
    except (OSError, UnicodeDecodeError, ConfigError):
        return False
    return any(section in document.data for section in Config.model_fields)
