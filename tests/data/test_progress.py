import io
import logging
import sys
import time

import pytest

from vtrain.data import progress
from vtrain.data.progress import Progress, said_if_long


class Terminal(io.StringIO):
    """A stream that says it is a terminal, of which nobody knows the size."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


@pytest.fixture(autouse=True)
def _silent_until_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "_said", -float("inf"))
    monkeypatch.setattr(progress, "SHORT", 0.0)


def test_a_terminal_sees_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress("listing", "files", 20) as bar:
        bar.add(15)
    text = sys.stderr.getvalue()
    assert "listing" in text
    assert text.split("\r")[-1].strip() == ""


def test_a_file_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress("listing", "files") as work:
        for _ in range(3):
            work.add(1)
    assert caplog.messages == ["listing ..."]
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("patience", ["SHORT", "PATIENCE"])
def test_nothing_is_said_of_short_work_or_soon_after_the_last(
    patience: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    monkeypatch.setattr(progress, patience, 60.0)
    if patience == "PATIENCE":
        monkeypatch.setattr(Progress, "_said", progress.time.monotonic())
    with Progress("listing", "files") as work:
        work.add(1)
    assert not caplog.messages


def test_what_cannot_be_counted_is_said_once_after_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with said_if_long("reading"):
        time.sleep(0.5)
    assert caplog.messages == ["reading ..."]


def test_what_is_short_is_not_said_and_neither_is_what_fails_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    with said_if_long("reading"):
        pass
    with pytest.raises(OSError, match="gone"), said_if_long("reading"):
        raise OSError("gone")
    assert not caplog.messages


def test_nothing_is_said_as_long_as_something_else_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    monkeypatch.setattr(progress, "PATIENCE", 0.3)
    with said_if_long("reading"):
        for _ in range(12):
            time.sleep(0.05)
            Progress.heard()
    assert not caplog.messages


def test_a_daemon_without_stderr_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with Progress("listing", "files") as work:
        work.add(1)
