"""What a config's mistake is answered with."""

import pytest

from tests.base_configs import MINIMAL
from vtrain.config import config_from_text
from vtrain.config.hints import all_keys, hint_on_option
from vtrain.config.schema import build_schema
from vtrain.config.words import NO_KEYS, PEERS_WORDS
from vtrain.errors import ConfigError
from vtrain.files.yaml import parse_yaml

FOLDER = MINIMAL.replace("name: digits", "name: image_folder, root: photos")
EVERYTHING = FOLDER.replace("{epochs: 1}", "{epochs: 1, early_stopping: {}, distillation: {}}")


def mistakes(*overrides: str, text: str = MINIMAL) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_from_text(text, "run.yaml", overrides)
    return caught.value.lines()


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("lr=0.1", "did you mean 'optimizer.lr'?"),
        ("epochs=3", "did you mean 'train.epochs'?"),
        ("train.lr=0.1", "did you mean 'optimizer.lr'?"),
        ("train.seed=3", "did you mean 'seed'?"),
        ("optimizer.epochs=3", "did you mean 'train.epochs'?"),
        ("optimiser.lr=0.1", "did you mean 'optimizer'?"),
        ("optimizer.learning_rate=0.1", "did you mean 'lr'?"),
        ("optimizer.Learning-Rate=0.1", "did you mean 'lr'?"),
        ("imgsz=64", "did you mean 'data.image_size'?"),
        ("model.img_size=64", "did you mean 'data.image_size'?"),
        ("amp=true", "did you mean 'train.precision'?"),
        ("every_steps=3", "did you mean 'checkpoint.every_steps' or 'logging.every_steps'?"),
        ("smoothing=0.1", "did you mean 'train.loss.label_smoothing'?"),
        ("optimizer.momentum=0.9", "a key of muon and sgd, not of the one chosen by optimizer.n"),
        ("augment.policy={name: randaugment, magnitud: 3}", "did you mean 'magnitude'?"),
        ("augment.policy={name: augmix, frobnicate: 3}", "the keys of 'augment.policy' are "),
        ("train.frobnicate=1", "(see vtrain keys train)"),
        ("output_dir=x", "--run-dir DIR"),
        ("train.gpus=8", "torchrun --nproc-per-node=N"),
        ("frobnicate=1", "the sections are augment, checkpoint, "),
    ],
)
def test_an_unknown_key_is_answered_with_the_one_that_was_meant(override: str, hint: str) -> None:
    (line,) = mistakes(override)
    assert line.startswith("unknown key '")
    assert f"(command line '{override}'): " in line
    assert hint in line


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["augment.policy={name:", "randaugment,", "magnitude:", "3}"], "magnitude: 3}'"),
        (["augment.crop_scale=[0.3,", "1]", "seed=1"], "'augment.crop_scale=[0.3, 1]'"),
        (["train.epochs", "5"], "train.epochs=5?"),
        (["train.epochs", "=", "5"], "train.epochs=5?"),
        (["train.epochs=", "5"], "train.epochs=5?"),
        (["train.epochs", "=5", "seed=1"], "train.epochs=5?"),
        (["train.epochs:", "5"], "train.epochs=5?"),
        (["seed", "5"], "seed=5?"),
    ],
)
def test_a_value_that_a_blank_has_torn_apart_is_one_mistake(typed: list[str], hint: str) -> None:
    (line,) = mistakes(*typed)
    assert line.startswith("not an override (command line '")
    assert line.endswith(hint)


