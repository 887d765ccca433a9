"""What every arm of `scripts/bench peers` shares: the job, the turns, the check, and two loaders.

An arm is one program that trains one model in a process of its own. It starts up, shows that its
work is the same as everybody's, and then trains only when it is told to: `Turns.step_done` stands
still between turns, wherever in somebody's training loop it is called from. The standard library
and torch are all that it needs, so that an arm can run in any environment.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LR, WEIGHT_DECAY, LABEL_SMOOTHING = 1e-3, 0.05, 0.1


@dataclass(frozen=True)
class Job:
    """What an arm is told to train."""

    model: str
    image_size: int
    num_classes: int
    arguments: dict[str, Any]
    """Arguments of the model, by this arm's names."""
    batch_size: int
    data: str
    """A folder with `train/<class>/` and `test/<class>/`."""
    folder: str
    """Where the arm may write."""
    bare: bool
    """Train on one batch that lies in memory, instead of on the images in `data`."""
    fast: bool = False
    """Use every documented switch that makes the program faster."""
    bf16: bool = False
    """Compute the forward pass under autocast in bf16."""
    compile: bool = False
    workers: int = 0
    cache: str = "auto"
    """vtrain's `data.cache`: whether decoded images may stay in memory."""
    device: str = "cpu"

    @classmethod
    def from_command_line(cls) -> "Job":
        return cls(**json.loads(sys.argv[1]))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of the forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)


@dataclass
class Turns:
    """The arm's side of taking turns: it reads commands, one JSON object a line, and answers."""

    job: Job

    def __post_init__(self) -> None:
        _die_with_the_parent()
        # Whatever the program prints must not get between the answers.
        # Descriptor 1 is stderr from now on, for libraries that write to it directly as well.
        self._answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._steps = self._images = 0
        self._goal = 1  # the first step reports by itself: it ends the start-up
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def step_done(self, images: int) -> None:
        """Note a step; at the end of a turn report it, and stand still until the next one."""
        self._steps += 1
        self._images += images
        if self._steps < self._goal:
            return
        # A GPU's work counts when it is done, not when it is launched.
        _wait(self.job.device)
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.answer(
            images=self._images, wall=wall, cpu=cpu, peak_memory=peak_memory(self.job.device)
        )
        self._await_turn()

    def answer(self, **content: Any) -> None:
        """Send one answer."""
        self._answers.write(json.dumps(content) + "\n")

    def _await_turn(self) -> None:
        # A command is one line; the clock starts when it has come.
        for line in sys.stdin:
            self._goal, self._steps, self._images = json.loads(line)["steps"], 0, 0
            self._wall, self._cpu = time.perf_counter(), time.process_time()
            return
        os._exit(0)  # nobody is left to tell us what to do


def introduce(turns: Turns, model: nn.Module, logits: Callable[[Any], Tensor]) -> None:
    """Send what shows that this arm does the same work: parameters, FLOPs, the first loss.

    Args:
        turns: Where to send it.
        model: The model; it is in training mode, and has no dropout.
        logits: Returns the logits of a model's output.
    """
    job = turns.job
    batch = torch.load(Path(job.folder, "check.pt"), weights_only=True)
    # The check must not change what is trained.
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    disturb(model)
    torch.save(model.state_dict(), Path(job.folder, "weights.pt"))
    turns.answer(
        parameters=sum(p.numel() for p in model.parameters()),
        flops=forward_flops(model, batch["images"][:1]),
        losses=first_losses(lambda x: logits(model(x)), batch),
        torch=torch.__version__,
    )
    model.load_state_dict(initial)


@torch.no_grad()
def disturb(model: nn.Module) -> None:
    """Add noise to every weight: what starts as 0 or 1 would compute the same in the wrong place.

    Some even start with a head of zeros, and then every model's first loss is log(classes).
    """
    generator = torch.Generator().manual_seed(2)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.02)


def first_losses(forward: Callable[[Tensor], Tensor], batch: dict[str, Tensor]) -> dict[str, float]:
    """Return the loss of a batch in fp32 and in bf16."""
    losses = {}
    with torch.no_grad():
        for name, enabled in (("fp32", False), ("bf16", True)):
            with torch.autocast(batch["images"].device.type, torch.bfloat16, enabled=enabled):
                logits = forward(batch["images"])
            losses[name] = float(F.cross_entropy(logits.float(), batch["targets"]))
    return losses


def forward_flops(model: nn.Module, images: Tensor) -> int:
    """Count the FLOPs of the matrix products of one forward pass."""
    # Unfused: the counter does not know every fused attention kernel.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images)
    return int(counter.get_total_flops())


def static_batch(job: Job) -> tuple[Tensor, Tensor]:
    """Return the batch of the bare step: noise, as zeros would be faster than real images."""
    generator = torch.Generator().manual_seed(0)
    shape = (job.batch_size, 3, job.image_size, job.image_size)
    images = torch.randn(shape, generator=generator)
    targets = torch.randint(job.num_classes, (job.batch_size,), generator=generator)
    return images.to(job.device), targets.to(job.device)


@dataclass
class Forever:
    """The static batch again and again, in the shape of a data loader."""

    batch: Any

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield self.batch


def image_folder(job: Job) -> Any:
    """Return torchvision's training set with the augmentation that every arm uses, per image."""
    from torchvision import datasets, transforms

    return datasets.ImageFolder(
        str(Path(job.data, "train")),
        transforms.Compose(
            [
                *pixel_transforms(job),
                transforms.PILToTensor(),
                transforms.ConvertImageDtype(torch.float),
                transforms.Normalize(MEAN, STD),
            ]
        ),
    )


def pixel_transforms(job: Job) -> list[Any]:
    """Return the augmentation on PIL images: pad and crop small ones, resized crops of others."""
    from torchvision import transforms

    if job.image_size <= 64:
        crop = transforms.RandomCrop(job.image_size, padding=4)
    else:
        bicubic = transforms.InterpolationMode.BICUBIC
        crop = transforms.RandomResizedCrop(job.image_size, interpolation=bicubic)
    return [crop, transforms.RandomHorizontalFlip()]


def _die_with_the_parent() -> None:
    """Leave no stopped process behind, however the one that started this ends; Linux only."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def peak_memory(device: str) -> int:
    """Return the most memory held so far, in bytes: the device's, or the process's on a CPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    # Not `getrusage`: its number starts at what the parent held when it started this process.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
