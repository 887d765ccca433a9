"""`vtrain export`, and what predict and eval make of its files, by the real commands."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

from tests.base_configs import SMALL_RUN
from tests.data.pictures import over_photographs, plant_photographs
from tests.harness import Vtrain, run
from vtrain.export import onnx_file
from vtrain.inference.loaded import load_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run, with its ONNX file."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL_RUN)
    done = run(folder, "fit", "small.yaml", "--run-dir", "run")
    assert done.code == 0, done.err
    done = run(folder, "export", "run")
    assert done.code == 0, done.err
    draw = np.random.default_rng(0)
    for number in range(40):
        size = draw.integers(3, 60, 2)
        pixels = draw.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in that folder; what a test writes to `out` is removed."""
    monkeypatch.chdir(trained)
    return trained


@pytest.mark.usefixtures("here")
def test_the_file_states_where_it_comes_from(vtrain: Vtrain) -> None:
    facts = {p.key: p.value for p in onnx.load("run/model.onnx").metadata_props}
    loaded = load_model("run")
    assert json.loads(facts["classes"]) == list(loaded.classes)
    assert json.loads(facts["preprocess"])["image_size"] == 16
    assert json.loads(facts["model"])["name"] == "vit_ti"
    checksum = hashlib.sha256(Path("run/best.pt").read_bytes()).hexdigest()
    assert facts["checkpoint_sha256"] == checksum
    assert {"vtrain_version", "torch_version"} <= facts.keys()
    done = vtrain("export", "run")
    assert done.code == 5
    assert done.errors == [
        "vtrain: error: this file is there already (run/model.onnx): choose another name or --force"
    ]


@pytest.mark.usefixtures("here")
def test_a_script_of_the_users_own_is_not_replaced(vtrain: Vtrain) -> None:
    Path("own").mkdir()
    Path("own/predict.py").write_text("print('mine')\n")
    done = vtrain("export", "run", "--output", "own/model.onnx")
    assert done.code == 5
    assert "own/predict.py" in done.errors[0]
    assert Path("own/predict.py").read_text() == "print('mine')\n"


@pytest.mark.usefixtures("here")
def test_predict_says_of_the_file_what_it_says_of_the_checkpoint(vtrain: Vtrain) -> None:
    found = {}
    for ckpt in ("run", "run/model.onnx"):
        done = vtrain("predict", "*.png", "--ckpt", ckpt, "--format", "json", "--reject", 0.26)
        assert done.code == 0, done.err
        found[ckpt] = json.loads(done.out)
    assert len(found["run"]) == 40
    for one, other in zip(found["run"], found["run/model.onnx"], strict=True):
        assert one["image"] == other["image"]
        assert one["unsure"] == other["unsure"]
        pairs = zip(one["predictions"], other["predictions"], strict=True)
        for first, second in pairs:
            assert first["class"] == second["class"]
            assert first["probability"] == pytest.approx(second["probability"], abs=1e-5)


@pytest.mark.usefixtures("here")
def test_eval_gives_the_metrics_of_the_checkpoint(vtrain: Vtrain) -> None:
    before = Path("run/predictions.npz").read_bytes()
    metrics = [
        json.loads(vtrain("eval", "--ckpt", ckpt, "--json").out)
        for ckpt in ("run", "run/model.onnx")
    ]
    for name in ("val/loss", "val/top1", "val/top5"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], rel=1e-5)
    assert metrics[0]["per_class"] == metrics[1]["per_class"]
    assert Path("run/predictions.npz").read_bytes()[:4] == before[:4]
    other = vtrain("eval", "--ckpt", "run/model.onnx", "--json", "data.num_images=30")
    assert other.code == 0, other.err


