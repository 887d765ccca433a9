"""The requests that the page on `vtrain serve` shows are answered as it says."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.test_pages import blocks
from tests.serve.cases import colour, served, server
from vtrain.serve.limits import Limits

PAGE = Path("docs/en/serve.md")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_lines_of_curl_are_answered(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(colour(9, 9, 250, kind="JPEG"))
    lines = [line for text in blocks(PAGE, "sh") for line in text.splitlines() if "curl" in line]
    assert len(lines) == 3
    with server(served(reject=0.5)) as (port, _):
        answers = [
            json.loads(
                subprocess.run(
                    ["bash", "-c", line.replace(":8000/", f":{port}/")],
                    cwd=tmp_path, capture_output=True, check=True, timeout=60,
                ).stdout
            )
            for line in lines
        ]  # fmt: skip
    predicted, explained, health = answers
    assert predicted["predictions"][0]["class"] == "blue"
    assert set(predicted) == {"predictions", "unsure"}
    assert explained["method"] == "gradcam"
    for key in explained:
        assert f"`{key}`" in PAGE.read_text()
    assert health == {"status": "ok", "waiting": 0}


def test_its_limits_are_those_of_the_program() -> None:
    text, limits = PAGE.read_text(), Limits()
    assert f"more than {limits.body_bytes >> 20} MB" in text
    assert f"{limits.pixels // 10**6} million pixels" in text
    assert f"{limits.waiting} requests wait already" in text
    assert f"too slowly ({limits.read_seconds:.0f} s)" in text
    assert f"too long ({limits.answer_seconds:.0f} s)" in text
    assert f"one batch of up to {limits.batch}" in text
    security = re.sub(r"\s+", " ", Path("SECURITY.md").read_text())
    assert (
        f"at most {limits.body_bytes >> 20} MB, {limits.pixels // 10**6} million pixels" in security
    )
    assert f"{limits.waiting} requests at once" in security
