"""Who may ask, and what every answer forbids."""

import pytest

from tests.serve.cases import client, colour

TOKEN = "a-token-of-some-length"


class TestGate:
    @pytest.mark.parametrize(
        ("host", "passes"),
        [
            ("127.0.0.1:8000", True),
            ("localhost:8000", True),
            ("LOCALHOST", True),
            ("[::1]:8000", True),
            ("127.9.9.9", True),
            ("evil.example", False),
            ("127.0.0.1.evil.example", False),
            ("localhost.evil.example:8000", False),
            ("192.168.1.7:8000", False),
            ("", False),
            ("127.0.0.1@evil.example", False),
            ("localhost:8000:1", False),
        ],
    )
    def test_only_names_of_this_machine_are_answered(self, host: str, passes: bool) -> None:
        with client() as (http, _):
            for answer in (
                http.get("/", headers={"Host": host}),
                http.get("/health", headers={"Host": host}),
                http.post("/predict", content=colour(1, 2, 3), headers={"Host": host}),
            ):
                assert answer.status_code == (200 if passes else 403)

    @pytest.mark.parametrize(
        ("headers", "passes"),
        [
            ({}, True),
            ({"Origin": "http://127.0.0.1:8000"}, True),
            ({"Origin": "http://127.0.0.1:9000"}, False),
            ({"Origin": "http://evil.example"}, False),
            ({"Origin": "null"}, False),
            ({"Origin": "http://["}, False),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "none"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
        ],
    )
    def test_other_pages_get_nothing(self, headers: dict[str, str], passes: bool) -> None:
        with client() as (http, _):
            answer = http.post("/predict", content=colour(1, 2, 3), headers=headers)
            assert answer.status_code == (200 if passes else 403)
            assert "access-control-allow-origin" not in answer.headers

    def test_a_link_elsewhere_may_lead_to_the_page(self) -> None:
        foreign = {"Sec-Fetch-Site": "cross-site"}
        with client() as (http, _):
            navigated = {**foreign, "Sec-Fetch-Mode": "navigate"}
            assert http.get("/", headers=navigated).status_code == 200
            assert http.get("/", headers=foreign).status_code == 403
            assert http.get("/examples/0", headers=navigated).status_code == 403

    def test_every_answer_says_what_a_browser_must_not_do(self) -> None:
        with client() as (http, _):
            for path, headers in (("/", {}), ("/nope", {}), ("/health", {"Host": "x"})):
                answer = http.get(path, headers=headers)
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["x-frame-options"] == "DENY"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["cache-control"] == "no-store"
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert "server" not in answer.headers

    def test_a_token_is_asked_for_everywhere_but_in_health(self) -> None:
        with client(token=TOKEN) as (http, _):
            assert http.get("/health").status_code == 200
            for answer in (
                http.get("/"),
                http.get("/examples/0"),
                http.get("/?token=wrong"),
                http.get(f"/examples/0?token={TOKEN}"),
                http.post("/predict", content=colour(1, 2, 3)),
                http.post("/explain", content=colour(1, 2, 3)),
                http.get("/", headers={"Authorization": f"Bearer {TOKEN}x"}),
                http.get("/", headers={"Authorization": f"Basic {TOKEN}"}),
                http.get("/", headers={"Cookie": b"vtrain_token=\xff; a"}),
            ):
                assert answer.status_code == 401
                assert TOKEN not in answer.text
            known = {"Authorization": f"Bearer {TOKEN}"}
            assert http.post("/predict", content=colour(1, 2, 3), headers=known).status_code == 200

    def test_a_browser_gets_the_token_as_a_cookie_that_no_script_reads(self) -> None:
        with client(token=TOKEN) as (http, _):
            answer = http.get(f"/?token={TOKEN}")
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            cookie = answer.headers["set-cookie"].lower()
            assert "httponly" in cookie
            assert "samesite=strict" in cookie
            assert http.get("/").status_code == 200  # the client has kept it

    def test_an_open_server_answers_to_addresses_and_its_own_names(self) -> None:
        known = {"Authorization": f"Bearer {TOKEN}"}
        with client(host="192.168.1.7", token=TOKEN) as (http, _):
            for host, code in (
                ("192.168.1.7:8000", 200),
                ("10.0.0.1", 200),
                ("localhost", 200),
                ("evil.example", 403),
            ):
                answer = http.get("/", headers={**known, "Host": host})
                assert answer.status_code == code
