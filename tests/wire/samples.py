"""Records with every field set, and Hypothesis strategies for all of them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from streamfuse.types import (
    F32,
    MS,
    Answer,
    Carried,
    Chroma,
    Face,
    Picture,
    Presence,
    SessionStart,
    Stamp,
    Still,
    Tick,
    TickHead,
    Trace,
)
from streamfuse.wire.headers import Credit, End, Hello, Order, Progress, Reply, Shutdown, SourceRow

names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/"), min_size=1, max_size=40
)
times = st.integers(-(2**60), 2**60)
counts = st.integers(0, 2**62)
presences: st.SearchStrategy[Presence] = st.sampled_from(["ok", "held", "missing"])
stamps = st.builds(Stamp, names, times, times, times)


def plane_shapes(chroma: Chroma, height: int, width: int) -> list[tuple[int, ...]]:
    h, w = (height + 1) // 2, (width + 1) // 2
    rest: dict[Chroma, list[tuple[int, ...]]] = {
        "420": [(h, w), (h, w)],
        "422": [(height, w), (height, w)],
        "444": [(height, width), (height, width)],
        "nv12": [(h, w, 2)],
    }
    return [(height, width), *rest[chroma]]


@st.composite
def heads(draw: st.DrawFn, video: Presence | None = None) -> TickHead:
    return TickHead(
        source=draw(names),
        session=draw(counts),
        index=draw(st.integers(0, 2**31)),
        offset_ns=draw(st.integers(0, 2**59)),
        hop_ns=draw(st.integers(1, 2**30)),
        video=draw(presences) if video is None else video,
        audio=draw(presences),
        partial=draw(st.booleans()),
        dropped=draw(st.integers(0, 2**31 - 1)),
        skew_ns=draw(times),
        wall_ns=draw(times),
        trace=Trace(draw(times), draw(times), tuple(draw(st.lists(stamps, max_size=5)))),
    )


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    chroma: Chroma = draw(st.sampled_from(["420", "422", "444", "nv12"]))
    shapes = plane_shapes(chroma, draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    # A stride of its own for each plane, as decoders have them.
    padded = [rng.integers(0, 256, (s[0], s[1] + 3, *s[2:]), np.uint8) for s in shapes]
    return Picture(
        tuple(p[:, : s[1]] for p, s in zip(padded, shapes, strict=True)),
        chroma,
        draw(st.sampled_from(["bt601", "bt709", "bt2020"])),
        draw(st.booleans()),
        draw(st.tuples(st.integers(1, 65_536), st.integers(1, 65_536))),
    )


@st.composite
def ticks(draw: st.DrawFn) -> Tick:
    picture = draw(st.none() | pictures())
    head = draw(heads("missing" if picture is None else draw(st.sampled_from(["ok", "held"]))))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    return Tick(head, picture, rng.uniform(-1, 1, draw(st.integers(1, 50))).astype(np.float32))


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    scores: dict[str, F32] = {
        name: rng.uniform(0, 1, draw(st.integers(1, 12))).astype(np.float32)
        for name in draw(st.lists(names, max_size=4, unique=True))
    }
    views = draw(st.dictionaries(names, presences, max_size=4))
    share = st.floats(0, 1)
    face = draw(st.none() | st.builds(Face, st.tuples(share, share, share, share), share))
    return Answer(draw(heads()), scores, views, draw(st.booleans()), face)


starts = st.builds(
    SessionStart,
    counts,
    times,
    times,
    st.frozensets(st.sampled_from(["video", "audio"])),
    st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=80),
)
jpegs = st.binary(max_size=60).map(lambda inside: b"\xff\xd8\xff" + inside + b"\xff\xd9")
sides = st.integers(1, 16_384)
stills = st.builds(Still, names, counts, times, times, sides, sides, jpegs)
carried = st.builds(Carried, counts, counts, st.binary(max_size=200))
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=80)
counters = st.dictionaries(names, counts, max_size=5)
controls = st.one_of(
    st.builds(End, source=names, seq=counts, complete=st.booleans(), duration_ns=counts, counters=counters),
    st.builds(Shutdown, source=names, seq=counts),
    st.builds(Hello, source=names, seq=counts, epoch=counts),
    st.builds(
        Credit,
        source=names,
        seq=counts,
        epoch=counts,
        to=counts,
        acked=counts,
        window=st.integers(1, 65_536),
        answers=st.none() | counts,
    ),
    st.builds(
        Progress,
        source=names,
        seq=counts,
        service=st.sampled_from(["decode", "analyze", "publish"]),
        pid=st.integers(0, 2**22),
        counter=counts,
        allowance_ms=st.integers(0, 2**31 - 1),
        state=st.sampled_from(["starting", "running", "draining", "refused"]),
        counters=counters,
        gauges=st.dictionaries(names, times, max_size=5),
    ),
    st.builds(
        Order,
        source=names,
        seq=counts,
        verb=st.sampled_from(["list", "add", "remove", "pause", "resume", "restart", "reload"]),
        input=texts,
        loop=st.booleans(),
        allow_hls=st.booleans(),
    ),
    st.builds(
        Reply,
        source=names,
        seq=counts,
        ok=st.booleans(),
        said=texts,
        sources=st.lists(
            st.builds(SourceRow, name=names, state=st.just("running"), shown=texts, ticks=counts), max_size=3
        ).map(tuple),
    ),
)


def a_tick(
    index: int = 0, source: str = "door", *, session: int = 0, size: int = 8, dropped: int = 0
) -> Tick:
    """A tick whose samples all say its index."""
    head = TickHead(source, session, index, 0, 100 * MS, "ok", "ok", dropped=dropped)
    planes = tuple(np.full(s, index % 256, np.uint8) for s in plane_shapes("420", size, size))
    return Tick(head, Picture(planes), np.full(1952, index / 1000, np.float32))


def an_answer(index: int = 0, source: str = "door", *, session: int = 0) -> Answer:
    scores = {"scene": np.array([0.25, 0.75], np.float32), "emotion": np.array([0.5, 0.5], np.float32)}
    return Answer(a_tick(index, source, session=session).head, scores, {"frame": "ok", "audio": "ok"}, True)


def a_report(source: str = "door") -> Progress:
    return Progress(
        source=source,
        service="decode",
        pid=1,
        counter=0,
        allowance_ms=0,
        state="running",
        counters={"ticks": 7},
        gauges={"rss": 1},
    )
