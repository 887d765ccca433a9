"""The HTTP API, on a model whose answers are known."""

import base64
import io
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.serve.cases import CLASSES, HOSTILE, client, colour, explain, probabilities, served
from vtrain.explain.methods import METHODS
from vtrain.files.lazy_image import image_of
from vtrain.serve.limits import Limits
from vtrain.serve.served import Array, Explanation, Shown


def test_the_classes_of_an_image_are_named_in_order() -> None:
    with client() as (http, _):
        answer = http.post("/predict", content=colour(9, 99, 29))
    assert answer.status_code == 200
    total = 10 + 100 + 30 + 1
    assert [one["class"] for one in answer.json()["predictions"]] == [
        "green",
        "blue",
        "red",
        HOSTILE,
    ]
    found = [one["probability"] for one in answer.json()["predictions"]]
    np.testing.assert_allclose(found, [100 / total, 30 / total, 10 / total, 1 / total], rtol=1e-6)
    assert "unsure" not in answer.json()


def test_the_number_of_classes_can_be_asked_for() -> None:
    with client() as (http, _):
        for text, count in (("1", 1), ("3", 3), ("99", 4)):
            found = http.post(f"/predict?top_k={text}", content=colour(1, 2, 3)).json()
            assert len(found["predictions"]) == count
        for text in ("0", "-1", "x", "1.5", "", "\u0661", "9" * 5000):
            answer = http.post("/predict", params={"top_k": text}, content=colour(1, 2, 3))
            assert answer.status_code == (200 if text.startswith("99") else 400)


def test_an_improbable_answer_is_unsure() -> None:
    with client(served(reject=0.6)) as (http, _):
        said = [http.post("/predict", content=colour(*rgb)).json()["unsure"]
                for rgb in ((200, 0, 0), (100, 100, 100))]  # fmt: skip
    assert said == [False, True]


def test_every_content_type_but_a_form_is_taken_for_the_bytes_of_a_file() -> None:
    with client() as (http, _):
        for kind in ("image/png", "application/x-www-form-urlencoded", "text/html", "x", ""):
            answer = http.post("/predict", content=colour(1, 2, 3), headers={"Content-Type": kind})
            assert answer.status_code == 200, kind
        answer = http.post("/predict", files={"file": colour(1, 2, 3)})
    assert answer.status_code == 415
    assert "curl --data-binary" in answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the body is empty"),
        (b"no image", "not a readable image"),
        (colour(1, 2, 3)[:-30], "damaged image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://x/'/></svg>", "SVG"),
        (b"%!PS-Adobe", "PostScript"),
        (colour(1, 2, 3, size=(8000, 8000)), "an image of 8000 x 8000 pixels is over the limit"),
        (colour(0, 0, 0, size=(1, 1), kind="TIFF") + b"\0" * 99, None),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(content: bytes, why: str | None) -> None:
    with client() as (http, _):
        answer = http.post("/predict", content=content)
    if why is None:
        assert answer.status_code == 200
    else:
        assert answer.status_code == (413 if "over the limit" in why else 400)
        assert why in answer.json()["error"]


def test_a_jpeg_of_64_megapixels_is_decoded_at_half_its_size() -> None:
    seen = []

    def prepare(image: Image.Image) -> Array:
        seen.append(image.size)
        return np.array(image.resize((4, 4))).transpose(2, 0, 1)

    with client(served(prepare=prepare)) as (http, _):
        answer = http.post("/predict", content=colour(9, 9, 200, size=(8000, 8000), kind="JPEG"))
    assert answer.status_code == 200
    assert seen == [(4000, 4000)]
    assert answer.json()["predictions"][0]["class"] == "blue"


def test_a_body_is_measured_while_it_is_read_and_not_believed() -> None:
    def untold() -> Iterator[bytes]:  # in pieces, its length is not stated
        yield from [b"x" * 1000] * 6

    limits = Limits(body_bytes=5000)
    with client(limits=limits) as (http, api):
        for body in (b"x" * 5001, untold()):
            answer = http.post("/predict", content=body)
            assert answer.status_code == 413
            assert "5,000 bytes" in answer.json()["error"]
        assert (api.waiting, api.held) == (0, 0)
        assert http.post("/predict", content=colour(1, 2, 3)).status_code == 200


