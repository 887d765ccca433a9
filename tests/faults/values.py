"""Numbers that nobody means, in every key of every section and component: a line, never a bug.

The keys come from the signatures, so that a new one is tried without a word here.
"""

import json
import random
import time
from collections.abc import Iterator

from tests.base_configs import EVERY_SECTION
from tests.conftest import stated
from tests.faults.running import Trials
from vtrain.config import config_from_text
from vtrain.config.schema import SECTIONS, SectionSchema
from vtrain.config.sections import CheckpointSection, LoggingSection, TrainSection
from vtrain.errors import VtrainError, no_place
from vtrain.registry import MODELS, Component
from vtrain.run.check import check_config

BASE = EVERY_SECTION.replace("  distillation: {teacher: runs/teacher, kind: soft}\n", "")
POWERS = [
    sign * 2**bits - less for bits in (31, 32, 53, 63, 64) for sign in (1, -1) for less in (0, 1)
]
NUMBERS = (
    *("0", "-1", "1", "2", "7", "-0.0", "0.5", "1.0", "1.5", "-0.5", "1e-320", "1e-8", "1e8"),
    *("1e300", "-1e300", "1e400", "-1e400", ".nan", ".inf", "-.inf", "nan", "inf", "null", "true"),
    *map(str, POWERS),
    *("1" + "0" * 30, "1" + "0" * 400, "9" * 5000, "-" + "9" * 5000, "0x10", "1_000", "1e", "--1"),
)
SHAPES = ("{0}", "[]", "[{0}]", "[{0}, {0}]", "[0.5, {0}]", "[{0}, {0}, {0}]", "{{a: {0}}}")
NEEDED = {"data": {"image_size": 16, "root": "nowhere"}, "optimizer": {"lr": 1e-3}}
"""What else a section must have."""
SECONDS = 5.0
"""Of the processor, for a check: it builds nothing in memory."""


def keys() -> Iterator[tuple[list[str], str]]:
    """Yield every key, with the overrides that choose its component."""
    yield [], "seed"
    sections = {"train": TrainSection, "checkpoint": CheckpointSection, "logging": LoggingSection}
    for name, section in sections.items():
        yield from (([], f"{name}.{key}") for key in section.model_fields)
    for schema in SECTIONS:
        dotted = ".".join(map(str, schema.keys))
        yield from (([], f"{dotted}.{key}") for key in schema.base.model_fields)
        for constructor in schema.constructors:
            parameters = Component.of(constructor).parameters()
            yield from (([], f"{dotted}.{key}") for key, _, _ in parameters)
        yield from _keys_of_components(schema, dotted)


def _keys_of_components(schema: SectionSchema, dotted: str) -> Iterator[tuple[list[str], str]]:
    tried = set()
    for name in schema.registry.names() if schema.registry else ():
        component = schema.registry[name]
        small = stated(name, "TINY") if schema.registry is MODELS else {}
        chosen = f"{dotted}={json.dumps({'name': name} | small | NEEDED.get(dotted, {}))}"
        for key, _, _ in component.parameters():
            if (component.constructor, key) not in tried:  # the names of a family share them
                tried.add((component.constructor, key))
                yield [chosen], f"{dotted}.{key}"


def checks(draw: random.Random) -> Trials:
    """Check configs in which one key has a number that nobody means."""
    # Not the one that fetches files: a test is not to use the network, nor to make folders here.
    every = [(chosen, key) for chosen, key in keys() if key != "data.download"]
    while True:
        chosen, key = draw.choice(every)
        shape = SHAPES[0] if draw.random() < 0.7 else draw.choice(SHAPES)
        yield wrong([*chosen, f"{key}={shape.format(draw.choice(NUMBERS))}"])


def wrong(overrides: list[str]) -> str | None:
    """Say what is wrong about how a config is checked: all but success and errors of ours."""
    began, found = time.process_time(), None
    try:
        check_config(config_from_text(BASE, "base.yaml", overrides))
    except Exception as error:
        # What the command makes of a path that cannot be looked up is an error of ours as well.
        ours = error if isinstance(error, VtrainError) else no_place(error)
        if ours is None:
            found = f"{type(error).__name__}: {error}"
        else:
            ugly = [line for line in ours.lines() if len(line) > 500 or not line.isprintable()]
            found = f"printed {ugly[0]}" if ugly else None
    if time.process_time() - began > SECONDS:
        found = f"it took {time.process_time() - began:.1f} s"
    return found and f"{[text[:200] for text in overrides]}: {found[:500]}"
