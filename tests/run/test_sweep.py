"""What `vtrain sweep` does with its trials, whose runs a stand-in makes in no time."""

import json
import os
import random
import re
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.base_configs import SMALL_RUN
from tests.harness import Command, Vtrain
from tests.run.test_sweep_kills import journal
from tests.sweep.standin import value
from vtrain.run import sweep

STANDIN = (sys.executable, "-S", str(Path("tests/sweep/standin.py").absolute()))
FILE = """\
config: small.yaml
space:
  optimizer.lr: {low: 0.01, high: 1.0}
trials: 4
fixed: {train.epochs: 3}
sampler: random
"""


@pytest.fixture
def folder(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with a sweep whose runs are the stand-in's; return the sweep's folder."""
    quick()
    monkeypatch.setattr(sweep, "FIT", STANDIN)
    monkeypatch.setattr(sweep, "PAUSE", 0.005)
    Path("s.yaml").write_text(FILE)
    return Path("runs/s")


def quick() -> None:
    """Change the same in a new process, whose exit takes it away again."""
    sweep.FIT, sweep.PAUSE = STANDIN, 0.005  # type: ignore[assignment]


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    return found


def starts(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.rglob("starts"))


def test_a_sweep_runs_every_trial_and_names_the_best(folder: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "s.yaml", "--workers", "2")
    assert done.code == 0, done.err
    found = results(folder)
    for trial in found["trials"]:
        assert trial["state"] == "finished"
        lr = trial["values"]["optimizer.lr"]
        assert 0.01 <= lr <= 1
        assert trial["value"] == value(lr, 0, 3)
    best = max(found["trials"], key=lambda trial: trial["value"])
    assert found["best"] == best["number"]
    assert f"\n{best['number']} " in done.out
    assert "is better than on others" in done.out
    head, command, config = (folder / "best.yaml").read_text().split("\n", 2)
    assert f"Trial {best['number']}" in head
    assert command == "# Run: OMP_NUM_THREADS=1 vtrain fit runs/s/best.yaml"
    assert json.loads(config)["optimizer.lr"] == repr(best["values"]["optimizer.lr"])
    assert "is better than on others" in (folder / "sweep.html").read_text()


def test_a_sweep_says_now_and_then_how_far_its_runs_have_come(
    folder: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep.SILENCE <= 60
    monkeypatch.setattr(sweep, "SILENCE", 0.0)
    done = vtrain("sweep", "s.yaml")
    assert done.code == 0, done.err
    assert re.search(rf"^running {folder}/0: \d epochs? done", done.err, re.M)


def test_a_finished_sweep_starts_nothing_and_more_trials_go_on(
    folder: Path, vtrain: Vtrain
) -> None:
    assert vtrain("sweep", "s.yaml").code == 0
    before = results(folder)["trials"]
    assert vtrain("sweep", "s.yaml").code == 0
    assert starts(folder) == 4
    assert vtrain("sweep", "s.yaml", "--trials", "6").code == 0
    assert starts(folder) == 6
    assert results(folder)["trials"][:4] == before


def test_the_choice_of_a_trial_does_not_depend_on_stops(folder: Path, vtrain: Vtrain) -> None:
    """One start for all trials, or one for each: a sampler that began anew would repeat itself."""
    assert vtrain("sweep", "s.yaml", "--output", "whole").code == 0
    for trials in range(1, 5):
        assert vtrain("sweep", "s.yaml", "--trials", trials).code == 0
    values = [trial["values"] for trial in results(folder)["trials"]]
    assert values == [trial["values"] for trial in results(Path("whole"))["trials"]]
    assert len({v["optimizer.lr"] for v in values}) == 4


def test_a_grid_has_a_trial_for_each_cell(folder: Path, vtrain: Vtrain) -> None:
    grid = "grid: {optimizer.lr: [0.1, 0.2], model.freeze: [null, 1, backbone]}\n"
    Path("s.yaml").write_text(f"config: small.yaml\n{grid}")
    assert vtrain("sweep", "s.yaml").code == 0
    cells = [tuple(trial["values"].values()) for trial in results(folder)["trials"]]
    assert cells == [(lr, f) for lr in (0.1, 0.2) for f in (None, 1, "backbone")]


def test_the_value_of_several_seeds_is_their_mean(folder: Path, vtrain: Vtrain) -> None:
    Path("s.yaml").write_text(FILE + "seeds: 3\n")
    assert vtrain("sweep", "s.yaml", "--trials", "1", "--rerun", "2").code == 0
    (trial,) = results(folder)["trials"]
    each = [value(trial["values"]["optimizer.lr"], seed, 3) for seed in range(3)]
    assert trial["each"] == each
    assert trial["value"] == pytest.approx(statistics.fmean(each))
    # Again with seeds that no trial had.
    again = [value(trial["values"]["optimizer.lr"], seed, 3) for seed in (3, 4)]
    assert results(folder)["rerun"] == again
    said = f"With 2 other seeds it reaches {statistics.fmean(again):.4f}"
    assert said in results(folder)["warning"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (6, "out of memory: made to fail with 6"),
        (7, "diverged: made to fail with 7"),
        (9, "ended 3 times in a row with exit code 137: made to fail with 9"),
    ],
)
def test_a_trial_that_cannot_be_made_fails_alone(
    folder: Path, vtrain: Vtrain, code: int, reason: str
) -> None:
    grid = f"grid: {{train.device: ['cuda:{code}', 'cuda:0']}}\n"
    Path("s.yaml").write_text(f"config: small.yaml\n{grid}")
    done = vtrain("sweep", "s.yaml")
    assert done.code == 0, done.err
    failed, finished = results(folder)["trials"]
    assert (failed["state"], failed["reason"]) == ("failed", reason)
    assert finished["state"] == "finished"
    assert f"trial 0 failed ({reason})" in done.err


def test_a_diverged_trial_is_not_trained_on_after_a_kill(folder: Path, vtrain: Vtrain) -> None:
    """Its own command with --resume would go on from an earlier checkpoint, as another run."""
    Path("s.yaml").write_text("config: small.yaml\ngrid: {optimizer.lr: [0.1]}\n")
    (folder / "0").mkdir(parents=True)
    (folder / "0/status.json").write_text('{"state": "failed", "code": 7}')
    assert vtrain("sweep", "s.yaml").code == 0
    assert results(folder)["trials"][0]["reason"] == "diverged"
    assert starts(folder) == 0


@pytest.mark.parametrize("code", [2, 3, 5])
def test_what_every_trial_would_meet_ends_the_sweep(
    folder: Path, vtrain: Vtrain, code: int
) -> None:
    Path("s.yaml").write_text(f"config: small.yaml\ngrid: {{train.device: ['cuda:{code}', cpu]}}\n")
    done = vtrain("sweep", "s.yaml")
    assert done.code == code
    what = f"vtrain: error: a run of the sweep cannot be made: made to fail with {code}"
    line = f"{what} (runs/s/output/0.txt): it has all that was printed"
    assert done.err.splitlines()[-1] == line
    state = "failed" if code == 2 else "running"  # what has been mended goes on
    assert [trial["state"] for trial in results(folder)["trials"]] == [state, "waiting"]


def test_a_trial_far_below_the_others_is_stopped(folder: Path, vtrain: Vtrain) -> None:
    rates = "[0.3, 0.31, 0.32, 0.33, 0.34, 0.95]"
    grid = f"grid: {{optimizer.lr: {rates}}}\nfixed: {{train.epochs: 40}}\npruner: median\n"
    Path("s.yaml").write_text(f"config: small.yaml\n{grid}")
    done = vtrain("sweep", "s.yaml")
    assert done.code == 0, done.err
    *others, last = results(folder)["trials"]
    assert {trial["state"] for trial in others} <= {"finished", "pruned"}
    assert others[0]["state"] == "finished"
    assert last["state"] == "pruned"
    assert last["reason"].startswith("stopped after epoch ")
    rows = (folder / "5/metrics.jsonl").read_text().splitlines()
    assert len(rows) < 40
    assert last["value"] in [json.loads(row)["val/top1"] for row in rows]


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_with_the_very_trials(folder: Path, tmp_path: Path) -> None:
    """A tenth of a second or two, then SIGKILL, ten times; then to the end."""
    Path("s.yaml").write_text(FILE.replace("trials: 4", "trials: 12").replace(": 3}", ": 12}"))
    draw = random.Random(0)
    for _ in range(10):
        command = Command(tmp_path, "sweep", "s.yaml", "--workers", "2", prepare=quick)
        command.until((folder / "journal.log").exists)
        time.sleep(draw.uniform(0.0, 0.3))
        command.send(signal.SIGKILL)
        command.wait()
    both = [Command(tmp_path, "sweep", "s.yaml", prepare=quick) for _ in range(2)]
    done = [command.wait() for command in both]
    assert [one.code for one in done] == [0, 0], done
    trials = results(folder)["trials"]
    assert [trial["state"] for trial in trials] == ["finished"] * 12
    ends = [row["trial_id"] for row in journal(folder) if row.get("datetime_complete")]
    assert sorted(ends) == list(range(12))  # each once
    for trial in trials:
        lines = (folder / f"{trial['number']}/metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))
        assert trial["value"] == value(trial["values"]["optimizer.lr"], 0, 12)


def test_a_signal_stops_the_runs_and_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    Path("s.yaml").write_text(FILE.replace(": 3}", ": 100}"))
    command = Command(tmp_path, "sweep", "s.yaml", prepare=quick)
    command.until((folder / "0/checkpoints.json").exists)
    command.send(signal.SIGTERM)
    done = command.wait()
    assert done.code == 128 + signal.SIGTERM
    line = "vtrain: stopped; 0 of 4 trials have ended; the same command goes on"
    assert done.err.splitlines()[-1] == line
    (pid,) = (folder / "0/starts").read_text().split()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_hours_that_are_over_stop_a_sweep_without_an_error(folder: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "s.yaml", "--hours", "0")
    assert done.code == 0
    assert "the time is up; 0 of 4 trials have ended; the same command goes on" in done.err
    assert vtrain("sweep", "s.yaml").code == 0
    assert {trial["state"] for trial in results(folder)["trials"]} == {"finished"}


def test_another_search_does_not_go_on_in_the_same_folder(folder: Path, vtrain: Vtrain) -> None:
    assert vtrain("sweep", "s.yaml", "--trials", "1").code == 0
    Path("s.yaml").write_text(FILE.replace("low: 0.01", "low: 0.02"))
    Path("small.yaml").write_text(SMALL_RUN + "# more\n")
    done = vtrain("sweep", "s.yaml")
    assert done.code == 2
    assert done.errors == [
        "vtrain: error: the sweep in runs/s was begun with another config and space (s.yaml): "
        "restore what has changed, or begin another sweep with --output"
    ]


@pytest.mark.slow
def test_two_folders_share_a_database(folder: Path, tmp_path: Path) -> None:
    """As two machines do that see no common folder."""
    url = f"sqlite:///{tmp_path}/trials.db"
    typed = ("sweep", "s.yaml", "--storage", url, "--output")
    assert Command(tmp_path, *typed, "a", "--trials", "1", prepare=quick).wait().code == 0
    both = [Command(tmp_path, *typed, name, prepare=quick) for name in "ab"]
    done = [command.wait() for command in both]
    assert [one.code for one in done] == [0, 0], done
    for name in "ab":
        assert [trial["state"] for trial in results(Path(name))["trials"]] == ["finished"] * 4
    assert starts(Path("a")) + starts(Path("b")) == 4


def test_a_storage_that_is_none_is_told(folder: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "s.yaml", "--storage", "nosuch://user:secret@host/db")
    assert done.code == 2
    assert done.err.startswith("vtrain: error: no storage of this kind: ")
    assert "secret" not in done.err
    assert done.err.count("\n") == 1


def test_a_torn_line_of_the_journal_is_cut(folder: Path, vtrain: Vtrain) -> None:
    assert vtrain("sweep", "s.yaml", "--trials", "2").code == 0
    with (folder / "journal.log").open("a") as file:
        file.write('{"op_code":4,"tri')
    assert vtrain("sweep", "s.yaml").code == 0
    assert {trial["state"] for trial in results(folder)["trials"]} == {"finished"}


def test_a_damaged_journal_is_told(folder: Path, vtrain: Vtrain) -> None:
    assert vtrain("sweep", "s.yaml", "--trials", "1").code == 0
    path = folder / "journal.log"
    path.write_text(path.read_text().replace("}\n", "}x\n", 1))
    done = vtrain("sweep", "s.yaml")
    assert done.code == 5
    assert "the journal is damaged" in done.errors[0]
    assert done.err.count("\n") == 1


def test_results_are_json_where_that_is_asked_for(folder: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "s.yaml", "--trials", "1", "--json")
    assert json.loads(done.out) == results(folder)


def test_the_dashboard_is_named(folder: Path, vtrain: Vtrain) -> None:
    done = vtrain("sweep", "s.yaml", "--dashboard")
    assert (done.code, done.out) == (0, "optuna-dashboard runs/s/journal.log\n")
    assert "pip install optuna-dashboard" in done.err
    assert vtrain("sweep", "s.yaml", "--dashboard", "--rerun", "1").code == 2


def test_without_the_extra_there_is_one_line(
    folder: Path, vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtrain.run.sweep_options.find_spec", lambda name: None)
    done = vtrain("sweep", "s.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "vtrain: error: vtrain sweep needs the package optuna (command line): "
        'pip install "vtrain[sweep]"\n'
    )


def test_a_run_folder_is_no_sweep_s(folder: Path, vtrain: Vtrain) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text("")
    done = vtrain("sweep", "s.yaml", "--output", "run")
    assert done.errors == [
        "vtrain: error: this folder holds a run (run): name another with --output"
    ]
