"""Stop signals become a flag, and everything is as before afterwards."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from vtrain.engine.stop import StopSignals
from vtrain.interrupt import STOP_SIGNALS


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_is_noted_and_nothing_else_happens(number: signal.Signals) -> None:
    with StopSignals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number


def test_the_first_signal_counts() -> None:
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.received == signal.SIGTERM


def test_a_second_ctrl_c_stops_at_once() -> None:
    def interrupt_twice() -> None:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.received == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt_twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_third_ctrl_c_ends_even_a_process_that_hangs() -> None:
    program = """
import signal, threading
from vtrain.engine.stop import StopSignals
with StopSignals() as signals:
    print("ready", flush=True)
    while True:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("swallowed", flush=True)
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # may be merged with the first
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.returncode == -signal.SIGINT


def test_handlers_are_restored_also_after_an_error() -> None:
    def own(*_: object) -> None: ...

    before = {number: signal.signal(number, own) for number in STOP_SIGNALS}
    try:
        with pytest.raises(ValueError, match="x"), StopSignals():
            raise ValueError("x")
        assert {signal.getsignal(number) for number in STOP_SIGNALS} == {own}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_process_that_ends_soon_ends_with_its_own_code(number: signal.Signals) -> None:
    program = f"""
import os, sys
from vtrain.engine.stop import StopSignals
with StopSignals(until_exit=True):
    pass
os.kill(os.getpid(), {number:d})
sys.exit(3)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 3


def test_outside_of_the_main_thread_nothing_changes() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    inside: list[object] = []

    def run() -> None:
        with StopSignals() as signals:
            inside.append(signals.received)
            inside.extend(signal.getsignal(number) for number in STOP_SIGNALS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [None, *before]
