"""The sections of a config and the keys that no constructor declares.

All other keys are those of the constructors that `vtrain.config.schema` names for each section.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from vtrain.engine.early_stopping import Metric
from vtrain.files.paths import at_home
from vtrain.files.stacks import MOST_BANDS
from vtrain.files.yaml import dump_yaml
from vtrain.models.lora import Lora
from vtrain.registry import (
    CHANGEABLE_ON_RESUME,
    FREE_ON_RESUME,
    USED_BY_EVAL,
    ComponentSection,
    Probability,
    Section,
    off,
)

# No batch of a million images fits anywhere: a slip of the finger is told at once.
Images = Annotated[int, Field(ge=1, le=1_000_000)]


def _located(*elsewhere: str) -> AfterValidator:
    """Make a text a path that does not depend on the folder, unless it begins with `elsewhere`."""

    def locate(text: str) -> str:
        # `absolute`, not `resolve`: a link stays the user's name for what it points to.
        return text if text.startswith(elsewhere) else str(at_home(text).absolute())

    return AfterValidator(locate)


class ModelSection(ComponentSection):
    """`model`: which network, and where its weights start."""

    pretrained: Annotated[str, _located("hf-hub:", "timm:")] | None = None
    """A file or folder of weights of any program, `hf-hub:owner/name`, or `timm:name` for one of
    timm's models; null starts at random."""
    freeze: Literal["backbone"] | PositiveInt | None = None
    """What stays as it is: all but the head, or the first N blocks."""
    lora: Lora | None = None
    """Fine-tune low-rank updates of the attention's layers, and the head, instead of the weights;
    they are added to the weights in whatever is saved."""


class DataSection(ComponentSection):
    """`data`: which images, and how they reach the device."""

    # What the program hands on: the model and the preprocessing have to agree on these.
    image_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Pixels per side that the model sees; null is the model's native size."""
    channels: Annotated[int, Field(ge=1, le=MOST_BANDS)] = 3
    """Channels that the model sees: 3 are red, green and blue, 1 is grey, and of any other number
    each file has to have as many: TIFF and NumPy arrays may have any, pictures with alpha 4."""
    mean: Annotated[tuple[Probability, ...] | None, Field(min_length=1)] = None
    """Mean of each channel, of values in [0, 1], that images are normalised by; null is that of the
    weights that the run starts from, where they say it, else the dataset's own."""
    std: Annotated[tuple[PositiveFloat, ...] | None, Field(min_length=1)] = None
    """Standard deviation of each channel that images are normalised by."""


class OptimizerSection(ComponentSection):
    """`optimizer`: how the weights move."""

    lr_base_size: Annotated[PositiveInt | None, CHANGEABLE_ON_RESUME] = None
    """Images per step that `lr` is meant for: it is multiplied by batch_size / lr_base_size."""


class ScheduleSection(ComponentSection):
    """`schedule`: how the rate goes. A function of the step alone: no state depends on it."""

    model_config = ConfigDict(json_schema_extra={"resume": "changeable"})


class DistillationSection(Section):
    """`train.distillation`: who teaches."""

    teacher: Annotated[str, _located("torchvision:"), CHANGEABLE_ON_RESUME]
    """A checkpoint or run folder of vtrain, or a model of torchvision: `torchvision:resnet18`."""
    teacher_weights: Annotated[Annotated[str, _located()] | None, CHANGEABLE_ON_RESUME] = None
    """The weights of a torchvision teacher: its `state_dict`, or `{model, classes}` with names."""


