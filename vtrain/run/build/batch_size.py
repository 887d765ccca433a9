"""`train.batch_size: auto`: the largest batch that fits, and how much memory any batch takes."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vtrain import distributed
from vtrain.config import Config
from vtrain.data.loading.batches import Batch
from vtrain.device import choose_precision
from vtrain.distributed import Rank
from vtrain.errors import ConfigError, DeviceError
from vtrain.models.base import ImageClassifier
from vtrain.models.profile import Profile, profile
from vtrain.resources import free_memory
from vtrain.run.build.data import build_source
from vtrain.run.build.model import build_model
from vtrain.run.build.optim import build_optimizer
from vtrain.run.build.parts import build_parts
from vtrain.run.build.plan import batch_size
from vtrain.run.build.trainer import build_step, build_trainer

log = logging.getLogger(__name__)

SHARE = 0.7
"""Of the memory; cached images, the evaluation and what lies between allocations need the rest."""

Fits = Callable[[int], bool]
"""Whether a step of so many images of one process fits."""


def with_batch_size(config: Config, device: torch.device, place: Rank, *, trial: bool) -> Config:
    """Replace `train.batch_size: auto` by the largest power of two that fits, and say which.

    Args:
        config: Complete and valid; returned as it is if it states a number.
        device: Where the run will train.
        place: This process; the one with the least memory decides for all.
        trial: Make real steps on a GPU, which is exact. Otherwise, and on a CPU, estimate.

    Raises:
        ConfigError: The model is cut over the processes, so that no process can try alone.
        DeviceError: Not even one image fits.
    """
    if config.train.batch_size != "auto":
        return config
    if config.train.parallel == "fsdp":
        raise ConfigError("train.batch_size is auto, which takes train.parallel=ddp")
    source = build_source(config)
    images = len(source.split("train"))
    some = with_number(config, min(images, 8))
    fits = tried(some, device) if trial and device.type == "cuda" else estimated(some, device)
    own = largest(fits, -(-images // place.world_size))
    least = -int(distributed.all_max(torch.tensor(-own)))
    if least == 0:
        raise DeviceError("not even one image fits", "train.batch_size", "take a smaller model")
    chosen = min(least * place.world_size, images)
    log.info("batch   %d images, the largest power of two for each process that fits", chosen)
    return with_number(config, chosen)


def largest(fits: Fits, most: int) -> int:
    """Return the largest power of two up to `most` that fits; 0 if not even 1 does."""
    size = 1
    if not fits(size):
        return 0
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def estimated(config: Config, device: torch.device) -> Fits:
    """Return a test that compares what autograd keeps with the memory that is free."""
    precision = choose_precision(config.train.precision, device)
    with torch.device("meta"):
        model = build_model(config, len(build_source(config).classes))
        optimizer = build_optimizer(config, model)
    count = 8
    memory = profile_run(config, model, optimizer, precision, device, count).memory
    fixed, each = memory.total - memory.activations, memory.activations / count
    cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if cuda else free_memory()

    def fits(images: int) -> bool:
        at_once = -(-images // config.train.accum_steps)
        return fixed + each * at_once <= SHARE * free

    return fits


def tried(config: Config, device: torch.device) -> Fits:
    """Return a test that makes a training step of the real parts on a GPU, on black images."""
    parts = build_parts(config, device, Rank())
    trainer = build_trainer(
        config, parts, Rank(), [], build_step(config, parts, forward=parts.model)
    )
    size = parts.preprocess.image_size
    # A recording keeps its memory while another kind of step has its own.
    share = SHARE / 2 if config.train.cuda_graph else SHARE

    def black(count: int) -> Tensor:
        return torch.zeros((count, 3, size, size), dtype=torch.uint8, device=device)

    def fits(images: int) -> bool:
        targets = torch.zeros(images, dtype=torch.int64, device=device)
        batch = Batch(black(images), targets, torch.arange(images), 0, images)
        torch.cuda.set_per_process_memory_fraction(share, device)
        try:
            trainer.train_step(batch)
        except torch.OutOfMemoryError:
            return False
        finally:
            parts.state.optimizer.zero_grad()
            torch.cuda.set_per_process_memory_fraction(1.0, device)
            torch.cuda.empty_cache()
        return True

    return fits


def with_number(config: Config, batch_size: int) -> Config:
    """Return the config with a batch size that is a number."""
    train = config.train.model_copy(update={"batch_size": batch_size})
    return config.model_copy(update={"train": train})


def memory_advice(config: Config, place: Rank) -> tuple[str, str]:
    """Return what was too large if memory runs out in training, and what to try."""
    size, pieces = batch_size(config), config.train.accum_steps
    at_once = -(-size // (place.world_size * pieces))
    return (
        f"train.batch_size {size} ({at_once} images at once in each process)",
        f"take a smaller one, or the same with train.accum_steps={2 * pieces} or "
        "train.activation_checkpointing=true",
    )


def profile_run(
    config: Config,
    model: ImageClassifier,
    optimizer: torch.optim.Optimizer,
    precision: str,
    device: torch.device,
    at_once: int,
) -> Profile:
    """Return the cost of a model on the meta device in a run of `at_once` images at once."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()  # makes its state, which takes no memory on the meta device either
    state = sum(x.numel() for x in tree_leaves(optimizer.state_dict()) if isinstance(x, Tensor))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return profile(
        model,
        batch_size=at_once,
        precision=precision,  # type: ignore[arg-type] # a key of DTYPES
        device=device.type,
        optimizer_states=state / trained,
        ema=config.train.ema_decay is not None,
    )
