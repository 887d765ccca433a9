"""vtrain: train, evaluate and use image classifiers from one YAML file."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtrain.api import create_model, list_models, load_model

__all__ = ["__version__", "create_model", "list_models", "load_model"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the API on first use, so that `import vtrain` does not import torch."""
    if name in {"create_model", "list_models", "load_model"}:
        from vtrain import api

        return getattr(api, name)
    raise AttributeError(f"module 'vtrain' has no attribute '{name}'")
