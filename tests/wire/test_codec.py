"""The codec against records of every kind, and against everything that is not a message."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.errors import WireError
from streamfuse.types import Answer, Picture, SessionStart, Still, Tick
from streamfuse.wire.codec import Body, Message, decode, encode, printable
from streamfuse.wire.headers import MAX_HEADER, MAX_PAYLOAD, End, Shutdown
from tests.wire.samples import (
    a_tick,
    an_answer,
    answers,
    carried,
    controls,
    counts,
    names,
    starts,
    stills,
    ticks,
)

# Fewer at the desk: STREAMFUSE_EXAMPLES=500.
EXAMPLES = int(os.environ.get("STREAMFUSE_EXAMPLES", "10000"))
# Ten thousand take a minute, and on a busy machine several.
pytestmark = pytest.mark.timeout(1800)


def same(a: Body, b: Body) -> bool:
    match a, b:
        case Tick(), Tick():
            return a.head == b.head and same_pictures(a.picture, b.picture) and equal(a.samples, b.samples)
        case Answer(), Answer():
            scores = zip(a.probabilities.values(), b.probabilities.values(), strict=True)
            return (
                (a.head, a.views, a.warm, a.face) == (b.head, b.views, b.warm, b.face)
                and [*a.probabilities] == [*b.probabilities]
                and all(equal(x, y) for x, y in scores)
            )
    if isinstance(b, msgspec.Struct):
        b = msgspec.structs.replace(b, v=1)
    return a == b


def equal(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


def same_pictures(a: Picture | None, b: Picture | None) -> bool:
    if a is None or b is None:
        return a is b
    looks = [(p.chroma, p.matrix, p.full_range, p.pixel_aspect) for p in (a, b)]
    return looks[0] == looks[1] and all(equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


def source_of(body: Body, other: str) -> str:
    if isinstance(body, Tick | Answer):
        return body.head.source
    return other if isinstance(body, SessionStart) else str(getattr(body, "source", other))


bodies = st.one_of(ticks(), answers(), carried, starts, stills, controls)


@settings(max_examples=EXAMPLES)
@given(bodies, names, counts)
def test_codec_gives_back_every_record(body: Body, name: str, seq: int) -> None:
    message = Message(source_of(body, name), getattr(body, "seq", seq), body)
    back = decode(encode(message))
    assert (back.source, back.seq) == (message.source, message.seq)
    assert same(back.body, body)


@pytest.mark.parametrize("jpeg", [b"", b"<svg/>", b"\xff\xd8\xff cut off", b"GIF89a\xff\xd9"])
def test_picture_that_is_no_jpeg_is_refused(jpeg: bytes) -> None:
    parts = encode(Message("door", 0, Still("door", 1, 0, 0, 64, 48, jpeg)))
    with pytest.raises(WireError, match=r"a picture is a whole JPEG, got \d+ bytes"):
        decode(parts)


def test_decoded_arrays_are_read_only_views_of_the_message() -> None:
    tick = decode(encode(Message("door", 0, a_tick(3)))).body
    assert isinstance(tick, Tick)
    assert tick.picture is not None
    assert not tick.picture.planes[0].flags.writeable
    assert tick.picture.planes[0].base is not None
    assert tick.samples.flags.aligned


@settings(max_examples=max(1, EXAMPLES // 10))
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_decode_of_noise_raises_only_wire_error(parts: list[bytes]) -> None:
    with pytest.raises(WireError):
        decode(parts)


GOOD = [encode(Message("door", 7, body)) for body in (a_tick(1), an_answer(1), Shutdown(source="door"))]
flips = st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 7)), min_size=1, max_size=3)


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(GOOD), st.integers(0, 1), flips)
def test_decode_of_damaged_message_raises_only_wire_error(
    good: list[bytes], which: int, flips: list[tuple[int, int]]
) -> None:
    """A flipped bit may leave another valid message; nothing but WireError may come out."""
    parts, damaged = [*good], bytearray(good[which])
    for place, bit in flips:
        damaged[place % len(damaged)] ^= 1 << bit
    parts[which] = bytes(damaged)
    try:
        decode(parts)
    except WireError as error:
        assert len(str(error)) < 1000


def header(**changes: Any) -> dict[str, Any]:
    """The header of a good tick as plain data, with some keys changed (`...` takes one away)."""
    fields: dict[str, Any] = msgspec.msgpack.decode(encode(Message("door", 0, a_tick(1)))[1])
    fields.update(changes)
    return {key: value for key, value in fields.items() if value is not ...}


def refused(changes: dict[str, Any], payload: bytes | None = None, topic: bytes = b"tick/door") -> str:
    good = encode(Message("door", 0, a_tick(1)))
    head = msgspec.msgpack.encode(header(**changes))
    with pytest.raises(WireError) as error:
        decode([topic, head, good[2] if payload is None else payload])
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"v": 2}, "version 1 and its place in the sequence, got version 2"),
        ({"v": ...}, "got version 0"),
        ({"v": "1"}, "$.v"),
        ({"seq": ...}, "got version 1, seq -1"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"seq": -1}, "got version 1, seq -1"),
        ({"seq": 2**63}, "$.seq"),
        ({"seq": True}, "got `bool`"),
        ({"seq": 1.0}, "$.seq"),
        ({"session": "1"}, "$.session"),
        ({"dur_ns": 0}, "$.dur_ns"),
        ({"pts_ns": float("nan")}, "$.pts_ns"),
        ({"video": "maybe"}, "$.video"),
        ({"source": "a/b"}, "$.source"),
        ({"source": ""}, "$.source"),
        ({"source": "a\nb"}, "$.source"),
        ({"source": "x" * 129}, "$.source"),
        ({"dropped": 2**31}, "$.dropped"),
        ({"stamps": [["a", 0, 0, 0]] * 17}, "$.stamps"),
        ({"kind": "pickle"}, "kind"),
        ({"kind": ...}, "kind"),
        ({"blocks": [["O", [1]]]}, "$.blocks[0][0]"),
        ({"blocks": [["f8", [1]]]}, "$.blocks[0][0]"),
        ({"blocks": [["f4", [-1, 3]]]}, "$.blocks[0][1][0]"),
        ({"blocks": [["f4", [0]]]}, "$.blocks[0][1][0]"),
        ({"blocks": [["f4", [1, 1, 1, 1]]]}, "$.blocks[0][1]"),
        ({"blocks": [["f4", [16_384, 16_384, 16_384]]]}, "must account for the payload"),
        ({"blocks": []}, "must account for the payload"),
        ({"picture": None}, "has no planes"),
    ],
    ids=str,
)
def test_header_out_of_schema_is_refused(changes: dict[str, Any], says: str) -> None:
    assert says in refused(changes)


@pytest.mark.parametrize(
    "head", [b"", b"\xc1", b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff", b"\x80", b"\x81\xa1\xff\x00"]
)
def test_header_that_is_no_header_is_refused(head: bytes) -> None:
    with pytest.raises(WireError, match="fit its schema"):
        decode([b"tick/door", head, b""])


def test_nested_header_is_refused_without_recursion() -> None:
    nested = b"\x82\xa4kind\xa4tick\xa8reserved" + b"\x91" * 65_000
    with pytest.raises(WireError):
        decode([b"tick/door", nested, b""])


def test_sizes_over_the_limits_are_refused_unread() -> None:
    with pytest.raises(WireError, match=f"at most {MAX_HEADER} bytes, got {MAX_HEADER + 1}"):
        decode([b"tick/door", bytes(MAX_HEADER + 1), b""])
    with pytest.raises(WireError, match=f"at most {MAX_PAYLOAD} bytes"):
        decode([b"tick/door", msgspec.msgpack.encode(header()), bytes(MAX_PAYLOAD + 1)])


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_other_numbers_of_parts_are_refused(count: int) -> None:
    parts = [*encode(Message("door", 0, a_tick(1))), b"", b""][:count]
    with pytest.raises(WireError, match=f"3 parts, got {count}"):
        decode(parts)


def test_topic_must_be_the_headers() -> None:
    assert "topic" in refused({}, topic=b"tick/window")
    assert "topic" in refused({}, topic=b"label/door")


def test_payload_one_byte_short_or_long_is_refused() -> None:
    payload = encode(Message("door", 0, a_tick(1)))[2]
    assert "account for the payload" in refused({}, payload[:-1])
    assert "account for the payload" in refused({}, payload + b"\0")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers_are_refused(value: float) -> None:
    tick = a_tick(1)
    tick.samples[17] = value
    with pytest.raises(WireError, match="samples must be finite"):
        decode(encode(Message("door", 0, tick)))


@pytest.mark.parametrize("value", [np.nan, -0.01, 1.01])
def test_probabilities_outside_0_to_1_are_refused(value: float) -> None:
    answer = an_answer()
    answer.probabilities["scene"][0] = value
    with pytest.raises(WireError, match="probabilities"):
        decode(encode(Message("door", 0, answer)))


def test_planes_of_another_chroma_are_refused() -> None:
    looks = {"chroma": "444", "matrix": "bt601", "full_range": False, "pixel_aspect": [1, 1]}
    assert "chroma planes of 444" in refused({"picture": looks})


def test_picture_and_presence_must_agree() -> None:
    assert "unless its video is missing" in refused({"video": "missing"})


def test_control_with_a_payload_is_refused() -> None:
    topic, head, _ = encode(Message("door", 0, End(source="door", seq=0, complete=True)))
    with pytest.raises(WireError, match="no payload, got 1 bytes"):
        decode([topic, head, b"x"])


def test_printable_takes_control_characters_out() -> None:
    assert printable("a\x1b[31m\r\nb\x7f") == "a [31m b "
    assert len(printable("x" * 1000)) == 500
