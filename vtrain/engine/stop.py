"""Stop signals: a handler sets a flag, and the training loop looks at it between two steps."""

import signal
import threading
from types import FrameType
from typing import Any, Self

from vtrain.interrupt import handled


class StopSignals:
    """While entered, a stop signal only sets `received`; a second Ctrl-C is handled as before.

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
            for number in handled():
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
            before = self._previous.get(number)
            if callable(before):  # the command line's ends the process, Python's raises
                before(number, frame)
            raise KeyboardInterrupt
        if self.received is None:
            self.received = int(number)