def test_predict_of_a_file_imports_no_torch(here: Path) -> None:
    code = (
        "import sys; sys.argv = ['vtrain', 'predict', '0.png', '--ckpt', 'run/model.onnx']\n"
        "from vtrain.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
    assert done.stdout.startswith("0.png\n")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--half", "--int8"], 2, "--int8 has no effect with --half"),
        (["--int8", "--opset", 23], 2, "--int8 with --opset 23"),
        (["--output", "x.bin"], 2, "the ending of --format onnx is .onnx (x.bin)"),
        (["--opset", 17], 2, "--opset"),
        (["--format", "program", "--half"], 2, "--half has no effect without --format onnx"),
        (["--format", "timm", "--input", "pixels"], 2, "--input has no effect"),
        (["--names", "hf"], 2, "--names has no effect without --format safetensors"),
        (["--format", "program", "--output", "x.onnx"], 2, "--format program is .pt2"),
        (["--check", 0], 2, "--check"),
        (["--output", "o.onnx", "data.size=a"], 2, "data.size"),
        (["--output", "0.png/o.onnx"], 5, "this path is a file"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_mistake_is_one_line_and_leaves_no_file(
    vtrain: Vtrain, arguments: list[object], code: int, says: str
) -> None:
    before = sorted(Path().rglob("*"))
    done = vtrain("export", "run", *arguments)
    assert done.code == code, done.err
    assert len(done.errors) == 1
    assert says in done.errors[0] or says in done.err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
@pytest.mark.usefixtures("here")
def test_a_missing_package_is_one_line_with_what_to_type(
    vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    done = vtrain("export", "run", "--output", "o.onnx")
    assert done.code == 2
    what = f"ONNX needs the package {name} (--format)"
    assert done.errors == [f'vtrain: error: {what}: pip install "vtrain[export]"']
    if name == "onnxruntime":
        done = vtrain("predict", "0.png", "--ckpt", "run/model.onnx")
        assert done.code == 2
        assert 'pip install "vtrain[export]"' in done.err


@pytest.mark.usefixtures("here")
def test_a_file_that_is_not_the_model_ends_with_4_and_is_not_there(
    vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Path("run/model.onnx").read_bytes()
    wrong = onnx.load_from_string(right)
    (head,) = (t for t in wrong.graph.initializer if t.name.endswith("head.bias"))
    values = onnx.numpy_helper.to_array(head) + np.float32([1, 0, 0, 0])
    head.CopyFrom(onnx.numpy_helper.from_array(values, head.name))
    monkeypatch.setattr(onnx_file, "onnx_bytes", lambda *_: wrong.SerializeToString())
    done = vtrain("export", "run", "--force")
    assert done.code == 4
    assert done.errors[0].startswith("vtrain: error: the file is not the model: compared on ")
    assert Path("run/model.onnx").read_bytes() == right
    assert vtrain("export", "run", "--output", "other.onnx").code == 4
    assert not Path("other.onnx").exists()


@pytest.mark.usefixtures("here")
def test_other_formats_are_written_beside_the_checkpoint(vtrain: Vtrain) -> None:
    rows = [
        (("program",), "run/model.pt2"),
        (("safetensors",), "run/model_timm.safetensors"),
        (("safetensors", "--names", "torchvision"), "run/model_torchvision.safetensors"),
        (("timm",), "run/timm"),
    ]
    for arguments, path in rows:
        done = vtrain("export", "run", "--format", *arguments)
        assert done.code == 0, done.err
        assert done.out.startswith(f"{path}  ")
        assert "same class on 100.00%" in done.out
        assert Path(path).exists()
        assert vtrain("export", "run", "--format", *arguments).code == 5
    assert vtrain("export", "run", "--format", "timm", "--force").code == 0
    Path("run/timm/mine.txt").write_text("mine")
    done = vtrain("export", "run", "--format", "timm", "--force")
    assert done.code == 5
    assert "mine.txt" in done.errors[0]


@pytest.mark.usefixtures("here")
def test_without_timm_a_line_says_how_to_install_it(
    vtrain: Vtrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    done = vtrain("export", "run", "--format", "timm", "--output", "t")
    assert done.code == 2
    assert done.errors[0].endswith("pip install timm")
    assert not Path("t").exists()


@pytest.mark.usefixtures("here")
def test_what_only_a_run_has_is_refused_for_a_file(vtrain: Vtrain) -> None:
    for arguments in (
        ("predict", "0.png", "--ckpt", "run/model.onnx", "--conformal", 0.1),
        ("eval", "--ckpt", "run/model.onnx", "--average", 2),
    ):
        done = vtrain(*arguments)
        assert done.code == 2
        assert "name the run's folder with --ckpt" in done.err


def test_no_path_of_this_machine_leaves_with_the_file(small_run: Path, vtrain: Vtrain) -> None:
    plant_photographs({split: {"cat": 6, "dog": 6} for split in ("train", "val")})
    small_run.write_text(over_photographs(SMALL_RUN))
    assert vtrain("fit", small_run, "--run-dir", "run").code == 0
    done = vtrain("export", "run", "--check", 3)
    assert done.code == 0, done.err
    content = Path("run/model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in content
    facts = {p.key: p.value for p in onnx.load("run/model.onnx").metadata_props}
    assert "root" not in yaml.safe_load(facts["config"])["data"]
    # So who evaluates says where the images are.
    missing = vtrain("eval", "--ckpt", "run/model.onnx")
    assert missing.code == 2
    assert "data.root" in missing.errors[0]
    assert len(missing.errors) == 1
    done = vtrain("eval", "--ckpt", "run/model.onnx", "data.root=photos")
    assert done.code == 0, done.err
    assert done.out == vtrain("eval", "--ckpt", "run").out
    Path("photos").rename("moved")
    assert vtrain("export", "run", "--output", "o.onnx").code == 3
    assert not Path("o.onnx").exists()
