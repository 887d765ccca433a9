from pathlib import Path

import pytest

from vtrain.files.paths import at_home, unused


def test_a_tilde_is_the_home_folder_and_only_at_the_beginning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home("~/x") == tmp_path / "x"
    assert at_home("~") == tmp_path
    assert at_home("a/~/x") == Path("a/~/x")
    assert at_home(Path("x~")) == Path("x~")


def test_the_home_of_nobody_stays_a_name() -> None:
    assert at_home("~no-such-person-here/x") == Path("~no-such-person-here/x")


def test_an_unused_name_is_taken_by_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    assert unused(path) == path
    path.touch()
    (tmp_path / "x_2.png").mkdir()
    (tmp_path / "x_3.png").symlink_to("nowhere")
    assert unused(path) == tmp_path / "x_4.png"
