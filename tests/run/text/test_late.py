"""Numbers that lie behind the last step are no error, and are said."""

from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN
from tests.harness import Vtrain
from vtrain.config import config_from_text
from vtrain.run.build.optim import build_schedule
from vtrain.run.build.resolve import resolve
from vtrain.run.text.late import late_numbers


def late(*overrides: str) -> list[str]:
    return late_numbers(resolve(config_from_text(SMALL_RUN, "small.yaml", overrides)))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], []),
        (["train.epochs=1"], ["schedule.warmup_epochs (1) is not shorter than the run of 1 epoch"]),
        (["schedule={warmup_steps: 6}"], ["schedule.warmup_steps (6) is not shorter than"]),
        (["schedule={warmup_steps: 5}"], []),
        (
            ["schedule={name: multistep, milestones: [1, 2, 60.5]}"],
            ["schedule.milestones (2, 60.5) come too late: the run ends before, after 2 epochs"],
        ),
        (["schedule={name: step}"], ["schedule.every_epochs (30) means no drop"]),
        (["augment.mix_off_epoch=2"], ["augment.mix_off_epoch (2) comes too late"]),
        (["augment.mix_off_epoch=1"], []),
        (["train.max_steps=7"], ["train.max_steps (7) is more than the run has: 6"]),
        (["train.max_steps=6"], []),
        (["train.eval_every=3"], ["train.eval_every (3) means one evaluation, at the end"]),
        (
            ["train.early_stopping={metric: val/loss, mode: min, patience: 2}"],
            ["train.early_stopping.patience (2) cannot end a run of 2 evaluations"],
        ),
        (["train.early_stopping={metric: val/loss, mode: min, patience: 1}"], []),
    ],
)
def test_each_number_behind_the_end_is_said(overrides: list[str], said: list[str]) -> None:
    found = late(*overrides)
    assert len(found) == len(said)
    for line, start in zip(found, said, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize("name", ["cosine", "linear", "step", "constant", "warmup_stable_decay"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_warm_up_as_long_as_the_run_takes_half_of_it(name: str, epochs: int) -> None:
    change = (f"schedule={{name: {name}, warmup_epochs: 3}}", f"train.epochs={epochs}")
    schedule = build_schedule(resolve(config_from_text(SMALL_RUN, "small.yaml", change)))
    warmup = 3 * epochs // 2  # three steps in each epoch
    climb = [(step + 1) / (warmup + 1) for step in range(warmup)]
    assert [schedule(step) for step in range(warmup)] == pytest.approx(climb)
    assert schedule(warmup) == 1


def test_fit_and_check_say_it(small_run: Path, vtrain: Vtrain) -> None:
    what = "schedule.warmup_epochs (1) is not shorter than the run of 1 epoch: half of it is"
    fitted = vtrain("fit", small_run, "train.epochs=1")
    assert fitted.code == 0
    assert f"note    {what}" in fitted.err
    assert what in vtrain("check", small_run, "train.epochs=1").out


def test_three_epochs_of_the_shipped_digits_are_no_mistake(vtrain: Vtrain) -> None:
    digits = Path(__file__).parents[3] / "configs" / "vit_digits.yaml"
    checked = vtrain("check", digits, "train.epochs=3")
    assert checked.code == 0
    assert "schedule.warmup_epochs (3) is not shorter than the run of 3 epochs" in checked.out
