"""Where weights come from: a file, a folder, or a repository of the Hugging Face hub."""

import re
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from vtrain.errors import CheckpointError, ConfigError
from vtrain.files import hub
from vtrain.files.weights import ENDINGS, KNOWN_NAMES
from vtrain.files.weights_colours import BESIDE
from vtrain.files.weights_parts import INDEX_NAMES, part_names

HUB = "hf-hub:"
TIMM = "timm:"
REMOTE = (HUB, TIMM)
FORMS = f"write a file, a run folder, {HUB}OWNER/NAME of the Hugging Face hub, or {TIMM}NAME"
TAGGED = f"its name has a tag, as in {TIMM}vit_tiny_patch16_224.augreg_in21k_ft_in1k"
PEERS_FORM = re.compile(
    r"(?:https?:/+)?(?:www\.)?(?:huggingface|hf)\.co/|(?:hf|hub|huggingface|hf[_-]hub):/*", re.I
)
"""How other programs begin the address of a repository of the hub."""


def located(source: str) -> Path:
    """Return the file or folder of weights that `source` names, downloaded if it is of the hub.

    Raises:
        CheckpointError: It is not there.
        ConfigError: The hub is named, and the package that reads it is not installed.
    """
    return fetch(source) if source.startswith(REMOTE) else local(source)


def local(source: str) -> Path:
    """Return a file or folder of weights.

    Raises:
        CheckpointError: It is not there; where it may be of the hub, the message says how to write
            that.
    """
    path = Path(source)
    if path.exists():
        return path
    # As it was typed: a config has made it a path, and that absolute.
    typed = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    raise CheckpointError("no such checkpoint", source, _meant(str(typed)))


def _meant(source: str) -> str:
    """Say how to write what is no file: other programs have other words for weights of the hub."""
    repository = PEERS_FORM.sub("", source, count=1).rstrip("/")
    repository = re.sub(r"^timm:/*", "timm/", repository)
    if ":/" in repository:
        return "only files and the Hugging Face hub are read: download the file first"
    folder, _, name = repository.partition("/")
    is_name = re.fullmatch(r"[\w.-]*\w/\w[\w.-]*", repository) is not None
    # In a folder that is there, or with the ending of a file, it is a file that is not there.
    if is_name and not Path(folder).exists() and Path(name).suffix not in ENDINGS:
        return f"did you mean {HUB}{repository}?"
    return FORMS


def _downloaded(repository: str, file: str, download: Callable[[str, str], str]) -> Path:
    """Download a file of weights, or an index and all its parts, and what is said of them."""
    found = Path(download(repository, file))
    if file in INDEX_NAMES:
        for part in part_names(found):  # all files of a repository lie in one folder
            download(repository, part)
    for beside in BESIDE:
        # Most repositories have one of them; whatever keeps it away, the weights are there.
        with suppress(Exception):
            download(repository, beside)
    return found


def fetch(source: str) -> Path:
    """Download the weights of a repository of the hub, or find them in the cache of earlier ones.

    Raises:
        CheckpointError: The repository has none, or cannot be reached.
        ConfigError: `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise ConfigError(
            "the hub needs the package huggingface_hub", source, 'pip install "vtrain[hub]"'
        ) from None
    name = source.removeprefix(TIMM)
    repository = f"timm/{name}" if source.startswith(TIMM) else source.removeprefix(HUB)
    in_reach = hub.is_in_reach()
    names = (*KNOWN_NAMES, *INDEX_NAMES)
    for file in names:
        try:
            with hub.asking(in_reach):
                return _downloaded(repository, file, hf_hub_download)
        except CheckpointError:  # an index that is none
            raise
        except Exception as error:  # its own kinds and those of its HTTP client, by version
            absent = isinstance(error, EntryNotFoundError)
            if absent and not isinstance(error, LocalEntryNotFoundError):
                continue
            # The latter: it is not in the cache of earlier downloads, either. With a network the
            # cause is another one, such as a name that is not there.
            if not in_reach and file != names[-1]:
                continue
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            reason = textwrap.shorten(reason, 120, placeholder=" ...") if in_reach else "no network"
            hint = (
                f"elsewhere: hf download {repository} {KNOWN_NAMES[0]}; then model.pretrained=FILE"
            )
            if in_reach and source.startswith(TIMM) and "." not in name:
                hint = TAGGED
            raise CheckpointError(
                f"the hub did not answer with weights ({reason})", source, hint
            ) from None
    raise CheckpointError(
        f"the repository has neither {' nor '.join(KNOWN_NAMES)}, nor an index of parts", source
    )
