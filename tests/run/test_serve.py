"""`vtrain serve` of runs and files that the real commands left, against predict and explain."""

import http.client
import importlib.util
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.base_configs import SMALL_RUN
from tests.harness import Vtrain, run
from vtrain.config import config_from_text
from vtrain.files.images import read_image
from vtrain.inference.loaded import load_model
from vtrain.run.serve import served
from vtrain.run.serve_checkpoint import dataset_of
from vtrain.serve.server import application


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of many shapes and kinds."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    for number, size in enumerate(((16, 16), (30, 20), (7, 90), (64, 64), (200, 3))):
        image = Image.fromarray(draw.integers(0, 256, (*size, 3), np.uint8))
        image.save(folder / f"{number}.png")
        image.convert("CMYK").save(folder / f"{number}.jpg")
    exif = Image.Exif()
    exif[274] = 6
    image.save(folder / "turned.jpg", exif=exif)
    return folder


@contextmanager
def client(ckpt: Path, reject: float | None = None) -> Iterator[TestClient]:
    app, _ = application(served(ckpt, reject), "127.0.0.1", None)
    with TestClient(app, base_url="http://127.0.0.1:8000") as found:
        yield found


def said(records: list[dict[str, object]]) -> dict[str, float]:
    return {str(one["class"]): float(one["probability"]) for one in records}  # type: ignore[arg-type]


def test_its_answers_are_those_of_predict(trained: Path, photographs: Path, vtrain: Vtrain) -> None:
    done = vtrain("predict", photographs, "--ckpt", trained, "--format", "json", "--reject", 0.26)
    expected = json.loads(done.out)
    assert {one["unsure"] for one in expected} == {True, False}
    with client(trained, 0.26) as http:
        for one in expected:
            answer = http.post("/predict", content=Path(one["image"]).read_bytes())
            found = answer.json()
            assert said(found["predictions"]) == pytest.approx(said(one["predictions"]), abs=1e-6)
            assert found["predictions"][0]["class"] == one["predictions"][0]["class"]
            assert found["unsure"] == one["unsure"]


@pytest.mark.parametrize("question", ["", "class=class_3", "method=gradcam", "method=attention"])
def test_its_maps_are_those_of_explain(
    trained: Path,
    photographs: Path,
    vtrain: Vtrain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    question: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    name, _, value = question.partition("=")
    option = {"class": ["--target", value], "method": ["--method", value], "": []}[name]
    paths = [photographs / "1.png", photographs / "turned.jpg"]
    done = vtrain(
        "explain", *paths, "--ckpt", trained, "--output", "out", "--format", "json", *option
    )
    records = json.loads(done.out)["images"]
    with client(trained) as http:
        for path, record in zip(paths, records, strict=True):
            answer = http.post(f"/explain?values&{question}", content=path.read_bytes())
            found, expected = answer.json(), record["maps"][0]
            assert found["class"] == expected["class"]
            assert found["box"] == expected["box"]
            assert tuple(found["size"]) == read_image(path).size
            values = np.load(record["arrays"])["map_0"]
            np.testing.assert_allclose(found["values"], values, rtol=1e-4, atol=1e-7)


def test_what_explain_refuses_is_an_answer_without_paths(trained: Path, photographs: Path) -> None:
    content = (photographs / "1.png").read_bytes()
    with client(trained) as http:
        for question, why in (
            ("method=../x", "there is no method"),
            ("method=rollout&class=class_1", "use --method relevance or"),
        ):
            answer = http.post(f"/explain?{question}", content=content)
            assert answer.status_code == 400
            assert why in answer.json()["error"]
            assert str(trained.parent) not in answer.text


def test_the_page_has_the_card_and_examples_of_the_run(trained: Path) -> None:
    with client(trained) as http:
        page = http.get("/").text
        assert "vit_ti on fake" in page
        assert "at 16 x 16 pixels" in page
        assert "<dt>Accuracy</dt>" in page
        assert str(trained.parent) not in page
        count = page.count("data-example=")
        assert count > 4
        for number in range(count):
            content = http.get(f"/examples/{number}").content
            assert Image.open(io.BytesIO(content)).size == (16, 16)
            assert http.post("/predict", content=content).status_code == 200


def test_a_folder_of_images_is_called_by_its_name_alone(tmp_path: Path) -> None:
    fake = "name: fake, image_size: 16, size: 16, num_classes: 4, num_images: 70"
    own = f"name: image_folder, image_size: 16, root: {tmp_path}/my cats"
    text = SMALL_RUN.replace(fake, own)
    assert dataset_of(config_from_text(text, "x")) == "my cats"
    assert dataset_of(config_from_text(SMALL_RUN, "x")) == "fake"


def test_a_lone_checkpoint_has_no_examples(trained: Path, tmp_path: Path) -> None:
    shutil.copy(trained / "best.pt", tmp_path / "alone.pt")
    with client(tmp_path / "alone.pt") as http:
        assert "data-example=" not in http.get("/").text


def test_examples_say_what_the_model_says_of_them(trained: Path) -> None:
    model = served(trained)
    for shown in model.examples:
        row = model.probabilities(model.prepare(shown.read())[None])[0]
        assert f"({row.max():.0%})" in shown.caption
        assert model.classes[row.argmax()] in shown.caption


@pytest.mark.parametrize(
    ("channels", "dtype", "keys"),
    [(4, np.uint8, ""), (1, np.uint16, ", value_range: [0, 4095]")],
    ids=["alpha", "deep"],
)
def test_an_example_is_the_same_to_the_model_once_it_was_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, dtype: type, keys: str
) -> None:
    monkeypatch.chdir(tmp_path)
    draw, levels = np.random.default_rng(0), 256 if dtype == np.uint8 else 4096
    for number in range(12):
        folder = tmp_path / "photos" / ("train" if number % 3 else "val") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shape = (20, 16, channels) if channels > 1 else (20, 16)
        image = Image.fromarray(draw.integers(0, levels, shape, dtype))
        image.save(folder / f"{number}.png")
    data = f"data: {{name: image_folder, root: photos, image_size: 16, channels: {channels}{keys}}}"
    lines = [data if one.startswith("data:") else one for one in SMALL_RUN.splitlines()]
    (tmp_path / "small.yaml").write_text("\n".join(lines))
    done = run(tmp_path, "fit", "small.yaml", "--run-dir", "run")
    assert done.code == 0, done.err
    with client(tmp_path / "run") as http:
        model = served(tmp_path / "run")
        assert model.examples
        for number, shown in enumerate(model.examples):
            content = http.get(f"/examples/{number}").content
            found = said(http.post("/predict", content=content).json()["predictions"])
            row = model.probabilities(model.prepare(shown.read())[None])[0]
            assert found == pytest.approx(dict(zip(model.classes, row, strict=True)), abs=1e-6)
            assert f"({max(found.values()):.0%})" in shown.caption


