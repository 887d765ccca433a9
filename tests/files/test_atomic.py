"""Atomic writes: what a reader finds after success, failure, and mischief."""

import errno
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from vtrain.errors import DataError, StorageError
from vtrain.files import atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the kernel refuse to write files beyond `size` bytes: a full disk without a disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        atomic.write_bytes(path, content)
        assert path.read_bytes() == content
    assert names(tmp_path) == ["file"]


def test_until_the_end_of_the_block_the_old_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        file.seek(0)
        assert file.read() == b"new"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [None, ValueError("bug")])
def test_a_scratch_folder_is_gone_at_the_end(tmp_path: Path, error: Exception | None) -> None:
    expected = pytest.raises(ValueError, match="bug") if error else nullcontext()
    with expected, atomic.scratch_folder(tmp_path / "model") as folder:
        assert folder.parent == tmp_path
        atomic.write_text(folder / "a", "text")
        if error:
            raise error
    assert names(tmp_path) == []


def test_where_no_folder_can_be_made_a_scratch_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError), atomic.scratch_folder(tmp_path / "absent" / "model"):
        pass


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_old_content_alone(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic.replacing(path) as file:
            file.write(b"half of the ne")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_error_of_ours_in_the_block_is_not_explained_again(tmp_path: Path) -> None:
    def lose_the_server() -> None:
        with atomic.replacing(tmp_path / "file"):
            try:
                raise OSError(errno.ECONNRESET, "connection reset")
            except OSError as error:
                raise DataError("the download broke off") from error

    with pytest.raises(DataError, match="broke off"):
        lose_the_server()
    assert names(tmp_path) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_file_gets_the_permissions_of_the_umask_and_nobody_else_may_write(
    tmp_path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        atomic.write_text(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644 & ~umask


def test_a_planted_symlink_is_replaced_and_its_target_untouched(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    link = tmp_path / "last.pt"
    link.symlink_to(target)
    atomic.write_text(link, "checkpoint")
    assert target.read_text() == "mine"
    assert link.read_text() == "checkpoint"
    assert not link.is_symlink()


def test_a_device_or_pipe_is_not_renamed_over(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(StorageError, match="not a regular file"):
        atomic.write_text(pipe, "x")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_appending_adds_to_the_end_and_follows_no_link(tmp_path: Path) -> None:
    for line in ("a\n", "b\n"):
        atomic.append(tmp_path / "log", line)
    assert (tmp_path / "log").read_text() == "a\nb\n"
    (tmp_path / "link").symlink_to("log")
    with pytest.raises(StorageError):
        atomic.append(tmp_path / "link", "c\n")
    with largest_file(0), pytest.raises(StorageError, match="no space"):
        atomic.append(tmp_path / "log", "c\n")
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "file", {"loss": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 99_999])
def test_without_space_the_old_file_stays_and_the_message_says_so(
    tmp_path: Path, size: int
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with largest_file(size), pytest.raises(StorageError, match=r"no space.*ulimit -f"):
        atomic.write_bytes(path, bytes(100_000))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    error = atomic.explain(OSError(errno.ENOSPC, "x"), tmp_path / "last.pt", size=352_000_000)
    assert "no space to write last.pt" in str(error)
    assert "about 352 MB are needed and " in str(error)
    assert str(tmp_path) in str(error)


def test_the_systems_error_is_found_behind_others() -> None:
    full = OSError(errno.ENOSPC, "full")
    hidden = RuntimeError("unexpected pos 64 vs 0")
    hidden.__context__ = full
    assert atomic.cause(hidden) is full
    assert atomic.cause(RuntimeError("else")) is None


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("missing/file", "does not exist or has vanished"),
        ("a_file/file", "a parent of this path is a file"),
        ("a_folder", "this path is a folder"),
        ("x" * 300, "too long"),
    ],
)
def test_each_wrong_place_has_its_own_message(tmp_path: Path, where: str, says: str) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "a_folder").mkdir()
    with pytest.raises(StorageError, match=says):
        atomic.write_text(tmp_path / where, "x")
    assert names(tmp_path) == ["a_file", "a_folder"]


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    atomic.make_folder(tmp_path / "a" / "b")
    atomic.make_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_a_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="is a file"):
            atomic.make_folder(path)


def test_a_link_is_the_same_file_under_another_name(tmp_path: Path) -> None:
    source, path = tmp_path / "step", tmp_path / "last"
    source.write_bytes(b"new")
    path.write_bytes(b"old")
    for _ in range(2):
        atomic.link(source, path)
        assert path.samefile(source)
    assert names(tmp_path) == ["last", "step"]


def test_where_there_are_no_hard_links_a_copy_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    source, path = tmp_path / "step", tmp_path / "last"
    source.write_bytes(b"new")
    atomic.link(source, path)
    assert path.read_bytes() == b"new"
    assert not path.samefile(source)
    assert names(tmp_path) == ["last", "step"]


def test_sweeping_removes_what_killed_processes_left_and_only_that(tmp_path: Path) -> None:
    orphan = tmp_path / f"{atomic.PREFIX}0123{atomic.SUFFIX}"
    orphan.touch()
    (tmp_path / "mine.tmp").touch()
    with atomic.replacing(tmp_path / "file") as file:
        assert atomic.sweep(tmp_path) == [orphan]
        file.write(b"still here")
    assert names(tmp_path) == ["file", "mine.tmp"]
    assert (tmp_path / "file").read_bytes() == b"still here"


def test_a_sweep_between_creating_and_locking_a_file_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may begin in the same folder at any moment."""
    real, swept = os.open, []

    def swept_once(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if flags & os.O_CREAT and not swept:
            swept.extend(atomic.sweep(tmp_path))
        return descriptor

    monkeypatch.setattr(os, "open", swept_once)
    files_open = names(Path("/proc/self/fd"))
    for write in (atomic.make_folder, lambda folder: atomic.write_text(folder / "file", "x")):
        swept.clear()
        write(tmp_path)
        assert len(swept) == 1
    assert len(names(Path("/proc/self/fd"))) == len(files_open)
    assert names(tmp_path) == ["file"]


def test_sweeping_does_not_hang_on_a_pipe_or_follow_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    os.mkfifo(tmp_path / f"{atomic.PREFIX}pipe{atomic.SUFFIX}")
    (tmp_path / f"{atomic.PREFIX}link{atomic.SUFFIX}").symlink_to(victim)
    atomic.sweep(tmp_path)
    assert victim.exists()


def test_what_fsync_reports_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageError, match="input/output error"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_file_system_that_cannot_sync_folders_is_only_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = os.fsync

    def picky(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", picky)
    atomic.write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert "cannot sync folders" in caplog.text


@pytest.mark.parametrize("name", ["ü ñ 漢 -x", "-rf", "a\nb", "$HOME", "x" * 255])
def test_any_name_that_the_system_allows_works(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    atomic.make_folder(folder)
    atomic.write_text(folder / "file", "x")
    assert atomic.sweep(folder) == []
    assert names(folder) == ["file"]


def test_lines_are_in_the_file_as_soon_as_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("before")
    seen = []

    def lines() -> Iterator[str]:
        seen.append(path.read_text())
        yield "a"
        seen.append(path.read_text())
        yield "b"

    atomic.write_lines(path, lines())
    assert seen == ["before", "a\n"]
    assert path.read_text() == "a\nb\n"
