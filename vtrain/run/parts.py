"""From a config to its parts: each function makes one; a refused value names its section."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from PIL import Image
from torch import nn

from vtrain import distributed
from vtrain.config import Config, augment_parts, component
from vtrain.data.augment import Augment
from vtrain.data.loader import EvalLoader, TrainLoader
from vtrain.data.mixing import Mixing
from vtrain.data.preprocess import Preprocess, TrainGeometry
from vtrain.data.recordable import LARGEST, RecordableInput
from vtrain.data.samples import ArraySamples, Samples, Source
from vtrain.data.splits import Selection
from vtrain.distributed import Rank
from vtrain.engine.budget import TimeBudget
from vtrain.engine.device import DTYPES, autocast, choose_precision, naming_failures
from vtrain.engine.early_stopping import EarlyStopping
from vtrain.engine.ema import EMA
from vtrain.engine.evaluate import evaluate, in_step
from vtrain.engine.state import Metrics, TrainState
from vtrain.engine.step_graph import CudaRecorder, StepGraph
from vtrain.engine.trainer import Hooks, Trainer
from vtrain.errors import ConfigError, DeviceError
from vtrain.models.base import ImageClassifier
from vtrain.models.freeze import freeze
from vtrain.models.limits import affordable
from vtrain.models.low_precision import LowPrecision
from vtrain.models.pretrained import load_pretrained
from vtrain.optim.distillation import BothHeads, Distillation, Teacher
from vtrain.optim.gradients import LossScaler, is_fused
from vtrain.optim.schedules import Schedule, fitted_step
from vtrain.registry import LOSSES, MODELS, OPTIMIZERS, SCHEDULES, SOURCES
from vtrain.run.pictures import augmented
from vtrain.run.teacher import load_teacher
from vtrain.run.window_attention import choose_window_attention

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a training run is made of; `state` is the only part that changes."""

    device: torch.device
    precision: str
    source: Source
    train: Samples
    val: Samples
    preprocess: Preprocess
    augment: Augment
    mixing: Mixing
    model: ImageClassifier
    train_loader: TrainLoader
    val_loader: EvalLoader
    criterion: nn.Module
    teacher: nn.Module | None
    schedule: Callable[[int], float]
    steps_per_epoch: int
    total_steps: int
    state: TrainState

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return autocast(self.device, self.precision)

    def evaluate(self) -> Metrics:
        """Evaluate the average of the weights where there is one, else the weights."""
        ema, size, count = self.state.ema, self.preprocess.image_size, self.val_loader.batch_size
        most = int(distributed.all_max(torch.tensor(len(self.val_loader))))
        image = torch.zeros((1, 3, size, size), dtype=torch.uint8, device=self.device)
        with (
            naming_failures(f"train.eval_batch_size {count}", "take a smaller one"),
            ema.swapped_into(self.model) if ema is not None else nullcontext(),
        ):
            return evaluate(
                self.model,
                in_step(self.val_loader.batches(), most, image),
                self.preprocess.normalise,
                self.autocast,
                distributed.all_sum,
            )

    def picture(self, count: int) -> Image.Image:
        """Draw `count` training images as the first step augments and mixes them."""
        return augmented(
            self.train_loader,
            self.augment,
            self.mixing,
            self.preprocess,
            self.source.classes,
            count,
        )


