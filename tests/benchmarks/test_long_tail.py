from pathlib import Path

import pytest

from benchmarks.long_tail import thin_out


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split, count in (("train", 50), ("test", 2)):
        for name in "abc":
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.jpg").write_text(f"{name} {number}")
    return tmp_path / "data"


def test_each_class_keeps_fewer_training_images_and_all_test_images(
    data: Path, tmp_path: Path
) -> None:
    # 50, then 50 / sqrt(25), then 50 / 25
    assert thin_out(data, tmp_path / "tail", 25, 0) == {"a": 50, "b": 10, "c": 2}
    for name, count in {"a": 50, "b": 10, "c": 2}.items():
        kept = list((tmp_path / "tail" / "train" / name).iterdir())
        assert len(kept) == count
        assert all(path.read_text() == f"{name} {path.stem}" for path in kept)
        assert len(list((tmp_path / "tail" / "test" / name).iterdir())) == 2


def test_the_seed_draws_the_images_and_a_second_time_changes_nothing(
    data: Path, tmp_path: Path
) -> None:
    def kept(folder: str, seed: int) -> set[str]:
        thin_out(data, tmp_path / folder, 25, seed)
        return {path.name for path in (tmp_path / folder / "train" / "b").iterdir()}

    first = kept("tail", 0)
    assert kept("tail", 0) == first
    assert kept("other", 1) != first


def test_the_rarest_class_of_cifar_10_has_fifty_images(tmp_path: Path) -> None:
    # the counts that Cao et al. train on, at one part in fifty of the size
    for number in range(10):
        for split, count in (("train", 100), ("test", 1)):
            folder = tmp_path / "data" / split / str(number)
            folder.mkdir(parents=True)
            for image in range(count):
                (folder / str(image)).touch()
    counts = thin_out(tmp_path / "data", tmp_path / "tail", 100, 0)
    published = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert list(counts.values()) == [count // 50 for count in published]
