"""Build the loop over the parts of a run."""

from torch import nn

from vtrain.config import Config
from vtrain.distributed import Rank
from vtrain.engine.callback import Callback
from vtrain.engine.step import OptimizerStep, StepFunction
from vtrain.engine.step_graph import CudaGraphBackend, GraphedStep
from vtrain.engine.trainer import Intervals, Trainer
from vtrain.errors import ConfigError, DeviceError
from vtrain.optim.gradients import is_fused
from vtrain.run.build.model import build_forward, compiled
from vtrain.run.build.optim import fitted, learning_rate
from vtrain.run.build.parts import Parts


def build_trainer(
    config: Config,
    parts: Parts,
    rank: Rank,
    callbacks: list[Callback],
    step: OptimizerStep | None = None,
) -> Trainer:
    """Return the loop over the parts; `step` stands in for the one that the config describes."""
    step = build_step(config, parts) if step is None else step
    return Trainer(
        state=parts.state,
        input=parts.input,
        optimize=build_optimize(config, parts, rank, step),
        # Over all epochs, even if `max_steps` or the run's time ends sooner.
        schedule=fitted(parts.schedule, config.train.epochs * parts.steps_per_epoch, parts.state),
        lr=learning_rate(config),
        evaluate=parts.evaluate,
        callbacks=callbacks,
        intervals=Intervals(
            total_steps=parts.total_steps,
            steps_per_epoch=parts.steps_per_epoch,
            eval_every=config.train.eval_every,
            log_every=config.logging.every_steps,
        ),
        accum_steps=config.train.accum_steps,
        seed=config.seed,
        rank=rank,
    )


def build_step(config: Config, parts: Parts, forward: nn.Module | None = None) -> OptimizerStep:
    """Return the device's part of a step; `forward` stands in for the model, wrapped, compiled."""
    return OptimizerStep(
        state=parts.state,
        forward=build_forward(config, parts.model, parts.device) if forward is None else forward,
        criterion=parts.criterion,
        autocast=parts.autocast,
        grad_clip_norm=config.train.grad_clip_norm,
        # The teacher is compiled like the model, but not wrapped: it has no gradients to exchange.
        teacher=None if parts.teacher is None else compiled(config, parts.teacher, parts.device),
    )


def build_optimize(config: Config, parts: Parts, rank: Rank, step: OptimizerStep) -> StepFunction:
    """Return the step as the trainer calls it: itself, or captured as a CUDA graph."""
    return build_graph(config, parts, rank, step) if config.train.cuda_graph else step


def build_graph(config: Config, parts: Parts, rank: Rank, step: OptimizerStep) -> GraphedStep:
    """Return the step, captured as a CUDA graph once it is warm.

    Raises:
        ConfigError: The step needs the host, or other processes.
        DeviceError: There is no GPU.
    """
    # A graph repeats kernels and nothing else: what the host decides in a step, or what other
    # processes send, has no place in it.
    if parts.device.type != "cuda":
        raise DeviceError(
            "there is no GPU to record steps on", "train.cuda_graph", "set it to false"
        )
    obstacles = {
        f"{rank.world_size} processes": rank.world_size > 1,
        "fp16, because each step reads from the GPU whether a gradient overflowed": (
            parts.precision == "fp16"
        ),
        "an optimizer that is not fused (torch's adam, adamw and sgd are)": (
            not is_fused(parts.state.optimizer)
        ),
        "activation_checkpointing, which asks for the state of the generator": (
            config.train.activation_checkpointing
        ),
    }
    # The first is enough: each is a choice of its own that the message names.
    for obstacle, is_there in obstacles.items():
        if is_there:
            what = f"steps cannot be recorded with {obstacle}"
            raise ConfigError(what, "train.cuda_graph", "set it to false")
    return GraphedStep(step, parts.state.optimizer, CudaGraphBackend(parts.device))
