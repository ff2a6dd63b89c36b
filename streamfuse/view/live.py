"""The page of a run, as the publish process has it: something to offer things to."""

from __future__ import annotations

from collections.abc import Sequence

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import ViewConfig
from streamfuse.model.spec import ModelSpec
from streamfuse.view.app import live_app
from streamfuse.view.hub import Hub
from streamfuse.view.server import ViewServer


class LiveView:
    """Serves the page until close(); `offer` takes what it shows and never waits.

    raises  ConfigError where the address cannot be used
    """

    def __init__(
        self, config: ViewConfig, spec: ModelSpec, sources: Sequence[str], clock: Clock = SYSTEM
    ) -> None:
        self._hub = Hub(config, spec.heads, sources, spec.name, clock)
        self.offer = self._hub.offer
        self._server = ViewServer(live_app(self._hub, config, clock), config, background=self._hub.run())

    @property
    def counters(self) -> dict[str, int]:
        return {"view_skipped": self._hub.skipped}

    @property
    def pages(self) -> int:
        """Open pages."""
        return len(self._hub.pages)

    @property
    def url(self) -> str:
        return self._server.url

    def close(self) -> None:
        self._server.close()
