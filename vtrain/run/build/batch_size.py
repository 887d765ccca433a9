"""`train.batch_size: auto`: the largest batch that fits, and how much memory any batch takes."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vtrain import distributed
from vtrain.errors import ConfigError, DeviceError
from vtrain.models.base import ImageClassifier
from vtrain.models.profile import Profile, profile
from vtrain.resources import free_memory
from vtrain.run.build.model import build_model, choose_trained
from vtrain.run.build.optim import build_optimizer
from vtrain.run.build.plan import Plan
from vtrain.run.build.trial import trial_steps

log = logging.getLogger(__name__)

SHARE = 0.7
"""Of the memory; cached images, the evaluation and what lies between allocations need the rest."""

SAMPLE = 8
"""Images of the step from which the memory of larger ones is estimated."""

Fits = Callable[[int], bool]
"""Whether a step of so many images of one process fits."""


def find_batch_size(plan: Plan, *, trial: bool) -> int:
    """Return the images of a step where each process has the largest power of two that fits.

    The plan is of a run with a few images in a step; the process with the least memory decides for
    all. `trial` makes real steps on a GPU, which is exact; else, and on a CPU, it is estimated.

    Raises:
        ConfigError: The model is cut over the processes, so that no process can try alone.
        DeviceError: Not even one image fits.
    """
    if plan.config.train.parallel == "fsdp":
        raise ConfigError("train.batch_size is auto, which takes train.parallel=ddp")
    images, world_size = len(plan.train), plan.rank.world_size
    fits = tried(plan) if trial and plan.device.type == "cuda" else estimated(plan)
    own = largest(fits, -(-images // world_size))
    least = -int(distributed.all_max(torch.tensor(-own)))  # the minimum over all processes
    if least == 0:
        raise DeviceError("not even one image fits", "train.batch_size", "take a smaller model")
    chosen = min(least * world_size, images)
    log.info("batch   %d images, the largest power of two for each process that fits", chosen)
    return chosen


def largest(fits: Fits, most: int) -> int:
    """Return the largest power of two up to `most` that fits; 0 if not even 1 does."""
    # Upwards from 1, doubling: a size that does not fit costs most, and only one is tried.
    size = 1
    if not fits(size):
        return 0
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def estimated(plan: Plan) -> Fits:
    """Return a test that compares what autograd keeps with the memory that is free."""
    config, device = plan.config, plan.device
    with torch.device("meta"):
        model = build_model(config, len(plan.source.classes))
        choose_trained(config, model)
        optimizer = build_optimizer(config, model)
    memory = profile_run(plan, model, optimizer, SAMPLE).memory
    # All but the activations is there whatever the number of images; these grow with each of them.
    fixed, each = memory.total - memory.activations, memory.activations / SAMPLE
    cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if cuda else free_memory()

    def fits(images: int) -> bool:
        at_once = -(-images // config.train.accum_steps)
        return fixed + each * at_once <= SHARE * free

    return fits


def tried(plan: Plan) -> Fits:
    """Return a test that makes a training step of the real parts on a GPU, on black images."""
    (parts, step), device = trial_steps(plan), plan.device
    # A recording keeps its memory while another kind of step has its own.
    share = SHARE / 2 if plan.config.train.cuda_graph else SHARE

    def fits(images: int) -> bool:
        # The limit stands for the memory that the run will need for other things.
        torch.cuda.set_per_process_memory_fraction(share, device)
        try:
            step(images)
        except torch.OutOfMemoryError:
            return False
        finally:
            parts.state.optimizer.zero_grad()
            torch.cuda.set_per_process_memory_fraction(1.0, device)
            torch.cuda.empty_cache()
        return True

    return fits


def memory_advice(plan: Plan) -> tuple[str, str]:
    """Return what was too large if memory runs out in training, and what to try."""
    size, pieces = plan.batch_size, plan.config.train.accum_steps
    return (
        f"train.batch_size {size} ({plan.images_at_once} images at once in each process)",
        f"keep it with train.accum_steps={2 * pieces} or train.activation_checkpointing=true, or "
        "take a smaller one in a new run",
    )


def profile_run(
    plan: Plan, model: ImageClassifier, optimizer: torch.optim.Optimizer, images: int
) -> Profile:
    """Return the cost of a model on the meta device in a run of so many images at once."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()  # makes its state, which takes no memory on the meta device either
    state = sum(x.numel() for x in tree_leaves(optimizer.state_dict()) if isinstance(x, Tensor))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return profile(
        model,
        batch_size=images,
        precision=plan.precision,  # type: ignore[arg-type] # a key of DTYPES
        device=plan.device.type,
        optimizer_states=state / trained,
        ema=plan.config.train.ema_decay is not None,
    )
