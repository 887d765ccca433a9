"""The config: sections, YAML reading, overrides, and one clear line for every mistake.

A YAML file becomes a frozen `Config` that states every value of the run. Sections are of two kinds:
closed ones are the classes below; those that name a component (`model`, `data`, `optimizer`,
`schedule`, `train.loss`) also hold the keys of that component's signature. `augment` is the
signatures of `Augment` and `Mixing`.
"""

import inspect
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    create_model,
)

from vtrain.config.retired import replace_retired
from vtrain.data.datasets.splits import Fold
from vtrain.errors import ConfigError
from vtrain.files.yaml import Document, Keys, dump_yaml, parse_value, parse_yaml, read_yaml
from vtrain.registry import (
    LOSSES,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    SOURCES,
    Component,
    ComponentSection,
    Probability,
    Registry,
    Section,
    suggest,
)

COMMAND_LINE = "command line"


def _located(*elsewhere: str) -> AfterValidator:
    """Make a text a path that does not depend on the folder, unless it begins with `elsewhere`."""

    def locate(text: str) -> str:
        return text if text.startswith(elsewhere) else str(Path(text).expanduser().absolute())

    return AfterValidator(locate)


class ModelSection(ComponentSection):
    """`model`: which network, and where its weights start."""

    pretrained: Annotated[str, _located("hf-hub:")] | None = None
    """A `.pt`, `.pth` or `.safetensors` file, or `hf-hub:owner/name`; null starts at random."""
    freeze: Literal["backbone"] | PositiveInt | None = None
    """What stays as it is: all but the head, or the first N blocks."""


class DataSection(ComponentSection):
    """`data`: which images, and how they reach the device."""

    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Pixels per side that the model sees; null is the model's native size."""
    resize: Literal["crop", "squash", "letterbox"] = "crop"
    """How an image becomes square: resize the short side and crop the centre, or squash, or pad."""
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """With `resize: crop`, the part of the resized short side that the crop keeps."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bicubic"
    """How pixels are interpolated when an image is resized."""
    mean: tuple[Probability, Probability, Probability] | None = None
    """Mean of red, green and blue, of values in [0, 1], that images are normalised by; null is the
    dataset's own, which foreign weights may not have been trained with."""
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Standard deviation of red, green and blue that images are normalised by."""
    val_fraction: Probability = 0.0
    """Part of the training images that is held out for validation; 0 uses the dataset's own."""
    fold: Fold | None = None
    """Hold out one of several equal parts instead: `{of: 5, index: 0}`."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Part of each split that is used, for quick runs."""
    limit: PositiveInt | None = None
    """Images of each split that are used at most."""
    balanced: bool = False
    """Show every class equally often in training, however rare it is."""
    repeats: PositiveInt = 1
    """Views of each image in a batch (repeated augmentation); an epoch has so many fewer images."""
    on_bad_image: Literal["error", "skip"] = "error"
    """Whether an image that cannot be read ends the training, or is left out of its batch."""
    num_workers: Annotated[int, Field(ge=0, le=256)] | Literal["auto"] = "auto"
    """Processes that decode images; `auto` is 0 for cached images, else what the machine has."""
    cache: Literal["auto", "none", "ram", "device"] = "auto"
    """Where decoded images are kept: nowhere, in memory, or on the training device."""


class OptimizerSection(ComponentSection):
    """`optimizer`: how the weights move."""

    lr_base_size: PositiveInt | None = None
    """Images per step that `lr` is meant for: it is multiplied by batch_size / lr_base_size."""


class AugmentSection(Section):
    """`augment`: the keys are those of `vtrain.data.augment.Augment` and `Mixing`."""


class EarlyStoppingSection(Section):
    """`train.early_stopping`: the keys are those of `EarlyStopping`."""


class DistillationSection(Section):
    """`train.distillation`: a teacher, and the keys of `Distillation`."""

    teacher: Annotated[str, _located("torchvision:")]
    """A checkpoint or run folder of vtrain, or a model of torchvision: `torchvision:resnet18`."""
    teacher_weights: Annotated[str, _located()] | None = None
    """The weights of a torchvision teacher: its `state_dict`, or `{model, classes}` with names."""


