import logging
import os
from pathlib import Path

import pytest

from tests.data.pictures import plant
from vtrain.errors import ConfigError, DataError
from vtrain.run.find_images import find_images


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plant(tmp_path, "new/b/2.png", "new/1.PNG", "new/notes.txt"))


def found(*patterns: str) -> list[str]:
    return list(map(str, find_images(list(patterns))))


def test_a_folder_is_searched_by_the_rules_of_training(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    plant(Path("new"), "._1.png", ".ipynb_checkpoints/1.png", "__MACOSX/b/2.png", "b/@eaDir/2.png")
    plant(Path("new"), "scans.jpg/3.png", "b/Thumbs.db")
    assert found("new") == ["new/1.PNG", "new/b/2.png", "new/scans.jpg/3.png"]
    assert caplog.messages == [
        "ignored 1 file that is no image (.txt 1) in new",
        "ignored 5 hidden or leftover files and folders "
        "(._* 1, .ipynb_checkpoints 1, __MACOSX 1, @eaDir 1, Thumbs.db 1) in new",
    ]


@pytest.mark.timeout(20)
def test_linked_folders_are_searched_once() -> None:
    plant(Path("other"), "3.png", "deep/4.png")
    Path("new/more").symlink_to("../other")
    Path("new/again").symlink_to("../other/deep")
    Path("new/b/up").symlink_to("..")
    Path("other/back").symlink_to("../new")
    Path("other/self").symlink_to(".")
    Path("other/root").symlink_to("/")
    assert found("new") == ["new/1.PNG", "new/again/4.png", "new/b/2.png", "new/more/3.png"]
    Path("link").symlink_to("new")
    assert len(found("link")) == 4


def test_a_file_is_taken_as_it_is_named() -> None:
    Path("gone.png").symlink_to("nowhere")
    assert found("new/notes.txt", "gone.png") == ["new/notes.txt", "gone.png"]


def test_leftovers_that_a_shell_names_are_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    plant(Path(), "Thumbs.db", "@eaDir/1.png", ".a.png")
    with pytest.raises(
        DataError, match=r"no image was found; ignored: 1 hidden .* \(Thumbs.db 1\)"
    ):
        find_images(["Thumbs.db"])
    with pytest.raises(DataError, match="@eaDir 1"):
        find_images(["@eaDir"])
    with pytest.raises(DataError, match="no image was found"):
        find_images([".a.png"])
    plant(Path(), ".hidden/1.png")  # only who means it names such a folder
    assert found(".hidden") == [".hidden/1.png"]


def test_globs_name_images_and_folders_of_them() -> None:
    plant(Path("new"), "b/@eaDir/2.png", "b/x.raw")
    assert found("new/*") == ["new/1.PNG", "new/b/2.png"]
    assert found("new/**") == ["new/1.PNG", "new/b/2.png"]
    assert found("new/**/*.png") == ["new/b/2.png"]
    assert found("new/b/*.raw") == ["new/b/x.raw"]
    assert found(os.path.abspath("new") + "/[0-9].*") == [os.path.abspath("new/1.PNG")]  # noqa: PTH100


@pytest.mark.parametrize("pattern", ["nothing", "nothing/*.png", "empty"])
def test_what_names_no_image_is_refused(pattern: str) -> None:
    plant(Path("empty"), "a.heics", "b.heics")
    with pytest.raises(DataError, match="no image was found") as caught:
        find_images([pattern])
    assert pattern != "empty" or ".heics 2" in caught.value.what


def test_a_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="only local images"):
        find_images(["https://example.org/1.png"])


def test_an_image_that_is_named_twice_is_taken_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vtrain")
    assert found("new/b/2.png", "new", "new/b/../b/2.png") == ["new/b/2.png", "new/1.PNG"]
    assert "2 images are named more than once: taken once" in caplog.messages


@pytest.mark.parametrize("name", ["run", "run/best.pt", "best.pt", "model.onnx", "w.safetensors"])
def test_a_model_among_the_images_is_answered_with_its_option(name: str) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").touch()
    with pytest.raises(ConfigError, match=f"not an image .*: write --ckpt {name} behind the"):
        find_images(["new", name])


def test_a_name_among_several_that_is_not_there_stays_and_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "vtrain")
    Path("empty").mkdir()
    assert found("none.png", "new/1.PNG", "no/*.png", "empty") == [
        "none.png",
        "new/1.PNG",
        "no/*.png",
        "empty",
    ]
    assert caplog.messages == [
        "no image was found (none.png)",
        "no image was found (no/*.png)",
        "no image was found (empty)",
    ]
    with pytest.raises(DataError, match=r"no image was found \(none.png\)"):
        find_images(["none.png", "no/*.png"])
