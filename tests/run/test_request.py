"""What a command line of `fit` asks for: which config, and which run of it."""

import json
import logging
from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN
from vtrain.config import load_config
from vtrain.errors import CheckpointError, ConfigError, DataError, VtrainError
from vtrain.files.runs import RunFolder
from vtrain.run.request import Request, find_request


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a config."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL_RUN)
    return tmp_path


def begun(path: str, *overrides: str, state: str = "stopped", record: bool = True) -> RunFolder:
    """Leave a run as a command line with these overrides would."""
    run = RunFolder(Path(path))
    run.path.mkdir(parents=True)
    run.config.write_text(load_config(Path("small.yaml"), overrides).to_yaml())
    run.write_status(state)
    keys = sorted(override.partition("=")[0] for override in overrides)
    record_ = {"name": "small", "overridden": keys} if record else {}
    run.environment.write_text(json.dumps(record_))
    return run


def asked(path: str, *overrides: str, run_dir: str | None = None, resume: bool = True) -> Request:
    return find_request(Path(path), overrides, None if run_dir is None else Path(run_dir), resume)


@pytest.mark.parametrize("place", ["run", "run/", "run/config.yaml"])
def test_a_run_folder_in_the_configs_place_is_the_run(place: str) -> None:
    begun("run", "train.epochs=7", "seed=3")
    request = asked(place, "optimizer.lr=2e-3")
    assert request.run_dir == Path("run")
    assert request.name == "small"
    train, seed = request.config.train, request.config.seed
    assert (train.epochs, seed) == (7, 3)
    assert request.config.optimizer.model_dump()["lr"] == 2e-3
    assert set(request.overridden) == {"train.epochs", "seed", "optimizer.lr"}


def test_within_the_run_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    begun("run", "seed=3")
    monkeypatch.chdir("run")
    for place in (".", "config.yaml"):
        request = asked(place)
        assert (request.run_dir, request.config.seed) == (Path(), 3)


@pytest.mark.parametrize("place", ["run", "run/config.yaml"])
def test_without_resume_it_is_a_new_run_of_its_config(place: str) -> None:
    begun("run", "seed=3")
    request = asked(place, "train.epochs=7", resume=False)
    assert (request.run_dir, request.resume, request.name) == (None, False, "small")
    assert (request.config.seed, request.config.train.epochs) == (3, 7)
    assert request.overridden == ("train.epochs",)


def test_what_was_typed_once_need_not_be_typed_again() -> None:
    begun("run", "data.num_images=50", "optimizer={name: sgd, lr: 0.5}", "train.loss.name=focal")
    config = asked("small.yaml", run_dir="run").config
    assert config.to_yaml() == load_config(Path("run")).to_yaml()
    # What is typed now counts, and what is in the file now where nothing was typed.
    Path("small.yaml").write_text(SMALL_RUN.replace("epochs: 2", "epochs: 9"))
    config = asked("small.yaml", "data.num_images=60", run_dir="run").config
    assert config.data.model_dump()["num_images"] == 60
    assert config.train.epochs == 9
    assert config.optimizer.name == "sgd"


def test_what_was_typed_keeps_its_meaning_in_another_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun("run", "data={name: image_folder, root: photos, image_size: 16}")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    config = asked("../small.yaml", run_dir="../run").config
    assert config.data.model_dump()["root"] == here / "photos"
    assert config.to_yaml() == (here / run.config).read_text()


def test_a_limit_of_one_command_is_not_remembered() -> None:
    begun("run", "train.max_steps=3", "train.epochs=7", state="finished")
    config = asked("small.yaml", run_dir="run").config
    assert (config.train.max_steps, config.train.epochs) == (None, 7)
    assert asked("run").config.train.max_steps == 3  # the run's own config, as it is


def test_a_run_without_a_record_takes_the_config_that_is_named() -> None:
    begun("run", "train.epochs=7", record=False)
    assert asked("small.yaml", run_dir="run").config.train.epochs == 2
    assert asked("run").config.train.epochs == 7


def test_the_newest_unfinished_run_of_the_config_goes_on_wherever_it_lies(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun("runs/small/2025-01-01")
    begun("runs/other/2025-01-01").environment.write_text('{"name": "other"}')
    begun("runs/exp1", "seed=5")
    with caplog.at_level(logging.INFO):
        request = asked("small.yaml")
        assert (request.run_dir, request.config.seed) == (Path("runs/exp1"), 5)
        assert not caplog.messages
        begun("runs/exp2", state="finished")
        assert asked("small.yaml").run_dir == Path("runs/exp1")
    assert caplog.messages == ["going on with runs/exp1; runs/exp2 is newer, but finished"]


@pytest.mark.parametrize("run_dir", [None, "run"])
def test_no_run_starts_anew_in_silence(
    run_dir: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        request = asked("small.yaml", run_dir=run_dir)
    assert request.run_dir == (None if run_dir is None else Path(run_dir))
    assert "starting a new one" in caplog.text


def test_two_runs_at_once_are_refused_unless_they_are_one() -> None:
    begun("run")
    begun("other")
    with pytest.raises(ConfigError, match=r"--run-dir names another run than run .*one of them"):
        asked("run", run_dir="other")
    assert asked("run", run_dir="./run").run_dir == Path("run")
    # The config file of a run is a config like any other, for a run that is named beside it.
    assert asked("run/config.yaml", run_dir="other").run_dir == Path("other")


def test_anybodys_config_yaml_is_no_run(here: Path) -> None:
    Path("config.yaml").write_text(SMALL_RUN)
    request = asked("config.yaml")
    assert (request.run_dir, request.name) == (None, "config")


@pytest.mark.parametrize("name", ["run/last.pt", "weights.safetensors"])
def test_a_checkpoint_in_the_configs_place_is_answered_with_its_run(name: str) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint, not a config .*the folder of its run"):
        asked(name)


@pytest.mark.parametrize("path", ["Nosuch", "no/such", "none.yaml"])
def test_a_config_that_is_not_there_is_all_that_is_said(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    with pytest.raises(VtrainError, match="a run folder"):
        asked(path)
    assert not caplog.messages


@pytest.mark.parametrize("name", ["runs/small/none", "none"])
def test_a_run_that_is_not_there_is_a_missing_checkpoint(name: str) -> None:
    """Like in every other command that takes a run."""
    with pytest.raises(CheckpointError, match="there is no such run or config"):
        asked(name)
    with pytest.raises(ConfigError):
        asked(name, resume=False)


def test_a_folder_of_runs_is_answered_with_the_newest() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in this folder"):
        _ = RunFolder(Path()).checkpoint  # nothing is below it
    begun("runs/small/a")
    newest = begun("runs/small/b")
    for place in ("runs", "runs/small"):
        said = f"it holds 2 runs; the newest is {newest.path}"
        assert RunFolder(Path(place)).instead == said
        with pytest.raises(CheckpointError, match=said):
            _ = RunFolder(Path(place)).checkpoint
        with pytest.raises(DataError, match=said):
            find_request(Path(place))
