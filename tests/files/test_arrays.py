from pathlib import Path

import numpy as np
import pytest

from vtrain.errors import CheckpointError, StorageError
from vtrain.files.arrays import read_arrays, write_arrays

ARRAYS = {
    "floats": np.arange(12, dtype=np.float32).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "none": np.zeros((0, 5), np.int8),
    "one": np.array(7.5),
    "names": np.array([b"a", b"bcd"]),
}


def test_what_is_written_is_read_by_us_and_by_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    with np.load(path, allow_pickle=False) as theirs:
        ours = read_arrays(path)
        assert ours.keys() == set(theirs.files) == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(ours[name], array)
            np.testing.assert_array_equal(theirs[name], array)
            assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)


def test_the_same_arrays_are_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_arrays(tmp_path / name, ARRAYS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="pickled"):
        write_arrays(tmp_path / "a.npz", {"x": np.array([{}], dtype=object)})
    with pytest.raises(StorageError):
        write_arrays(tmp_path / "absent" / "a.npz", ARRAYS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable archive"):
        read_arrays(path)


def test_a_huge_file_is_refused_by_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, ARRAYS)
    monkeypatch.setattr("vtrain.files.arrays.MAX_BYTES", 10)
    with pytest.raises(CheckpointError, match="larger than 10 bytes"):
        read_arrays(path)
