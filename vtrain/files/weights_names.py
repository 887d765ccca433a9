"""What the program of a weight file may name; nothing of it is imported or called."""

import re
import sys
from pathlib import Path

from vtrain.errors import CheckpointError

BAGS = re.compile(
    r"argparse Namespace|types SimpleNamespace|(yacs|fvcore\.common|\w+)\.config CfgNode"
    r"|easydict EasyDict|addict(\.addict)? \w*Dict|(mmengine|mmcv|omegaconf)(\.\w+)+ [\w.]+"
    r"|(pytorch_)?lightning(\.\w+)+ \w+|lightning_fabric(\.\w+)+ \w+"
    r"|numpy(\._?core)?\.multiarray (scalar|_reconstruct)|numpy(\._?core)?\.numeric _frombuffer"
    r"|numpy (dtype|ndarray)|numpy\.dtypes \w+|numpy\.random(\.\w+)+ \w+"
    r"|_codecs encode|collections (Counter|deque)|copy_?reg _reconstructor"
    r"|(__builtin__|builtins) (set|frozenset|bytearray|complex|slice|x?range|object|list|dict|tuple"
    r"|int|float|str|bool|getattr)"  # of a class, for a method of it: mmengine keeps some
    r"|pathlib(\._local)? (Pure)?(Posix|Windows)?Path|datetime (date|time|datetime|timedelta)"
    r"|uuid (UUID|SafeUUID)|decimal Decimal|fractions Fraction|pandas(\.\w+)+ \w+"
    r"|torch (Size|device)|torch\.torch_version TorchVersion"
    r"|torch\.optim(\.\w+)+ [A-Z]\w+|torch\.nn\.modules\.loss [A-Z]\w+"
    r"|torch\.nn\.parameter (Buffer|Parameter)"
)
"""What training programs put beside weights: settings, logs, numbers of NumPy."""
STORAGES = re.compile(r"torch\.storage (Untyped|Typed)Storage|torch [A-Z]\w+Storage")
DTYPES = re.compile(r"torch (u?int|b?float|complex)\d\w*|torch bool")
TENSOR = re.compile(r"torch\._utils _rebuild_tensor(_v[23])?")
PARAMETER = re.compile(r"torch\._utils _rebuild_parameter(_with_state)?")
DICTS = ("collections OrderedDict", "collections defaultdict")


def is_known(name: str) -> bool:
    """Whether a file of weights may name this: module, blank, name."""
    known = (BAGS, STORAGES, DTYPES, TENSOR, PARAMETER)
    return name in DICTS or any(pattern.fullmatch(name) for pattern in known)


def refused(name: str, path: Path) -> CheckpointError:
    """Return the error for what a file of weights does not need, in words that fit it."""
    module, _, function = name.partition(" ")
    shown = name.replace(" ", ".")
    is_code = module.split(".")[0] in {*sys.stdlib_module_names, "__builtin__", "opcode"}
    if is_code or not function[:1].isupper():
        return CheckpointError(
            f"refused: it holds code ('{shown:.80}'), not only data",
            path,
            "nothing was executed; do not trust this file",
        )
    return CheckpointError(
        f"it holds an object of another program ('{shown:.80}'), which is not built",
        path,
        "save the weights alone where it was made: torch.save(model.state_dict(), 'weights.pt')",
    )
