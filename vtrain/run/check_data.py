"""`vtrain check --data`: look at every image, and draw some as the training will see them."""

import io
import json
import logging
from pathlib import Path

import torch

from vtrain.config import Config
from vtrain.data.input import Input
from vtrain.data.inspect.scan import readable, scan
from vtrain.distributed import Rank
from vtrain.files.atomic import write_bytes
from vtrain.run.build.data import (
    build_augment,
    build_mixing,
    build_preprocess,
    build_source,
    build_train_loader,
)
from vtrain.run.text.pictures import augmented

log = logging.getLogger(__name__)
PICTURE = Path("augmented.png")


def check_data(config: Config, as_json: bool) -> str:
    """Scan the dataset of a config, write `augmented.png`, and return the report.

    Raises:
        VtrainError: The config or the dataset cannot be used, or the picture cannot be written.
    """
    source = build_source(config)
    report = scan(source)
    text = json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(report.lines())
    preprocess = build_preprocess(config, source)
    samples = readable(source.split("train"), report.splits["train"])
    if not len(samples):
        log.warning("no training image can be read, so there is no %s", PICTURE)
        return text
    augment = build_augment(config, preprocess, samples)
    cpu = torch.device("cpu")
    loading = {"num_workers": 0, "cache": "none"}  # a few images of many
    few = config.model_copy(update={"data": config.data.model_copy(update=loading)})
    picture = augmented(
        build_train_loader(few, samples, augment.geometry(preprocess), cpu, Rank()),
        Input(augment, build_mixing(config, len(source.classes))),
        preprocess,
        source.classes,
        config.logging.images or 16,
    )
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_bytes(PICTURE, content.getvalue())
    log.info("%s shows training images under the augmentation of this config", PICTURE)
    return text
