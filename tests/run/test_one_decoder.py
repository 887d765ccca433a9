"""One file, one result: what fit's evaluation, eval and predict make of unusual images."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor, nn

from tests.base_configs import SMALL_RUN
from tests.files.image_table import READ
from tests.files.test_images import STORED
from tests.harness import Vtrain
from vtrain.inference.files import BATCH_SIZE
from vtrain.models.base import ImageClassifier


def gradient(turn: int = 0) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, 30), np.linspace(0, 255, 22))
    return Image.fromarray(np.roll(np.stack([x, y, 255 - x], axis=-1), turn, 2).astype(np.uint8))


def unusual(folder: Path) -> None:
    """Write an image of each kind that decoders disagree about."""
    folder.mkdir(parents=True)
    gradient().convert("CMYK").save(folder / "cmyk.jpg")
    palette = gradient(1).quantize(8)
    palette.save(folder / "palette.png", transparency=3)
    deep = np.linspace(0, 65535, 30 * 22, dtype=np.uint16).reshape(22, 30)
    Image.fromarray(deep).save(folder / "deep.png")
    gradient().save(folder / "still.png")
    others = [gradient(1), gradient(2)]
    for kind in ("gif", "png", "webp"):
        gradient().save(folder / f"animated_{kind}.{kind}", save_all=True, append_images=others)
    for number, (data, _) in enumerate(READ.values()):  # known by what is in them
        (folder / f"row_{number}.png").write_bytes(data)
    for orientation, stored in STORED.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored(np.asarray(gradient(2)))))
        image.save(folder / f"turned_{orientation}.png", exif=exif.tobytes())


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """Collect the logits of every model in evaluation mode."""
    # After its evaluation a run looks at training images, too.
    monkeypatch.setattr("vtrain.run.judgement._known", lambda _: (0, 1))
    logits: list[Tensor] = []

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(module, ImageClassifier) and not module.training:
            logits.append(output.clone())

    handle = nn.modules.module.register_module_forward_hook(note)
    yield logits
    handle.remove()


@pytest.mark.parametrize("keys", ["resize=crop", "resize=squash", "resize=letterbox", "icc=true"])
def test_fit_eval_and_predict_give_identical_logits_for_unusual_files(
    small_run: Path, vtrain: Vtrain, evaluated: list[Tensor], keys: str
) -> None:
    for label in ("cat", "dog"):
        unusual(Path("photos/train", label))
    unusual(Path("photos/val/cat"))
    data = "data: {name: image_folder, root: photos, image_size: 16}"
    lines = [data if x.startswith("data:") else x for x in SMALL_RUN.splitlines()]
    small_run.write_text("\n".join(lines))
    # Batches as `predict` has them: products of another size may be rounded otherwise.
    batches = f"train.eval_batch_size={BATCH_SIZE}"
    change = (f"data.{keys}", "train.epochs=1", "schedule.warmup_epochs=0", batches)
    done = vtrain("fit", small_run, "--run-dir", "run", *change)
    assert done.code == 0, done.err
    files = sorted(Path("photos/val/cat").iterdir())
    fit = torch.cat(evaluated[-math.ceil(len(files) / BATCH_SIZE) :])
    assert len(fit) == len(files)

    evaluated.clear()
    assert vtrain("eval", "--ckpt", "run/last.pt").code == 0
    assert torch.equal(torch.cat(evaluated), fit)

    evaluated.clear()
    assert vtrain("predict", "photos/val/cat", "--ckpt", "run/last.pt").code == 0
    assert torch.equal(torch.cat(evaluated), fit)

    named = dict(zip([file.stem for file in files], fit, strict=True))
    for orientation in STORED:
        torch.testing.assert_close(named[f"turned_{orientation}"], named["turned_1"])
    torch.testing.assert_close(named["animated_png"], named["still"])
    different = ("cmyk", "palette", "deep", "turned_1")
    logits = torch.stack([named[name] for name in different])
    assert torch.pdist(logits).min() > 1e-3  # so that equal logits say something
