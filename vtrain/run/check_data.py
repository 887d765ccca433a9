"""`vtrain check --data`: look at every image, and draw some as the training will see them."""

import io
import json
import logging
from pathlib import Path

from vtrain.config import Config
from vtrain.data.inspect.grid import augmented
from vtrain.data.inspect.scan import readable, scan
from vtrain.data.loading.loader import TrainLoader
from vtrain.files.atomic import write_bytes
from vtrain.registry import bind, section
from vtrain.run.build.data import build_input, build_preprocess, build_source

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
    # The picture shows what training would see, so without what cannot be read.
    samples = readable(source.split("train"), report.splits["train"])
    if not len(samples):
        log.warning("no training image can be read, so there is no %s", PICTURE)
        return text
    input_ = build_input(config, preprocess, samples, len(source.classes))
    count = config.logging.images or 16
    with section("data"):
        # Of many images a few are read: neither workers nor a cache are worth their start.
        loader = bind(TrainLoader, config.data)(
            samples,
            input_.augment.geometry(preprocess),
            count,
            config.seed,
            num_workers=0,
            cache="none",
        )
    picture = augmented(loader, input_, preprocess, source.classes, count)
    content = io.BytesIO()
    picture.save(content, format="PNG")
    write_bytes(PICTURE, content.getvalue())
    log.info("%s shows training images under the augmentation of this config", PICTURE)
    return text
