"""One optimizer step on the device: forward, backward, clipping, update."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from vtrain.distributed import parallel
from vtrain.engine.state import TrainState
from vtrain.optim.gradients import clip_grad_norm, gradient_norm

StepFunction: TypeAlias = Callable[[Tensor, Tensor, float, int], Tensor]
"""The model's input, targets, the weight of the loss, pieces -> the loss. Shape: ()."""


@dataclass
class OptimizerStep:
    """Computes the gradients of a batch and updates the weights; see `backward` for the arguments.

    It is the same work every time: what differs from one step to the next (the learning rate, the
    step's number) is read from the device. So a `StepFunction` that records it may take its place.

    Args:
        forward: The model as it is called: itself, compiled, or wrapped for several processes.
        criterion: The model's outputs, targets and, with a teacher, its logits -> the mean loss.
        grad_clip_norm: Largest global L2 norm of the gradients; None leaves them alone.
        teacher: Says of the model's input what the model should learn beside the targets.
    """

    state: TrainState
    forward: nn.Module
    criterion: Callable[..., Tensor]
    autocast: Callable[[], AbstractContextManager[None]]
    grad_clip_norm: float | None
    teacher: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs: Tensor, targets: Tensor, weight: float, pieces: int) -> Tensor:
        self.state.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(inputs, targets, weight, pieces)
        self.update()
        return loss

    def backward(self, inputs: Tensor, targets: Tensor, weight: float, pieces: int) -> Tensor:
        """Add the gradients of the summed loss times `weight`, in so many `pieces` of the batch.

        Returns:
            That loss, still on the device. Shape: ().
        """
        total = torch.zeros((), device=inputs.device)
        cut = zip(inputs.tensor_split(pieces), targets.tensor_split(pieces), strict=True)
        for number, (x, y) in enumerate(cut, start=1):
            # Processes exchange gradients once a step, while the last piece computes its own.
            with nullcontext() if number == pieces else parallel.no_sync(self.forward):
                with self.autocast():
                    outputs = self.forward(x)
                    teacher_logits = () if self.teacher is None else (self.teacher(x),)
                # The criterion's mean times len(x) is a sum, so that uneven pieces add up.
                loss = self.criterion(outputs, y, *teacher_logits) * (len(x) * weight)
                scaled = self.state.scaler.scale(loss) if self.state.scaler else loss
                scaled.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()  # kept on the device: .item() here would wait for it
        return total

    def update(self) -> None:
        """Clip the gradients and step the optimizer if they are finite."""
        state = self.state
        parameters = state.model.parameters()
        if state.scaler is None:
            state.guard.step(gradient_norm(parameters), self.grad_clip_norm)
            return
        # fp16: gradients are clipped at their true size, and a step that overflows is skipped.
        state.scaler.unscale(state.optimizer)
        clip_grad_norm(parameters, self.grad_clip_norm)
        if not state.scaler.step(state.optimizer, state.step + 1):
            state.skipped += 1
