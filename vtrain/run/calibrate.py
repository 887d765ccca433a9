"""`vtrain report --calibrate`: a checkpoint whose confidences agree with its accuracies."""

import logging
from pathlib import Path

from vtrain.errors import CheckpointError, ConfigError, DataError
from vtrain.files import manifest
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.runs import RunFolder
from vtrain.inference.loaded import LoadedModel, load_model
from vtrain.report.predictions import Predictions
from vtrain.report.temperature import judge_temperature
from vtrain.run.text.command import argument, at_step

log = logging.getLogger(__name__)


def calibrate(path: Path, output: Path) -> float:
    """Fit a temperature to a run's predictions, and save a checkpoint that divides logits by it.

    The heads are linear, so dividing their weights divides the logits: whatever reads a checkpoint
    needs to know nothing of it. No training can go on from it.

    Raises:
        CheckpointError: The run has no checkpoint, or no predictions of it.
        ConfigError: `output` is a checkpoint of the run itself.
        DataError: No temperature can be told from them.
        StorageError: `output` cannot be written.
    """
    _refuse_own(path, output)
    loaded = load_model(path)
    predictions = predictions_beside(loaded)
    found = judge_temperature(predictions.scores())
    if predictions.is_in_sample or found is None or found.at_limit:
        in_sample = "the model was trained on these images"
        reason = in_sample if predictions.is_in_sample else "there is no best one"
        raise DataError(
            f"no temperature can be told from these predictions ({reason})",
            RunFolder(path).predictions,
            "evaluate on more images that the model was not trained on",
        )
    divided(loaded, found.temperature).save(output)
    log.info("temperature %.4f, checkpoint %s", found.temperature, output)
    return found.temperature


def _refuse_own(run: Path, output: Path) -> None:
    """Refuse to replace what a run goes on from, and what its figures are of."""
    names = {entry.name for entry in manifest.read(run).entries}
    names |= {RunFolder.best.name, RunFolder.last.name}
    if output.name in names and output.parent.resolve() == run.resolve():
        hint = f"name another, such as {output.with_name('calibrated.pt')}"
        raise ConfigError("this is a checkpoint of the run itself", output, hint)


def divided(loaded: LoadedModel, temperature: float) -> Checkpoint:
    """Return a model's checkpoint with the logits of all its heads divided by a temperature."""
    model = loaded.model
    heads = len(model.depth_groups()) - 1  # they are the last group
    # Weights and biases alike, as a logit is the sum of what both give.
    weights = {
        name: tensor / temperature if model.layer_id(name) == heads else tensor
        for name, tensor in loaded.checkpoint.weights.items()
    }
    return loaded.checkpoint.with_weights(weights)


def predictions_beside(loaded: LoadedModel) -> Predictions:
    """Return what a run's checkpoint said of the images that it was evaluated on.

    Raises:
        CheckpointError: There are none in the folder, or they are of another checkpoint.
    """
    path = RunFolder(loaded.path.parent).predictions
    predictions = Predictions.load(path)
    step = loaded.checkpoint.state.get("step")
    if predictions.about.get("step") != step or predictions.classes != loaded.classes:
        raise CheckpointError(
            f"the predictions are not of this checkpoint, which is of {at_step(step)}",
            path,
            f"write them again with `vtrain eval --ckpt {argument(path.parent)}`",
        )
    return predictions
