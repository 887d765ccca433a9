import json
import re

import pytest

from tests.harness import Vtrain
from vtrain.config.keys import all_keys
from vtrain.errors import ConfigError
from vtrain.run.keys import chosen_keys, keys_json, keys_text

QUESTIONS = {
    # timm
    "--lr": "optimizer.lr",
    "--opt": "optimizer.name",
    "--weight-decay": "optimizer.weight_decay",
    "--layer-decay": "optimizer.layer_decay",
    "--sched": "schedule.name",
    "--min-lr": "schedule.floor",
    "--warmup-epochs": "schedule.warmup_epochs",
    "--drop-path": "model.drop_path_rate",
    "--aa": "augment.policy.name",
    "--reprob": "augment.erasing",
    "--mixup-off-epoch": "augment.mix_off_epoch",
    "--smoothing": "train.loss.label_smoothing",
    "--bce-loss": "train.loss.name",
    "--crop-pct": "data.crop_fraction",
    "--hflip": "augment.horizontal_flip",
    "--model-ema-decay": "train.ema_decay",
    "--clip-grad": "train.grad_clip_norm",
    "--grad-accum-steps": "train.accum_steps",
    "--initial-checkpoint": "model.pretrained",
    "--img-size": "data.image_size",
    "--workers": "data.num_workers",
    "--checkpoint-hist": "checkpoint.keep",
    "--torchcompile": "train.compile",
    "--aug-repeats": "data.repeats",
    # Ultralytics
    "imgsz": "data.image_size",
    "lr0": "optimizer.lr",
    "batch": "train.batch_size",
    "patience": "train.early_stopping.patience",
    "close_mosaic": "augment.mix_off_epoch",
    "save_period": "checkpoint.every_minutes",
    "fliplr": "augment.horizontal_flip",
    "hsv_h": "augment.hue",
    "cos_lr": "schedule.name",
    "freeze": "model.freeze",
    "dropout": "model.drop_rate",
    "amp": "train.precision",
    "deterministic": "train.deterministic",
    # Hugging Face
    "per_device_train_batch_size": "train.batch_size",
    "num_train_epochs": "train.epochs",
    "gradient_accumulation_steps": "train.accum_steps",
    "max_grad_norm": "train.grad_clip_norm",
    "label_smoothing_factor": "train.loss.label_smoothing",
    "warmup_steps": "schedule.warmup_steps",
    "fp16": "train.precision",
    "gradient_checkpointing": "train.activation_checkpointing",
    "metric_for_best_model": "checkpoint.best_metric",
    "eval_strategy": "train.eval_every",
    "save_total_limit": "checkpoint.keep",
    "logging_steps": "logging.every_steps",
    "report_to": "logging.tensorboard",
    "dataloader_num_workers": "data.num_workers",
    # Lightning
    "max_epochs": "train.epochs",
    "max_time": "train.max_minutes",
    "accumulate_grad_batches": "train.accum_steps",
    "gradient_clip_val": "train.grad_clip_norm",
    "check_val_every_n_epoch": "train.eval_every",
    "accelerator": "train.device",
    "every_n_train_steps": "checkpoint.every_steps",
    "monitor": "checkpoint.best_metric",
    "seed_everything": "seed",
    # plain words
    "learning rate": "optimizer.lr",
    "batch size": "train.batch_size",
    "number of epochs": "train.epochs",
    "image size": "data.image_size",
    "random erasing probability": "augment.erasing",
    "early stopping": "train.early_stopping.patience",
    "mixed precision": "train.precision",
    "class weights": "train.loss.class_weights",
    "validation split": "data.val_fraction",
    "stochastic depth": "model.drop_path_rate",
    "gradient clipping": "train.grad_clip_norm",
    "moving average of the weights": "train.ema_decay",
    "pretrained weights": "model.pretrained",
    "cross validation folds": "data.fold.of",
    "oversample rare classes": "data.balanced",
    "window size": "model.window_size",
    "position embedding": "model.position_embedding",
    "knowledge distillation teacher": "train.distillation.teacher",
    "skip broken images": "data.on_bad_image",
    "keep aspect ratio letterbox": "data.resize",
}


@pytest.mark.parametrize("words", QUESTIONS)
def test_the_key_is_among_the_first_three(words: str) -> None:
    found = [key.name for key in chosen_keys([words])]
    assert QUESTIONS[words] in found[:3]


def test_words_may_come_as_one_argument_or_as_several() -> None:
    assert keys_text(["learning rate"]) == keys_text(["learning", "rate"])


def test_a_key_is_told_in_full() -> None:
    assert keys_text(["train.device"]).splitlines() == [
        "train.device",
        "  auto, cpu, cuda or cuda:N; auto takes CUDA where there is one.",
        "  type     auto, cpu, cuda or cuda:N",
        "  default  auto",
    ]


def test_a_section_lists_its_keys_and_no_others() -> None:
    names = [key.name for key in chosen_keys(["augment.policy"])]
    assert names == [name for name in all_keys() if name.startswith("augment.policy.")]
    assert len(names) > 5


def test_a_default_that_differs_is_told_with_whose_it_is() -> None:
    text = " ".join(keys_text(["model.drop_path_rate"]).split())
    assert re.search(r"default 0\.1 \([^)]*swin_t[^)]*\)", text)
    assert re.search(r"default 0\.0 \([^)]*vit_ti[^)]*tnt_s[^)]*\)", text)


def test_a_required_key_of_a_section_that_may_be_left_out_says_so() -> None:
    text = keys_text(["train.early_stopping.patience"])
    assert "required where train.early_stopping is given" in text


def test_what_matches_nothing_is_one_line() -> None:
    with pytest.raises(ConfigError, match="no key matches 'qqqq'"):
        chosen_keys(["qqqq"])


def test_what_is_no_key_here_says_where_it_is() -> None:
    with pytest.raises(ConfigError) as caught:
        chosen_keys(["output_dir"])
    assert "--run-dir" in caught.value.lines()[0]


def test_json_says_the_same() -> None:
    [found] = json.loads(keys_json(["optimizer.lr"]))
    assert found["key"] == "optimizer.lr"
    assert found["default"] == "required"
    assert found["type"] == "number above 0"


def test_the_command_prints_a_schema_that_is_json(vtrain: Vtrain) -> None:
    done = vtrain("keys", "--schema")
    assert done.code == 0
    assert json.loads(done.out)["properties"]["seed"]["type"] == "integer"


def test_the_command_refuses_words_beside_the_schema(vtrain: Vtrain) -> None:
    assert vtrain("keys", "lr", "--schema").code == 2


def test_several_sections_are_listed_together() -> None:
    both = {key.name for key in chosen_keys(["checkpoint", "logging"])}
    each = [{key.name for key in chosen_keys([name])} for name in ("checkpoint", "logging")]
    assert both == each[0] | each[1]
    assert [key.name for key in chosen_keys(["optimizer.lr", "seed"])] == ["optimizer.lr", "seed"]
