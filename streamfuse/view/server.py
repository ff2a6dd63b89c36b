"""Serves the page over HTTP from a thread of its own, with bounds on whatever a stranger could hold open."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError
from streamfuse.view.address import Address, check_token, listen, parse_address
from streamfuse.view.guard import Guard

CONNECTIONS = 128
"""At a time; a browser holds up to six, and a page one of them for good."""
REQUEST_S = 10.0
"""A connection that has not sent a whole request by then is closed."""
REQUEST_BYTES = 16_384
MESSAGE_BYTES = 8_192
"""Of a WebSocket message of a page: what it wants to see."""

logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # one line for each bad request fills a disk


class _Impatient(H11Protocol):
    """Closes a connection that says nothing, or says it too slowly: uvicorn itself would wait for ever."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before or self.transport.get_protocol() is not self:
            self._rest()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._rest()
        self._timer = self.loop.call_later(REQUEST_S, self.transport.close)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ViewServer:
    """The page at an address, until close().

    app         what is shown (app.py); the guard is put in front of it here
    background  runs beside it, in the same loop
    raises      ConfigError where the address is taken, not ours, or open to others without a token
    """

    def __init__(
        self, app: ASGIApp, config: ViewConfig, *, background: Coroutine[Any, Any, None] | None = None
    ) -> None:
        address = parse_address(config.address or "")
        check_token(address, config.token)
        try:
            self._listener = listen(address)
        except ConfigError:
            if background is not None:
                background.close()
            raise
        self.address = Address(address.host, self._listener.getsockname()[1])
        self._background = background
        self._server = uvicorn.Server(
            uvicorn.Config(
                Guard(app, token=config.token, hosts=config.hosts),
                http=_Impatient,
                ws="websockets-sansio",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                h11_max_incomplete_event_size=REQUEST_BYTES,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
                ws_max_size=MESSAGE_BYTES,
                ws_ping_interval=10,
                ws_ping_timeout=20,
                ws_per_message_deflate=False,
            )
        )
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return self.address.url

    def close(self, within_s: float = 2.0) -> None:
        """Stop serving; open pages are told, and look for us again."""
        self._server.should_exit = True
        self._thread.join(within_s)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        beside = None if self._background is None else asyncio.create_task(self._background)
        try:
            await self._server.serve(sockets=[self._listener])
        finally:
            if beside is not None:
                beside.cancel()
            self._listener.close()
