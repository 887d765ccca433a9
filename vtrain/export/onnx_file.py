"""Write a model as ONNX: one file with everything in it, classes and preprocessing included."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vtrain import __version__
from vtrain.errors import CheckpointError, ConfigError
from vtrain.export.graph import Input, described, example, exportable
from vtrain.export.proof import (
    HALF_TOLERANCE,
    LEAST_AGREEMENT,
    NOT_KEPT,
    TOLERANCE,
    Evidence,
    Proof,
    prove,
)
from vtrain.export.script import SCRIPT, predict_script
from vtrain.files.atomic import replacing, scratch_folder, write_text
from vtrain.inference.loaded import LoadedModel
from vtrain.inference.onnx_model import INSTALL, LARGEST_FILE, from_bytes, keep_private

OPSET = 20
"""The default of torch's exporter, which has a node for GELU; 18 to 23 can be written."""
Rounding = Literal["half", "int8"]
LAST_FOR_INT8 = 22
"""From 23 on attention is one node, which onnxruntime's quantiser takes for another and breaks."""
TOLERANCES: dict[Rounding | None, tuple[float | None, float]] = {
    None: (TOLERANCE, 0.0),
    "half": (HALF_TOLERANCE, 0.0),
    "int8": (None, LEAST_AGREEMENT),
}
"""What the proof allows: the largest difference, and the least share of equal classes."""


def write_onnx(
    loaded: LoadedModel,
    path: Path,
    evidence: Evidence,
    facts: Mapping[str, str],
    *,
    opset: int,
    taking: Input,
    rounding: Rounding | None,
) -> Proof:
    """Write a model, and `predict.py` beside it, once the file has been proved to be the model.

    `facts` join what the file says of itself: its classes, its preprocessing and its input.

    Raises:
        CheckpointError: The file is not the model; nothing is written.
        StorageError: It cannot be written.
    """
    facts = {**facts, **described(loaded, taking)}
    content = onnx_bytes(exportable(loaded, taking), example(loaded), opset, facts)
    if rounding is not None:
        # Exact first: what rounding may change would hide a wrong mean.
        prove(from_bytes(content, path).logits, evidence, path)
        content = halved(content) if rounding == "half" else quantised(content, path)
    tolerance, agreement = TOLERANCES[rounding]
    with replacing(path, size=len(content)) as file:
        file.write(content)
        file.seek(0)
        model = from_bytes(file.read(), path)  # what is on the disk, by its own runtime
        if model.classes != loaded.classes or model.geometry != loaded.geometry:
            what = "the file does not state the classes and the preprocessing of the model"
            raise CheckpointError(what, path, NOT_KEPT)
        proof = prove(model.logits, evidence, path, tolerance=tolerance, agreement=agreement)
    # Last: where the file is refused, no script for it is left behind.
    write_text(path.with_name(SCRIPT), predict_script(path.name, __version__))
    return proof


def check_installed() -> None:
    """Refuse to begin where a package is missing.

    Raises:
        ConfigError: The message says how to install it.
    """
    keep_private()
    try:
        import onnx  # noqa: F401 - only whether they are there
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"ONNX needs the package {error.name}", "--format", INSTALL) from None


def onnx_bytes(module: nn.Module, images: Tensor, opset: int, facts: Mapping[str, str]) -> bytes:
    """Return the content of a file that maps `images`, any number of them, to `logits`.

    Args:
        module: In evaluation mode, on the CPU, in fp32.
        images: An example of what it takes. Shape: (2, C, S, S).
        opset: Version of ONNX's operators.
        facts: What the file says of itself: names and texts.

    Raises:
        CheckpointError: It is too large for one file.
    """
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    # A tenth is left for the graph itself and for what the file says.
    if size > LARGEST_FILE * 0.9:
        what = f"a model of {size / 1e9:.1f} GB is too large for one ONNX file"
        raise CheckpointError(what, None, "use --format program")
    with _quietly():
        program = torch.onnx.export(
            module,
            (images,),
            input_names=["images"],
            output_names=["logits"],
            opset_version=opset,
            # A name and not a `Dim`: of the ways to say it, torch 2.14 freezes or lies with others.
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    assert program is not None
    program.model.producer_name = "vtrain"
    program.model.doc_string = None
    program.model.metadata_props.update(facts)
    content: bytes = program.model_proto.SerializeToString()
    return content


def halved(content: bytes) -> bytes:
    """Return the same model with weights and arithmetic in fp16; inputs and outputs stay fp32.

    So does the normalisation: of pixels up to 255 the steps of fp16 would be most of the error.
    """
    import onnx

    keep_private()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load_from_string(content)
    with _quietly():
        kept = normalising(model.graph.node)
        model = convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    half: bytes = model.SerializeToString()
    return half


def normalising(nodes: Iterable[Any]) -> list[str]:
    """Return the names of the nodes that `OfPixels` begins with, if any."""
    names: list[str] = []
    value = "images"
    for node in nodes:
        if node.op_type in ("Mul", "Add") and value in node.input and len(names) < 2:
            names.append(node.name)
            value = node.output[0]
    return names


def quantised(content: bytes, beside: Path) -> bytes:
    """Return the same model with the weights of its products in int8.

    Activations are quantised as they come (dynamically), each by its own range: what onnxruntime
    advises for transformers, and with no need of images to calibrate by. It writes only to a path:
    into a folder that is there for a moment, where `beside` will be.

    Weights have 7 of the 8 bits: without VNNI instructions the processor adds two products of bytes
    in 16 bits, which larger ones overflow. Such a file would be proved on one machine and wrong on
    another (1.32.0 under valgrind, which has AVX2: 15 % of the largest logit in place of 0.7 %).
    """
    keep_private()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with scratch_folder(beside) as folder, _quietly():
        output = folder / "int8.onnx"
        quantize_dynamic(
            onnx.load_from_string(content),
            output,
            # A scale for each output: one for all of a product would be set by its largest weight.
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        return output.read_bytes()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the remarks of exporters off the terminal: whether the file is right is proved."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root")]
    levels: list[Any] = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
