import doctest
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
    getattr(vtrain, name) for name in sorted(vtrain.__all__) if callable(getattr(vtrain, name))
]


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


def test_nothing_to_predict_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="no images to predict"):
        vtrain.predict([])


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
