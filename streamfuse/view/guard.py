"""Who may ask for what: every request to the page goes through here, whatever route it is for.

- Host: a plain IP address, localhost, or a name from the configuration. A page of another site whose name
  was made to mean this machine (DNS rebinding) asks under its own name, and is turned away.
- Origin and Sec-Fetch-Site: other sites may link here, and no more: no reading, no WebSocket, no frame.
- token: where there is one, nothing but the login is given without it.
- Answers forbid the browser to run, load or send anything that is not ours (Content-Security-Policy), to
  keep them, and to guess their type.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "streamfuse_view"
OPEN_PATHS = ("/login", "/static/login.css", "/static/style.css", "/static/icon.svg")
"""What whoever has no token yet may see."""
_HOST = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?$")


class Guard:
    """ASGI middleware in front of everything.

    token  None: everyone who can reach the address may look
    hosts  names, beside localhost and plain IP addresses, by which it may be asked
    """

    def __init__(self, app: ASGIApp, *, token: str | None = None, hosts: tuple[str, ...] = ()) -> None:
        self._app, self._token = app, token
        self._hosts = frozenset({"localhost", *(name.lower() for name in hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            send = _with_headers(send, "")
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, _with_headers(send, headers["host"]))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return PlainTextResponse("asked for by a name that is not this page's (view.hosts)\n", 421)
        if not _is_same_site(scope, headers, hosts[0]):
            return PlainTextResponse("other sites may not use this page\n", 403)
        if scope["type"] == "http" and scope["method"] not in _methods(scope["path"]):
            return PlainTextResponse("this page is only looked at\n", 405)
        if self._token is None or scope["path"] in OPEN_PATHS or self._has_token(headers, self._token):
            return None
        if scope["type"] == "http" and scope["path"] == "/":
            return RedirectResponse("/login", 303)
        return PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": "Bearer"})

    def _is_ours(self, host: str) -> bool:
        match = _HOST.match(host)
        if match is None:
            return False
        name = match[1].strip("[]").lower().rstrip(".")
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _has_token(self, headers: Headers, token: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and same(given.strip(), token):
            return True
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return False
        return COOKIE in cookies and same(cookies[COOKIE].value, cookie_value(token))


def same(given: str, right: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode())


def cookie_value(token: str) -> str:
    """What a browser keeps in place of the token; good for the page alone, also after a restart."""
    return hmac.new(token.encode(), b"streamfuse view cookie/1", hashlib.sha256).hexdigest()


def _methods(path: str) -> tuple[str, ...]:
    return ("GET", "HEAD", "POST") if path == "/login" else ("GET", "HEAD")


def _is_same_site(scope: Scope, headers: Headers, host: str) -> bool:
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    # A link from elsewhere, followed by a person in a tab of its own.
    follows = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    page = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in ("/", "/login")
    return bool(page and follows)


def _with_headers(send: Send, host: str) -> Send:
    sockets = f" ws://{host} wss://{host}" if host else ""
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
        f"connect-src 'self'{sockets}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )

    async def send_with_headers(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = policy
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "same-origin"  # with none, a form's Origin is `null`
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return send_with_headers
