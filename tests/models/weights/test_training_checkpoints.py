"""Checkpoints that other training programs write themselves, while they train."""

import argparse
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

from tests.conftest import tiny
from tests.models.agreement import shaken
from vtrain.models.pretrained import load_pretrained

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def timm_vit() -> nn.Module:
    return shaken(VisionTransformer(num_classes=10, **SIZES))


def assert_computes_the_same(path: Path, theirs: nn.Module, *said: str) -> None:
    ours = tiny("vit_ti").eval()
    report = load_pretrained(ours, str(path))
    assert report.new == ()
    for text in said:
        assert text in str(report)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images), theirs.eval()(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("averaged", [True, False])
def test_timm_s_own_saver(tmp_path: Path, averaged: bool) -> None:
    model = timm_vit()
    average = ModelEmaV3(timm_vit()) if averaged else None
    saver = CheckpointSaver(
        model,
        torch.optim.AdamW(model.parameters()),
        args=argparse.Namespace(model="vit", lr=0.1, mean=None),
        model_ema=average,
        checkpoint_dir=str(tmp_path),
    )
    saver.save_checkpoint(0, metric=1.0)
    theirs = model if average is None else average.module
    said = "state_dict_ema, averaged" if averaged else "timm (state_dict)"
    assert_computes_the_same(tmp_path, theirs, said)  # of the folder, model_best.pth.tar


@pytest.mark.parametrize("key", [None, "model_ema"])
def test_torch_s_own_average(tmp_path: Path, key: str | None) -> None:
    """As torchvision's training script keeps it, under `model_ema`."""
    average = torch.optim.swa_utils.AveragedModel(timm_vit())
    state = average.state_dict()
    beside = {"model": timm_vit().state_dict(), "args": argparse.Namespace(epochs=3), "epoch": 2}
    torch.save(state if key is None else {**beside, key: state}, tmp_path / "checkpoint.pth")
    report = load_pretrained(tiny("vit_ti"), str(tmp_path))
    assert report.unused == ("n_averaged",)
    assert_computes_the_same(tmp_path, average.module)


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        (["net_g", "net_d"], "net_g"),
        (["student_state_dict", "teacher_state_dict"], "teacher_state_dict"),
        (["encoder", "target_encoder"], "target_encoder"),  # I-JEPA evaluates its target
        (["best_model"], "best_model"),
        (["state"], "state"),
    ],
)
def test_scripts_have_keys_of_their_own(tmp_path: Path, keys: list[str], taken: str) -> None:
    models = {key: timm_vit() for key in keys}
    content = {
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "rng": {"cpu": torch.get_rng_state()},
        **{key: model.state_dict() for key, model in models.items()},
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    assert_computes_the_same(tmp_path, models[taken], taken)


@pytest.mark.slow
def test_lightning_s_own_checkpoints(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, settings: argparse.Namespace, folder: Path) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = timm_vit()
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(10))

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            loss: torch.Tensor = self.criterion(self.model(batch[0]), batch[1])
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters())

    data = torch.utils.data.TensorDataset(torch.randn(4, 3, 32, 32), torch.arange(4))
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, logger=False
    )
    module = Module(argparse.Namespace(lr=0.1, inner=Path("x")), Path("y"))
    trainer.fit(module, torch.utils.data.DataLoader(data, 2))
    folder = next(tmp_path.rglob("*.ckpt")).parent
    assert_computes_the_same(folder, module.model, "names below model.", "criterion.weight")
