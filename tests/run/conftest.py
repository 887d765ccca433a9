from pathlib import Path

import pytest

from tests.base_configs import SMALL_RUN


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the small config, made once; tests change copies of it."""
    from vtrain.config import load_config
    from vtrain.run.fit import fit
    from vtrain.run.request import Request

    folder = tmp_path_factory.mktemp("trained")
    (folder / "small.yaml").write_text(SMALL_RUN)
    return fit(Request(load_config(folder / "small.yaml"), "small", folder / "run"))
