import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.report.cases import random_scores
from vtrain.errors import CheckpointError, DataError, StorageError
from vtrain.report.predictions import Predictions, aligned, joined
from vtrain.report.scores import Scores


def some(images: int = 6, classes: int = 3, *, first: int = 0, seed: int = 0) -> Predictions:
    scores = random_scores(images, classes, seed=seed)
    return Predictions(
        scores.logits,
        scores.targets,
        tuple(f"data/{n}.png" for n in range(first, first + images)),
        tuple(f"class {k}" for k in range(classes)),
        {"split": "val", "images": {"sha256": "0"}},
    )


def rewritten(path: Path, **changes: object) -> None:
    """Change some arrays of a file of predictions, with numpy's own writer."""
    with np.load(path) as file:
        arrays = {**dict(file), **changes}
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    names = ("a", "<b>ü\u2603", os.fsdecode(b"\xff\xfe/x"), "c d", "e\n", "f")
    before = some()
    before = Predictions(before.logits, before.targets, names, before.classes, before.about)
    before.save(tmp_path / "p.npz")
    after = Predictions.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(after.logits, before.logits)
    np.testing.assert_array_equal(after.targets, before.targets)
    assert (after.ids, after.classes, after.about) == (names, before.classes, before.about)


def test_logits_that_another_program_stored_by_columns_are_the_same(tmp_path: Path) -> None:
    path, given = tmp_path / "p.npz", some()
    given.save(path)
    rewritten(path, logits=np.asfortranarray(given.logits))
    with np.load(path) as stored:
        assert stored["logits"].flags.f_contiguous
    np.testing.assert_array_equal(Predictions.load(path).logits, given.logits)


def test_numpy_reads_the_file_without_pickle(tmp_path: Path) -> None:
    some().save(tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert set(file.files) == {"logits", "targets", "ids", "classes", "about"}
        assert file["logits"].shape == (6, 3)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    some().save(path)
    before = path.read_bytes()
    with pytest.raises(StorageError):
        some().save(tmp_path / "absent" / "p.npz")
    broken = some()
    object.__setattr__(broken, "about", {"x": object()})
    with pytest.raises(TypeError):
        broken.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["p.npz"]


@pytest.mark.parametrize(
    "changes",
    [
        {"logits": None},
        {"about": None},
        {"logits": np.zeros((6, 4), np.float32)},
        {"logits": np.zeros((5, 3), np.float32)},
        {"logits": np.zeros((6, 3), np.int64)},
        {"logits": np.full((6, 3), np.nan, np.float32)},
        {"logits": np.zeros((0, 3), np.float32), "targets": np.zeros(0, np.int64)},
        {"targets": np.full(6, 7)},
        {"targets": np.zeros((6, 1), np.int64)},
        {"targets": np.zeros(6)},
        {"ids": np.array(["a"] * 6)},
        {"ids": np.array([[b"a"]] * 6)},
        {"ids": np.array([b"a"] * 5)},
        {"classes": np.array([b"\xff"] * 3)},
        {"classes": np.array([b"a", b"b", b"a"])},
        {"classes": np.array([[b"a", b"b", b"c"]])},
        {"classes": np.array(b"abc")},
        {"ids": np.array(b"abcdef")},
        {"about": np.frombuffer(b"[" * 100_000, np.uint8)},
        {"about": np.frombuffer(b"{", np.uint8)},
        {"about": np.frombuffer(b"[1]", np.uint8)},
        {"ids": np.array([{"a": 1}] * 6, dtype=object)},
    ],
    ids=str,
)
def test_wrong_content_is_one_line_about_the_file(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "p.npz"
    some().save(path)
    rewritten(path, **changes)
    with pytest.raises(CheckpointError) as raised:
        Predictions.load(path)
    (line,) = raised.value.lines()
    assert str(path) in line
    assert "vtrain eval" in line


def test_a_cut_or_foreign_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    some().save(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], whole[:-1], b"x" * 100):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not a readable archive"):
            Predictions.load(path)
    with pytest.raises(CheckpointError, match="no such file"):
        Predictions.load(tmp_path / "absent.npz")
    with pytest.raises(CheckpointError):
        Predictions.load(tmp_path)


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    some().save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            Predictions.load(path)
        except CheckpointError:
            continue


def test_a_compressed_archive_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, logits=np.zeros((1000, 10_000), np.float32))
    with pytest.raises(CheckpointError, match="compressed"):
        Predictions.load(path)


