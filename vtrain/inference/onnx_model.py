"""An exported ONNX file as a model: asked through onnxruntime, without torch."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json

from vtrain.data.preprocess import BEFORE, Preprocess
from vtrain.data.progress import said_if_long
from vtrain.errors import CheckpointError, ConfigError, printable
from vtrain.files.archive import opened
from vtrain.files.lazy_image import samples_of
from vtrain.resources import cpu_count, threads_asked

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array: TypeAlias = NDArray[Any]
INSTALL = 'pip install "vtrain[export]"'
THRESHOLDS: TypeAdapter[tuple[float, ...]] = TypeAdapter(
    tuple[Annotated[float, Field(ge=0, le=1)], ...]
)
LARGEST_FILE = 2 << 30
"""Bytes: protobuf ends there, and what `vtrain export` writes is one file."""
INPUTS = ("pixels", "normalised")
"""What a file says that it takes."""
AGAIN = "write it with `vtrain export`"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """What `vtrain export --format onnx` wrote, ready to use on the CPU."""

    session: "InferenceSession"
    classes: tuple[str, ...]
    """The names of the logits, in order."""
    geometry: Preprocess
    """How an image becomes the model's input."""
    takes_pixels: bool
    """Whether the file normalises by itself, or takes what `geometry` normalised."""
    facts: Mapping[str, str]
    """Everything that the file says of itself."""
    path: Path
    thresholds: tuple[float, ...] = ()
    """Of a model of several labels an image: the probability from which on it has each class."""
    answerers: ThreadPoolExecutor | None = None
    """Threads that take one image each; None: all threads of onnxruntime take a batch together."""

    def prepare(self, image: Image.Image) -> Array:
        """Bring a decoded image to the model's size. Shape: -> (C, S, S) uint8."""
        return samples_of(self.geometry.fit(image)).transpose(2, 0, 1)

    def logits(self, images: Array) -> Array:
        """Return what the model says. Shape: (B, C, S, S) uint8 -> (B, K) float32."""
        inputs = images.astype(np.float32)
        if not self.takes_pixels:
            mean, std = self.geometry.mean, self.geometry.std
            # (x / 255 - mean) / std, by the same rounding as `Preprocess.normalise`.
            scale = np.array([1 / (255 * s) for s in std], np.float32)
            shift = np.array([-m / s for m, s in zip(mean, std, strict=True)], np.float32)
            inputs = inputs * scale[:, None, None] + shift[:, None, None]
        return self.run(inputs)

    def probabilities(self, images: Array) -> Array:
        """Return the softmax of the logits, or of several labels the sigmoid of each.

        Shape: (B, C, S, S) uint8 -> (B, K) float32, of the sigmoid float64.
        """
        logits = self.logits(images)
        if self.thresholds:
            with np.errstate(over="ignore"):  # of a logit far below 0: the answer is 0
                return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))
        # Less the largest: the power of a large logit would be infinite.
        scores = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(scores / scores.sum(1, keepdims=True))

    def run(self, inputs: Array) -> Array:
        """Return the logits of what the file takes. Shape: (B, C, S, S) float32 -> (B, K)."""
        if self.answerers is None or len(inputs) < 2:
            return self._answer(inputs)
        return np.concatenate(list(self.answerers.map(self._answer, np.split(inputs, len(inputs)))))

    def _answer(self, inputs: Array) -> Array:
        try:
            (logits,) = self.session.run(None, {"images": inputs})
        except Exception as error:  # its classes are not public
            raise _unusable(self.path, f"onnxruntime failed: {_reason(error)}") from None
        return np.asarray(logits, np.float32)


def is_onnx(path: Path | None) -> bool:
    """Whether a path names an exported file and no checkpoint or run folder."""
    return path is not None and path.suffix.lower() == ".onnx"