class TrainSection(Section):
    """`train`: how long, on what, and with which loss."""

    epochs: PositiveInt
    """Passes over the training set."""
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto"] = 128
    """Images per optimizer step, over all processes; `auto` finds how many fit in memory."""
    eval_batch_size: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Images per evaluation step and process; null is `batch_size`."""
    eval_every: PositiveInt = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    accum_steps: PositiveInt = 1
    """Pieces a process cuts its share of a batch into; changes memory, not the result."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps, even within an epoch: a first part of the same run."""
    max_minutes: PositiveFloat | None = None
    """Minutes of training after which the run ends; the schedule is fitted to them."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$")] = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; auto takes CUDA where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Dtype of the forward pass; weights, loss and optimizer state stay fp32."""
    compile: Literal["auto"] | bool = "auto"
    """Whether torch.compile compiles the model; auto does so on CUDA, but not with `fsdp`."""
    cuda_graph: bool = False
    """Capture forward, backward and update as a CUDA graph and replay it, which spares the host
    their launches; one process only. Tested by stand-ins on a CPU, and not on a GPU yet: hence
    false."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What several processes hold: the whole model each, or a part of it each (FSDP2)."""
    deterministic: bool = False
    """Refuse operations whose result is not the same bits every time."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing it: less memory, more time."""
    grad_clip_norm: PositiveFloat | None = 1.0
    """Largest global L2 norm of the gradients; null leaves them alone."""
    ema_decay: Probability | None = None
    """Decay of the exponential moving average of the weights, which is then evaluated."""
    early_stopping: EarlyStoppingSection | None = None
    """When a run that no longer improves ends; null trains to the last step."""
    loss: ComponentSection
    """The training loss: a name and its arguments."""
    distillation: DistillationSection | None = None
    """A teacher to learn from; without one, both heads of a distilled DeiT learn the labels."""


class CheckpointSection(Section):
    """`checkpoint`: how often the run is saved, and which evaluation counts as best."""

    every_minutes: PositiveFloat | None = 10.0
    """Minutes between saves within an epoch; every epoch's end is saved anyway."""
    every_steps: PositiveInt | None = None
    """Optimizer steps between saves within an epoch."""
    keep: Annotated[int, Field(ge=2, le=1000)] = 2
    """Newest checkpoints that stay on disk, besides the best one."""
    best_metric: Literal["val/top1", "val/top5", "val/loss"] = "val/top1"
    """The metric of `best.pt`: accuracies are maximised, the loss is minimised."""


class LoggingSection(Section):
    """`logging`: how often, and what."""

    every_steps: PositiveInt = 50
    """Optimizer steps between rows of metrics; there is also one at each epoch's end."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    images: Annotated[int, Field(ge=0, le=256)] = 16
    """Augmented training images in TensorBoard's grid."""


class Config(Section):
    """Everything one run is made from."""

    seed: NonNegativeInt = 0
    model: ModelSection
    data: DataSection
    augment: AugmentSection
    optimizer: OptimizerSection
    schedule: ComponentSection
    train: TrainSection
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()

    def to_yaml(self) -> str:
        """Return the YAML file that repeats this run."""
        return dump_yaml(self.model_dump(mode="json"))


COMPONENTS: dict[Keys, tuple[Registry, type[ComponentSection], str | None]] = {
    ("model",): (MODELS, ModelSection, None),
    ("data",): (SOURCES, DataSection, None),
    ("optimizer",): (OPTIMIZERS, OptimizerSection, None),
    ("schedule",): (SCHEDULES, ComponentSection, "cosine"),
    ("train", "loss"): (LOSSES, ComponentSection, "cross_entropy"),
}
"""Where components are named: their registry, their section's closed keys, the name when absent."""


