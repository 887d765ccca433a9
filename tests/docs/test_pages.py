"""The pages of the documentation: their commands run, and both languages say the same."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from vtrain.cli.commands import app

PAGES = sorted(Path("docs/en").glob("*.md"))
TRANSLATED = sorted(Path("docs/zh").glob("*.md"))
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```", re.M | re.S)


def blocks(page: Path, kind: str) -> list[str]:
    return [
        text for title, text in BLOCK.findall(page.read_text(encoding="utf-8")) if title == kind
    ]


def headings(page: Path) -> list[int]:
    """Return the levels of a page's headings, in order."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]


def links(page: Path) -> set[str]:
    """Return the pages and files that a page links to, without what is at an address."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text))


def test_every_page_is_there_in_both_languages() -> None:
    assert [page.name for page in TRANSLATED] == [page.name for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_translation_links_to_the_same_pages_in_its_own_language(page: Path) -> None:
    assert links(Path("docs/zh") / page.name) == links(page)


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: page.name)
def test_a_translation_has_the_same_headings_and_commands(page: Path) -> None:
    original = Path("docs/en") / page.name
    assert headings(page) == headings(original)
    assert [title for title, _ in BLOCK.findall(page.read_text())] == [
        title for title, _ in BLOCK.findall(original.read_text())
    ]
    for kind in ("sh", "python", "text"):
        assert blocks(page, kind) == blocks(original, kind)


@pytest.mark.parametrize("name", ["howto", "python"])
def test_the_python_of_a_page_runs_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "".join(blocks(Path(f"docs/en/{name}.md"), "python"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, name, "exec"), {})
    assert list(tmp_path.glob("runs/**/summary.json"))


@pytest.mark.parametrize(
    "page", [*PAGES, *TRANSLATED, Path("README.md"), Path("README.zh.md")], ids=str
)
def test_every_page_that_is_linked_is_there(page: Path) -> None:
    assert not [link for link in links(page) if not (page.parent / link).exists()]
    if Path("docs") in page.parents:  # the site has nothing else
        outside = [link for link in links(page) if not under_docs(page.parent / link)]
        assert not outside, "name what is outside docs without a link"


def test_the_index_leads_to_every_page() -> None:
    linked = sorted(Path("docs") / link for link in links(Path("docs/index.md")))
    assert linked == sorted([*PAGES, *TRANSLATED])


def in_order(nav: list[Any]) -> list[str]:
    """Return the pages of a navigation, or of a part of it, as they stand there."""
    found = []
    for entry in nav:
        if isinstance(entry, str):
            found.append(entry)
        else:
            found += [page for part in entry.values() for page in in_order(part)]
    return found


def test_the_navigation_has_every_page_in_the_same_order_in_both_languages() -> None:
    settings = tomllib.loads(Path("zensical.toml").read_text(encoding="utf-8"))
    pages = in_order(settings["project"]["nav"])
    assert sorted(pages) == sorted(
        [str(page.relative_to("docs")) for page in [*PAGES, *TRANSLATED]] + ["index.md"]
    )
    english = [page.removeprefix("en/") for page in pages if page.startswith("en/")]
    assert english == [page.removeprefix("zh/") for page in pages if page.startswith("zh/")]


def under_docs(path: Path) -> bool:
    """Return whether a path, `..` resolved, lies in the folder that the site is built from."""
    return path.resolve().is_relative_to(Path("docs").resolve())


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATED, Path("README.md")], ids=str)
def test_every_command_and_option_of_a_page_exists(page: Path) -> None:
    commands = typer.main.get_command(app).commands
    for text in blocks(page, "sh"):
        lines = [shlex.split(line, comments=True) for line in text.splitlines()]
        for _, name, *arguments in [line for line in lines if line[:1] == ["vtrain"]]:
            if name.startswith("-"):
                continue
            known = {option for p in commands[name].params for option in p.opts} | {"--help"}
            given = {
                a.split("=")[0].strip("[]") for a in arguments if a.strip("[").startswith("--")
            }
            assert given <= known, f"vtrain {name} in {page}"


def figures(page: str) -> list[str]:
    """Return the numbers of a page from its table on, those of blocks and links left out."""
    text = re.sub(r"\]\([^)]*\)", "", BLOCK.sub("", Path(page).read_text(encoding="utf-8")))
    return re.findall(
        r"\d+(?:\.\d+)?", text[text.index("| config" if "zh" not in page else "| 配置") :]
    )


def test_the_chinese_readme_has_the_headings_commands_and_figures_of_the_other() -> None:
    english, chinese = Path("README.md"), Path("README.zh.md")
    assert headings(chinese) == headings(english)
    assert BLOCK.findall(chinese.read_text(encoding="utf-8")) == BLOCK.findall(english.read_text())
    assert sorted(figures("README.zh.md")) == sorted(figures("README.md"))
    assert len(english.read_text().splitlines()) <= 100
