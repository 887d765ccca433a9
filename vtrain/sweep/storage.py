"""Where the trials of a sweep are recorded: a journal in its folder, or a database."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from vtrain.errors import ConfigError, StorageError, shortened
from vtrain.files.atomic import explain
from vtrain.files.lock import locked

JOURNAL = "journal.log"


def open_storage(folder: Path, url: str | None) -> Any:
    """Return optuna's storage: the database at `url`, else the journal in the sweep's folder.

    Raises:
        ConfigError: The address is none, or its driver is not installed.
        StorageError: Nobody answers there, or the journal is damaged.
    """
    import optuna
    import sqlalchemy.exc  # optuna stores by it

    if url is None:
        return _journal(folder / JOURNAL)
    place = shortened(url.rpartition("@")[2])  # without a password
    try:
        return optuna.storages.RDBStorage(url)
    except (ImportError, ValueError, sqlalchemy.exc.ArgumentError) as error:
        raise ConfigError(f"no storage of this kind: {_line(error)}", place) from error
    except Exception as error:
        # Its kinds of errors are those of sqlalchemy and of each driver.
        what = f"the storage does not answer: {_line(error)}"
        raise StorageError(what, place, "is its server running?") from error


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    class KernelLock(JournalFileOpenLock):
        """A lock that the kernel frees when its owner is killed; optuna's own waits 30 seconds."""

        def __init__(self) -> None:
            super().__init__(str(path))
            self._held: Any = None

        def acquire(self) -> bool:
            self._held = locked(path.with_name(f".{path.name}.lock"))
            self._held.__enter__()
            return True

        def release(self) -> None:
            self._held.__exit__(None, None, None)

    lock = KernelLock()
    lock.acquire()
    try:
        _cut_torn_line(path)
    finally:
        lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock))
    except OSError as error:
        raise explain(error, path) from error
    except Exception as error:  # of a damaged line optuna says what json or a key says
        hint = "restore it, or begin in another folder with --output"
        raise StorageError(f"the journal is damaged: {_line(error)}", path, hint) from error


def _cut_torn_line(path: Path) -> None:
    """Take away half a line that a power cut left, which would hide all that follows."""
    with suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
