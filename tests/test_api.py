import doctest
import inspect
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vtrain
from tests.base_configs import SMALL_RUN
from tests.harness import Vtrain
from vtrain import api
from vtrain.api import _typed
from vtrain.config import load_config
from vtrain.errors import ConfigError, DataError
from vtrain.run.logs import shown


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL_RUN)
    return vtrain.fit(folder / "small.yaml", run_dir=folder / "run").path


def test_a_model_is_built_by_name_at_its_native_size() -> None:
    with torch.device("meta"):
        model = vtrain.create_model("vit_ti")
    assert (model.num_classes, model.image_size, model.in_channels) == (1000, 224, 3)


def test_arguments_change_what_the_name_presets() -> None:
    model = vtrain.create_model(
        "deit_s", num_classes=7, image_size=16, in_channels=1, patch_size=8, embed_dim=12, depth=1
    )
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 7)


def test_every_listed_model_can_be_built() -> None:
    with torch.device("meta"):
        for name in vtrain.list_models():
            vtrain.create_model(name)


def test_an_unknown_model_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'vit_ti'"):
        vtrain.create_model("vit_tii")


EXAMPLES = [
    function for name in vtrain.__all__ if inspect.isfunction(function := getattr(vtrain, name))
]


def test_the_package_has_what_its_page_names() -> None:
    assert {*api.__all__, "__version__"} == set(vtrain.__all__)


@pytest.mark.parametrize("function", EXAMPLES, ids=lambda function: function.__name__)
def test_the_examples_of_a_docstring_are_true(
    function: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # they make `runs/`
    finder = doctest.DocTestFinder(recurse=False)
    (examples,) = finder.find(function, function.__name__, globs={})
    assert examples.examples, "every function shows how it is called"
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_overrides_are_what_a_command_line_has() -> None:
    overrides = {
        "train": {"epochs": 5, "loss": {"name": "focal"}},
        "seed": 1,
        "data": {"root": Path("my photos"), "classes": None},
        "optimizer": {"lr": 1e-5, "betas": (0.9, np.float64(0.5))},
        "model": "vit_ti",
    }
    assert _typed(overrides) == [
        "train.epochs=5",
        'train.loss.name="focal"',
        "seed=1",
        'data.root="my photos"',
        "data.classes=null",
        "optimizer.lr=1e-05",
        "optimizer.betas=[0.9, 0.5]",
        'model="vit_ti"',
    ]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"train": {"epochs": 3, "batch_size": 7}}, ["train.epochs=3", "train.batch_size=7"]),
        ({"model": "deit_ti"}, ["model=deit_ti"]),
        ({"optimizer": {"lr": 2e-5}}, ["optimizer.lr=0.00002"]),
        ({"data": {"root": "2024"}}, ["data.root='2024'"]),
    ],
)
def test_overrides_make_the_config_that_the_command_line_makes(
    keywords: dict[str, Any], words: list[str]
) -> None:
    recipe = Path("configs/swin_t_cifar.yaml" if "data" in keywords else "configs/vit_digits.yaml")
    made = load_config(recipe, _typed(keywords))
    assert made.to_yaml() == load_config(recipe, words).to_yaml()


def test_a_value_that_no_config_can_hold_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"seed is of type object.*\(seed\)"):
        vtrain.fit("vit_digits", seed=object())


def test_a_mistake_is_the_line_that_the_command_prints() -> None:
    with pytest.raises(ConfigError) as error:
        vtrain.fit("vit_digits", train={"epochs": -1, "epoch": 2})
    with pytest.raises(ConfigError) as typed:
        load_config(Path("vit_digits"), ["train.epochs=-1", "train.epoch=2"])
    assert error.value.lines() == typed.value.lines()
    assert len(error.value.lines()) == 2


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda run: vtrain.predict([]), "there are no images to ask about"),
        (lambda run: vtrain.predict("x.png", []), "there are no checkpoints"),
        (lambda run: vtrain.predict("x.png", run, top_k=0), "top_k is 0 (top_k): at least 1"),
        (lambda run: vtrain.predict("x.png", run, reject=2), "at least 0, and at most 1"),
        (lambda run: vtrain.predict("x.png", run, tta="flop"), "choose flip or five-crop"),
        (
            lambda run: vtrain.predict("x.png", run, conformal=0.1, top_k=2),
            "top_k has no effect beside conformal",
        ),
        (lambda run: vtrain.evaluate(run, tta="flip", average=2), "average has no effect"),
        (lambda run: vtrain.evaluate([run, run]), "this model is named twice"),
        (lambda run: vtrain.evaluate_features(run, knn=False, k=3), "k has no effect without knn"),
        (lambda run: vtrain.evaluate_features(run, k=0), "k is 0 (k): at least 1"),
        (
            lambda run: vtrain.evaluate_features(run, knn=False, linear_probe=False),
            "ask for one of them",
        ),
        (lambda run: vtrain.evaluate_features(run, config="x.yaml"), "ckpt has no effect"),
        (lambda run: vtrain.similar("x.png", "no.npz", run, top_k=-1), "top_k is -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "call",
)
def test_an_argument_that_cannot_be_followed_is_one_line(
    trained: Path, call: Callable[[Path], object], line: str
) -> None:
    with pytest.raises(ConfigError) as error:
        call(trained)
    (said,) = error.value.lines()
    assert line in said