def test_a_temperature_is_honoured(
    trained: Path, photographs: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    from vtrain.run.calibrate import divided

    divided(load_model(trained), 4.0).save(tmp_path / "calm.pt")
    content = (photographs / "1.png").read_bytes()
    with client(trained) as before, client(tmp_path / "calm.pt") as after:
        first, second = (
            said(http.post("/predict", content=content).json()["predictions"])
            for http in (before, after)
        )
    # Softmax of logits / 4 has the fourth roots of the probabilities, made to sum to 1.
    roots = {name: p**0.25 for name, p in first.items()}
    total = sum(roots.values())
    assert second == pytest.approx({name: p / total for name, p in roots.items()}, rel=1e-4)


def test_an_onnx_file_is_served_without_torch_and_answers_as_predict(
    trained: Path, photographs: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    model = tmp_path / "model.onnx"
    assert vtrain("export", trained, "--output", model).code == 0
    done = vtrain("predict", photographs, "--ckpt", model, "--format", "json")
    with client(model) as http:
        for one in json.loads(done.out):
            answer = http.post("/predict", content=Path(one["image"]).read_bytes()).json()
            assert said(answer["predictions"]) == pytest.approx(said(one["predictions"]), abs=1e-6)
        content = (photographs / "1.png").read_bytes()
        assert http.post("/explain", content=content).status_code == 501
        assert "serve the checkpoint" in http.get("/").text
    script = (
        "import sys\nfrom pathlib import Path\nfrom vtrain.run.serve import served\n"
        "from vtrain.serve.server import application\n"
        f"application(served(Path({str(model)!r})), '127.0.0.1', None)\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ("--host 0.0.0.0", 2, "--host 0.0.0.0 lets others on the network ask"),
        ("--token short", 2, "--token needs 16 to 200 letters"),
        ("--host no.such.host.invalid --token 0123456789abcdef", 2, "is no address"),
        ("--port 70000", 2, "Invalid value for '--port'"),
        ("--reject 2", 2, "Invalid value for '--reject'"),
        ("nothing.pt --port 0", 4, "no such"),
        ("nothing.onnx --port 0", 4, "no such"),
    ],
)
def test_a_mistake_is_one_line(
    vtrain: Vtrain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    code: int,
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = vtrain("serve", *arguments.split())
    assert done.code == code
    (error,) = done.errors
    assert line in error
    assert done.out == ""


def test_a_missing_extra_is_one_line(vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "vtrain.run.serve.find_spec", lambda name: None if name == "uvicorn" else find(name)
    )
    done = vtrain("serve", "x.pt")
    assert done.code == 2
    assert done.errors == [
        "vtrain: error: vtrain serve needs the package uvicorn (command line): "
        'pip install "vtrain[serve]"'
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    trained: Path,
    photographs: Path,
    tmp_path: Path,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.harness import Command

    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    before = sorted(tmp_path.rglob("*"))
    command = Command(tmp_path, "serve", "run", "--port", 0)
    try:
        command.until(
            lambda: command.output[0].exists() and b"http" in command.output[0].read_bytes()
        )
        port = int(command.output[0].read_text().rstrip("/\n").rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        content = (photographs / "1.png").read_bytes()
        connection.request("POST", "/predict", content)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(json.loads(answer.read())["predictions"]) == 4
        connection.request("POST", "/explain?method=relevance", content)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["method"]) == (200, "relevance")
        command.send(number)
        began = time.monotonic()
        done = command.wait(20)
        assert time.monotonic() - began < 10
        connection.close()
    finally:
        command.kill()
    assert done.code == 128 + number
    assert done.errors == ["vtrain: stopped serving"]
    assert "Traceback" not in done.err
    left = [p for p in sorted(tmp_path.rglob("*")) if p not in command.output]
    assert left == before


def test_a_port_in_use_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(tmp_path, "serve", "nothing.pt", "--port", taken.getsockname()[1])
    assert done.code == 2
    assert "Address already in use (--port): give another port" in done.err