class TrainSection(Section):
    """`train`: how long, on what, and with which loss."""

    epochs: Annotated[PositiveInt, CHANGEABLE_ON_RESUME]
    """Passes over the training set."""
    batch_size: Images | Literal["auto"] = 128
    """Images per optimizer step, over all processes; `auto` finds how many fit in memory."""
    eval_batch_size: Annotated[Images | None, FREE_ON_RESUME, USED_BY_EVAL] = None
    """Images per evaluation step and process; null is `batch_size`."""
    eval_every: PositiveInt = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    accum_steps: Annotated[PositiveInt, FREE_ON_RESUME] = 1
    """Pieces a process cuts its share of a batch into; changes memory, not the result."""
    max_steps: Annotated[PositiveInt | None, FREE_ON_RESUME, off(None)] = None
    """Stop after this many optimizer steps, even within an epoch: a first part of the same run."""
    max_minutes: Annotated[PositiveFloat | None, CHANGEABLE_ON_RESUME, off(None)] = None
    """Minutes of training after which the run ends; the schedule is fitted to them."""
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,3})$"), FREE_ON_RESUME, USED_BY_EVAL
    ] = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`; auto takes CUDA where there is one."""
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"], CHANGEABLE_ON_RESUME, USED_BY_EVAL
    ] = "auto"
    """Dtype of the forward pass; weights, loss and optimizer state stay fp32."""
    compile: Annotated[Literal["auto"] | bool, FREE_ON_RESUME] = "auto"
    """Whether torch.compile compiles the model; auto does so on CUDA, but not with `fsdp`."""
    cuda_graph: Annotated[bool, FREE_ON_RESUME] = False
    """Capture forward, backward and update as a CUDA graph and replay it, which spares the host
    their launches; one process only. Tested by stand-ins on a CPU, and not on a GPU yet: hence
    false."""
    parallel: Annotated[Literal["ddp", "fsdp"], FREE_ON_RESUME] = "ddp"
    """What several processes hold: the whole model each, or a part of it each (FSDP2)."""
    deterministic: bool = False
    """Refuse operations whose result is not the same bits every time."""
    activation_checkpointing: Annotated[bool, FREE_ON_RESUME] = False
    """Recompute each block in the backward pass instead of storing it: less memory, more time."""
    grad_clip_norm: Annotated[PositiveFloat | None, CHANGEABLE_ON_RESUME] = 1.0
    """Largest global L2 norm of the gradients; null leaves them alone."""
    ema_decay: Annotated[Probability | None, off(None)] = None
    """Decay of the exponential moving average of the weights, which is then evaluated."""
    early_stopping: Annotated[Section | None, CHANGEABLE_ON_RESUME, off(None)] = None
    """When a run that no longer improves ends; null trains to the last step."""
    loss: ComponentSection
    """The training loss: a name and its arguments."""
    distillation: Annotated[DistillationSection | None, off(None)] = None
    """A teacher to learn from; without one, both heads of a distilled DeiT learn the labels."""


class CheckpointSection(Section):
    """`checkpoint`: how often the run is saved, and which evaluation counts as best."""

    model_config = ConfigDict(json_schema_extra={"resume": "free"})

    every_minutes: PositiveFloat | None = 10.0
    """Minutes between saves within an epoch; every epoch's end is saved anyway."""
    every_steps: PositiveInt | None = None
    """Optimizer steps between saves within an epoch."""
    best_metric: Literal["auto"] | Metric = "auto"
    """The metric of `best.pt`: the loss is minimised, all others are maximised; `auto` is val/top1,
    and of several labels an image val/map."""


class LoggingSection(Section):
    """`logging`: how often, and what."""

    model_config = ConfigDict(json_schema_extra={"resume": "free"})

    every_steps: PositiveInt = 50
    """Optimizer steps between rows of metrics; there is also one at each epoch's end."""
    tensorboard: bool = True
    """Write TensorBoard event files."""
    images: Annotated[int, Field(ge=0, le=256)] = 16
    """Augmented training images in TensorBoard's grid."""
    explain: Annotated[int, Field(ge=0, le=64)] = 0
    """Validation images that TensorBoard shows with what the model looks at, every 5 epochs and at
    the end."""


class Config(Section):
    """Everything one run is made from."""

    seed: NonNegativeInt = 0
    """Decides every random number of the run: weights, order, augmentation, dropout."""
    model: ModelSection
    data: DataSection
    augment: Section
    optimizer: OptimizerSection
    schedule: ScheduleSection
    train: TrainSection
    checkpoint: CheckpointSection
    logging: LoggingSection = LoggingSection()

    def to_yaml(self) -> str:
        """Return the YAML file that repeats this run."""
        return dump_yaml(self.model_dump(mode="json"))