def test_words_that_belong_to_nothing_are_a_mistake_each() -> None:
    lines = " ".join(mistakes("photos", "stuff", "model={name: vit_ti", "seed=1"))
    assert all(f"(command line '{word}'): write KEY=VALUE" in lines for word in ("photos", "stuff"))
    assert "YAML syntax" in lines


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("optimizer.name=AdamW", "adamw"),
        ("optimizer=SGD", "sgd"),
        ("schedule=CosineAnnealingLR", "cosine"),
        ("schedule=one-cycle", "one_cycle"),
        ("schedule=StepLR", "step"),
        ("model=ViT_S", "vit_s"),
        ("model.name=vit_base_patch16_224", "vit_b"),
        ("data.name=ImageFolder", "image_folder"),
        ("augment.policy=RandAugment", "randaugment"),
    ],
)
def test_a_component_by_its_name_elsewhere_is_answered_with_ours(override: str, name: str) -> None:
    assert f"did you mean '{name}'?" in mistakes(override)[0]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("0", "; the GPU of number 0 is cuda:0"),
        ("GPU", "did you mean cuda?"),
        ("x", ""),
        ("9" * 90, ""),
    ],
)
def test_a_device_is_answered_with_how_it_is_called(given: str, hint: str) -> None:
    (line,) = mistakes(f"train.device={given}")
    assert "must be auto, cpu, cuda or cuda:N" in line
    assert line.endswith(hint)


@pytest.mark.parametrize("devices", ["0,1", "cuda:0,1", "[0, 1]"])
def test_several_devices_are_answered_with_the_line_of_torchrun(devices: str) -> None:
    (line,) = mistakes(f"train.device={devices}")
    assert "torchrun --nproc-per-node=N --no-python vtrain fit" in line


@pytest.mark.parametrize("word", ["frobnicate", "zzz", "widget", "qwerty"])
def test_what_resembles_no_key_is_not_guessed(word: str) -> None:
    assert "did you mean" not in mistakes(f"train.{word}=1")[0]


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("optimizer:", "optimiser:", "did you mean 'optimizer'?"),
        ("root:", "roto:", "did you mean 'root'?"),
        ("train: {epochs", "train: {num_epochs", "did you mean 'epochs'?"),
        ("data:", "dataset:", "did you mean 'data'?"),
    ],
)
def test_one_slip_is_one_line(old: str, new: str, hint: str) -> None:
    """An unknown key and the missing one that was meant are one mistake."""
    (line,) = mistakes(text=FOLDER.replace(old, new))
    assert hint in line


def test_every_word_of_a_peer_stands_for_a_key_that_there_is() -> None:
    documents = [EVERYTHING, EVERYTHING.replace("name: adamw", "name: sgd")]
    keys = {
        key for text in documents for key in all_keys(build_schema(parse_yaml(text, "run.yaml")))
    }
    assert set(PEERS_WORDS.values()) <= keys
    assert not NO_KEYS.keys() & PEERS_WORDS.keys()


def test_an_option_of_another_program_is_answered_with_a_key() -> None:
    assert hint_on_option("--batch-size") == "write train.batch_size=VALUE, without dashes"
    assert hint_on_option("--lr") == "write optimizer.lr=VALUE, without dashes"
    assert hint_on_option("--train.epochs") == "write train.epochs=VALUE, without dashes"
    assert hint_on_option("--data") == "write data.root=VALUE, without dashes"
    assert hint_on_option("--frobnicate") is None
    assert hint_on_option("--train.frobnicate") is None


@pytest.mark.parametrize(
    ("missing", "hint"),
    [
        ("optimizer: {name: adamw, lr: 1e-3}\n", "write for example optimizer: {name: adamw"),
        ("train: {epochs: 1}\n", "write for example train: {epochs: "),
        ("name: adamw, ", "choose one of adam, adamw, lamb, lion, muon, sgd"),
    ],
)
def test_a_missing_key_is_answered_with_what_to_write(missing: str, hint: str) -> None:
    assert hint in mistakes(text=MINIMAL.replace(missing, ""))[0]


def test_a_file_that_is_no_config_is_not_repeated() -> None:
    table = "\n".join(f"patient {i}; diagnosis" for i in range(2000))
    (line,) = mistakes(text=table)
    assert len(line) < 200
    assert "(run.yaml)" in line


@pytest.mark.parametrize("text", ["x" * 9000, "k" * 9000 + ": 1", f"train: {'v' * 9000}"])
def test_no_mistake_repeats_more_than_a_line(text: str) -> None:
    assert all(len(line) < 300 for line in mistakes(text=text))