def load_onnx(path: Path, for_many: bool = False) -> OnnxModel:
    """Load an exported file.

    Asked `for_many` images, each thread answers one at a time: its intermediate values stay in the
    caches, no thread waits for another, and what a rounded file says of an image does not depend on
    those beside it. Otherwise all threads work on what is asked for.

    Raises:
        CheckpointError: It is absent, damaged, or was not written by `vtrain export`.
        ConfigError: onnxruntime is not installed.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > LARGEST_FILE:
            raise _unusable(path, f"a file of more than {LARGEST_FILE >> 30} GiB")
        with said_if_long(f"loading {printable(str(path))}"):
            return from_bytes(file.read(), path, for_many)


def from_bytes(content: bytes, path: Path, for_many: bool = False) -> OnnxModel:
    """Load the content of an exported file; `path` is for messages."""
    session, facts, shapes = _opened(content, path, 1 if for_many else threads())
    absent = [key for key in ("classes", "preprocess", "input") if key not in facts]
    if absent:
        raise _unusable(path, f"it does not state its {absent[0]}")
    try:
        # A file is not trusted: types as well as ranges.
        classes = TypeAdapter(tuple[str, ...]).validate_json(facts["classes"], strict=True)
        stated = _complete(facts["preprocess"])
        geometry = TypeAdapter(Preprocess).validate_json(stated, strict=True)
        thresholds = THRESHOLDS.validate_json(facts.get("thresholds", "[]"), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise _unusable(path, f"its metadata are wrong: {problem}") from None
    if facts["input"] not in INPUTS:
        raise _unusable(path, f"it states an input of '{facts['input'][:40]}'")
    size = geometry.image_size
    pool = ThreadPoolExecutor(threads(), "onnx") if for_many else None
    if len(thresholds) not in (0, len(classes)):
        raise _unusable(path, f"it has {len(thresholds)} thresholds for {len(classes)} classes")
    takes_pixels = facts["input"] == "pixels"
    model = OnnxModel(session, classes, geometry, takes_pixels, facts, path, thresholds, pool)
    if shapes != {"images": [geometry.channels, size, size], "logits": [len(classes)]}:
        raise _unusable(path, f"its inputs and outputs have shapes {json.dumps(shapes)[:150]}")
    return model


def _complete(preprocess: str) -> str:
    """Return the JSON of a geometry with the keys that older files do not have."""
    try:
        values = from_json(preprocess)
    except ValueError:  # the schema says what is wrong
        return preprocess
    return json.dumps({**BEFORE, **values}) if isinstance(values, dict) else preprocess


def keep_private() -> None:
    """Keep onnxruntime from sending usage data to its makers; call it before it is imported.

    From its import on it writes an identifier into the folder for temporary files and asks for the
    address of its makers' server, unless this variable is set (seen with strace on 1.32.0).
    A value of the user's own wins.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def threads() -> int:
    """Return how many threads to use: as OpenMP's variable says, or one for each core."""
    return threads_asked() or cpu_count()


def _opened(
    content: bytes, path: Path, threads_together: int
) -> tuple["InferenceSession", dict[str, str], dict[str, list[Any]]]:
    """Return a session, what the file says of itself, and shapes of one image by their names."""
    keep_private()
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError("an ONNX file needs the package onnxruntime", path, INSTALL) from None
    onnxruntime.set_default_logger_severity(4)  # what matters is raised
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads_together
    # As torch's threads do: see `vtrain/threads.py`, which would bring torch with it.
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        # From memory: a file cannot name others to be read beside it. Without a second attempt,
        # which prints.
        session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"], enable_fallback=0
        )
        nodes = (*session.get_inputs(), *session.get_outputs())
        # Inside, as names that are no text raise here.
        shapes = {node.name: list(node.shape[1:]) for node in nodes}
        return session, session.get_modelmeta().custom_metadata_map, shapes
    except Exception as error:
        raise _unusable(path, f"not a readable ONNX file: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:150] if str(error) else type(error).__name__


def _unusable(path: Path, what: str) -> CheckpointError:
    return CheckpointError(what, path, AGAIN)
