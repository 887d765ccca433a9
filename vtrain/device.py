"""Choose the device and the precision, and say what they are."""

import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from vtrain.errors import DeviceError, counted
from vtrain.threads import heed_neighbours, use_processors

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device called `auto`, `cpu`, `cuda` or `cuda:N`, ready to be used.

    A GPU becomes the current one; torch takes the processor's threads that are allowed.

    Raises:
        DeviceError: That device is not there; only `auto` falls back to the CPU.
    """
    use_processors()
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        heed_neighbours()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError("no CUDA device was found", "train.device", "use train.device=cpu")
    index = int(name.partition(":")[2] or local_rank)
    count = torch.cuda.device_count()
    if index >= count:
        what = f"cuda:{index} does not exist; this machine has {counted(count, 'CUDA device')}"
        others = f" to cuda:{count - 1}" if count > 1 else ""
        raise DeviceError(what, "train.device", f"use cuda:0{others}")
    # A process of torchrun has its own GPU; without a number the local rank is it.
    torch.cuda.set_device(index)  # streams and events are the current device's
    return torch.device("cuda", index)


def choose_precision(name: str, device: torch.device) -> str:
    """Return a key of `DTYPES`; `auto` is bf16 where the hardware computes it fast.

    That is CUDA from Ampere on, and a CPU with AVX512_BF16 or AMX. The choice depends on the
    processor alone, never on a timing, so that a machine always makes the same one.
    """
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("fp16 is not trained on a CPU", "train.precision", "use bf16 or fp32")
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp32"
    # Without these instructions bf16 is emulated, and slower than fp32.
    flags = cpu_flags()
    return "bf16" if "avx512_bf16" in flags or "amx_bf16" in flags else "fp32"


def missing_compiler(device: torch.device) -> str | None:
    """Say what torch.compile lacks on this machine; None if it has all it needs."""
    if device.type == "cuda" and find_spec("triton") is None:
        return "Triton; install the package triton"
    # What torch looks for: C++ for the CPU; on a GPU, Triton compiles its launchers from C.
    language, variable, usual = (
        ("C++", "CXX", ("clang++",) if sys.platform == "darwin" else ("g++",))
        if device.type == "cpu"
        else ("C", "CC", ("gcc", "clang"))
    )
    names = os.environ.get(variable, "").split()[:1] or usual
    if any(shutil.which(name) for name in names):
        return None
    return f"a {language} compiler; install {usual[0]}"


def check_compiler(wanted: bool | Literal["auto"], device: torch.device) -> None:
    """Refuse to compile where that cannot work, before anything is built; `auto` does without.

    Raises:
        DeviceError: Something that torch.compile needs is not installed.
    """
    missing = missing_compiler(device)
    if missing is None or wanted is False or (wanted == "auto" and device.type == "cpu"):
        return
    what, hint = f"torch.compile needs {missing}".split("; ")
    if wanted == "auto":
        log.info("train.compile=auto: nothing is compiled, as %s: %s", what, hint)
        return
    raise DeviceError(what, "train.compile", f"{hint}, or set train.compile=false")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context in which a forward pass runs in `precision`."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def cpu_flags() -> set[str]:
    """Return the processor's feature flags; empty where the system does not list them."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def describe(device: torch.device) -> str:
    """Return the device's name for a person."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' * (count > 1)} ({platform.machine()})"


@contextmanager
def naming_failures(key: str, hint: str) -> Iterator[None]:
    """Name what was too large where memory runs out, and say what to do; also if the GPU fails.

    Raises:
        DeviceError: The device has failed.
    """
    try:
        yield
    except torch.AcceleratorError as error:  # nothing on the GPU can be used after it
        what = f"the device failed: {str(error).splitlines()[0]}"
        raise DeviceError(what, hint="the last checkpoint stands: go on with --resume") from error
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            what = f"torch.compile failed: {str(error).strip().splitlines()[0]:.200}"
            raise DeviceError(what, "train.compile", "set train.compile=false") from error
        # Only CUDA's lack of memory has a class of its own; the CPU's is known by its text.
        lack = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
        if not lack:
            raise
        raise DeviceError(f"out of memory at {key}", hint=hint) from error


def peak_memory(device: torch.device) -> int:
    """Return the largest memory used so far, in bytes: the device's, or the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