def test_all_bodies_together_are_bounded() -> None:
    with client(limits=Limits(all_bytes=200)) as (http, api):
        answer = http.post("/predict", content=b"x" * 300)
        assert (answer.status_code, api.held) == (503, 0)
        assert answer.headers["retry-after"] == "1"


def test_too_many_requests_are_turned_away_and_the_others_answered() -> None:
    go = threading.Event()

    def slow(images: Array) -> Array:
        go.wait(20)
        return probabilities(images)

    with client(served(probabilities=slow), limits=Limits(waiting=3)) as (http, api):
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(http.post, "/predict", content=colour(1, 2, 3)) for _ in range(3)]
            end = time.monotonic() + 20
            while api.waiting < 3 and time.monotonic() < end:
                time.sleep(0.005)
            refused = http.post("/predict", content=colour(1, 2, 3))
            assert refused.status_code == 503
            assert http.get("/health").json() == {"status": "ok", "waiting": 3}
            go.set()
            assert [one.result().status_code for one in asked] == [200] * 3
        assert api.waiting == 0


def test_answers_that_take_too_long_are_given_up() -> None:
    go = threading.Event()

    def slow(images: Array) -> Array:
        go.wait(20)
        return probabilities(images)

    limits = Limits(answer_seconds=0.05)
    with client(served(probabilities=slow), limits=limits) as (http, api):
        answer = http.post("/predict", content=colour(1, 2, 3))
        assert (answer.status_code, api.waiting) == (504, 0)
        go.set()


def test_what_waited_too_long_is_never_computed() -> None:
    """A request that was given up leaves the queue; only what had begun is done to its end."""
    go, begun = threading.Event(), []

    def slow(image: Image.Image, *rest: str | None) -> Explanation:
        begun.append(image)
        go.wait(20)
        return explain(image, *rest)

    limits = Limits(answer_seconds=0.2)
    with client(served(explain=slow), limits=limits) as (http, _):
        for _ in range(3):  # one after the other: the first holds the model's thread
            assert http.post("/explain", content=colour(1, 2, 3)).status_code == 504
        go.set()
    assert len(begun) == 1


def test_a_fault_of_the_model_is_no_traceback_and_costs_the_others_nothing() -> None:
    def sometimes(images: Array) -> Array:
        if images[0, 0, 0, 0] == 13:
            raise ValueError("/home/me/secret.pt")
        return (
            np.full((len(images), 4), np.nan) if images[0, 0, 0, 0] == 14 else probabilities(images)
        )

    with client(served(probabilities=sometimes)) as (http, _):
        answer = http.post("/predict", content=colour(13, 0, 0))
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        answer = http.post("/predict", content=colour(14, 0, 0))
        assert answer.status_code == 500
        assert "not finite" in answer.json()["error"]
        assert http.post("/predict", content=colour(1, 0, 0)).status_code == 200


