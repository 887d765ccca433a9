import sys
from pathlib import Path

import pytest

from benchmarks import serve
from tests.serve.cases import CLASSES, colour, prepare, probabilities, served, server
from vtrain.serve.served import Array


def test_answers_of_one_and_of_many_clients_are_counted() -> None:
    contents = [colour(50 * n, 9, 250 - 50 * n) for n in range(5)]
    with server() as (port, api):
        expected = [serve.ask(port, content) for content in contents]
        assert set(expected[0]) == set(CLASSES)
        before = sum(api.batcher.batches)
        rate = serve.ask_for(port, contents, expected, 4, 0.1)
        assert rate > 10
        assert sum(api.batcher.batches) > before


def test_an_answer_that_is_another_s_ends_the_measurement() -> None:
    def mixed_up(images: Array) -> Array:
        return probabilities(images)[::-1] if len(images) > 1 else probabilities(images)

    contents = [colour(0, 0, 250), colour(250, 0, 0)]
    with server(served(prepare=prepare, probabilities=mixed_up)) as (port, _):
        expected = [serve.ask(port, content) for content in contents]
        with pytest.raises(SystemExit, match="lost or mixed up"):
            serve.ask_for(port, contents, expected, 8, 2)


def test_the_ratio_is_of_many_clients_to_one(capsys: pytest.CaptureFixture[str]) -> None:
    ratio = serve.report([10.0, 12.0, 10.0], [20.0, 24.0, 20.0], 8)
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 2)
    out = capsys.readouterr().out
    assert "8 clients / 1 client: 2.00 [2.00, 2.00] (at least 1.5 is wanted)" in out


@pytest.mark.slow
def test_it_measures_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = serve.untrained(tmp_path, "vit_ti, patch_size: 8, depth: 1", 16)
    small = ["--seconds", "0.2", "--turns", "2", "--photographs", "3", "--clients", "3"]
    monkeypatch.setattr(sys, "argv", ["serve", str(run), *small])
    assert serve.main() == 0
    assert "3 clients / 1 client:" in capsys.readouterr().out
