"""Name the section of a config whose values a constructor refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from vtrain.errors import ConfigError


@contextmanager
def section(name: str) -> Iterator[None]:
    """Turn a constructor's refusal of its values into a mistake in the config's section `name`."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
