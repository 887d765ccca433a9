import sys
from pathlib import Path

import pytest

from benchmarks import predict_onnx
from benchmarks.serve import untrained
from tests import harness


def test_what_is_compared_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def seconds(images: Path, ckpt: Path) -> float:
        asked.append(ckpt.name)
        return float(len(asked))

    monkeypatch.setattr(predict_onnx, "seconds", seconds)
    found = predict_onnx.in_turns(Path(), [Path("a"), Path("b")], 3)
    assert asked == ["b", "a", "a", "b", "b", "a"]
    assert found == [[2, 3, 6], [1, 4, 5]]


def test_a_ratio_says_what_it_is_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    took = {"model.onnx": 2.0, "run": 8.0}
    monkeypatch.setattr(predict_onnx, "seconds", lambda _, ckpt: took[ckpt.name])
    both = (Path("x"), Path("model.onnx"), Path("run"), 3)
    assert predict_onnx.compare("start", *both, 1).median == 0.25
    assert predict_onnx.compare("folder", *both, 1000).median == 4
    out = capsys.readouterr().out
    assert "time of the file / of the checkpoint: 0.25 [0.25, 0.25] (at most 0.35" in out
    assert "images per second of 1000, file / checkpoint: 4.00" in out


def test_rounding_needs_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict_onnx", "--parts", "rounded"])
    with pytest.raises(SystemExit):
        predict_onnx.main()
    assert "needs a trained run" in capsys.readouterr().err


def test_a_command_that_fails_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="vtrain: error:"):
        predict_onnx.vtrain("predict", tmp_path / "nothing.png")


def test_a_rounding_that_is_refused_is_told_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(*arguments: object) -> str:
        if "--int8" in arguments:
            raise predict_onnx.NotTheModel("the file is not the model")
        if arguments[0] == "eval":
            return '{"val/top1": 0.5}'
        if arguments[0] == "export":
            file = Path(str(arguments[3]))
            file.parent.mkdir()
            file.write_bytes(b"x" * 1000)
        return "images\nproof\n"

    monkeypatch.setattr(predict_onnx, "vtrain", answer)
    rows = predict_onnx.rounded(tmp_path, tmp_path, tmp_path, [], turns=1)
    assert [row["top1"] for row in rows] == [0.5, 0.5]
    assert "int8      the file is not the model" in capsys.readouterr().out


@pytest.mark.slow
def test_it_measures_a_run_and_its_roundings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forked(*arguments: object) -> str:  # a fork has what a new process imports for seconds
        done = harness.run(tmp_path, *arguments)
        assert done.code == 0, done.err
        return done.out

    monkeypatch.setattr(predict_onnx, "vtrain", forked)
    run = untrained(tmp_path, "vit_ti, patch_size: 8, depth: 1", 16)
    monkeypatch.setattr(
        sys, "argv", ["predict_onnx", str(run), "--turns", "1", "--photographs", "3"]
    )
    assert predict_onnx.main() == 0
    out = capsys.readouterr().out
    for name in ("start", "folder", "fp32", "half", "int8"):
        assert name in out
