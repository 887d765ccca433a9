import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.report.cases import (
    CASES,
    HOSTILE,
    facts,
    hostile_predictions,
    predictions,
    random_scores,
)
from vtrain.errors import DataError
from vtrain.report.analysis import analyse
from vtrain.report.comparison import Run, compare_runs
from vtrain.report.facts import Change, RunFacts
from vtrain.report.figures import data_uri
from vtrain.report.page import run_page, runs_page
from vtrain.report.predictions import Predictions
from vtrain.report.render import count, fact, number, percent, threshold, value
from vtrain.report.scores import Scores
from vtrain.report.thumbnails import Maps

VOID = {"meta", "img", "br", "input", "link", "hr"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def picture(index: int) -> Image.Image:
    if index % 5 == 0:
        raise DataError("no such image file", f"{index}.png")
    return Image.new("RGB", (200 + index, 100), (index % 256, 0, 0))


def hostile_pages() -> dict[str, str]:
    poison = HOSTILE[1]
    config = {"data": {"root": poison}, poison: HOSTILE[0]}
    made = RunFacts(
        HOSTILE[0],
        HOSTILE[4],
        config,
        [Change(poison, HOSTILE[2], HOSTILE[3])],
        facts().rows,
        {poison: poison},
        {"command": [poison, HOSTILE[0]]},
        {"state": "failed", "reason": poison},
        dict.fromkeys(HOSTILE, 5),
        {poison: poison},
    )
    p = hostile_predictions()
    other = RunFacts(HOSTILE[2], "x", {"seed": poison}, rows=facts().rows)
    noisy = Predictions(p.logits[::-1].copy(), p.targets, p.ids, p.classes, p.about)
    runs = [Run(made, p), Run(other, noisy), Run(facts(poison), None)]
    compared = compare_runs(runs, runs[0])
    lost = compared.against[0].lost
    assert len(lost) > 3
    shown = {one.image: data_uri(picture(1), "PNG") for one in lost[:2]}
    return {
        "run": run_page(made, analyse(p, [5] * len(HOSTILE)), picture, maps=Maps(missing=poison)),
        "no predictions": run_page(made, poison),
        "runs": runs_page(compared, [run.facts for run in runs], shown),
    }


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return hostile_pages()


@pytest.mark.parametrize("name", ["run", "no predictions", "runs"])
class TestPage:
    def test_hostile_names_are_text(self, pages: dict[str, str], name: str) -> None:
        page = Page(pages[name])
        assert page.open == []
        assert {tag for tag, _ in page.elements}.isdisjoint({"script", "base", "iframe", "link"})
        assert not [a for _, attrs in page.elements for a in attrs if a.startswith("on")]
        assert [tag for tag, _ in page.elements].count("title") == 1
        for text in HOSTILE[:1] if name != "run" else HOSTILE:
            assert text in page.text, "it is shown as it is"

    def test_nothing_outside_is_named(self, pages: dict[str, str], name: str) -> None:
        addresses = [
            (attrs.get("src"), attrs.get("href"), attrs.get("xlink:href"))
            for _, attrs in Page(pages[name]).elements
        ]
        for address in {a for row in addresses for a in row if a is not None}:
            assert address.startswith(("data:image/", "#"))

    def test_ids_are_unique_and_links_lead_to_them(self, pages: dict[str, str], name: str) -> None:
        elements = Page(pages[name]).elements
        ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        links = {
            attrs.get("href") or attrs.get("xlink:href")
            for tag, attrs in elements
            if tag in ("a", "use")
        }
        urls = re.findall(r"url\(#([^)]*)\)", pages[name])
        assert {str(link).removeprefix("#") for link in links} | set(urls) <= set(ids)

    def test_the_policy_forbids_scripts_and_addresses(
        self, pages: dict[str, str], name: str
    ) -> None:
        (policy,) = [
            attrs["content"]
            for tag, attrs in Page(pages[name]).elements
            if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy is not None
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")

    @pytest.mark.slow
    def test_a_browser_shows_it_and_asks_nobody(
        self, pages: dict[str, str], name: str, tmp_path: Path
    ) -> None:
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("there is no browser")
        asked: list[str] = []

        class Listener(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)

        server = HTTPServer(("127.0.0.1", 0), Listener)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        html = pages[name].replace("127.0.0.1:1/", f"127.0.0.1:{server.server_port}/")
        (tmp_path / "page.html").write_text(html)
        command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += ["--disable-background-networking", "--no-first-run", "--disable-extensions"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", f"file://{tmp_path / 'page.html'}"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
        server.shutdown()
        server.server_close()
        assert asked == []
        assert "<script" not in shown
        assert shown.count("<h1>") == 1
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


@pytest.mark.parametrize("scores", CASES.values(), ids=CASES.keys())
def test_degenerate_predictions_have_a_page(scores: Scores) -> None:
    counts = list(range(scores.num_classes))
    page = Page(run_page(facts(), analyse(predictions(scores), counts), picture))
    assert page.open == []
    assert "nan" not in re.split(r"[^a-z]+", page.text.lower())


def test_what_cannot_be_told_is_said() -> None:
    def text(scores: Scores, **about: object) -> str:
        return Page(run_page(facts(), analyse(predictions(scores, **about)))).text

    one = text(CASES["one image"])
    assert "no temperature can be judged" in one
    assert "a bootstrap of it says nothing" in one
    assert "a bootstrap of it says nothing" not in text(CASES["two images"])
    assert "no conformal sets can be judged" in one
    assert "how many images of each class the model was trained on" in one
    assert "only their names are shown" in one
    assert "Never predicted, though there are images: class 2" in text(
        CASES["class never predicted"]
    )
    assert "nothing can be told: class 3" in text(CASES["class without images"])
    assert "There is no mistake" in text(CASES["all right"])
    assert "No answer is right" in text(CASES["all wrong"])
    assert "trained on these very labels" in text(CASES["random"], split="train")
    assert "trained on these very labels" not in text(CASES["random"])
    unfinished = facts(status={"state": "stopped", "reason": "by hand"}, rows=[])
    page = Page(run_page(unfinished, "there are no predictions")).text
    assert 'its status is "stopped" (by hand)' in page
    assert "there are no predictions" in page
    assert "has logged nothing" in page


def test_a_thousand_classes_are_readable() -> None:
    scores = CASES["more classes than images"]
    page = run_page(facts(), analyse(predictions(scores)), picture)
    assert "The other 10 classes" in page
    assert "All 40 classes" in page
    assert page.count("<th title=") == 2 * 30


@pytest.mark.slow
def test_a_page_of_a_thousand_classes_is_small_and_has_every_class() -> None:
    scores = random_scores(4000, 1000, skill=6)
    page = run_page(facts(), analyse(predictions(scores)), picture)
    assert len(page.encode()) < 8e6
    assert "The other 970 classes" in page
    assert "All 1000 classes" in page
    assert page.count("<th title=") == 2 * 30
    for k in range(1000):
        assert f">class {k}<" in page


def test_maps_stand_beside_the_images_that_have_one() -> None:
    analysis = analyse(predictions(CASES["random"]))
    first = analysis.galleries.sure_and_wrong[1].index
    one = data_uri(Image.new("RGB", (3, 3)), "PNG")
    page = run_page(facts(), analysis, picture, maps=Maps("some method", {first: one}, True))
    assert f'alt=""><img src="{one}"' in page
    assert "Beside the first images is what the model looked at, by some method" in page
    assert "what the model looked at" not in run_page(facts(), analysis, picture)


def test_an_image_that_is_gone_is_told() -> None:
    page = run_page(facts(), analyse(predictions(CASES["random"])), picture)
    assert "the image cannot be read" in page
    assert "data:image/jpeg;base64," in page


def test_runs_without_anything_have_a_page() -> None:
    empty = RunFacts("a", "b")
    page = Page(runs_page(compare_runs([Run(empty, None)] * 2), [empty, empty]))
    assert "nothing does" in page.text
    assert "logged nothing" in page.text


def test_numbers_are_written_for_people() -> None:
    nan = float("nan")
    assert [percent(0.1234), percent(nan), percent(None)] == ["12.3\u00a0%", "\u2013", "\u2013"]
    assert [number(1234.5678), number(0.00012345), number(0.0)] == [
        "1,234.568",
        "0.000123",
        "0.000",
    ]
    assert [count(12345), count(None)] == ["12,345", "\u2013"]
    assert fact(1_234_567, "peak_memory_bytes") == "1.2 MB"
    assert [fact(v, "wall_seconds") for v in (59.6, 3725, nan)] == ["0:01:00", "1:02:05", "nan"]
    assert [fact(v, "parameters") for v in (1_234_567, True, None)] == [
        "1,234,567",
        "true",
        "\u2013",
    ]
    written = {0.87659: "0.8765", 0.06: "0.06000", 0.000129999: "0.0001299", 1.0: "1", 0.0: "0"}
    assert {p: threshold(p) for p in written} == written
    for p in (0.99996, 0.9999999, 1 - 1e-9):
        assert p - (1 - p) / 10 <= float(threshold(p)) <= p
    assert value([1, 0.5, True, None, "x"]) == "[1, 0.5, true, \u2013, x]"
