"""Stop signals: a handler sets a flag, and the training loop looks at it between two steps."""

import signal
import threading
from types import FrameType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""End of a job, Ctrl-C, Slurm's warning before the time limit, and a closed terminal."""


class StopSignals:
    """While entered, a stop signal only sets `received`; a second Ctrl-C stops at once.

    The handler exchanges nothing with other processes and writes nothing: this one may be in the
    middle of just that. Outside of the main thread, where Python cannot handle signals, nothing
    changes. With `until_exit` it stays in charge afterwards, for a process that ends soon: a late
    signal is not to change the exit code, which says how the run ended.
    """

    def __init__(self, until_exit: bool = False) -> None:
        self.until_exit = until_exit
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        if self.until_exit:
            return
        for number, handler in self._previous.items():
            # None: the handler was not set from Python, and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received is not None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a third one ends even a hanging process
            raise KeyboardInterrupt
        if self.received is None:
            self.received = int(number)
