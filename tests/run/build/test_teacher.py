"""Distillation from checkpoints of vtrain and from models of torchvision."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from tests.harness import Vtrain
from vtrain.api import load_model
from vtrain.data.preprocess import Preprocess
from vtrain.errors import CheckpointError, ConfigError
from vtrain.run.build.teacher import columns, load_teacher

CLASSES = ("class_0", "class_1", "class_2", "class_3")
STUDENT = Preprocess(24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.1))
DISTILLED = "model.name=deit_ti_distilled"


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    """The weights of a ResNet for four classes."""
    path = tmp_path / "resnet.pt"
    torch.save(resnet18(num_classes=4).state_dict(), path)
    return path


def test_a_checkpoint_answers_in_its_own_size_and_normalisation_by_class_name(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    names = ("class_2", "class_0", "class_1")
    teacher = load_teacher("run", None, names, STUDENT)
    images = torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8)
    loaded = load_model("run")
    small = torch.nn.functional.interpolate(
        loaded.geometry.normalise(images), (16, 16), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        expected = loaded.model(small)[:, [2, 0, 1]]
    found = teacher(STUDENT.normalise(images))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_torchvision_model_answers_in_the_datasets_order_or_by_the_names_in_its_file(
    resnet: Path,
) -> None:
    images = torch.randn(2, 3, 24, 24)
    model = resnet18(num_classes=4).eval()
    model.load_state_dict(torch.load(resnet, weights_only=True))
    with torch.no_grad():
        expected = model(images)
    teacher = load_teacher("torchvision:resnet18", resnet, CLASSES, STUDENT)
    torch.testing.assert_close(teacher(images), expected)
    torch.save({"model": model.state_dict(), "classes": list(CLASSES[::-1])}, resnet)
    teacher = load_teacher("torchvision:resnet18", resnet, CLASSES, STUDENT)
    torch.testing.assert_close(teacher(images), expected.flip(1))


def test_classes_are_found_by_name() -> None:
    assert columns(("a", "b"), ("a", "b")) is None
    assert columns(("a", "b", "c"), ("c", "a")) == [2, 0]


@pytest.mark.parametrize(
    ("teacher", "with_weights", "classes", "error", "message"),
    [
        ("torchvision:resnet81", True, CLASSES, ConfigError, "no classifier 'resnet81'.*resnet"),
        ("torchvision:resnet18", False, CLASSES, ConfigError, "resnet18 needs weights .*_weights"),
        ("torchvision:resnet18", True, CLASSES[:3], ConfigError, "has 4 classes, .* has 3"),
        ("torchvision:resnet34", True, CLASSES, CheckpointError, "not the weights of resnet34"),
        ("none.pt", False, CLASSES, CheckpointError, "no such checkpoint"),
        ("none.pt", True, CLASSES, ConfigError, "has its own weights"),
    ],
)
def test_a_teacher_that_cannot_be_used_is_refused(
    resnet: Path,
    teacher: str,
    with_weights: bool,
    classes: tuple[str, ...],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        load_teacher(teacher, resnet if with_weights else None, classes, STUDENT)


def test_a_teacher_that_does_not_know_a_class_is_refused(small_run: Path, vtrain: Vtrain) -> None:
    vtrain("fit", small_run, "--run-dir", "run", "train.max_steps=1")
    done = vtrain("fit", small_run, "data.num_classes=5", "train.distillation.teacher=run")
    assert done.code == 2
    assert "does not know class 'class_4' (1 of 5 classes are unknown)" in done.err


def losses(run: str) -> list[float]:
    rows = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


def test_a_student_learns_from_a_run_and_the_run_folder_says_which(
    small_run: Path, vtrain: Vtrain
) -> None:
    vtrain("fit", small_run, "--run-dir", "teacher")
    vtrain("fit", small_run, "--run-dir", "alone", DISTILLED)
    taught = ("train.distillation={teacher: teacher, kind: soft, tau: 3}", DISTILLED)
    assert vtrain("fit", small_run, "--run-dir", "taught", *taught).code == 0
    assert losses("taught") != losses("alone")
    assert f"teacher: {Path.cwd() / 'teacher'}" in Path("taught/config.yaml").read_text()
    assert "teacher" in vtrain("check", small_run, *taught).out
    assert vtrain("eval", "--ckpt", "taught").code == 0  # needs no teacher
    state = torch.load("alone/last.pt", weights_only=True)["state"]["model"]
    assert state["head_dist.bias"].any()  # without a teacher it has learned the labels


def test_a_temperature_without_a_meaning_is_a_mistake_in_its_section(
    small_run: Path, vtrain: Vtrain, resnet: Path
) -> None:
    teacher = f"teacher: torchvision:resnet18, teacher_weights: {resnet}"
    done = vtrain("fit", small_run, f"train.distillation={{{teacher}, tau: 2}}")
    assert done.code == 2
    assert "train.distillation: tau (2) has no meaning with kind (hard)" in done.err
