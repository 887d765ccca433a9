"""Advice that errors give can be followed by a run that goes on, or says that it cannot."""

import ast
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.base_configs import EVERY_SECTION
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain
from vtrain.config import Config, config_from_text, rule_on_resume
from vtrain.errors import ConfigError, DataError, DeviceError, DivergedError, VtrainError
from vtrain.files.runs import RunFolder
from vtrain.optim.gradients import STEADIER
from vtrain.registry import Section
from vtrain.run.advice import (
    KEY,
    SETTING,
    after_a_failure,
    for_a_resume,
    naming_the_config,
    remedy,
)

SOURCES = list(Path("vtrain").resolve().rglob("*.py"))

OF_A_START = {
    "data.val_fraction": "says itself that it takes a new run: `for_a_resume`",
    "data.first_class": "likewise: the first start has refused what it mends",
    "data.train": "a pattern of files",
    "model.pretrained": "starts a new run by its own words",
    "model.name": "of weights to start from, which a run that goes on does not read",
    "train.batch_size": "what was too large; advice beside it keeps it",
    "train.distillation": "a section, named as the place of a mistake",
    "train.loss": "likewise",
    "model.freeze": "what is wrong with it shows at the first start",
    "data.fold": "of a report over folds",
    "data.image_size": "beside data.cache, which may change",
    "data.mean": "said of the weights at a start; a run that goes on does not read them",
    "data.std": "likewise",
    "data.value_range": "said of images by `check --data`, before a run",
    "data.channels": "of images of another number, or said before a run",
    "data.balanced": "beside train.loss.tau: the first start has refused both together",
    "data.label_separator": "how labels are read: the first start has refused what it mends",
    "data.label_columns": "likewise",
    "data.several_labels": "says what the key does; what helps is another name of a file",
    "data.name": "of a dataset that is not there, without which no run has begun",
}
"""Keys that messages name and a run that goes on cannot change, and why that is right."""


def config() -> Config:
    data = "data={name: image_folder, root: photos, image_size: 16}"
    return config_from_text(EVERY_SECTION, "base.yaml", [data])


