"""`predict.py`, which goes with an ONNX file, in a process that has neither vtrain nor torch."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests.export.cases import GEOMETRY, loaded, softmax, written
from tests.run.test_one_decoder import unusual
from vtrain.data.preprocess import Preprocess
from vtrain.errors import DataError
from vtrain.export.script import SCRIPT, predict_script
from vtrain.files.images import read_image

ALONE = """
import sys
for name in ("torch", "torchvision", "vtrain", "onnx", "pydantic"):
    sys.modules[name] = None
file, *sys.argv[1:] = sys.argv[1:]
names = {"__name__": "__main__", "__file__": file}
exec(compile(open(file).read(), file, "exec"), names)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures") / "unusual"
    draw_pictures(folder)
    return sorted(folder.iterdir())


def draw_pictures(folder: Path) -> None:
    """Write pictures that decoders and resizers disagree about."""
    unusual(folder)
    draw = np.random.default_rng(0)
    for name, size in {
        "wide": (3, 400),
        "tall": (300, 2),
        "tiny": (1, 1),
        "fits": (32, 32),
    }.items():
        Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{name}.png")
    clear = draw.integers(0, 256, (20, 31, 4), np.uint8)
    Image.fromarray(clear).save(folder / "alpha.png")
    Image.fromarray(clear[..., 0]).save(folder / "grey.jpg")
    Image.fromarray(draw.random((9, 40), np.float32)).save(folder / "float.tif")
    large = Image.fromarray(draw.integers(0, 256, (30, 40, 3), np.uint8)).resize((1201, 901))
    large.save(folder / "large.jpg")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    module = ModuleType("predict")
    exec(compile(predict_script("model.onnx", "0"), "predict.py", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_it_prepares_every_picture_as_evaluation_does(
    script: ModuleType, pictures: list[Path], resize: str
) -> None:
    geometry = Preprocess(
        32, mean=(0.1, 0.5, 0.9), resize=resize, crop_fraction=0.9 if resize == "crop" else 1.0
    )
    options = {k: v for k, v in geometry.to_dict().items() if k != "std"}
    for path in pictures:
        ours = geometry(read_image(path)).permute(1, 2, 0).numpy()
        assert np.array_equal(
            np.asarray(script.fit_image(script.read_image(path), **options)), ours
        )


def test_it_sees_deep_images_in_the_range_of_the_model(script: ModuleType, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (40, 50), np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    geometry = Preprocess(32, value_range=(0.0, 4095.0))
    options = {k: v for k, v in json.loads(json.dumps(geometry.to_dict())).items() if k != "std"}
    got = np.asarray(script.fit_image(script.read_image(tmp_path / "deep.png"), **options))
    ours = geometry(read_image(tmp_path / "deep.png")).permute(1, 2, 0).numpy()
    assert np.array_equal(got, ours)
    assert ours.max() > 200


@pytest.mark.parametrize("taking", ["pixels", "normalised"])
def test_alone_it_names_the_classes_of_the_model(
    tmp_path: Path, pictures: list[Path], taking: str
) -> None:
    (tmp_path / "my model.onnx").write_bytes(written(taking))
    (tmp_path / SCRIPT).write_text(predict_script("my model.onnx", "0"))
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path / SCRIPT, *pictures, bad, "--top-k", "10"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    *records, last = json.loads(done.stdout)
    with pytest.raises(DataError) as caught:
        read_image(bad)
    assert last == {"image": str(bad), "error": caught.value.what}
    model = loaded()
    for path, record in zip(pictures, records, strict=True):
        logits = model.model(model.preprocess(path)).detach().numpy()
        expected = dict(zip(model.classes, softmax(logits)[0], strict=True))
        found = {p["class"]: p["probability"] for p in record["predictions"]}
        assert found == pytest.approx(expected, abs=1e-4)
        assert list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--top-k", "0"], "--top-k must be 1 or more"), (["--model", "no.onnx"], "no file no.onnx")],
)
def test_a_mistake_on_its_command_line_is_one_line(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / SCRIPT).write_text(predict_script("model.onnx", "0"))
    (tmp_path / "model.onnx").write_bytes(b"")
    command = [sys.executable, tmp_path / SCRIPT, "a.png", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_it_is_readable_and_needs_three_packages(script: ModuleType) -> None:
    text = predict_script("model.onnx", "1.2.3")
    assert "vtrain 1.2.3" in text
    assert "import torch" not in text
    assert "vtrain." not in text.replace("`vtrain export`", "")
    assert script.MODEL == "model.onnx"
    assert GEOMETRY.image_size == 32
