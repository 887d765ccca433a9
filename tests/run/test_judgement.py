"""What the end of a run says of the images it learnt from is what evaluating them says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.harness import Vtrain
from vtrain.data.datasets.samples import ArraySamples
from vtrain.run.judgement import sample_of


def test_the_shares_are_those_of_an_evaluation(small_run: Path, vtrain: Vtrain) -> None:
    done = vtrain("fit", small_run, "--run-dir", "run")
    found = re.search(
        r"^verdict +\S+: at the end (\d+)% of 70 training .* (\d+)% of 18 held", done.err, re.M
    )
    assert found is not None, done.err
    for split, share in zip(("train", "val"), found.groups(), strict=True):
        text = vtrain("eval", "--ckpt", "run/last.pt", "--split", split, "--json").out
        top1 = next(v for k, v in json.loads(text).items() if k.endswith("top1"))
        assert round(100 * top1) == int(share)


def test_a_model_that_learnt_by_heart_is_called_over_fitted(
    vtrain: Vtrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of pure noise teach nothing about others."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for name in "abcd":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(25):
            noise = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / name / f"{i}.png")
    done = vtrain(
        *("fit", "vit_cifar_small", "data.root=photos", "data.val_fraction=0.3"),
        *("data.image_size=16", "augment.crop_padding=0", "augment.horizontal_flip=0"),
        *("train.epochs=40", "train.batch_size=40", "train.loss.label_smoothing=0"),
    )
    assert done.code == 0, done.err
    assert re.search(r"^verdict +over-fitted: ", done.err, re.M), done.err
    assert "--resume" not in done.err


@pytest.mark.parametrize(("count", "most", "expected"), [(10, 20, 8), (100, 10, 10), (104, 10, 10)])
def test_a_sample_is_spread_evenly_and_leaves_out_what_cannot_be_read(
    count: int, most: int, expected: int
) -> None:
    targets = torch.arange(count)
    samples = ArraySamples(torch.zeros(count, 3, 2, 2, dtype=torch.uint8), targets, "x")
    chosen = sample_of(samples, {0, 3}, most).targets.tolist()
    assert len(chosen) <= most
    assert len(chosen) == expected
    assert not {0, 3} & set(chosen)
    assert chosen == sorted(chosen)
    assert max(chosen) > 0.8 * count