def sources() -> dict[str, Config]:
    """A config of each kind of dataset: a key of one is none of another."""
    return {
        name: config_from_text(
            EVERY_SECTION, "base.yaml", [f"data={{name: {name}, image_size: 16, {more}}}"]
        )
        for name, more in [
            ("image_folder", "root: photos"),
            ("csv", "file: list.csv"),
            ("webdataset", "root: shards"),
            ("cifar10", "root: data"),
        ]
    }


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module that a user may see, f-strings in one piece."""
    tree = ast.parse(path.read_text())
    hidden = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            hidden |= {id(part) for part in node.values}
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "2" for p in node.values)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in hidden
        ):
            yield node.value


def advised() -> dict[str, str]:
    """Return each key that a message of the program names, with the message."""
    found: dict[str, str] = {}
    known = {
        f"{name}.{key}"
        for given in sources().values()
        for name, section in given
        if isinstance(section, Section)
        for key in type(section).model_fields
    }
    for path in SOURCES:
        if path.parent.name in ("config", "text", "cli") or path.stem in ("keys", "registry"):
            continue  # what is said of a config that no run has yet
        for text in texts(path):
            if " " in text:  # a message, and not the name of a key
                keys = [key for key in KEY.findall(text) if key in known]
                found |= dict.fromkeys(keys, text)
    return found


def test_messages_name_keys() -> None:
    assert {"optimizer.lr", "data.on_bad_image", "train.accum_steps"} <= advised().keys()


@pytest.mark.parametrize("key", sorted(advised()))
def test_a_key_that_a_message_names_may_change_when_a_run_goes_on(key: str) -> None:
    rules = {rule_on_resume(given, key) for given in sources().values()}
    assert rules & {"free", "changeable"} or key in OF_A_START, advised()[key]


def test_no_reason_is_kept_for_a_key_that_is_not_named() -> None:
    assert OF_A_START.keys() <= advised().keys() | {"train.distillation", "train.loss", "data.fold"}


@pytest.mark.parametrize(
    ("error", "override"),
    [
        (DivergedError("the loss", None, STEADIER, 3), ["optimizer.lr=0.0001"]),
        (DivergedError("fp16", None, "set train.precision=bf16 or fp32"), ["train.precision=bf16"]),
        (
            DataError("bad", "x.png", "data.on_bad_image=skip leaves it out"),
            ["data.on_bad_image=skip"],
        ),
        (DeviceError("memory", None, "train.accum_steps=2 or x"), ["train.accum_steps=2"]),
        (DataError("no val split", None, "set data.val_fraction, e.g. 0.1"), []),
        (DataError("no val split", None, "set data.val_fraction=0.1"), []),
        (DataError("no hint"), []),
    ],
)
def test_the_command_to_go_on_with_has_what_the_error_advises(
    error: VtrainError, override: list[str]
) -> None:
    assert remedy(error, config()) == override


def test_settings_in_messages_are_valid() -> None:
    for text in advised().values():
        for setting in SETTING.findall(text):
            key = setting.partition("=")[0]
            for given in sources().values():
                if rule_on_resume(given, key) != "fixed":
                    name = given.data.name
                    where = {"csv": "file: x"}.get(name, "root: x")
                    data = f"data={{name: {name}, image_size: 16, {where}}}"
                    config_from_text(EVERY_SECTION, "base.yaml", [data, setting.rstrip(".")])


def test_a_hint_that_a_run_cannot_follow_says_so() -> None:
    given = config()
    hint = "set data.val_fraction, e.g. 0.1"
    assert for_a_resume(hint, given) == f"{hint}, in a new run: this one keeps data.val_fraction"
    for hint in ("set data.on_bad_image=skip", "start a new run with model.pretrained", None):
        assert for_a_resume(hint, given) == hint


def test_a_command_in_a_hint_names_the_config_that_was_typed() -> None:
    path, typed = Path("my photos.yaml"), ["data.root=a b", "train.gpus=8"]
    wrong = ConfigError("no", "command line 'train.gpus=8'", "type vtrain fit CONFIG")
    both = ConfigError.all_of([wrong, ConfigError("x", None, "`vtrain check CONFIG --data` lists")])
    with pytest.raises(ConfigError) as caught, naming_the_config(path, typed):
        raise both
    first, second = caught.value.lines()
    assert first.endswith(": type vtrain fit 'my photos.yaml' 'data.root=a b'")
    assert second.endswith(": `vtrain check 'my photos.yaml' 'data.root=a b' --data` lists")


@pytest.mark.parametrize(
    "command", ["fit bad.yaml", "fit run --resume train.max_steps=9", "bench bad.yaml"]
)
def test_advice_on_unreadable_images_can_be_pasted(
    small_run: Path, vtrain: Vtrain, command: str
) -> None:
    plant_photographs({"train": {"cat": 9, "dog": 9}, "val": {"cat": 3, "dog": 3}})
    Path("bad.yaml").write_text(over_photographs(small_run.read_text()))
    assert vtrain("fit", "bad.yaml", "--run-dir", "run", "train.max_steps=1").code == 0
    for path in Path("photos/train").rglob("*.png"):
        path.write_bytes(b"x")
    done = vtrain(*command.split(), *["--accept-data-change"] * ("run" in command))
    assert done.code == 3
    advised = re.search("`vtrain (check .*? --data)` lists all", done.err)
    assert advised is not None, done.err
    checked = vtrain(*shlex.split(advised[1]))
    assert checked.code == 3
    assert "bad: 18 images cannot be read" in checked.out
    again = re.search("can go on with: vtrain (.*)", done.err)
    if again is not None:  # which then finds that too many are bad
        assert "18 images cannot be read" in vtrain(*shlex.split(again[1])).err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            DataError("no such image file", "x.png"),
            "once that is mended, what is saved goes on with",
        ),
        (DataError("bad", "x", "data.on_bad_image=skip"), "what is saved can go on with"),
        (DeviceError("memory"), "what is saved can go on with"),
    ],
)
def test_what_has_to_be_mended_first_is_said_first(
    error: VtrainError, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    run = RunFolder(tmp_path)
    run.last.touch()
    with pytest.raises(type(error)), after_a_failure(run, config()):
        raise error
    (line,) = caplog.messages
    assert line.startswith(f"{said}: ".replace(" with: ", " with: vtrain fit "))
