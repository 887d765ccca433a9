"""The page in a browser: dropped, pasted, chosen, by keyboard, broken, and without a network."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serve.browser import Browser, find_browser
from tests.serve.cases import HOSTILE, NAMES, colour, served, server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
ANSWERED = "!document.querySelector('#answer').hasAttribute('aria-busy')"
LIKELIEST = "document.querySelector('#bars .name')?.textContent"
HAND_OVER = """(() => {{
  const bytes = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
  const carrier = new DataTransfer();
  carrier.items.add(new File([bytes], "{name}", {{type: "image/png"}}));
  const details = {{bubbles: true, cancelable: true}};
  details.dataTransfer = details.clipboardData = carrier;
  document.body.dispatchEvent(new {kind}(details));
}})()"""


def hand_over(browser: Browser, how: str, content: bytes, name: str = "some.png") -> None:
    """Drop or paste a file, as far as a page can see."""
    import base64

    kind = {"drop": 'DragEvent("drop", details', "paste": 'ClipboardEvent("paste", details'}[how]
    script = HAND_OVER.format(data=base64.b64encode(content).decode(), name=name, kind="KIND")
    browser.run(script.replace("KIND(details", kind))


@pytest.fixture(scope="module")
def program() -> str:
    found = find_browser()
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return found


@pytest.fixture
def page(program: str, tmp_path: Path) -> Iterator[tuple[Browser, int]]:
    with server(served(reject=0.6)) as (port, _):
        browser = Browser(program, tmp_path / "profile")
        try:
            browser.open(f"http://127.0.0.1:{port}/")
            yield browser, port
        finally:
            browser.close()


def answered(browser: Browser, name: str) -> None:
    browser.until(f"{ANSWERED} && {LIKELIEST} === {name!r}")


def test_an_image_is_dropped_pasted_and_chosen(page: tuple[Browser, int], tmp_path: Path) -> None:
    browser, port = page
    assert browser.run("document.title") == f"{HOSTILE} - vtrain"
    hand_over(browser, "drop", colour(250, 0, 0))
    answered(browser, "red")
    assert browser.run("document.querySelector('#bars .share').textContent") == "98.8 %"
    assert browser.run("document.querySelector('#status').textContent") == "red, 98.8 %"
    assert browser.run("document.querySelectorAll('#bars li').length") == 4
    assert browser.run("document.querySelector('#unsure').hidden")
    hand_over(browser, "paste", colour(0, 250, 0))
    answered(browser, "green")
    (tmp_path / "blue.png").write_bytes(colour(9, 9, 250))
    browser.choose("#file", tmp_path / "blue.png")
    answered(browser, "blue")
    assert browser.run("document.querySelector('#name').textContent") == "blue.png"
    assert browser.run("document.querySelector('#photo').naturalWidth") == 6
    # A grey image is none of them.
    hand_over(browser, "drop", colour(100, 100, 100))
    browser.until(f"{ANSWERED} && !document.querySelector('#unsure').hidden")
    assert browser.run("document.querySelector('#status').textContent").startswith("Unsure")
    own = f"http://127.0.0.1:{port}/"
    outside = [one for one in browser.asked if not one.startswith((own, "data:", f"blob:{own}"))]
    assert outside == []
    assert browser.complaints == []  # nothing broke the policy, no script failed


def test_the_map_lies_over_the_photograph_and_fades(page: tuple[Browser, int]) -> None:
    browser, _ = page
    hand_over(browser, "drop", colour(250, 0, 0))
    browser.until(f"{ANSWERED} && !document.querySelector('#looked').hidden")
    places = browser.run("""["photo", "map"].map((id) => {
      const box = document.getElementById(id).getBoundingClientRect();
      return [box.x, box.y, box.width, box.height].map(Math.round);
    })""")
    assert places[0] == places[1], "the box of this map is the whole image"
    opacity = "getComputedStyle(document.querySelector('#map')).opacity"
    assert browser.run(opacity) == "0.65"
    browser.run("document.querySelector('#opacity').focus()")
    browser.press("ArrowLeft")
    assert browser.run(opacity) == "0.6"
    assert browser.run("document.querySelector('#method').textContent").startswith("By own:")
    browser.run("""(() => {
      const choice = document.querySelector('#of');
      choice.selectedIndex = 2;
      choice.dispatchEvent(new Event('change'));
    })()""")
    browser.until("document.querySelector('#method').textContent.includes('of green')")
    # Each of several maps can be chosen, of the class that is chosen too.
    assert not browser.run("document.querySelector('#several').hidden")
    assert browser.run("[...document.querySelector('#which').options].map((o) => o.text)") == [
        *NAMES
    ]
    browser.run("""(() => {
      const choice = document.querySelector('#which');
      choice.selectedIndex = 1;
      choice.dispatchEvent(new Event('change'));
    })()""")
    browser.wait(
        lambda: any("class=green&map=" in one for one in browser.asked), "the map is asked for"
    )
    browser.until("document.querySelector('#which').selectedIndex === 1")
    assert browser.complaints == []


def test_everything_is_reached_by_keyboard(page: tuple[Browser, int]) -> None:
    browser, _ = page
    reached = []
    for _ in range(8):
        browser.press("Tab")
        reached.append(browser.run("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:2] == ["choose", "camera"]
    assert "BUTTON" in reached, "an example"
    assert reached.count("SUMMARY") == 2
    browser.run("document.querySelector('[data-example]').focus()")
    browser.press("Enter")
    answered(browser, "blue")
    browser.run("document.querySelector('#file').addEventListener('click', (event) => {"
                "event.preventDefault(); document.title = 'opened'; }); "
                "document.querySelector('#choose').focus()")  # fmt: skip
    browser.press(" ")
    browser.until("document.title === 'opened'")


def test_the_camera_takes_a_picture(page: tuple[Browser, int]) -> None:
    browser, _ = page
    browser.run("document.querySelector('#camera').click()")
    browser.until("document.querySelector('#video').videoWidth > 0")
    browser.run("document.querySelector('#shoot').click()")
    browser.until(f"{ANSWERED} && document.querySelectorAll('#bars li').length === 4")
    browser.run("document.querySelector('#stop').click()")
    assert browser.run("document.querySelector('#live').hidden")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"no image at all", "not a readable image"),
        (colour(1, 2, 3)[:-30], "damaged image"),
        (colour(1, 2, 3, size=(8000, 8000)), "over the limit"),
        (b"\x89PNG" + b"x" * (21 * 2**20), "too large"),
    ],
    ids=["text", "cut off", "64 megapixels", "21 MB"],
)
def test_what_cannot_be_read_is_said_and_the_next_image_answered(
    page: tuple[Browser, int], tmp_path: Path, content: bytes, why: str
) -> None:
    browser, _ = page
    (tmp_path / "odd.png").write_bytes(content)
    browser.choose("#file", tmp_path / "odd.png")
    browser.until(f"document.querySelector('#error').textContent.includes('{why}')")
    assert browser.run("document.querySelector('#status').textContent") == "No answer."
    assert browser.run("document.querySelectorAll('#bars li').length") == 0
    hand_over(browser, "drop", colour(0, 0, 250))
    answered(browser, "blue")
    assert browser.run("document.querySelector('#error').hidden")


def test_a_jpeg_of_64_megapixels_is_answered(page: tuple[Browser, int], tmp_path: Path) -> None:
    browser, _ = page
    (tmp_path / "large.jpg").write_bytes(colour(9, 9, 250, size=(8000, 8000), kind="JPEG"))
    browser.choose("#file", tmp_path / "large.jpg")
    answered(browser, "blue")


def test_what_the_browser_cannot_show_is_shown_as_the_server_read_it(
    page: tuple[Browser, int], tmp_path: Path
) -> None:
    browser, _ = page
    (tmp_path / "a.tif").write_bytes(colour(9, 250, 9, size=(600, 300), kind="TIFF"))
    browser.choose("#file", tmp_path / "a.tif")
    answered(browser, "green")
    browser.until("document.querySelector('#photo').naturalWidth === 512")
    assert browser.run("document.querySelector('#invisible').hidden")
    browser.until("document.querySelector('#map').getBoundingClientRect().width > 100")
    assert sum("explain?photo" in one for one in browser.asked) == 1
    hand_over(browser, "drop", colour(250, 9, 9))
    answered(browser, "red")
    browser.until("document.querySelector('#photo').naturalWidth === 6")
    assert sum("explain?photo" in one for one in browser.asked) == 1


def test_a_server_that_has_gone_is_said(program: str, tmp_path: Path) -> None:
    browser = Browser(program, tmp_path / "profile")
    try:
        with server() as (port, _):
            browser.open(f"http://127.0.0.1:{port}/")
        hand_over(browser, "drop", colour(250, 0, 0))
        browser.until("document.querySelector('#error').textContent.includes('does not answer')")
        assert not browser.run("document.querySelector('#shown').hidden")
    finally:
        browser.close()


def test_an_address_that_is_dropped_is_not_fetched(page: tuple[Browser, int]) -> None:
    browser, _ = page
    before = len(browser.asked)
    browser.run("""(() => {
      const carrier = new DataTransfer();
      carrier.setData("text/uri-list", "http://evil.example/x.png");
      for (const event of [
        new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: carrier}),
        new ClipboardEvent("paste", {bubbles: true, clipboardData: carrier}),
      ]) document.body.dispatchEvent(event);
    })()""")
    browser.until("document.querySelector('#error').textContent.includes('no image')")
    assert len(browser.asked) == before


def test_five_users_at_once_have_their_own_answers(program: str, tmp_path: Path) -> None:
    colours = {"red": (250, 9, 9), "green": (9, 250, 9), "blue": (9, 9, 250)}
    names = ["red", "green", "blue", "red", "green"]
    with server() as (port, api):

        def user(number: int) -> None:
            browser = Browser(program, tmp_path / f"profile {number}")
            try:
                browser.open(f"http://127.0.0.1:{port}/")
                for turn in range(3):
                    name = names[(number + turn) % 5]
                    hand_over(browser, "drop", colour(*colours[name]), f"{number}.png")
                    answered(browser, name)
            finally:
                browser.close()

        with ThreadPoolExecutor(5) as pool:
            list(pool.map(user, range(5)))
        assert sum(api.batcher.batches) == 15
        assert (api.waiting, api.held) == (0, 0)
