"""Build the loop over the parts of a run."""

from torch import nn

from vtrain.engine.callback import Callback
from vtrain.engine.step import OptimizerStep, StepFunction
from vtrain.engine.step_graph import CudaGraphBackend, GraphedStep
from vtrain.engine.trainer import Intervals, Trainer
from vtrain.errors import ConfigError, DeviceError
from vtrain.optim.gradients import is_fused
from vtrain.run.build.model import build_forward, compiled
from vtrain.run.build.optim import fitted
from vtrain.run.build.parts import Parts


def build_trainer(
    parts: Parts, callbacks: list[Callback], step: OptimizerStep | None = None
) -> Trainer:
    """Return the loop over the parts; `step` stands in for the one that the config describes."""
    plan, train = parts.plan, parts.plan.config.train
    step = build_step(parts) if step is None else step
    return Trainer(
        state=parts.state,
        input=parts.input,
        optimize=build_optimize(parts, step),
        # Over all epochs, even if `max_steps` or the run's time ends sooner.
        schedule=fitted(parts.schedule, plan.schedule_steps, parts.state),
        lr=plan.lr,
        evaluate=parts.evaluate,
        callbacks=callbacks,
        intervals=Intervals(
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            eval_every=train.eval_every,
            log_every=plan.config.logging.every_steps,
        ),
        accum_steps=train.accum_steps,
        seed=plan.config.seed,
        rank=plan.rank,
    )


def build_step(parts: Parts, forward: nn.Module | None = None) -> OptimizerStep:
    """Return the device's part of a step; `forward` stands in for the model, wrapped, compiled."""
    plan = parts.plan
    return OptimizerStep(
        state=parts.state,
        forward=build_forward(plan, parts.model) if forward is None else forward,
        criterion=parts.criterion,
        autocast=parts.autocast,
        grad_clip_norm=plan.config.train.grad_clip_norm,
        # The teacher is compiled like the model, but not wrapped: it has no gradients to exchange.
        teacher=None if parts.teacher is None else compiled(plan, parts.teacher),
    )


def build_optimize(parts: Parts, step: OptimizerStep) -> StepFunction:
    """Return the step as the trainer calls it: itself, or captured as a CUDA graph."""
    return build_graph(parts, step) if parts.plan.config.train.cuda_graph else step


def build_graph(parts: Parts, step: OptimizerStep) -> GraphedStep:
    """Return the step, captured as a CUDA graph once it is warm.

    Raises:
        ConfigError: The step needs the host, or other processes.
        DeviceError: There is no GPU.
    """
    plan = parts.plan
    # A graph repeats kernels and nothing else: what the host decides in a step, or what other
    # processes send, has no place in it.
    if plan.device.type != "cuda":
        raise DeviceError(
            "there is no GPU to record steps on", "train.cuda_graph", "set it to false"
        )
    obstacles = {
        f"{plan.rank.world_size} processes": plan.rank.world_size > 1,
        "fp16, because each step reads from the GPU whether a gradient overflowed": (
            plan.precision == "fp16"
        ),
        "an optimizer that is not fused (torch's adam, adamw and sgd are)": (
            not is_fused(parts.state.optimizer)
        ),
        "activation_checkpointing, which asks for the state of the generator": (
            plan.config.train.activation_checkpointing
        ),
    }
    # The first is enough: each is a choice of its own that the message names.
    for obstacle, is_there in obstacles.items():
        if is_there:
            what = f"steps cannot be recorded with {obstacle}"
            raise ConfigError(what, "train.cuda_graph", "set it to false")
    return GraphedStep(step, parts.state.optimizer, CudaGraphBackend(plan.device))
