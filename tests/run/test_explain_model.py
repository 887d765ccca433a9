"""`vtrain explain --model` and `--faithfulness` on a run that the real command left."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.cases import loaded
from tests.harness import Vtrain
from vtrain.data.preprocess import Preprocess
from vtrain.errors import ConfigError
from vtrain.run.explain_model import refuse_other_channels


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(f"{number}.png")
    return tmp_path


def test_the_page_and_every_number_are_written(here: Path, trained: Path, vtrain: Vtrain) -> None:
    done = vtrain("explain", "--model", "--ckpt", trained, "--against", trained, "--output", "out")
    assert done.code == 0, done.err
    data = json.loads((here / "out/model.json").read_text())
    assert {"attention_reach", "filters", "positions", "cka", "cka_against"} <= data.keys()
    np.testing.assert_allclose(data["cka"], data["cka_against"], rtol=1e-6)
    np.testing.assert_allclose(np.diag(data["cka"]), 1, rtol=1e-6)
    assert [layer["module"] for layer in data["attention_reach"]] == [
        "blocks.0.attn", "blocks.1.attn",
    ]  # fmt: skip
    page = (here / "out/model.html").read_text()
    assert page.count("data:image/png;base64,") >= 5
    assert not re.search(r"(src|href)=\"(?!data:)", page)  # nothing is fetched
    assert "default-src 'none'" in page  # nor could be
    assert "`" not in page


def test_a_method_is_judged_beside_random_and_no_training(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    done = vtrain("explain", ".", "--faithfulness", "--ckpt", trained, "--output", "out",
                  "--method", "relevance", "--format", "json")  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data == json.loads((here / "out/faithfulness.json").read_text())
    assert (data["images"], data["method"]) == (6, "relevance")
    assert set(data["area"]["deletion"]) == {"map", "random", "untrained"}
    # All patches are deleted at the end, and none at the start, whatever the order.
    for kind in ("deletion", "insertion"):
        ends = {(round(c[0], 5), round(c[-1], 5)) for c in data["curve"][kind].values()}
        assert len(ends) == 1
    assert all("relevance" in line and "6 images" in line for line in data["verdict"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "no image is named"),
        ("--model --target class_0", "--target has no effect with --model"),
        ("--model --method ig", "--method has no effect with --model"),
        ("--model --layer 0", "--layer has no effect with --model"),
        ("x.png --against y", "--against has no effect without --model"),
    ],
)
def test_what_would_be_ignored_is_refused(vtrain: Vtrain, arguments: str, message: str) -> None:
    done = vtrain("explain", *arguments.split())
    assert done.code == 2
    (line,) = done.errors
    assert line.startswith(f"vtrain: error: {message} (command line)")


def test_too_few_images_are_refused(here: Path, trained: Path, vtrain: Vtrain) -> None:
    done = vtrain("explain", "--model", "0.png", "--ckpt", trained)
    assert done.code == 3
    assert "fewer than 4 readable images" in done.errors[0]
    assert not (here / "explain").exists()


def test_maps_of_no_readable_image_cannot_be_judged(
    here: Path, trained: Path, vtrain: Vtrain
) -> None:
    (here / "text.png").write_text("no image")
    done = vtrain("explain", "--faithfulness", "text.png", "--ckpt", trained, "--output", "new")
    assert done.code == 3
    assert done.errors[-1] == "vtrain: error: no image could be read: name others"
    assert not (here / "new").exists()


def test_an_unreadable_image_is_said_once(here: Path, trained: Path, vtrain: Vtrain) -> None:
    (here / "text.png").write_text("no image")
    done = vtrain("explain", "--model", ".", "--ckpt", trained, "--output", "out")
    assert done.code == 0, done.err
    assert done.err.count("text.png") == 1
    assert json.loads((here / "out/model.json").read_text())["images"] == 6


def test_models_that_see_other_channels_are_not_compared() -> None:
    colours, grey, four = (
        loaded(geometry=Preprocess(32, (0.5,) * count, (0.5,) * count, count))
        for count in (3, 1, 4)
    )
    refuse_other_channels(colours, grey)
    refuse_other_channels(four, four)
    with pytest.raises(ConfigError, match="images of 3 and of 4 channels"):
        refuse_other_channels(four, colours)
