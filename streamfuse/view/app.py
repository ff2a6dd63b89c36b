"""What the page's server answers: the page itself, the login, and what is told to each open page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import ViewConfig
from streamfuse.view.guard import COOKIE, cookie_value, same
from streamfuse.view.hub import Hub
from streamfuse.view.page import Page, Wish, picture_message

SITE = Path(__file__).with_name("site")
TURN_S = 0.08
"""Between two messages to one page: twelve a second, each with all that has come meanwhile."""
WISHES_S = 0.05
"""Between two wishes that are read of one page."""
FORM_BYTES = 2048
WRONG_TOKEN_S = 1.0
COOKIE_S = 30 * 86_400
TRY_AGAIN_LATER = 1013
NONSENSE = 1008

_wish = msgspec.json.Decoder(Wish)
_encoder = msgspec.json.Encoder()


class _Files(StaticFiles):
    """The site's files; asked for again each time, for they change with the version."""

    def file_response(self, *arguments: object, **options: object) -> Response:
        response: Response = super().file_response(*arguments, **options)  # type: ignore[arg-type]
        response.headers["Cache-Control"] = "no-cache"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        if path == "index.html":
            raise HTTPException(404)
        return await super().get_response(path, scope)


def site_routes(mode: str, config: ViewConfig) -> list[BaseRoute]:
    """The page, its files, the login. `mode` tells the page's script what it shows: live or recording."""

    async def index(_request: Request) -> Response:
        return FileResponse(SITE / "index.html", headers={"Cache-Control": "no-cache"})

    async def about(_request: Request) -> Response:
        return Response(_encoder.encode({"mode": mode}), media_type="application/json")

    async def login(request: Request) -> Response:
        if request.method != "POST":
            return FileResponse(SITE / "login.html")
        given = await _posted_token(request)
        if config.token is None or not same(given, config.token):
            await asyncio.sleep(WRONG_TOKEN_S)
            return FileResponse(SITE / "refused.html", status_code=401)
        answer = RedirectResponse("/", 303)
        value = cookie_value(config.token)
        answer.set_cookie(COOKIE, value, max_age=COOKIE_S, httponly=True, samesite="strict")
        return answer

    return [
        Route("/", index),
        Route("/about", about),
        Route("/login", login, methods=["GET", "POST"]),
        Mount("/static", _Files(directory=SITE)),
    ]


def live_app(hub: Hub, config: ViewConfig, clock: Clock = SYSTEM) -> Starlette:
    async def news(socket: WebSocket) -> None:
        await socket.accept()
        if hub.full:
            await socket.close(TRY_AGAIN_LATER, "too many pages are open")
            return
        page = Page()
        hub.pages.add(page)
        try:
            await _tell(socket, hub, page, clock)
        finally:
            hub.pages.discard(page)

    return Starlette(routes=[*site_routes("live", config), WebSocketRoute("/news", news)])


async def _posted_token(request: Request) -> str:
    """The form's one field. Raises HTTPException 413 where there is more than that."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES:
            raise HTTPException(413)
    return parse_qs(body.decode("ascii", "replace"), max_num_fields=2).get("token", [""])[0].strip()


async def _tell(socket: WebSocket, hub: Hub, page: Page, clock: Clock) -> None:
    """Send what waits for the page until it leaves; each send waits for the browser, and nobody else does."""
    listening = asyncio.create_task(_listen(socket, page))
    try:
        while not listening.done():
            if page.stale:
                page.stale = False
                await socket.send_text(_encoder.encode(hub.hello()).decode())
                for source, still in hub.stills():
                    page.still(source, still)
            waking = asyncio.create_task(page.wake.wait())
            await asyncio.wait((waking, listening), return_when=asyncio.FIRST_COMPLETED)
            waking.cancel()
            page.wake.clear()
            message = page.take(hub.wall_ms)
            if message is not None:
                await socket.send_text(_encoder.encode(message).decode())
            while (due := page.take_still(clock.monotonic_ns())) is not None:
                await socket.send_bytes(picture_message(*due))
            await asyncio.sleep(TURN_S)
        if not listening.result():
            await socket.close(NONSENSE, "a page of ours would not say that")
    except WebSocketDisconnect:
        return
    finally:
        listening.cancel()


async def _listen(socket: WebSocket, page: Page) -> bool:
    """Take the page's wishes in until it leaves (True), or says what no page of ours would (False)."""
    try:
        while True:
            page.ask(_wish.decode(await socket.receive_text()))
            await asyncio.sleep(WISHES_S)
    except WebSocketDisconnect:
        return True
    except (msgspec.MsgspecError, KeyError):  # KeyError: bytes in place of text
        return False
