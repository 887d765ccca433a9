"""The site is built by one command, of every page, and asks nobody for anything."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|"""
    r"""<link\b[^>]*\bhref=["']?(?:https?:)?//|@import|url\(["']?(?:https?:)?//"""
)
"""What makes a browser ask another server, unlike the address of a link."""


@pytest.mark.parametrize(
    ("page", "asks"),
    [
        ("<script src=https://unpkg.com/shim></script>", True),
        ('<link rel="stylesheet" href="//fonts.example/css">', True),
        ('<a href="https://example.org">there</a><script src="a.js"></script>', False),
    ],
)
def test_what_a_browser_would_load_is_told_from_a_link(page: str, asks: bool) -> None:
    assert bool(LOADED.search(page)) is asks


@pytest.mark.slow
def test_every_page_is_built_and_loads_nothing_from_outside(tmp_path: Path) -> None:
    zensical = shutil.which("zensical")
    if zensical is None:
        pytest.skip("the extra docs is not installed")
    shutil.copytree("docs", tmp_path / "docs")
    shutil.copy("zensical.toml", tmp_path)
    done = subprocess.run(
        [zensical, "build", "--clean"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "No issues found" in done.stdout + done.stderr
    for page in (tmp_path / "docs").rglob("*.md"):
        built = tmp_path / "site" / page.relative_to(tmp_path / "docs").with_suffix(".html")
        text = built.read_text(encoding="utf-8")
        assert not LOADED.search(text), page
