import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.peers import compare, environments, generated
from benchmarks.peers.arm import Job, disturb, introduce
from benchmarks.peers.columns import WORKS
from benchmarks.peers.environments import ROOT
from benchmarks.peers.processes import ArmFailed, Process
from benchmarks.peers.vtrain_arm import losses_with
from vtrain.registry import MODELS

LOSSES = {"fp32": 2.3, "bf16": 2.31}
ARM = """
import time
from benchmarks.peers.arm import Job, Turns
job = Job.from_command_line()
turns = Turns(job)
print("noise on stdout")
turns.answer(parameters=3)
if job.model == "broken":
    raise ValueError("no such model")
while True:
    time.sleep(0.01)
    turns.step_done(job.batch_size)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    toy = tmp_path / "toy_arm.py"
    toy.write_text(ARM)
    started = []

    def start(model: str = "toy") -> Process:
        job = Job(model, 32, 10, {}, 8, str(tmp_path), str(tmp_path), bare=True)
        env, log = {"PYTHONPATH": str(ROOT)}, tmp_path / "log.txt"
        started.append(Process("toy", [sys.executable, str(toy)], job, env, log))
        return started[-1]

    yield start
    for process in started:
        process.end()


def arm(**facts: Any) -> Any:
    facts = {"parameters": 100, "flops": 1000, "torch": "2.15.0", **facts}
    return SimpleNamespace(
        column=SimpleNamespace(title="x"), job=SimpleNamespace(folder=""), facts=facts
    )


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(compare, "losses_with", lambda _job, _folder: LOSSES)
    return arm()


def sizes_in(folder: Path) -> set[tuple[int, int]]:
    sizes = set()
    for path in folder.glob("train/*/*.jpg"):
        with Image.open(path) as image:
            sizes.add(image.size)
    return sizes


def state(pid: int) -> str:
    """Return the letter for what a process does: R runs, S waits, T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_an_arm_trains_the_steps_it_is_told_and_stands_still_in_between(start: Any) -> None:
    process = start()
    assert process.answer() == {"parameters": 3}
    assert process.answer()["images"] == 8  # the first step, which ends the start-up
    turn = process.train(5)
    assert turn["images"] == 40
    assert 0.05 <= turn["wall"] < 5
    assert turn["peak_memory"] > 1 << 20
    deadline = time.monotonic() + 5  # the signal takes effect when the process is next scheduled
    while state(process._process.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(process._process.pid) == "T"
    used = process.cpu_seconds()
    time.sleep(0.1)
    assert process.cpu_seconds() == used


def test_a_stopped_arm_ends_when_it_is_told_to(start: Any) -> None:
    process = start()
    process.answer()
    process.answer()
    process.hold()
    process.end()
    with pytest.raises(ProcessLookupError):
        os.kill(process._process.pid, 0)


def test_an_arm_that_fails_says_why(start: Any) -> None:
    process = start("broken")
    process.answer()
    with pytest.raises(ArmFailed, match="ValueError: no such model"):
        process.answer()


def test_equal_work_is_compared(ours: Any) -> None:
    assert compare.same_work(ours, arm(losses=LOSSES))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"parameters": 101}, "parameters 101 against 100"),
        ({"flops": 1200}, "flops 1,200 against 1,000"),
        ({"torch": "2.14.0"}, "torch 2.14.0 against 2.15.0"),
        (
            {"losses": {"fp32": 2.3003, "bf16": 2.31}},
            "first loss in fp32 2.300300 against 2.300000",
        ),
    ],
)
def test_other_work_is_left_out_with_the_reason(
    ours: Any, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], reason: str
) -> None:
    assert not compare.same_work(ours, arm(**{"losses": LOSSES, **facts}))
    assert reason in capsys.readouterr().out


def test_processor_time_means_one_thread() -> None:
    assert compare.parse(["--clock", "cpu", "--threads", "2"]).threads == 1


@pytest.mark.parametrize(("option", "value"), [("--models", "resnet"), ("--columns", "timm bets")])
def test_an_unknown_model_or_column_is_refused_with_the_choices(
    capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        compare.parse([option, value])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"invalid choice: '{value}'" in said
    assert "vit_ti" in said or "timm best" in said


@pytest.mark.parametrize("work", ["vit_ti", "swin_t", "tnt_ti"])
def test_noise_on_the_weights_shows_two_that_were_exchanged(tmp_path: Path, work: str) -> None:
    name, arguments = WORKS[work].vtrain
    job = Job(name, 32, 10, arguments, 8, str(tmp_path), str(tmp_path), bare=True)
    torch.manual_seed(0)
    batch = {"images": torch.randn(4, 3, 32, 32), "targets": torch.tensor([1, 2, 3, 4])}
    torch.save(batch, tmp_path / "check.pt")
    model = MODELS[name](num_classes=10, image_size=32, **arguments)
    disturb(model)
    weights = model.state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    right = losses_with(job, str(tmp_path))["fp32"]
    # Both are zeros in a new model, so that only noise tells one from the other.
    biases = [key for key in weights if key.endswith(("norm1.bias", "norm_mlp.bias"))]
    one, other = [key for key in biases if weights[key].shape == weights[biases[-1]].shape][-2:]
    weights[one], weights[other] = weights[other], weights[one]
    torch.save(weights, tmp_path / "weights.pt")
    assert abs(losses_with(job, str(tmp_path))["fp32"] / right - 1) > 1e-5


def test_an_arm_shows_disturbed_weights_and_trains_its_own(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    nn.init.zeros_(model[1].weight)
    batch = {"images": torch.randn(4, 3, 2, 2), "targets": torch.tensor([1, 2, 3, 4])}
    torch.save(batch, tmp_path / "check.pt")
    said: dict[str, Any] = {}
    turns = SimpleNamespace(job=SimpleNamespace(folder=tmp_path), answer=said.update)
    introduce(turns, model, lambda logits: logits)
    assert not model[1].weight.any()
    shown = torch.load(tmp_path / "weights.pt")
    logits = batch["images"].flatten(1) @ shown["1.weight"].T + shown["1.bias"]
    assert said["losses"]["fp32"] == pytest.approx(
        nn.functional.cross_entropy(logits, batch["targets"]).item()
    )
    assert said["parameters"] == 130
    assert said["flops"] == 2 * 120


def test_a_peer_that_cannot_be_installed_is_left_out_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(environments.PACKAGES, "lightning", ["no-such-package"])
    for variable, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path))):
        monkeypatch.setenv(f"PIP_{variable}", value)
    problem = environments.Environments(tmp_path).problem("lightning")
    assert problem.startswith("pip: ERROR: No matching distribution found for no-such-package")
    assert "\n" not in problem


def test_a_compiled_column_without_a_compiler_is_left_out_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr(environments.Environments, "problem", lambda _self, _program: None)
    options = compare.parse(["--compiled"])
    columns = compare.chosen(options, WORKS["vit_ti"], environments.Environments(Path()))
    assert "timm best" in {column.title for column in columns}
    assert not any(column.compile for column in columns)
    assert "left out: timm best, compiled: no C++ compiler" in capsys.readouterr().out


def test_large_generated_images_differ_in_size_so_that_nobody_can_keep_them_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated, "PER_CLASS", {"train": 50, "test": 10})
    folder = Path(generated.generate_folder(tmp_path, 224))
    assert len(sizes_in(folder)) == 5
    assert sizes_in(Path(generated.generate_folder(tmp_path, 32))) == {(32, 32)}
