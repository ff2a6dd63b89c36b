"""What docs/live.md says to subscribers of a header is what is sent."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from streamfuse.types import Event, Label
from streamfuse.wire.codec import Message, encode
from streamfuse.wire.headers import VERSION
from tests.sinks.made import make_event, make_label

PAGE = Path(__file__).parents[2] / "docs" / "live.md"
ROW = re.compile(r"^  \| (`[^|]+`) \| (both|label) \|", re.MULTILINE)


def described(kind: str) -> set[str]:
    rows = [names for names, where in ROW.findall(PAGE.read_text()) if where in ("both", kind)]
    return {name for names in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize(
    ("kind", "body"), [("label", make_label(source="door")), ("event", make_event(source="door"))]
)
def test_header_of_what_is_published_is_described(kind: str, body: Label | Event) -> None:
    topic, header, _ = encode(Message("door", 3, body))
    told = msgspec.msgpack.decode(header)
    assert topic == f"{kind}/door".encode()
    assert (told["kind"], told["v"], told["source"], told["seq"]) == (kind, VERSION, "door", 3)
    assert set(told) == described(kind)
    assert f"version of the header, now {VERSION}:" in PAGE.read_text()
