"""`vtrain check --data`: look at every image, and draw some as the training will see them."""

import io
import json
import logging
from pathlib import Path

from vtrain.config import Config
from vtrain.data.datasets.folder import ImageFolder
from vtrain.data.inspect.grid import augmented
from vtrain.data.inspect.scan import ScanReport, readable, scan
from vtrain.data.inspect.scan_text import scan_lines
from vtrain.data.loading.loader import TrainLoader
from vtrain.data.loading.unreadable import OnBadImage, most_skipped
from vtrain.errors import DataError
from vtrain.files.atomic import write_bytes
from vtrain.files.paths import unused
from vtrain.registry import bind, section
from vtrain.run.build.data import build_input, build_preprocess, build_source

log = logging.getLogger(__name__)
PICTURE = Path("augmented.png")


def check_data(
    config: Config, as_json: bool, listed: ImageFolder | None = None
) -> tuple[str, DataError | None]:
    """Scan the dataset of a config, draw it, and return the report and why `fit` would stop.

    The picture is `augmented.png`, or with a number behind the name if that is there already.

    Raises:
        VtrainError: The config or the dataset cannot be used, or the picture cannot be written.
    """
    source = build_source(config, listed=listed)
    source.check_training()
    preprocess = build_preprocess(config, source)
    report = scan(source, preprocess=preprocess)
    text = json.dumps(report.to_dict(), indent=2) if as_json else "\n".join(scan_lines(report))
    # The picture shows what training would see, so without what cannot be read.
    samples = readable(source.split("train"), report.splits["train"])
    refusal = refused(report, config.data.on_bad_image)  # type: ignore[attr-defined] # of TrainLoader
    if not len(samples):
        log.warning("no training image can be read, so there is no %s", PICTURE)
        return text, refusal
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
    path = unused(PICTURE)
    write_bytes(path, content.getvalue())
    log.info("%s shows training images under the augmentation of this config", path)
    return text, refusal


def refused(report: ScanReport, on_bad_image: OnBadImage) -> DataError | None:
    """Return the error over bad images with which `fit` would end, if there is one."""
    stopping = [
        split
        for split in (report.splits["train"], report.splits["val"])
        if len(split.bad) > (most_skipped(split.images) if on_bad_image == "skip" else 0)
    ]
    bad = [image for split in stopping for image in split.bad]
    if not bad:
        return None
    what = "1 image cannot be read" if len(bad) == 1 else f"{len(bad):,} images cannot be read"
    hint = "mend or remove what is listed"
    if all(len(split.bad) <= most_skipped(split.images) for split in stopping):
        hint += "; or data.on_bad_image=skip leaves them out"
    return DataError(f"{what}, so that fit would stop; first: {bad[0].what}", bad[0].name, hint)
