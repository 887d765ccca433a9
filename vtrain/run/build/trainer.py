"""Build the loop over the parts of a run."""

from torch import nn

from vtrain.config import Config
from vtrain.data.augment.recordable import LARGEST, RecordableInput
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.step_graph import CudaRecorder, StepGraph
from vtrain.engine.trainer import Trainer
from vtrain.errors import ConfigError, DeviceError
from vtrain.optim.gradients import is_fused
from vtrain.run.build.model import build_forward, compiled
from vtrain.run.build.optim import fitted, learning_rate
from vtrain.run.build.parts import Parts


def build_trainer(
    config: Config,
    parts: Parts,
    place: Rank,
    callbacks: list[Callback],
    forward: nn.Module | None = None,
) -> Trainer:
    """Return the loop over the parts; `forward` stands in for the wrapped and compiled model."""
    return Trainer(
        state=parts.state,
        forward=build_forward(config, parts.model, parts.device) if forward is None else forward,
        augment=parts.augment,
        mixing=parts.mixing,
        criterion=parts.criterion,
        schedule=fitted(parts.schedule, config.train.epochs * parts.steps_per_epoch, parts.state),
        evaluate=parts.evaluate,
        autocast=parts.autocast,
        callbacks=callbacks,
        lr=learning_rate(config),
        total_steps=parts.total_steps,
        steps_per_epoch=parts.steps_per_epoch,
        eval_every=config.train.eval_every,
        log_every=config.logging.every_steps,
        accum_steps=config.train.accum_steps,
        grad_clip_norm=config.train.grad_clip_norm,
        seed=config.seed,
        rank=place.rank,
        world_size=place.world_size,
        teacher=None if parts.teacher is None else compiled(config, parts.teacher, parts.device),
        graph=build_graph(config, parts, place) if config.train.cuda_graph else None,
        recordable=build_recordable(parts) if config.train.cuda_graph else None,
    )


def build_graph(config: Config, parts: Parts, place: Rank) -> StepGraph:
    """Return what records the steps of one process on a GPU.

    Raises:
        ConfigError: The steps need the host, or other processes.
        DeviceError: There is no GPU.
    """
    if parts.device.type != "cuda":
        raise DeviceError(
            "there is no GPU to record steps on", "train.cuda_graph", "set it to false"
        )
    obstacles = {
        f"{place.world_size} processes": place.world_size > 1,
        "fp16, whose every step asks the GPU for an overflow": parts.precision == "fp16",
        "an optimizer whose step is not one kernel": not is_fused(parts.state.optimizer),
        "activation_checkpointing, which asks for the state of the generator": (
            config.train.activation_checkpointing
        ),
    }
    for obstacle, is_there in obstacles.items():
        if is_there:
            what = f"steps cannot be recorded with {obstacle}"
            raise ConfigError(what, "train.cuda_graph", "set it to false")
    return StepGraph(parts.state.optimizer, CudaRecorder(parts.device))


def build_recordable(parts: Parts) -> RecordableInput | None:
    """Return augmentation and mixing in the form that is recorded, for images that are small."""
    is_small = parts.preprocess.image_size <= LARGEST
    return RecordableInput(parts.augment, parts.mixing) if is_small else None
