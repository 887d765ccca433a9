"""What happens between backward and the optimizer's step: clip, skip what is not finite, unscale.

Nothing here waits for the device, but `StepGuard.check` and fp16's `LossScaler`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vtrain.errors import DivergedError

EPSILON = 1e-6
"""Added to a norm before it is divided by, as `torch.nn.utils.clip_grad_norm_` does."""
STEADIER = "lower optimizer.lr, lengthen the warm-up or set train.grad_clip_norm"
"""What to do when numbers are no longer finite."""


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the global L2 norm of the gradients. Shape: ().

    It is finite only if every gradient is, and the same on every rank once gradients are averaged:
    one number to log, and to decide by.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if hasattr(norm, "full_tensor"):  # FSDP: each rank holds its part of the sum of squares
        norm = norm.full_tensor()
    return norm


def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Scale the gradients down to a `gradient_norm` of `max_norm`, and return the norm before."""
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    if max_norm is not None:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


class StepGuard:
    """Make an optimizer's steps from clipped gradients, but none that are not finite.

    The decision stays on the device; `check` reads it, when metrics are logged and before a
    checkpoint is written. Until then a bad step leaves the weights finite: torch's fused optimizers
    skip it, and the others step with gradients of 0.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        device = optimizer.param_groups[0]["params"][0].device
        self.first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._step = torch.zeros_like(self.first_bad)

    def set_step(self, step: int) -> None:
        """Number the step that comes next, from 1: `check` names the first bad one."""
        self._step.fill_(step)  # on the device: a recorded step reads it there

    @torch.no_grad()
    def step(self, grad_norm: Tensor, max_norm: float | None = None) -> None:
        """Update the weights if `grad_norm`, the norm of all gradients, is finite.

        Where it is larger than `max_norm`, the gradients are scaled down to that first.
        """
        bad = ~grad_norm.isfinite()
        # Keep the first bad step: only where none was noted yet does this one count.
        first = bad & (self.first_bad < 0)
        self.first_bad.copy_(torch.where(first, self._step, self.first_bad))
        if is_fused(self.optimizer):
            # What GradScaler does: a fused kernel reads `found_inf` and leaves all state as it is,
            # and divides gradients by `grad_scale`, which spares a pass over all of them.
            self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            scale = None if max_norm is None else ((grad_norm + EPSILON) / max_norm).clamp(min=1)
            self.optimizer.grad_scale = scale  # type: ignore[attr-defined]
            self.optimizer.step()
            del self.optimizer.found_inf, self.optimizer.grad_scale  # type: ignore[attr-defined]
            return
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if max_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, max_norm, grad_norm)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(bad, 0)
        self.optimizer.step()

    def check(self) -> None:
        """Wait for the device and see whether every step so far was finite.

        Raises:
            DivergedError: One was not; the message names the first.
        """
        first_bad = int(self.first_bad)
        if first_bad >= 0:
            raise DivergedError(
                f"the loss or its gradients are not finite at step {first_bad}",
                hint=STEADIER,
                step=first_bad,
            )


def is_fused(optimizer: Optimizer) -> bool:
    """Return whether one kernel makes the whole step and can skip it on the device."""
    return all(group.get("fused") for group in optimizer.param_groups)


class LossScaler:
    """Scale the loss so that fp16 gradients do not underflow; back off when they overflow.

    A step that overflows is skipped: the caller then advances neither schedule nor EMA. To know
    that, `step` waits for the device, so fp16 pays one wait per step that bf16 does not.

    Reference: Micikevicius et al., "Mixed precision training", arXiv:1710.03740, section 3.2.
    """

    def __init__(self, device: torch.device) -> None:
        self.scaler = torch.amp.GradScaler(device.type)

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss to call `backward` on."""
        return self.scaler.scale(loss)

    def unscale(self, optimizer: Optimizer) -> None:
        """Turn the gradients back to their true size, before they are clipped."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer, step: int) -> bool:
        """Update the weights unless a gradient overflowed; return whether it did not.

        Raises:
            DivergedError: Gradients overflow however small the scale.
        """
        # GradScaler tells of a skipped step only by a scale that has fallen.
        before = self.scaler.get_scale()
        self.scaler.step(optimizer)
        self.scaler.update()
        after = self.scaler.get_scale()
        if after < 1:
            raise DivergedError(
                f"the fp16 gradients of step {step} overflow even at a loss scale of {before:g}",
                hint="set train.precision=bf16 or fp32, or lower optimizer.lr",
                step=step,
            )
        return after >= before

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.load_state_dict(state)
