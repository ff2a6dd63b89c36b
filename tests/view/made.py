"""Labels, events and pictures by hand, and a page's server over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession

from streamfuse.clock import utc_iso
from streamfuse.config import ViewConfig
from streamfuse.model.spec import HeadSpec
from streamfuse.types import MS, NS, Event, Face, HeadLabel, Label, Still, TickHead
from streamfuse.view.app import live_app
from streamfuse.view.guard import Guard
from streamfuse.view.hub import Hub

HEADS = (
    HeadSpec("scene", ("indoor", "street", "nature"), threshold=0.0),
    HeadSpec("emotion", ("none", "calm", "happy"), threshold=0.35),
    HeadSpec("sound", ("speech", "music"), kind="sigmoid"),
)
JPEG = b"\xff\xd8\xff inside \xff\xd9"
WALL_NS = 1_800_000_000 * NS


class ViewClock:
    """Time that a test moves; the wall clock goes with it."""

    def __init__(self) -> None:
        self.now_ns = 1000 * NS

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return WALL_NS + self.now_ns - 1000 * NS

    def sleep_ns(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


def a_label(
    index: int, source: str = "door", *, session: int = 0, scene: str = "street", age_ms: int = 40
) -> Label:
    head = TickHead(source, session, index, 0, 100 * MS, "ok", "missing")
    parts = {
        "scene": HeadLabel(scene, 0.75, None, (("street", 0.75), ("indoor", 0.2), ("nature", 0.05))),
        "emotion": HeadLabel("unknown", 0.3, None, (("calm", 0.3), ("happy", 0.25))),
        "sound": HeadLabel(None, None, (("music", 0.9),), (("music", 0.9), ("speech", 0.1234))),
    }
    return Label(
        head,
        parts,
        {"video": "ok", "audio": "missing"},
        warm=True,
        time=utc_iso(WALL_NS + index * 100 * MS),
        latency={"edge_age": age_ms * MS},
    )


def with_face(label: Label) -> Label:
    return replace(label, face=Face((0.1, 0.2, 0.25, 0.5), 0.9))


def an_event(kind: str = "new", label: str = "street", source: str = "door", head: str = "scene") -> Event:
    end_ns = 2 * NS if kind == "end" else None
    time = utc_iso(WALL_NS + 2 * NS)
    return Event(kind, source, 0, head, label, NS, end_ns, 0.875, 0.8, time)  # type: ignore[arg-type]


def a_still(at_s: float = 0.0, source: str = "door", jpeg: bytes = JPEG) -> Still:
    return Still(source, 0, round(at_s * NS), WALL_NS + round(at_s * NS), 320, 240, jpeg)


def a_hub(*sources: str, config: ViewConfig | None = None, clock: ViewClock | None = None) -> Hub:
    return Hub(config or ViewConfig(), HEADS, sources or ("door",), "tiny", clock or ViewClock())


@contextmanager
def asking(
    hub: Hub, token: str | None = None, host: str = "127.0.0.1:8765", **options: object
) -> Iterator[TestClient]:
    """A client of the page, with the guard in front of it as the server puts it there."""
    config = ViewConfig.model_validate({"token": token, **options})
    app = Guard(live_app(hub, config), token=config.token, hosts=config.hosts)
    with TestClient(app, base_url=f"http://{host}", follow_redirects=False) as client:
        yield client


def news_of(client: TestClient, headers: dict[str, str] | None = None) -> WebSocketTestSession:
    """The page's line; the client by itself would ask for `testserver`."""
    return client.websocket_connect(
        f"ws://{client.base_url.netloc.decode()}/news", headers=dict(headers or {})
    )


def refused_news(client: TestClient, headers: dict[str, str] | None = None) -> int:
    """The status with which the page's line is refused."""
    with pytest.raises(WebSocketDenialResponse) as refusal, news_of(client, headers):
        pass
    return refusal.value.status_code
