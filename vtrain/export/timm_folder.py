"""Write a folder that `timm.create_model("local-dir:...", pretrained=True)` loads, with a card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vtrain.errors import CheckpointError, ConfigError
from vtrain.export.card import Card
from vtrain.export.foreign import Architecture, timm_architecture, unsupported
from vtrain.export.graph import runtime
from vtrain.export.proof import NOT_KEPT, Evidence, Proof, prove
from vtrain.export.weights import refusing, weights_bytes
from vtrain.files.atomic import make_folder, scratch_folder, write_bytes, write_text
from vtrain.inference.loaded import LoadedModel

CROP_MODES = {"crop": "center", "squash": "squash"}
"""timm's words for `resize`; it has none for `letterbox`."""
MODES = {1: "L", 3: "RGB"}
"""Channels that its transforms prepare as vtrain does, and what Pillow calls such a picture."""
FILES = ("model.safetensors", "config.json", "README.md")


def check_timm() -> None:
    """Refuse to begin where timm is missing: what is written for it is proved by it.

    Raises:
        ConfigError: The message says how to install it.
    """
    try:
        import timm  # noqa: F401 - only whether it is there
    except ImportError:
        what = "what is written for timm is proved by timm, which is not installed"
        raise ConfigError(what, "--format", "pip install timm") from None


def write_timm_folder(
    loaded: LoadedModel, path: Path, evidence: Evidence, facts: Mapping[str, str], card: Card
) -> Proof:
    """Write the folder once timm has loaded it and computed what the model computes.

    Raises:
        CheckpointError: The folder is not the model; nothing is written.
        ConfigError: timm does not support the model or its preprocessing.
        StorageError: It cannot be written.
    """
    arch = Architecture.of(loaded)
    config = timm_config(loaded, arch)
    content = weights_bytes(loaded, arch, facts, "timm")
    with scratch_folder(path) as folder:
        write_bytes(folder / "model.safetensors", content)
        write_text(folder / "config.json", json.dumps(config, indent=2))
        with refusing(path):
            model = loaded_by_timm(folder)
        check_preprocessing(model, loaded, path)
        proof = prove(runtime(model, loaded, "normalised"), evidence, path)
    # What timm loaded was for the comparison alone: the user's folder begins here.
    make_folder(path)
    write_bytes(path / "model.safetensors", content)
    write_text(path / "config.json", json.dumps(config, indent=2) + "\n")
    write_text(path / "README.md", card.text(loaded, proof))
    return proof


def timm_config(loaded: LoadedModel, arch: Architecture) -> dict[str, Any]:
    """Return `config.json`: what builds the model, its labels, and its preprocessing.

    Raises:
        ConfigError: timm does not support it.
    """
    name, arguments = timm_architecture(arch)
    geometry, size = loaded.geometry, loaded.geometry.image_size
    if geometry.resize not in CROP_MODES:
        raise unsupported("timm", f"data.resize={geometry.resize}")
    if geometry.value_range != "auto":
        raise unsupported("timm", "data.value_range")
    if geometry.icc:
        raise unsupported("timm", "data.icc=true")
    if arch.in_channels not in MODES:  # its transforms are of pictures: 4 would be scaled as alpha
        raise unsupported("timm", f"data.channels={arch.in_channels}")
    return {
        "architecture": name,
        "num_classes": arch.num_classes,
        "num_features": arch["embed_dim"],
        "model_args": arguments,
        "label_names": list(loaded.classes),
        "pretrained_cfg": {
            "tag": "vtrain",
            "custom_load": False,
            "input_size": [arch.in_channels, size, size],
            "fixed_input_size": True,
            "interpolation": geometry.interpolation,
            "crop_pct": geometry.crop_fraction,
            "crop_mode": CROP_MODES[geometry.resize],
            "mean": list(geometry.mean),
            "std": list(geometry.std),
            "num_classes": arch.num_classes,
            "pool_size": None,
        },
    }


def loaded_by_timm(folder: Path) -> nn.Module:
    """Load the folder as a user of timm does."""
    import timm

    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model.eval()


def check_preprocessing(model: nn.Module, loaded: LoadedModel, path: Path) -> None:
    """Compare classes and preprocessing, as timm understands them, with the model's.

    Raises:
        CheckpointError: They differ.
    """
    from timm.data import resolve_model_data_config

    geometry, size = loaded.geometry, loaded.geometry.image_size
    wanted = {
        "input_size": (geometry.channels, size, size),
        "mean": geometry.mean,
        "std": geometry.std,
        "crop_pct": geometry.crop_fraction,
        "crop_mode": CROP_MODES[geometry.resize],
        "interpolation": geometry.interpolation,
        "label_names": loaded.classes,
    }
    config: Any = model.pretrained_cfg
    # What timm makes of the file, and not what it says: gaps are filled by timm's own defaults.
    found = {**resolve_model_data_config(model), "label_names": config.get("label_names") or ()}
    for name, value in wanted.items():
        given = found[name]
        if (tuple(given) if isinstance(given, list | tuple) else given) != value:
            what = f"timm reads another {name} from the folder than the model has"
            raise CheckpointError(what, path, NOT_KEPT)