def test_a_map_comes_with_its_place_and_its_values() -> None:
    with client() as (http, _):
        found = http.post("/explain?class=green&method=own&values", content=colour(1, 2, 3)).json()
        plain = http.post("/explain", content=colour(1, 2, 3)).json()
        other = http.post("/explain", params={"map": HOSTILE}, content=colour(1, 2, 3)).json()
    expected = explain(Image.new("RGB", (6, 5)), "own", "green", None)
    assert (found["class"], found["method"]) == ("green", "own")
    assert found["shape"] == [2, 3]
    assert found["values"] == expected.values.tolist()
    assert (found["box"], found["size"]) == ([0, 0, 6, 5], [6, 5])
    picture = base64.b64decode(found["picture"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(picture)).size == (3, 2)
    assert "values" not in plain
    assert plain["class"] is None
    assert (plain["map"], plain["maps"]) == ("both tokens", ["both tokens", HOSTILE])
    assert other["map"] == HOSTILE


def test_what_cannot_be_explained_says_so() -> None:
    with client() as (http, _):
        answer = http.post("/explain?class=gren", content=colour(1, 2, 3))
        assert answer.status_code == 400
        assert "did you mean 'green'?" in answer.json()["error"]
    with client(served(explain=None)) as (http, _):
        answer = http.post("/explain", content=colour(1, 2, 3))
        assert answer.status_code == 501
        assert "serve its checkpoint" in answer.json()["error"]


def test_a_photograph_is_shown_as_it_was_read_on_demand() -> None:
    with client() as (http, _):
        content = colour(9, 8, 7, size=(1000, 250), kind="TIFF")
        photo = http.post("/explain?photo", content=content).json()["photo"]
        assert "photo" not in http.post("/explain", content=content).json()
    image = Image.open(io.BytesIO(base64.b64decode(photo.removeprefix("data:image/png;base64,"))))
    assert (image.size, image.getpixel((99, 99))) == ((512, 128), (9, 8, 7))


def test_an_example_of_many_bands_comes_with_all_of_them() -> None:
    bands = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    with client(served(examples=[Shown("", "data:,", lambda: image_of(bands))])) as (http, _):
        answer = http.get("/examples/0")
    assert np.array_equal(np.load(io.BytesIO(answer.content)), bands)
    assert answer.headers["content-type"] == "application/octet-stream"


def test_examples_are_known_by_their_number_alone() -> None:
    with client() as (http, _):
        answer = http.get("/examples/0")
        assert Image.open(io.BytesIO(answer.content)).getpixel((0, 0)) == (0, 0, 255)
        for other in ("1", "-1", "00", "x", "..%2f..%2fetc%2fpasswd", "9" * 6000):
            assert http.get(f"/examples/{other}").status_code == 404


@pytest.mark.parametrize("path", ["/nope", "/static/x", "/../etc/passwd", "/docs", "/openapi.json"])
def test_there_is_nothing_else(path: str) -> None:
    with client() as (http, _):
        assert http.get(path).status_code == 404
        assert http.get("/predict").status_code == 405
        assert http.post("/", content=b"x").status_code == 405


class TestPage:
    def test_it_is_whole_and_its_names_are_text(self) -> None:
        with client() as (http, _):
            html = http.get("/").text
        assert "<script>alert" not in html
        assert html.count("<script>") == html.count("</script>") == 1
        assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
        assert not re.search(
            r"""\son\w+=["']""", html.partition("<script>")[0].replace("&#39;", "")
        )
        assert len(html.encode()) < 40_000
        for name in CLASSES[:3]:
            assert f"<li>{name}</li>" in html

    def test_every_method_is_explained(self) -> None:
        with client() as (http, _):
            text = http.get("/").text
        said = re.search(r"const meaning = {(.*?)};", text, re.S)
        assert said is not None
        assert set(re.findall(r"^  (\w+): \"\w", said[1], re.M)) == set(METHODS)

    def test_nothing_outside_is_named(self) -> None:
        with client() as (http, _):
            html = http.get("/").text
        addresses = re.findall(r"(?:src|href|action)=\"([^\"]*)\"", html)
        assert all(one.startswith("data:") or one == "" for one in addresses)
        assert not re.findall(r"https?://(?!127\.0\.0\.1:8000/predict)", html)

    def test_its_policy_allows_its_own_script_and_nothing_else(self) -> None:
        import hashlib

        with client() as (http, _):
            answer = http.get("/")
        policy = dict(
            part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["connect-src"] == "'self'"
        for tag in ("script", "style"):
            (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.S)
            found = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert policy[f"{tag}-src"] == f"'sha256-{found}'"
        assert "style=" not in answer.text.partition("<script>")[0]

    def test_controls_have_names_for_screen_readers(self) -> None:
        with client() as (http, _):
            html = http.get("/").text.partition("<script>")[0]
        labels = set(re.findall(r'<label for="(\w+)"', html))
        controls = set(re.findall(r'<(?:select|input type="range") id="(\w+)"', html))
        assert controls <= labels
        assert not re.findall(r"<img(?![^>]* alt=)", html)
        assert not re.findall(r"<button(?![^>]* type=\"button\")", html)
        assert 'role="status"' in html
        assert 'role="alert"' in html
        assert 'lang="en"' in html
