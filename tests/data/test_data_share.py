import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scripts.data_share import main
from tests.conftest import SMALL_RUN

Share = Callable[..., tuple[int, str]]


@pytest.fixture
def share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Share:
    """Return what runs the command and gives its exit code and what it printed."""
    config = tmp_path / "small.yaml"
    config.write_text(SMALL_RUN)

    def run(*arguments: str) -> tuple[int, str]:
        given = ["data_share", str(config), "--turns", "1", *arguments]
        monkeypatch.setattr(sys, "argv", given)
        threads = torch.get_num_threads()
        try:
            return main(), "".join(capsys.readouterr())
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.mark.parametrize(("goal", "code"), [("1", 0), ("0", 1)])
def test_the_share_of_the_data_path_is_held_against_the_goal(
    share: Share, goal: str, code: int
) -> None:
    done, text = share("--goal", goal, "--cpu-time")
    assert done == code
    assert "of the step (" in text


def test_a_mistake_in_the_config_is_one_line(share: Share) -> None:
    code, text = share("data.num_image=3")
    assert code == 2
    assert text.count("\n") == 1
    assert "did you mean 'num_images'" in text
