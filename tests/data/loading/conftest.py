"""What the tests of loaders share."""

from collections.abc import Iterator

import pytest

from vtrain.data.loading.loader import EvalLoader, TrainLoader


@pytest.fixture
def close() -> Iterator[list[TrainLoader | EvalLoader]]:
    """Loaders put in this list are closed after the test."""
    loaders: list[TrainLoader | EvalLoader] = []
    yield loaders
    for loader in loaders:
        loader.close()
