"""Another process of the tests: a copy of this one, with all its modules imported."""

import os
import warnings


def fork() -> int:
    """Fork as `os.fork` does, without its warning: the copy never waits for another thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
