"""The site is built by one command, of every page, and asks nobody for anything."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.serve.browser import Browser, find_browser

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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, by its one command."""
    zensical = shutil.which("zensical")
    if zensical is None:
        pytest.skip("the extra docs is not installed")
    root = tmp_path_factory.mktemp("site")
    shutil.copytree("docs", root / "docs")
    shutil.copy("zensical.toml", root)
    done = subprocess.run(
        [zensical, "build", "--clean"], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "No issues found" in done.stdout + done.stderr
    return root / "site"


def built(site: Path) -> list[Path]:
    """Return the page of the site for each page of the documentation."""
    return [
        site / page.relative_to("docs").with_suffix(".html")
        for page in sorted(Path("docs").rglob("*.md"))
    ]


def local(address: str) -> str:
    """Return the path of a `file:` address."""
    return unquote(urlsplit(address).path)


@pytest.mark.slow
def test_every_page_is_built_and_loads_nothing_from_outside(site: Path) -> None:
    for page in built(site):
        assert not LOADED.search(page.read_text(encoding="utf-8")), page


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])  # a telephone and a desk
def test_a_browser_shows_every_page_offline_and_none_is_cut_off(
    site: Path, width: int, tmp_path: Path
) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine")
    browser = Browser(program, tmp_path / "profile")
    try:
        for page in built(site):
            browser.open(page.as_uri())
            browser.look(tmp_path / f"{page.parent.name}_{page.stem}.png", width)
            assert browser.run("document.querySelector('article h1').offsetHeight") > 0, page
            # What is wider than the window scrolls in a box of its own, as tables and blocks do.
            assert browser.run("document.documentElement.scrollWidth") <= width, page
            broken = "[...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
            assert browser.run(broken) == [], page
        assert {address.partition(":")[0] for address in browser.asked} <= {"file", "data", "blob"}
        # The theme's search asks for a script that only a plugin writes which loads another from
        # outside (zensical.toml says so): a site that is opened as files has no search.
        absent = {a for a in browser.asked if a.startswith("file:") and not Path(local(a)).exists()}
        assert {Path(local(address)).name for address in absent} <= {"search.js"}
        assert [text for text in browser.complaints if "ERR_FILE_NOT_FOUND" not in text] == []
    finally:
        browser.close()
