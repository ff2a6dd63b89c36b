"""Who may ask for what: hosts, origins, methods, the token, and what every answer forbids."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from streamfuse.view.app import SITE
from streamfuse.view.guard import COOKIE, cookie_value
from tests.view.made import a_hub, asking, news_of, refused_news

TOKEN = "correct-horse-battery"
PATHS = ["/", "/about", "/static/main.js", "/static/style.css", "/login", "/nothing"]


@pytest.fixture
def client() -> TestClient:
    with asking(a_hub()) as made:
        return made


@pytest.fixture
def guarded() -> TestClient:
    with asking(a_hub(), TOKEN) as made:
        return made


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_forbids_all_that_is_not_ours(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["media-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self' ws://127.0.0.1:8765 wss://127.0.0.1:8765"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in ("no-store", "no-cache")
    assert not any(name.startswith("access-control") for name in headers)
    assert "server" not in headers


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8765",
        "localhost:8765",
        "LOCALHOST",
        "[::1]:8765",
        "192.0.2.7:8765",
        "localhost.",
        "cameras.example",
    ],
)
def test_known_hosts_are_answered(host: str) -> None:
    with asking(a_hub(), host=host, hosts=("cameras.example",)) as client:
        assert client.get("/about").status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "a b",
        "x@127.0.0.1",
    ],
)
def test_other_hosts_are_turned_away(client: TestClient, host: str) -> None:
    """DNS rebinding: their page's name means this machine, but it asks under that name."""
    answer = client.get("/about", headers={"host": host})
    assert (answer.status_code, answer.text) == (
        421,
        "asked for by a name that is not this page's (view.hosts)\n",
    )
    assert refused_news(client, {"host": host}) == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    ],
)
def test_other_sites_may_not_read(client: TestClient, headers: dict[str, str]) -> None:
    for path in ("/", "/about", "/static/main.js"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.text) == (403, "other sites may not use this page\n")
    assert refused_news(client, headers) == 403


def test_other_sites_may_link_here(client: TestClient) -> None:
    follows = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=follows).status_code == 200
    assert client.get("/about", headers=follows).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_page_is_only_looked_at(client: TestClient, method: str) -> None:
    assert client.request(method, "/about").status_code == 405


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/index.html"]
)
def test_nothing_but_the_sites_files_is_given(client: TestClient, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_site_needs_nothing_of_others_and_runs_nothing_inline() -> None:
    for file in SITE.iterdir():
        text = file.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/)|//cdn|@import", text), file
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        ), file
        if file.suffix == ".html":
            assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", text), file


# -- the token -------------------------------------------------------------------


def test_without_the_token_there_is_only_the_login(guarded: TestClient) -> None:
    assert guarded.get("/").headers["location"] == "/login"
    for path in ("/about", "/static/main.js", "/nothing", "/static/live.js"):
        assert guarded.get(path).status_code == 401
    assert refused_news(guarded) == 401
    assert "needs the token" in guarded.get("/login").text


def test_right_token_gives_a_cookie_that_opens_the_page(guarded: TestClient) -> None:
    answer = guarded.post("/login", data={"token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/about").json() == {"mode": "live"}
    with news_of(guarded) as news:
        assert news.receive_json()["type"] == "hello"


def test_wrong_token_is_refused(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamfuse.view.app.WRONG_TOKEN_S", 0.0)
    for wrong in (
        "",
        "x",
        TOKEN + "x",
        TOKEN[:-1],
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ):
        answer = guarded.post("/login", data={"token": wrong})
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "not the token" in answer.text


@pytest.mark.parametrize("cookie", ["", TOKEN, cookie_value("another-token-of-16"), "a" * 64, '"', "ü"])
def test_wrong_cookie_is_refused(guarded: TestClient, cookie: str) -> None:
    header = f"{COOKIE}={cookie}".encode()
    assert guarded.get("/about", headers={b"cookie": header}).status_code == 401


def test_programs_may_show_the_token_itself(guarded: TestClient) -> None:
    assert guarded.get("/about", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for wrong in (f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"bearer {TOKEN.upper()}"):
        assert guarded.get("/about", headers={"authorization": wrong}).status_code == 401


def test_login_reads_no_more_than_a_form(guarded: TestClient) -> None:
    assert guarded.post("/login", content=b"token=" + b"x" * 5000).status_code == 413


def test_login_from_another_site_is_refused(guarded: TestClient) -> None:
    answer = guarded.post("/login", data={"token": TOKEN}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403
