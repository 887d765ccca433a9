import json
import math
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from tests.harness import Vtrain
from vtrain.config import Config, load_config
from vtrain.config.recipes import FOR_EDITORS, SCHEMA
from vtrain.files.container import load_checkpoint

CONFIGS = sorted(Path("configs").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_a_config_opens_with_its_command_and_what_to_expect(path: Path) -> None:
    head = path.read_text().split("\nseed:")[0].splitlines()
    assert all(line.startswith("#") for line in head)
    assert any(line.startswith(f"# Run:     vtrain fit {path.stem}") for line in head)
    assert any(line.startswith("# Expect:  ") for line in head)
    assert head[-1] == f"{FOR_EDITORS}$schema={SCHEMA}"


def other_teacher(config: Config, num_classes: int, folder: Path) -> list[str]:
    """Return the overrides by which a small random model stands in for a config's teacher."""
    if config.train.distillation is None:
        return []
    torch.save(resnet18(num_classes=num_classes).state_dict(), folder / "teacher.pt")
    return [
        "train.distillation.teacher=torchvision:resnet18",
        f"train.distillation.teacher_weights={folder / 'teacher.pt'}",
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_a_config_loads_and_builds(path: Path, vtrain: Vtrain, tmp_path: Path) -> None:
    config = load_config(path)
    if hasattr(config.data, "root"):  # its images are not here: made-up ones stand in
        size = config.data.image_size
        stand_in = f"data: {{name: fake, image_size: {size}, size: 8, num_images: 20000}}"
        lines = path.read_text().splitlines()
        path = tmp_path / path.name
        path.write_text("\n".join(stand_in if ln.startswith("data:") else ln for ln in lines))
    # Nor are the weights that it starts from, nor its teacher.
    overrides = ["model.pretrained=null", *other_teacher(config, 10, tmp_path)]
    done = vtrain("check", path, *overrides)
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(Path("configs").glob("*_imagenet.yaml")), ids=str)
def test_an_imagenet_recipe_makes_a_step_on_made_up_images(
    path: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    data = {"name": "fake", "num_classes": 1000, "num_images": 16}
    config = load_config(path)
    size, repeats = config.data.image_size, config.data.repeats
    data |= {"image_size": size, "size": size, "repeats": repeats}
    overrides = [f"data={json.dumps(data)}", "train.batch_size=2"]
    overrides += other_teacher(config, 1000, tmp_path)
    done = vtrain("check", path, *overrides)
    assert done.code == 0, done.err
    done = vtrain("fit", path, *overrides, "train.max_steps=1", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [1, 1]
    assert math.isfinite(rows[0]["train/loss"])
    assert load_checkpoint(tmp_path / "run" / "last.pt")["state"]["step"] == 1
