"""Learning from a teacher as well as from the labels.

Reference: Hinton et al., arXiv:1503.02531 (soft); Touvron et al., DeiT, arXiv:2012.12877 (hard, and
the second head).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

from vtrain.registry import Fraction

Stats = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, by which images were normalised."""


class Distillation(nn.Module):
    """Mix a loss on the labels with one on the teacher's logits: (1 - alpha) and alpha of each.

    A student with two heads (DeiT) learns the labels with the first and the teacher with the
    second; any other student learns both with its only one.

    Shape: outputs (B, K) or a pair of them, targets (B,) or (B, K), teacher's logits (B, K) -> ().

    Args:
        loss: Loss of logits and targets.
        kind: `hard` takes the teacher's best class as the label; `soft` matches its distribution.
        alpha: Weight of the teacher.
        tau: Temperature of both distributions, of `soft` only.
    """

    def __init__(
        self,
        loss: nn.Module,
        *,
        kind: Literal["hard", "soft"] = "hard",
        alpha: Fraction = 0.5,
        tau: PositiveFloat = 1.0,
    ) -> None:
        super().__init__()
        if kind == "hard" and tau != 1:
            raise ValueError(f"tau ({tau:g}) has no meaning with kind (hard); leave it at 1")
        self.loss, self.kind, self.alpha, self.tau = loss, kind, alpha, tau

    def forward(
        self, outputs: Tensor | tuple[Tensor, Tensor], targets: Tensor, teacher_logits: Tensor
    ) -> Tensor:
        # One head is both the student of the labels and of the teacher.
        classes, distilled = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        label_loss: Tensor = self.loss(classes, targets)
        distilled, teacher_logits = distilled.float(), teacher_logits.float()
        if self.kind == "hard":
            teacher_loss = F.cross_entropy(distilled, teacher_logits.argmax(1))
        else:
            # Differs from DeiT's code, which divides by the number of classes too. The factor keeps
            # the gradient's size whatever tau is (Hinton et al., section 2).
            log_p = (distilled / self.tau).log_softmax(1)
            log_q = (teacher_logits / self.tau).log_softmax(1)
            teacher_loss = (
                F.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * self.tau**2
            )
        return (1 - self.alpha) * label_loss + self.alpha * teacher_loss


class BothHeads(nn.Module):
    """Without a teacher, both heads of a distilled model learn the labels: the mean of two losses.

    So such a model can be fine-tuned. In evaluation its answer is the mean of the heads anyway.

    Shape: a pair of outputs (B, K), targets (B,) or (B, K) -> ().
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        classes, distilled = outputs
        mean: Tensor = (self.loss(classes, targets) + self.loss(distilled, targets)) / 2
        return mean


class Teacher(nn.Module):
    """A trained model that only answers: always in eval mode, without gradients.

    It sees the student's augmented images, in its own size and normalisation.

    Shape: (B, 3, H, W) -> (B, K).

    Args:
        model: Gives logits.
        columns: Where the student's classes are among the logits; None for the same order.
        image_size: Pixels per side that `model` takes; None for any.
        student: How the images that come in were normalised.
        teacher: How `model` wants them; None for the same way.
    """

    def __init__(
        self,
        model: nn.Module,
        columns: Sequence[int] | None = None,
        image_size: int | None = None,
        student: Stats | None = None,
        teacher: Stats | None = None,
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.image_size = image_size
        self.columns: Tensor | None
        self.factor: Tensor | None
        self.offset: Tensor | None
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))
        factor = offset = None
        if student is not None and teacher is not None and student != teacher:
            mean, std, new_mean, new_std = (
                torch.tensor(channels)[:, None, None] for channels in (*student, *teacher)
            )
            # (x * std + mean - new_mean) / new_std as one multiply-add.
            factor, offset = std / new_std, (mean - new_mean) / new_std
        self.register_buffer("factor", factor)
        self.register_buffer("offset", offset)

    def train(self, _mode: bool = True) -> "Teacher":
        """Stay in eval mode, whoever asks: dropout or batch statistics would change the answers."""
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if self.factor is not None and self.offset is not None:
            images = images * self.factor + self.offset
        # After the normalisation, which commutes with a linear resize.
        if self.image_size is not None and images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        logits: Tensor = self.model(images)
        return logits if self.columns is None else logits[:, self.columns]
