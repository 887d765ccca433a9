"""The config: sections, YAML reading, overrides, and one clear line for every mistake.

A YAML file becomes a frozen `Config` that states every value of the run.
"""

from vtrain.config.evaluation import EvaluationConfig, evaluation_config
from vtrain.config.read import config_from_text, load_config, stored_config
from vtrain.config.schema import rule_on_resume, switched_off
from vtrain.config.sections import Config

__all__ = [
    "Config",
    "EvaluationConfig",
    "config_from_text",
    "evaluation_config",
    "load_config",
    "rule_on_resume",
    "stored_config",
    "switched_off",
]
