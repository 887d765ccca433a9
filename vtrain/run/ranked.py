"""The likeliest classes of files, by models or by an exported file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vtrain.data.datasets.class_names import places
from vtrain.data.unused import Unused
from vtrain.inference.files import OnError, decoded
from vtrain.inference.onnx_model import OnnxModel

if TYPE_CHECKING:  # torch takes seconds, and an ONNX file needs none of it
    from vtrain.inference.loaded import LoadedModel
    from vtrain.inference.outputs import Outputs
    from vtrain.inference.views import Views


def ranked_by_models(
    members: Sequence["LoadedModel"],
    paths: list[Path],
    top_k: int,
    on_error: OnError,
    views: "Views | None",
    unused: Unused,
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Yield the number of each readable path and its likeliest classes."""
    first, task = members[0], members[0].task
    # Each reads the files for itself, as its own preprocessing wants them.
    streams = [outputs_of_files(one, paths, on_error, views, unused) for one in members]
    columns = [places(first.classes, one.classes)[0] for one in members]
    for outputs in zip(*streams, strict=True):
        logits = outputs[0].logits
        if len(members) > 1:
            each = zip(outputs, columns, strict=True)
            logits = task.mean_of([output.logits[:, column] for output, column in each])
        # Read back once a batch; a GPU computes the next one only then, but decoding goes on.
        probabilities, classes = task.probabilities(logits).topk(top_k)  # (B, k) each
        for number, row, ids in zip(
            outputs[0].indices.tolist(), probabilities.tolist(), classes.tolist(), strict=True
        ):
            yield number, [(first.classes[k], p) for k, p in zip(ids, row, strict=True)]


def outputs_of_files(
    loaded: "LoadedModel",
    paths: list[Path],
    on_error: OnError,
    views: "Views | None" = None,
    unused: Unused | None = None,
) -> Iterator["Outputs"]:
    """Yield what a model says of files, a batch at a time, in the precision of its run."""
    from vtrain.inference.outputs import batches_of_files, outputs_of
    from vtrain.inference.views import asked_about

    asked = asked_about(loaded.model, loaded.geometry, views, loaded.task)
    batches = batches_of_files(paths, asked.geometry, loaded.device, on_error, unused=unused)
    normalise = loaded.geometry.normalise
    return outputs_of(asked.model, batches, normalise, autocast_of(loaded))


def autocast_of(loaded: "LoadedModel") -> Callable[[], AbstractContextManager[None]]:
    """Return what makes the context of a run's precision."""
    from vtrain.config import stored_config
    from vtrain.device import autocast, choose_precision

    # Of the stored config only the precision counts: the logits shall be those of `eval`.
    config = stored_config(loaded.checkpoint, loaded.path)
    precision = choose_precision(config.train.precision, loaded.device)
    return partial(autocast, loaded.device, precision)


def ranked_by_onnx(
    model: OnnxModel, paths: list[Path], top_k: int, on_error: OnError, unused: Unused
) -> Iterator[tuple[int, list[tuple[str, float]]]]:
    """Do the same by an exported file, without torch."""
    for numbers, images in decoded(paths, model.prepare, on_error, unused=unused):
        probabilities = model.probabilities(np.stack(images))  # (B, K)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        for number, row, ids in zip(numbers, probabilities, order, strict=True):
            yield number, [(model.classes[k], float(row[k])) for k in ids]
