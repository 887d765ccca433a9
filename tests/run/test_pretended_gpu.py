"""The code paths of a GPU, on one that is not there: see `tests.pretend_cuda`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.harness import Vtrain
from tests.pretend_cuda import DEVICE, PretendCuda, TapeBackend, on_cpu, pretend_cuda
from tests.run.test_gpu import BUSY
from vtrain.bench import machine
from vtrain.config import load_config
from vtrain.engine import step_graph
from vtrain.engine.step_graph import WARM_UP, GraphedStep
from vtrain.files import checkpoint
from vtrain.files import container as checkpoints
from vtrain.files.container import load_checkpoint
from vtrain.inference.evaluate import means, sums
from vtrain.inference.outputs import outputs_of
from vtrain.layers import attention
from vtrain.run.build import trainer as trainer_module
from vtrain.run.build.parts import build_parts
from vtrain.run.build.resolve import resolve
from vtrain.run.build.trainer import build_trainer

GPU = ("train.device=cuda", "train.compile=false")
SWIN = "name: swin_t, patch_size: 2, embed_dim: 16, depths: [2, 2], num_heads: [2, 4]"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[PretendCuda]]:
    """Pretend that there is a GPU, whose tensors a file holds as it holds others."""
    save = checkpoints.save_checkpoint

    def saved(path: Path, payload: dict[str, Any]) -> checkpoints.Written:
        return save(path, on_cpu(payload))

    monkeypatch.setattr(checkpoint, "save_checkpoint", saved)
    with pretend_cuda() as pretended:
        yield pretended


def test_no_batch_of_an_evaluation_waits_for_the_gpu(
    small_run: Path, gpu: type[PretendCuda]
) -> None:
    config = load_config(small_run, [*GPU, "train.batch_size=8"])
    parts = build_parts(resolve(config, DEVICE))
    batches = list(parts.val_loader.batches())
    assert len(batches) > 1
    normalise = parts.preprocess.normalise
    total = torch.zeros(4, dtype=torch.float64, device=DEVICE)
    for output in outputs_of(parts.model, batches, normalise, parts.autocast):
        total += sums(output.logits, output.targets)
        gpu.is_strict = True  # its tables are made
    gpu.is_strict = False
    assert means(total) == parts.evaluate()


@pytest.mark.parametrize("data", ["device", "ram", "none"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_gpu(
    small_run: Path, gpu: type[PretendCuda], data: str, precision: str
) -> None:
    config = load_config(
        small_run, [*GPU, BUSY, f"data.cache={data}", f"train.precision={precision}"]
    )
    parts = build_parts(resolve(config, DEVICE))
    trainer = build_trainer(parts, [])
    for number, batch in enumerate(parts.train_loader.batches(0)):
        gpu.is_strict = number > 0  # its tables are made
        trainer.train_step(batch)
    gpu.is_strict = False
    assert parts.state.step == 3


@pytest.mark.parametrize(
    "options",
    [
        [BUSY],
        ["model={name: deit_ti_distilled, patch_size: 4, embed_dim: 32, depth: 2, num_heads: 2}"],
        ["model={name: tnt_s, patch_size: 8, embed_dim: 32, depth: 2, num_heads: 2}"],
        [f"model={{{SWIN}, window_size: 4}}", "train.accum_steps=3"],
        ["augment.policy=augmix", "optimizer={name: lamb, lr: 0.01}", "data.balanced=true"],
        ["augment.policy=timm_randaugment", "optimizer={name: muon, lr: 0.01}", "data.repeats=2"],
        ["train.activation_checkpointing=true", "data.num_workers=1", "data.cache=none"],
    ],
    ids=["vit", "deit", "tnt", "swin", "lamb", "muon", "recomputed"],
)
def test_a_run_ends_with_the_weights_of_a_run_on_the_cpu(
    small_run: Path, vtrain: Vtrain, gpu: type[PretendCuda], options: list[str]
) -> None:
    fit = partial(vtrain, "fit", small_run, *options)
    for device in ("cuda", "cpu"):
        done = fit("--run-dir", device, f"train.device={device}", "train.compile=false")
        assert done.code == 0, done.err
    there, here = (load_checkpoint(Path(name, "last.pt"))["state"] for name in ("cuda", "cpu"))
    for kind in ("model", "ema"):
        torch.testing.assert_close(there[kind], here[kind], rtol=1e-3, atol=1e-4)


RECORDED = [
    "augment={crop: pad, policy: {name: autoaugment, dataset: cifar10}, erasing: 0.25, mixup: 1.0, "
    "cutmix: 1.0, mix_probability: 0.5}",
    BUSY,
    "augment={policy: augmix, erasing: 0.5, erasing_value: pixel}",
    "augment={policy: timm_randaugment, mixup: 0.2, mix_off_epoch: 1}",
    "augment={crop: none, policy: three_augment, solarize: 0.2}",
    "augment={policy: randaugment}",
    "augment={policy: trivialaugment_wide}",
]


@pytest.mark.parametrize("augment", RECORDED)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_steps_are_launched_ones_and_copy_nothing_from_the_host(
    small_run: Path,
    gpu: type[PretendCuda],
    monkeypatch: pytest.MonkeyPatch,
    augment: str,
    precision: str,
) -> None:
    def weights(graph: str, warm_up: int) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(step_graph, "WARM_UP", warm_up)
        overrides = [augment, "data.num_images=160", f"train.precision={precision}"]
        config = load_config(small_run, [*GPU, *overrides, f"train.cuda_graph={graph}"])
        parts = build_parts(resolve(config, DEVICE))
        trainer = build_trainer(parts, [])
        trainer.evaluate = lambda: {}
        trainer.fit(parts.train_loader)
        assert parts.state.step == 10
        if isinstance(trainer.optimize, GraphedStep):
            assert isinstance(trainer.optimize.backend, TapeBackend)
            assert trainer.optimize.can_capture
            assert trainer.optimize.backend.replays >= 10 - 2 * warm_up
        return dict(on_cpu(parts.model.state_dict()))

    monkeypatch.setattr(trainer_module, "CudaGraphBackend", TapeBackend)
    captured, launched = weights("true", WARM_UP), weights("true", warm_up=11)
    torch.testing.assert_close(captured, launched, rtol=0, atol=0)
    if precision == "fp32":
        # Here the learning rate is a Python number and not a tensor of fp32. In bf16 such a
        # difference in the last place now and then rounds to another bf16, and where a gradient
        # is nothing but rounding, as that of K's bias (a softmax does not change if all its
        # arguments are shifted), Adam makes steps of the full rate of it.
        torch.testing.assert_close(captured, weights("false", WARM_UP), rtol=1e-3, atol=1e-5)


def test_fp16_trains(small_run: Path, vtrain: Vtrain, gpu: type[PretendCuda]) -> None:
    done = vtrain("fit", small_run, *GPU, "train.precision=fp16", "--run-dir", "run")
    assert done.code == 0, done.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "eval --ckpt run",
        "eval --ckpt run --split train --json",
        "predict picture.png --ckpt run",
        "check small.yaml",
        "check small.yaml --data",
        "check small.yaml --lr-find train.compile=false",
        "bench small.yaml --seconds 0.5 train.compile=false",
        "bench small.yaml --seconds 0.5 train.compile=false train.cuda_graph=true",
        "fit small.yaml --overfit 8 train.compile=false",
        "fit small.yaml train.batch_size=auto train.compile=false",
    ],
)
def test_every_command_works(
    small_run: Path,
    vtrain: Vtrain,
    gpu: type[PretendCuda],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr(trainer_module, "CudaGraphBackend", TapeBackend)
    monkeypatch.setitem(machine.GEMM_SIZE, "cuda", 256)
    monkeypatch.setitem(machine.COPY_BYTES, "cuda", 1 << 20)
    assert vtrain("fit", small_run, *GPU, "--run-dir", "run", "train.max_steps=1").code == 0
    Image.new("RGB", (20, 30)).save("picture.png")
    done = vtrain(*command.split())
    assert done.code == 0, done.err


def test_more_rows_than_a_grid_has_are_attended_to_in_parts(
    gpu: type[PretendCuda], monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = torch.randn(3, 10, 2, 5, 4).unbind()
    there = [x.to("cuda") for x in (q, k, v)]
    bias = torch.randn(2, 5, 5)
    monkeypatch.setattr(attention, "MAX_CUDA_ROWS", 4)
    parts = attention.attend(*there, bias=bias.to("cuda"))
    torch.testing.assert_close(parts.cpu(), attention.attend(q, k, v, bias))
