"""Every hostile file of weights is refused in one line with exit code 4, and runs nothing."""

import sys
import warnings
from pathlib import Path

import pytest

from tests.conftest import tiny
from tests.faults import weight_files
from tests.faults.test_hostile_checkpoints import peak_memory
from tests.harness import Vtrain
from vtrain.errors import CheckpointError
from vtrain.models.pretrained import load_pretrained

KINDS = {
    **{f"safetensors: {name}": build for name, build in weight_files.SAFETENSORS.items()},
    **{f"npz: {name}": build for name, build in weight_files.NPZ.items()},
}
CONFIG = """
model: {name: vit_ti, patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}
data: {name: fake, image_size: 32, num_classes: 10, num_images: 10}
optimizer: {name: adamw, lr: 1e-3}
train: {epochs: 1, batch_size: 10}
"""


def built(name: str, folder: Path) -> tuple[Path, Path]:
    """Write a file; return it and the one that it would make."""
    path, canary = folder / "hostile.bin", folder / "canary"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of what is planted on purpose
        path.write_bytes(KINDS[name](str(canary)))
    return path, canary


def test_there_are_forty_of_each_container() -> None:
    assert len(weight_files.SAFETENSORS) >= 40
    assert len(weight_files.NPZ) >= 40


def test_the_files_that_they_are_made_of_are_honest(tmp_path: Path) -> None:
    contents = weight_files.HONEST, weight_files.archive(weight_files.honest())
    for content in contents:
        (tmp_path / "weights").write_bytes(content)
        report = load_pretrained(tiny("vit_ti"), str(tmp_path / "weights"))
        assert set(report.loaded) == weight_files.STATE.keys()


@pytest.mark.parametrize("name", KINDS)
def test_it_is_refused_in_one_line_and_runs_nothing(name: str, tmp_path: Path) -> None:
    path, canary = built(name, tmp_path)
    modules, memory = set(sys.modules), peak_memory()
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(tiny("vit_ti"), str(path))
    (line,) = caught.value.lines()
    assert line.isprintable()
    assert len(line) < 400 + len(str(path))
    assert not canary.exists()
    assert "antigravity" not in set(sys.modules) - modules
    assert peak_memory() - memory < 2 * path.stat().st_size + (300 << 20)


EXAMPLES = ("safetensors: a pickle behind a length", "npz: objects")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in EXAMPLES else pytest.mark.slow) for n in KINDS]
)
def test_a_command_ends_with_exit_code_4(name: str, tmp_path: Path, vtrain: Vtrain) -> None:
    path, canary = built(name, tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    ended = vtrain("check", tmp_path / "config.yaml", f"model.pretrained={path}")
    (line,) = ended.errors
    assert (ended.code, line.isprintable()) == (4, True), ended.err
    assert "hostile.bin" in line
    assert "Traceback" not in ended.err
    assert not canary.exists()