def test_views_and_several_models_give_what_the_command_gives(
    trained: Path, vtrain: Vtrain, tmp_path: Path
) -> None:
    other = api.fit(trained / "config.yaml", run_dir=tmp_path / "other", seed=5).path
    for given, found in (
        (("--tta", "flip"), api.evaluate(trained, tta="flip")),
        (("--ckpt", other), api.evaluate([trained, other])),
    ):
        said = json.loads(vtrain("eval", "--ckpt", trained, *given, "--json").out)
        assert found.to_dict() == said
        assert isinstance(found, api.Together)
        assert found.predictions is not None
        hits = found.predictions.scores().correct
        assert found.metrics["val/top1"] == pytest.approx(hits.mean())


def test_features_are_what_the_command_writes(
    trained: Path, vtrain: Vtrain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw = np.random.default_rng(0)
    for number in range(3):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_text("no image")
    found = api.features(tmp_path, trained)
    assert "broken.png is left out: " in caplog.text
    good = sorted(tmp_path.glob("?.png"))
    vtrain("predict", *good, "--ckpt", trained, "--features", tmp_path / "index.npz")
    written = api.FeatureFile.load(tmp_path / "index.npz")
    assert found.ids == written.ids == tuple(map(str, good))
    np.testing.assert_array_equal(found.features, written.features)
    nearest = [
        [one.image for one in answer.nearest]
        for index in (found, tmp_path / "index.npz")
        for answer in api.similar(good, index, trained, top_k=1)
    ]
    assert nearest == 2 * [[str(path)] for path in good]


@pytest.mark.parametrize("shape", [(16, 16, 5), (5, 16, 16), (9, 30, 5)])
def test_an_array_of_bands_is_what_its_file_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    for name in ("a0", "a1", "b0", "b1"):
        (tmp_path / "bands" / name[0]).mkdir(parents=True, exist_ok=True)
        values = draw.integers(0, 256, (16, 16, 5), dtype=np.uint8)
        np.save(tmp_path / "bands" / name[0] / name[1], values)
    run = api.fit(
        "vit_digits",
        run_dir=tmp_path / "run",
        model={"depth": 1},
        data={
            "name": "image_folder",
            "root": tmp_path / "bands",
            "val_fraction": 0.5,
            "image_size": 16,
            "channels": 5,
        },
        train={"max_steps": 1},
    )
    loaded = api.load_model(run)
    array = draw.integers(0, 4096, shape, dtype=np.uint16)
    np.save(tmp_path / "bands.npy", array)
    ready = loaded.preprocess(array)
    assert ready.shape == (1, 5, 16, 16)
    assert torch.equal(ready, loaded.preprocess(tmp_path / "bands.npy"))
    with pytest.raises(DataError, match="image of 4 channels, where 5 are asked for"):
        loaded.preprocess(np.moveaxis(array, np.argmin(shape), -1)[..., :4])
    with pytest.raises(DataError, match="no image"):
        loaded.preprocess(np.zeros(7))


def test_an_unreadable_image_is_a_result_and_no_image_an_error(
    tmp_path: Path, trained: Path
) -> None:
    (tmp_path / "broken.png").write_text("no image")
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    found = vtrain.predict([tmp_path / "broken.png", tmp_path / "good.png"], trained, top_k=2)
    assert found[0].error is not None
    assert len(found[1].classes) == 2
    with pytest.raises(DataError, match="no image was found"):
        vtrain.predict(tmp_path / "*.gif", trained)


def test_what_is_shown_in_a_notebook_leaves_the_logging_of_the_program_as_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("vtrain")
    before = logger.level, list(logger.handlers)
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own handlers are above it
    monkeypatch.setattr(logger, "handlers", [])
    with shown():
        logger.info("for a person")
        logger.debug("for the file")
    logger.info("afterwards")
    assert capsys.readouterr().err == "for a person\n"
    assert logger.handlers == []
    assert logger.level == before[0]


def test_importing_vtrain_does_not_import_torch() -> None:
    code = "import sys, vtrain; dir(vtrain); print('torch' in sys.modules, vtrain.fit is not None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False True\n", done.stderr
