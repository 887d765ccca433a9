"""Start from weights that exist: read them, translate their names, fit them to the model.

Every name of the file and of the model has one `Fate`. What `fitting` can resize is resized; heads
of another number of classes stay new. Anything else that does not match is an error.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from vtrain.data.datasets.class_names import places
from vtrain.errors import CheckpointError, printable
from vtrain.files.weights import read_weights
from vtrain.files.weights_colours import Colours
from vtrain.models.base import ImageClassifier
from vtrain.models.weights.fitting import fit_to_shape, stem_note
from vtrain.models.weights.key_mappings import KeyMapping, translate
from vtrain.models.weights.prefixes import below_prefix
from vtrain.models.weights.published import published_colours
from vtrain.models.weights.rearrange import State
from vtrain.models.weights.sources import located
from vtrain.models.weights.tokens import arrange_positions, other_pooling


class Fate(Enum):
    """What becomes of a tensor, by its name in the model."""

    LOADED = "loaded"  # taken as it is
    RESIZED = "resized"  # taken after fitting it to the model's shape
    NEW = "new"  # not in the file, and left as it was made: a head, or what such files never have
    UNUSED = "unused"  # of the file only, and of a known kind that the model has no use for
    REPLACED = "replaced"  # in both, but of other shapes: the file's is unused, the model's new
    # From here on, what makes the file unusable for the model.
    ABSENT = "absent"  # not in the file
    UNKNOWN = "unknown"  # not in the model
    RESHAPED = "reshaped"  # in both, of shapes that no rule fits to one another
    NONFINITE = "nonfinite"  # with a value that is no finite number


ERRORS = (Fate.ABSENT, Fate.UNKNOWN, Fate.RESHAPED, Fate.NONFINITE)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, by our names.

    A tensor that was replaced is both new in the model and unused of the file.
    """

    key_mapping: str
    """Whose names the file used."""
    fates: dict[str, Fate]
    """What became of each name, the model's first."""
    colours: Colours | None = None
    """Mean and std that the file's weights were trained with, as far as that is known."""
    place: str = ""
    """Where in the file they were: under which key, below which prefix."""
    stem: str = ""
    """How the first kernels were adapted to another number of channels, if they were."""

    def names(self, *fates: Fate) -> tuple[str, ...]:
        """Return the names that met one of these fates."""
        return tuple(name for name, fate in self.fates.items() if fate in fates)

    @property
    def loaded(self) -> tuple[str, ...]:
        return self.names(Fate.LOADED)

    @property
    def resized(self) -> tuple[str, ...]:
        return self.names(Fate.RESIZED)

    @property
    def new(self) -> tuple[str, ...]:
        return self.names(Fate.NEW, Fate.REPLACED)

    @property
    def unused(self) -> tuple[str, ...]:
        return self.names(Fate.UNUSED, Fate.REPLACED)

    def __str__(self) -> str:
        groups = {"resized": self.resized, "new": self.new, "unused": self.unused}
        place = f" ({self.place})" * bool(self.place)
        taken = f"{self.key_mapping}{place}: {len(self.loaded)} tensors loaded"
        parts = [taken, *filter(None, [self.stem]), *counted(groups.items())]
        return ", ".join(parts)


def load_pretrained(
    model: ImageClassifier, source: str, classes: Sequence[str] | None = None
) -> LoadReport:
    """Replace the weights of `model` by those of `source`; on an error it is left as it was.

    Args:
        model: Any model of the zoo. On the meta device it has no weights: only the report is made.
        source: A file or folder of weights, or what is downloaded: `hf-hub:owner/name`, or
            `timm:name` for timm's repository of that model.
        classes: The model's classes. Where the file names its own and they differ, the heads are
            matched by name, and stay new if the file does not know all of them.

    Raises:
        CheckpointError: The file cannot be used, or its weights do not fit the model.
        ConfigError: The hub is named, and the package that reads it is not installed.
    """
    file = read_weights(located(source))
    prefix, inside, beside = below_prefix(file.tensors)
    try:
        mapping, given = translate(inside)
    except RuntimeError:  # of torch, which cannot stack or split them
        parts = "the parts of one parameter, such as queries, keys and values,"
        raise CheckpointError(f"{parts} have shapes that do not match", source) from None
    wanted = model.state_dict()
    heads = [name for name in wanted if name.split(".")[0] in model.depth_groups()[-1]]
    if classes is not None and file.classes:
        given = with_classes(given, heads, list(file.classes), list(classes))

    fates, taken = decide(given, wanted, heads, mapping)
    fates |= {name: Fate.UNUSED for name in beside if name not in fates}
    place = ", ".join(filter(None, (file.place, f"names below {shown(prefix)}" * bool(prefix))))
    stem = stem_note(given, wanted)
    # Names of vtrain are timm's: whose they are in a file says who wrote it.
    whose, colours = mapping.name, file.colours
    if file.is_own:
        whose = "vtrain"
    elif colours is None:
        colours = published_colours(whose, given, arch=file.arch, place=file.place)
    report = LoadReport(whose, fates, colours, place, stem)

    refuse(report, source)
    # Only after every check, so that an error leaves the model as it was.
    if not any(tensor.is_meta for tensor in wanted.values()):
        model.load_state_dict({**wanted, **taken})
    return report


