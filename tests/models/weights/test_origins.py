"""Files that other programs wrote themselves, each in an environment that is thrown away.

The programs are in `origins`; what they need beside torch and timm is downloaded. By hand:
`scripts/test -m study tests/models/weights/test_origins.py`.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from tests.conftest import tiny
from vtrain.errors import CheckpointError
from vtrain.models.pretrained import load_pretrained

HERE = Path(__file__).parent / "origins"
PACKAGES = {
    "lightning": ["lightning"],
    "transformers": ["transformers>=5", "accelerate"],
    "mmengine": ["mmengine"],
    "mmpretrain": ["mmengine", "mmcv-lite", "mmpretrain"],
    "ultralytics": ["ultralytics"],
}


def written(program: str, folder: Path, *arguments: str) -> None:
    """Run a program of `origins` in a new environment, with what this one has lent to it."""
    root = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", root], check=True)
    (packages,) = (root / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    python = root / "bin/python"
    install = [python, "-I", "-m", "pip", "install", "--quiet", "--retries=0"]
    if subprocess.run([*install, *PACKAGES[program]], cwd=folder, check=False).returncode:
        pytest.skip(f"{program} cannot be installed here")
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    command = [python, HERE / f"of_{program}.py", *arguments]
    subprocess.run(command, cwd=folder, env=kept, check=True, timeout=250)
    shutil.rmtree(root)


@pytest.mark.study
@pytest.mark.parametrize(
    ("program", "model", "where", "said"),
    [
        ("lightning", "vit_ti", "weights", "names below model."),
        ("transformers", "vit_ti", "weights/checkpoint-1", "Hugging Face ViT"),
        ("mmengine", "vit_ti", "weights", "names below backbone."),
        ("mmpretrain vit", "vit_ti", "weights.pth", "mmpretrain ViT"),
        ("mmpretrain swin", "swin_t", "weights.pth", "mmpretrain Swin"),
    ],
)
def test_what_a_program_wrote_computes_the_same(
    tmp_path: Path, program: str, model: str, where: str, said: str
) -> None:
    name, *arguments = program.split()
    written(name, tmp_path, *arguments)
    ours = tiny(model, **({"window_size": 4} if model == "swin_t" else {})).eval()
    report = load_pretrained(ours, str(tmp_path / where))
    assert report.new == ()
    assert said in str(report)
    if program == "transformers":
        assert report.colours is not None
        assert report.colours.mean == (0.1, 0.2, 0.3)
    expected = torch.load(tmp_path / "expected.pt", weights_only=True)
    torch.testing.assert_close(ours(expected["images"]), expected["logits"], rtol=0, atol=1e-5)


@pytest.mark.study
def test_a_whole_module_of_ultralytics_is_refused_by_name(tmp_path: Path) -> None:
    written("ultralytics", tmp_path)
    with pytest.raises(CheckpointError, match=r"ultralytics\.nn\.tasks\.ClassificationModel"):
        load_pretrained(tiny("vit_ti"), str(tmp_path / "weights.pt"))