def load_config(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read, override, validate and complete a config.

    Args:
        path: The YAML file.
        overrides: `dotted.key=value` changes, checked like the file.

    Raises:
        ConfigError: Something is wrong; the error holds every mistake, one line each.
    """
    return validated(read_yaml(path), overrides)


def config_from_text(text: str, name: str, overrides: Iterable[str] = ()) -> Config:
    """Validate a config that is stored as text, such as the one in a checkpoint."""
    document = parse_yaml(text, name)
    replace_retired(document, stored=True)
    return validated(document, overrides)


def validated(document: Document, overrides: Iterable[str] = ()) -> Config:
    """Check a document against the schema of the components it names."""
    for override in overrides:
        _apply(document, override)
    replace_retired(document, stored=False)
    mistakes = document.mistakes
    schema = _schema(document)
    try:
        # JSON's strict mode takes a list for a tuple and text for a path, but no text for a number.
        config: Config = schema.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        mistakes += _explain(error, document, schema)
    if mistakes:
        raise ConfigError.all_of(sorted(mistakes, key=_line))
    return _completed(config)


def _line(mistake: ConfigError) -> int:
    """Return the line of the file that a mistake is in; overrides come last."""
    _, colon, line = str(mistake.where).rpartition(":")
    return int(line) if colon and line.isdecimal() else sys.maxsize


def component(registry: Registry, section: ComponentSection) -> tuple[Component, dict[str, Any]]:
    """Return what a section names and the arguments that it holds for it."""
    found = registry[section.name]
    return found, found.arguments(section)


def augment_parts() -> tuple[Component, Component]:
    """Return the two constructors whose signatures are the `augment` section."""
    from vtrain.data.augment.augment import Augment
    from vtrain.data.augment.mixing import Mixing

    return Component("augment", Augment, {}), Component("mixing", Mixing, {})


def train_parts() -> tuple[Component, Component]:
    """Return the constructors of `train.early_stopping` and `train.distillation`."""
    from vtrain.engine.early_stopping import EarlyStopping
    from vtrain.optim.distillation import Distillation

    rule = Component("early_stopping", EarlyStopping, {})
    return rule, Component("distillation", Distillation, {})


def _schema(document: Document) -> type[Config]:
    """Build the schema for the components that a document names; unknown names are mistakes."""
    sections = {keys: _component_section(document, keys) for keys in COMPONENTS}
    rule, lesson = train_parts()
    early_stopping = create_model(rule.name, __base__=EarlyStoppingSection, **_fields(rule))
    distillation = create_model(lesson.name, __base__=DistillationSection, **_fields(lesson))
    train = create_model(
        "Train",
        __base__=TrainSection,
        early_stopping=(early_stopping | None, None),
        loss=sections["train", "loss"],
        distillation=(distillation | None, None),
    )
    augment = create_model("Augment", __base__=AugmentSection, **_fields(*augment_parts()))
    return create_model(
        "Config",
        __base__=Config,
        model=sections["model",],
        data=sections["data",],
        augment=(augment, augment()),
        optimizer=sections["optimizer",],
        schedule=sections["schedule",],
        train=(train, ...),
    )


def _fields(*parts: Component) -> dict[str, Any]:
    """Return the YAML keys of several constructors as pydantic fields."""
    return {
        name: (annotation, ... if default is inspect.Parameter.empty else default)
        for part in parts
        for name, annotation, default in part.parameters()
    }


def _component_section(document: Document, keys: Keys) -> tuple[type[ComponentSection], Any]:
    """Return the schema of a section that names a component, and its default (`...`: none)."""
    registry, base, default_name = COMPONENTS[keys]
    raw: Any = document.data
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    if default_name is not None and isinstance(raw, dict):
        raw.setdefault("name", default_name)
    name = raw.get("name") if isinstance(raw, dict) else default_name
    if not isinstance(name, str):
        return _anything(base), ...
    try:
        section = registry[name].section(base)
    except ConfigError as error:
        where = document.where((*keys, "name"))
        what = f"{'.'.join(map(str, keys))}.name: {error.what}"
        document.mistakes.append(ConfigError(what, where, error.hint))
        return _anything(base), ...
    required = [key for key, field in section.model_fields.items() if field.is_required()]
    return section, section(name=name) if default_name and required == ["name"] else ...


def _anything(base: type[ComponentSection]) -> type[ComponentSection]:
    """Return a section that takes any key, so that one unknown name hides no other mistake."""
    return create_model("Any", __base__=base, __cls_kwargs__={"extra": "ignore"})


def _completed(config: Config) -> Config:
    """Fill in what depends on other sections, and make paths independent of the folder."""
    data: dict[str, Any] = {}
    if config.data.image_size is None:
        data["image_size"] = MODELS[config.model.name].default("image_size")
    for name, value in config.data:
        if isinstance(value, Path):
            data[name] = value.expanduser().absolute()
    return config.model_copy(update={"data": config.data.model_copy(update=data)})


def _apply(document: Document, override: str) -> None:
    """Write `dotted.key=value` into the raw document; its mistakes join the others."""
    name = f"{COMMAND_LINE} '{override}'"
    dotted, equals, text = override.partition("=")
    keys = tuple(dotted.split("."))
    if not equals or not all(keys):
        hint = "write KEY=VALUE, for example train.epochs=5"
        document.mistakes.append(ConfigError("not an override", name, hint))
        return
    section = document.data
    for key in keys[:-1]:
        if section.get(key) is None:
            section[key] = {}
        elif isinstance(section[key], str):  # a component by its name alone: `policy: augmix`
            section[key] = {"name": section[key]}
        section = section[key]
        if not isinstance(section, dict):
            what = f"'{dotted}' leads through '{key}', which is no section"
            document.mistakes.append(ConfigError(what, name))
            return
    try:
        section[keys[-1]] = parse_value(text, name)
    except ConfigError as error:
        document.mistakes.append(error)
        return
    document.places[keys] = name


def _explain(error: ValidationError, document: Document, schema: type[Config]) -> list[ConfigError]:
    """Turn pydantic's findings into one mistake for each key of the document."""
    found: dict[Keys, ConfigError] = {}
    for detail in error.errors(include_url=False, include_context=True):
        keys = _document_keys(detail["loc"], document)
        mistake = _mistake(detail, keys, document, schema)
        before = found.get(keys)
        if before is not None and before.hint != mistake.hint:
            # A union reports each of its members: all of them are allowed.
            hint = f"{before.hint}, or {mistake.hint}".replace(", or must be", " or")
            mistake = ConfigError(before.what, before.where, hint)
        found[keys] = mistake
    return list(found.values())


def _document_keys(location: tuple[int | str, ...], document: Document) -> Keys:
    """Keep the keys of a location that are in the document: pydantic adds the members of unions."""
    value: Any = document.data
    keys: list[int | str] = []
    for place, key in enumerate(location):
        if not isinstance(value, dict | list):
            break
        is_last = place == len(location) - 1
        if isinstance(value, dict) and key not in value and not is_last:
            continue  # the name of a union's member
        if isinstance(value, list):
            if not isinstance(key, int):
                continue  # the same
            if key >= len(value):
                break  # an item that is missing: the list is to blame
        keys.append(key)
        value = value.get(key) if isinstance(value, dict) else value[int(key)]
    return tuple(keys)


def _mistake(detail: Any, keys: Keys, document: Document, schema: type[Config]) -> ConfigError:
    dotted = ".".join(map(str, keys))
    where = document.where(keys)
    if detail["type"] == "extra_forbidden":
        allowed = _allowed(schema, keys[:-1])
        return ConfigError(f"unknown key '{dotted}'", where, suggest(str(keys[-1]), allowed))
    if detail["type"] == "missing" and not isinstance(detail["input"], list):
        return ConfigError(f"missing key '{dotted}'", where, "it has no default; give it a value")
    given = json.dumps(detail["input"], default=str)
    given = given if len(given) <= 60 else given[:57] + "..."
    return ConfigError(f"{dotted} is {given}", where, _requirement(detail))


REQUIREMENTS = {
    "bool_type": "must be true or false",
    "missing": "must have more items",
    "none_required": "null",
    "union_tag_not_found": "needs the key 'name'",
}


def _requirement(detail: Any) -> str:
    """Say what a key must be, in the words of the config rather than of the validator."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in REQUIREMENTS:
        return REQUIREMENTS[kind]
    if kind == "literal_error":
        return f"must be {context['expected']}"
    if kind == "string_pattern_mismatch" and "cuda" in context["pattern"]:
        return "must be auto, cpu, cuda or cuda:N"
    if kind == "union_tag_invalid":
        return suggest(context["tag"], context["expected_tags"].replace("'", "").split(", "))
    text: str = detail["msg"].removeprefix("Value error, ")
    for old, new in (
        ("Input should be a valid ", "must be a "),
        ("Input should be ", "must be "),
        ("an object", "a mapping of keys"),
        ("must be a integer", "must be an integer"),
        ("must be a array", "must be a list"),
    ):
        text = text.replace(old, new)
    return text


def _allowed(schema: type[Section], keys: Keys) -> list[str]:
    """Return the keys of the section at `keys`."""
    for key in keys:
        annotation = schema.model_fields[str(key)].annotation
        members = get_args(annotation) or (annotation,)  # a section that may be null is a union
        sections = [m for m in members if isinstance(m, type) and issubclass(m, Section)]
        if not sections:
            return []
        schema = sections[0]
    return list(schema.model_fields)