def build_parts(
    config: Config, device: torch.device, place: Rank, source: Source | None = None
) -> Parts:
    """Build everything that a config describes, in the order in which one part needs another.

    Args:
        config: Complete and valid.
        device: Where the model is and computes.
        place: This process among all.
        source: Stands in for the dataset that the config names.
    """
    precision = build_precision(config, device)
    torch.use_deterministic_algorithms(config.train.deterministic)
    source = build_source(config) if source is None else source
    preprocess = build_preprocess(config, source)
    train, val = source.split("train"), source.split("val")
    augment = build_augment(config, preprocess, train)
    model = build_model(config, len(source.classes))
    if config.model.pretrained is not None:
        log.info("weights %s", load_pretrained(model, config.model.pretrained, source.classes))
    if config.train.parallel == "fsdp":
        distributed.shard(model, device)  # block by block: the whole may not fit on the device
    model.to(device)
    choose_window_attention(
        config.train.window_attention,
        model,
        device,
        DTYPES[precision],
        -(-batch_size(config) // (place.world_size * config.train.accum_steps)),
        compiles(config, device),
    )
    steps_per_epoch, total_steps = count_steps(config, len(train))
    class_counts = train.targets.bincount(minlength=len(source.classes)).tolist()
    ema_decay, max_minutes = config.train.ema_decay, config.train.max_minutes
    return Parts(
        device=device,
        precision=precision,
        source=source,
        train=train,
        val=val,
        preprocess=preprocess,
        augment=augment,
        mixing=build_mixing(config, len(source.classes)),
        model=model,
        train_loader=build_train_loader(config, train, augment.geometry(preprocess), device, place),
        val_loader=build_val_loader(config, val, preprocess, device, place),
        criterion=build_criterion(config, model, class_counts).to(device),
        teacher=build_teacher(config, source.classes, preprocess, device),
        schedule=build_schedule(config, steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        state=TrainState(
            model=model,
            optimizer=build_optimizer(config, model),
            ema=None if ema_decay is None else EMA(model, ema_decay),
            scaler=LossScaler(device) if precision == "fp16" else None,
            early_stopping=build_early_stopping(config),
            budget=None if max_minutes is None else TimeBudget(max_minutes),
        ),
    )


@contextmanager
def section(name: str) -> Iterator[None]:
    """Turn a constructor's refusal of its values into a mistake in the config's section `name`."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def build_precision(config: Config, device: torch.device) -> str:
    """Return the precision that the config asks for, on this device.

    Raises:
        ConfigError: It casts whole weights, of which each process has but a part.
    """
    precision = choose_precision(config.train.precision, device)
    if precision == "bf16_full" and config.train.parallel == "fsdp":
        what = "bf16_full casts whole weights, which train.parallel=fsdp cuts into parts"
        raise ConfigError(what, "train.precision", "use bf16, or train.parallel=ddp")
    return precision


def build_source(config: Config) -> Selection:
    """Return the dataset; its class names are known, its images not yet read."""
    found, arguments = component(SOURCES, config.data)
    data = config.data
    with section("data"):
        source: Source = found(**arguments)
        return Selection(source, data.val_fraction, data.fold, data.fraction, data.limit)


def build_preprocess(config: Config, source: Source) -> Preprocess:
    """Return the geometry of evaluation, which the checkpoint will carry."""
    data = config.data
    assert data.image_size is not None, "a loaded config is complete"
    with section("data"):
        return Preprocess(
            data.image_size,
            data.resize,
            data.crop_fraction,
            data.interpolation,
            data.mean or source.mean,
            data.std or source.std,
        )


def build_model(config: Config, num_classes: int) -> ImageClassifier:
    """Return the model with random weights, a function of the config's seed."""
    found, arguments = component(MODELS, config.model)
    build = partial(found, num_classes=num_classes, image_size=config.data.image_size, **arguments)
    with section("model"):
        affordable(build)
        torch.manual_seed(config.seed)
        model: ImageClassifier = build()
        if config.model.freeze is not None:
            freeze(model, config.model.freeze)
    model.activation_checkpointing = config.train.activation_checkpointing
    return model


def describe_model(config: Config, model: ImageClassifier) -> dict[str, Any]:
    """Return the plain data from which `load_model` builds the model again."""
    found, _ = component(MODELS, config.model)
    values = config.model.model_dump(mode="json")
    return {
        "name": found.name,
        "arguments": {name: values[name] for name, _, _ in found.parameters()},
        "image_size": model.image_size,
        "in_channels": model.in_channels,
    }


def build_augment(config: Config, preprocess: Preprocess, samples: Samples) -> Augment:
    """Return what happens to each training image.

    Images that are already in memory at the model's size get their random resized crop on the
    device with everything else; all others while they are decoded.
    """
    size = preprocess.image_size
    stored = isinstance(samples, ArraySamples) and samples.array.shape[2:] == (size, size)
    with section("augment"):
        return Augment(
            size,
            preprocess.mean,
            preprocess.std,
            config.seed,
            preprocess.interpolation,
            not stored,
            **_augment_arguments(config, Augment),
        )


def build_mixing(config: Config, num_classes: int) -> Mixing:
    """Return what happens between the images of a batch."""
    with section("augment"):
        return Mixing(num_classes, config.seed, **_augment_arguments(config, Mixing))


def _augment_arguments(config: Config, constructor: type[Augment] | type[Mixing]) -> dict[str, Any]:
    (part,) = (part for part in augment_parts() if part.constructor is constructor)
    return {name: getattr(config.augment, name) for name, _, _ in part.parameters()}


def build_optimizer(config: Config, model: ImageClassifier) -> torch.optim.Optimizer:
    """Return the optimizer over the model's trainable parameters."""
    found, arguments = component(OPTIMIZERS, config.optimizer)
    with section("optimizer"):
        optimizer: torch.optim.Optimizer = found(model, **arguments)
    return optimizer


def build_schedule(config: Config, steps_per_epoch: int) -> Callable[[int], float]:
    """Return step -> factor of `optimizer.lr`, over all epochs even if `max_steps` ends sooner."""
    found, arguments = component(SCHEDULES, config.schedule)
    with section("schedule"):
        schedule: Callable[[int], float] = found(
            config.train.epochs * steps_per_epoch, steps_per_epoch, **arguments
        )
    return schedule


def build_loss(config: Config, class_counts: list[int]) -> nn.Module:
    """Return logits and targets -> loss."""
    found, arguments = component(LOSSES, config.train.loss)
    with section("train.loss"):
        loss: nn.Module = found(class_counts, **arguments)
    return loss


def build_criterion(config: Config, model: ImageClassifier, class_counts: list[int]) -> nn.Module:
    """Return the model's outputs, targets and the teacher's logits, if there is one -> loss."""
    loss = build_loss(config, class_counts)
    lesson = config.train.distillation
    if lesson is not None:
        arguments = lesson.model_dump(exclude={"teacher", "teacher_weights"})
        with section("train.distillation"):
            return Distillation(loss, **arguments)
    # A class and a distillation head, of which only the first would learn.
    return BothHeads(loss) if getattr(model, "head_dist", None) is not None else loss


def build_teacher(
    config: Config, classes: tuple[str, ...], preprocess: Preprocess, device: torch.device
) -> Teacher | None:
    """Return the teacher of a distillation, if there is one."""
    lesson = config.train.distillation
    if lesson is None:
        return None
    weights = None if lesson.teacher_weights is None else Path(lesson.teacher_weights)
    return load_teacher(lesson.teacher, weights, classes, preprocess).to(device)


def build_early_stopping(config: Config) -> EarlyStopping | None:
    """Return the rule that ends a run before its last step, if there is one."""
    rule = config.train.early_stopping
    return None if rule is None else EarlyStopping(**rule.model_dump())


def build_train_loader(
    config: Config, samples: Samples, geometry: TrainGeometry, device: torch.device, place: Rank
) -> TrainLoader:
    """Return the training batches of this process."""
    with section("data"):
        return TrainLoader(
            samples,
            geometry,
            batch_size=batch_size(config),
            seed=config.seed,
            rank=place.rank,
            world_size=place.world_size,
            repeats=config.data.repeats,
            balanced=config.data.balanced,
            on_bad_image=config.data.on_bad_image,
            num_workers=config.data.num_workers,
            cache=config.data.cache,
            device=device,
            show=place.is_main,
        )


def build_val_loader(
    config: Config, samples: Samples, preprocess: Preprocess, device: torch.device, place: Rank
) -> EvalLoader:
    """Return the evaluation batches of this process."""
    return EvalLoader(
        samples,
        preprocess,
        batch_size=config.train.eval_batch_size or batch_size(config),
        rank=place.rank,
        world_size=place.world_size,
        num_workers=config.data.num_workers,
        cache=config.data.cache,
        device=device,
        show=place.is_main,
    )


def batch_size(config: Config) -> int:
    """Return the images of a step, once `auto` has been replaced."""
    assert config.train.batch_size != "auto", "see run.batch_size"
    return config.train.batch_size


def learning_rate(config: Config) -> float:
    """Return the base rate, scaled with the batch size if that is asked for."""
    lr: float = config.optimizer.lr  # type: ignore[attr-defined] # a key of every optimizer
    base = config.optimizer.lr_base_size
    return lr if base is None else lr * batch_size(config) / base


def count_steps(config: Config, images: int) -> tuple[int, int]:
    """Return the optimizer steps of an epoch and of the whole run."""
    steps_per_epoch = -(-images // batch_size(config))  # a partial last batch is a step
    total = config.train.epochs * steps_per_epoch
    return steps_per_epoch, min(total, config.train.max_steps or total)


def fitted(schedule: Callable[[int], float], steps: int, state: TrainState) -> Schedule:
    """Return a schedule of `steps` steps that ends with the run's time, if that is over first."""
    budget = state.budget
    if budget is None:
        return schedule
    return lambda step: schedule(fitted_step(step, steps, budget.elapsed))


def build_trainer(
    config: Config, parts: Parts, place: Rank, callbacks: Hooks, forward: nn.Module | None = None
) -> Trainer:
    """Return the loop over the parts; `forward` stands in for the wrapped and compiled model."""
    return Trainer(
        state=parts.state,
        forward=build_forward(config, parts) if forward is None else forward,
        augment=parts.augment,
        mixing=parts.mixing,
        criterion=parts.criterion,
        schedule=fitted(parts.schedule, config.train.epochs * parts.steps_per_epoch, parts.state),
        evaluate=parts.evaluate,
        autocast=parts.autocast,
        callbacks=callbacks,
        lr=learning_rate(config),
        total_steps=parts.total_steps,
        steps_per_epoch=parts.steps_per_epoch,
        eval_every=config.train.eval_every,
        log_every=config.logging.every_steps,
        accum_steps=config.train.accum_steps,
        grad_clip_norm=config.train.grad_clip_norm,
        seed=config.seed,
        rank=place.rank,
        world_size=place.world_size,
        teacher=None if parts.teacher is None else compiled(config, parts.teacher, parts.device),
        graph=build_graph(config, parts, place) if config.train.cuda_graph else None,
        recordable=build_recordable(parts) if config.train.cuda_graph else None,
    )


def build_graph(config: Config, parts: Parts, place: Rank) -> StepGraph:
    """Return what records the steps of one process on a GPU.

    Raises:
        ConfigError: The steps need the host, or other processes.
        DeviceError: There is no GPU.
    """
    if parts.device.type != "cuda":
        raise DeviceError(
            "there is no GPU to record steps on", "train.cuda_graph", "set it to false"
        )
    obstacles = {
        f"{place.world_size} processes": place.world_size > 1,
        "fp16, whose every step asks the GPU for an overflow": parts.precision == "fp16",
        "an optimizer whose step is not one kernel": not is_fused(parts.state.optimizer),
        "activation_checkpointing, which asks for the state of the generator": (
            config.train.activation_checkpointing
        ),
    }
    for obstacle, is_there in obstacles.items():
        if is_there:
            what = f"steps cannot be recorded with {obstacle}"
            raise ConfigError(what, "train.cuda_graph", "set it to false")
    return StepGraph(parts.state.optimizer, CudaRecorder(parts.device))


def build_recordable(parts: Parts) -> RecordableInput | None:
    """Return augmentation and mixing in the form that is recorded, for images that are small."""
    is_small = parts.preprocess.image_size <= LARGEST
    return RecordableInput(parts.augment, parts.mixing) if is_small else None


def build_forward(config: Config, parts: Parts) -> nn.Module:
    """Return the model as the trainer calls it: wrapped for several processes, and compiled."""
    if config.train.parallel == "fsdp":
        return compiled(config, parts.model, parts.device)
    model = distributed.wrap_ddp(computing(parts), config.train.accum_steps)
    return compiled(config, model, parts.device)


def computing(parts: Parts) -> nn.Module:
    """Return the model as it computes in training: by itself, or with its weights cast."""
    return LowPrecision(parts.model) if parts.precision == "bf16_full" else parts.model


def compiled(config: Config, module: nn.Module, device: torch.device) -> nn.Module:
    """Return a module compiled, if that is wanted; shapes are static, for the fastest kernels."""
    if compiles(config, device):
        return cast(nn.Module, torch.compile(module, dynamic=False))
    return module


def compiles(config: Config, device: torch.device) -> bool:
    """Return whether the model is compiled on this device."""
    wanted = config.train.compile
    if wanted == "auto":
        return device.type == "cuda" and config.train.parallel == "ddp"
    return wanted