def test_a_shape_that_the_file_does_not_hold_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 3)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", header.getvalue() + bytes(12))
    with pytest.raises(CheckpointError, match="reshape"):
        Predictions.load(path)


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.npz"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError):
        Predictions.load(path)
    some().save(path)
    rewritten(path, ids=np.array([Harmful()] * 6, dtype=object))
    with pytest.raises(CheckpointError, match="Python objects"):
        Predictions.load(path)
    assert not (tmp_path / "harmed").exists()


def test_folds_are_joined_in_order() -> None:
    parts = [some(4, first=0), some(5, first=4, seed=1)]
    both = joined(parts)
    assert both.ids == tuple(f"data/{n}.png" for n in range(9))
    np.testing.assert_array_equal(both.logits[4:], parts[1].logits)
    with pytest.raises(DataError, match="share images"):
        joined([some(4), some(4, first=3)])
    with pytest.raises(DataError, match="same classes"):
        joined([some(4), some(4, 5, first=4)])


def test_images_and_classes_are_matched_by_name() -> None:
    a = some(20, 4)
    rows, columns = np.random.default_rng(0).permutation(20), np.array([2, 0, 3, 1])
    b = Predictions(
        a.logits[rows][:, columns],
        np.argsort(columns)[a.targets[rows]],
        tuple(a.ids[r] for r in rows),
        tuple(a.classes[c] for c in columns),
        a.about,
    )
    first, second = aligned(a, b)
    np.testing.assert_array_equal(first.logits, second.logits)
    np.testing.assert_array_equal(first.targets, second.targets)


def test_an_image_that_a_list_names_twice_is_compared_twice() -> None:
    a = some(6)
    ids = ("x", "y", "x", "z", "y", "x")
    twice = Predictions(a.logits, a.targets, ids, a.classes, a.about)
    first, second = aligned(twice, twice)
    np.testing.assert_array_equal(first.logits, second.logits)
    rows = np.array([3, 0, 1, 2, 4, 5])  # others in between; the order of equal names stays
    moved = Predictions(
        a.logits[rows], a.targets[rows], tuple(ids[r] for r in rows), a.classes, a.about
    )
    np.testing.assert_array_equal(aligned(twice, moved)[1].logits, a.logits)
    assert len(joined([twice, some(4)]).ids) == 10
    with pytest.raises(DataError, match="not of the same images"):
        aligned(twice, Predictions(a.logits, a.targets, (*ids[:5], "z"), a.classes, a.about))


def test_other_images_classes_or_labels_are_refused() -> None:
    a = some()
    with pytest.raises(DataError, match="same classes"):
        aligned(a, some(6, 4))
    with pytest.raises(DataError, match="same images"):
        aligned(a, some(7))
    with pytest.raises(DataError, match="same images"):
        aligned(a, some(first=1))
    relabelled = Predictions(a.logits, (a.targets + 1) % 3, a.ids, a.classes, a.about)
    with pytest.raises(DataError, match="other labels"):
        aligned(a, relabelled)


def test_names_must_be_as_many_as_images_and_classes() -> None:
    scores = random_scores(4, 3)
    with pytest.raises(DataError, match="have names"):
        Predictions(scores.logits, scores.targets, ("a",), ("x", "y", "z"), {})
    with pytest.raises(DataError, match="no image"):
        Predictions(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), (), ("x", "y", "z"), {})
    assert isinstance(some().scores(), Scores)