def decide(
    given: State, wanted: State, heads: list[str], mapping: KeyMapping
) -> tuple[dict[str, Fate], State]:
    """Decide what becomes of every name, and return what the model takes."""
    arranged = arrange_positions(given, wanted)
    missing_ok, ignored = mapping.missing_ok, rf"{mapping.ignored}|^cls_token$"
    if other_pooling(given, wanted):
        # The head reads another thing, through a norm of its own: both start anew, as in MAE.
        missing_ok, ignored = rf"{missing_ok}|^(fc_)?norm\.", rf"{ignored}|^(fc_)?norm\."
        arranged = {name: t for name, t in arranged.items() if name not in heads}
    fates: dict[str, Fate] = {}
    taken: State = {}
    for name in dict.fromkeys([*wanted, *given]):  # the model's order, then the file's
        optional = name in heads or bool(re.search(missing_ok, name))
        fates[name], tensor = match(name, arranged.get(name), wanted.get(name), ignored, optional)
        if tensor is not None:
            taken[name] = tensor
        # What was arranged or left out beforehand is not what the file has.
        if fates[name] is Fate.LOADED and tensor is not given[name]:
            fates[name] = Fate.RESIZED
        if fates[name] is Fate.NEW and name in given:
            fates[name] = Fate.REPLACED
    return fates, taken


def match(
    name: str, given: Tensor | None, wanted: Tensor | None, ignored: str, optional: bool
) -> tuple[Fate, Tensor | None]:
    """Decide what becomes of one of the model's names, and return what it takes, if anything.

    `given` is the file's tensor and `wanted` the model's, which may stay as it was made if it is
    `optional`. Names that match `ignored` may be the file's only.
    """
    if wanted is None:
        return Fate.UNUSED if re.search(ignored, name) else Fate.UNKNOWN, None
    if given is None:
        return Fate.NEW if optional else Fate.ABSENT, None
    fitted = fit_to_shape(name, given, wanted.shape)
    if fitted is None:
        return Fate.REPLACED if optional else Fate.RESHAPED, None
    if not fitted.isfinite().all():
        return Fate.NONFINITE, None
    return Fate.LOADED if fitted is given else Fate.RESIZED, fitted


def refuse(report: LoadReport, source: str) -> None:
    """Refuse weights that do not fit the model.

    Raises:
        CheckpointError: One line: how many of each kind of error, and the first names.
    """
    problems = counted((fate.value, report.names(fate)) for fate in ERRORS)
    if problems:
        what = f"the weights do not fit the model: {', '.join(problems)}"
        raise CheckpointError(
            what, source, "model.name and its arguments must be those of the file"
        )


def counted(groups: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Say for each kind that has names how many they are, and the first three."""
    return [
        f"{len(names)} {kind} ({', '.join(map(shown, names[:3]))}{', ...' * (len(names) > 3)})"
        for kind, names in groups
        if names
    ]


def shown(name: str) -> str:
    """Return a name of a file as a terminal may see it: printable, and not endless."""
    return printable(f"{name:.80}")


def with_classes(given: State, heads: list[str], known: list[str], classes: list[str]) -> State:
    """Return the tensors with the heads' rows for `classes`, or without heads if one is unknown."""
    if known == classes:
        return given
    # A head that lacks even one class would have to learn it beside trained ones: all start new.
    numbers, unknown = places(classes, known)
    if unknown:
        return {name: tensor for name, tensor in given.items() if name not in heads}
    # Row i of the new head is the file's row of the class with the same name.
    rows = torch.tensor(numbers)
    ordered = {n: given[n][rows] for n in heads if n in given and len(given[n]) == len(known)}
    return {**given, **ordered}
