"""vtrain: train, evaluate and use image classifiers from one YAML file."""

TYPE_CHECKING = False
"""As `typing` has it, whose import takes milliseconds in which Ctrl-C would be Python's own."""
if TYPE_CHECKING:
    from vtrain.api import (
        Evaluation,
        FeatureFile,
        LoadedModel,
        Prediction,
        RunFolder,
        Similar,
        Together,
        create_model,
        evaluate,
        evaluate_features,
        features,
        fit,
        list_models,
        load_model,
        predict,
        similar,
    )

__all__ = [
    "Evaluation",
    "FeatureFile",
    "LoadedModel",
    "Prediction",
    "RunFolder",
    "Similar",
    "Together",
    "__version__",
    "create_model",
    "evaluate",
    "evaluate_features",
    "features",
    "fit",
    "list_models",
    "load_model",
    "predict",
    "similar",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the API on first use, so that `import vtrain` does not import torch."""
    if name in __all__:
        from vtrain import api

        return getattr(api, name)
    raise AttributeError(f"module 'vtrain' has no attribute '{name}'")


def __dir__() -> list[str]:
    """List the API, for completion in a notebook."""
    return sorted({*globals(), *__all__})
