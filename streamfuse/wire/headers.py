"""What a message's header may say: one strict type per kind, nothing else is read.

Integers and text only: no floats, so no NaN. Unknown fields, other types and numbers out of bounds are
refused.
The kinds without a payload are the records themselves (End, Shutdown, Progress, Hello, Credit, Order,
Reply).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

VERSION = 1
"""Schema of the wire. A peer of another version is refused: both ends come from one installation."""

MAX_HEADER = 65_536
"""Bytes of a header; the largest of ours, a progress report with all its counters, takes 4,000."""
MAX_SIDE = 16_384
"""The longest side of an array."""
MAX_PAYLOAD = 32 << 20
"""Bytes of a payload: one 4K picture, 4:2:0, with its sound is 14 MB, and we send them shrunk."""

TEXT = r"^[^\x00-\x1f\x7f]*$"

Int = Annotated[int, Meta(ge=-(2**62), le=2**62)]
"""A time or an offset in ns: sums of two of them still fit in 64 bits."""
Count = Annotated[int, Meta(ge=0, le=2**62)]
Small = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Text = Annotated[str, Meta(max_length=500, pattern=TEXT)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Presence = Literal["ok", "held", "missing"]
StampRow = tuple[Name, Int, Int, Int]


class Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Every header: the source it is about (or the sender's name), and its place in the sender's sequence."""

    v: int = 0
    source: Name
    seq: Annotated[int, Meta(ge=-1, le=2**62)] = -1
    """Both are written by encode(); a message that came without them is refused."""


class Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One array in the payload; they follow each other without gaps."""

    dtype: Literal["u1", "f4"]
    shape: Annotated[tuple[Side, ...], Meta(min_length=1, max_length=3)]


Blocks = Annotated[tuple[Block, ...], Meta(max_length=64)]


class TickPart(Base, frozen=True, kw_only=True):
    """What a tick and its answer share: types.TickHead. pts_ns is the start, in the recording's time."""

    session: Count
    index: Count
    pts_ns: Int
    dur_ns: Annotated[int, Meta(ge=1, le=2**62)]
    video: Presence
    audio: Presence
    partial: bool
    dropped: Small
    skew_ns: Int
    wall_ns: Int = 0
    video_arrival_ns: Int
    audio_arrival_ns: Int
    stamps: Annotated[tuple[StampRow, ...], Meta(max_length=16)]
    blocks: Blocks


class PictureHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chroma: Literal["420", "422", "444", "nv12"]
    matrix: Literal["bt601", "bt709", "bt2020"]
    full_range: bool
    pixel_aspect: tuple[Annotated[int, Meta(ge=1, le=65_536)], Annotated[int, Meta(ge=1, le=65_536)]]


class TickHeader(TickPart, tag="tick", frozen=True, kw_only=True):
    """blocks: the samples (n,) f4, then the planes of the picture, if there is one, u1."""

    picture: PictureHeader | None


Share = Annotated[float, Meta(ge=0, le=1)]
FaceRow = tuple[Share, Share, Share, Share, Share]
"""Left, top, width, height as shares of the picture, and the score."""


class AnswerHeader(TickPart, tag="answer", frozen=True, kw_only=True):
    """blocks: the probabilities (classes,) f4 of each head, in the order of `heads`."""

    heads: Annotated[tuple[Name, ...], Meta(max_length=64)]
    views: Annotated[dict[Name, Presence], Meta(max_length=16)]
    warm: bool
    face: FaceRow | None = None


class CarriedHeader(Base, tag="carried", frozen=True, kw_only=True):
    """types.Carried: the payload is its data."""

    session: Count
    index: Count


class LabelHeader(Base, tag="label", frozen=True, kw_only=True):
    """The payload is a label's JSON line (schema streamfuse.label/1) without the newline.

    The stamps of its whole way stand here, not in the line: monotonic ns of the publishing host.
    """

    session: Count
    pts_ns: Int
    dur_ns: Count
    video_arrival_ns: Int = 0
    audio_arrival_ns: Int = 0
    stamps: Annotated[tuple[StampRow, ...], Meta(max_length=16)] = ()


class EventHeader(Base, tag="event", frozen=True, kw_only=True):
    """The payload is an event's JSON line (schema streamfuse.event/1) without the newline."""

    session: Count
    pts_ns: Int


class StillHeader(Base, tag="picture", frozen=True, kw_only=True):
    """types.Still: the payload is the JPEG of `width` x `height`."""

    session: Count
    pts_ns: Int
    wall_ns: Int
    width: Side
    height: Side


class StartHeader(Base, tag="start", frozen=True, kw_only=True):
    """types.SessionStart: a source started, reconnected, jumped or changed (`reason`)."""

    session: Count
    zero_ns: Int
    offset_ns: Int
    tracks: Annotated[tuple[Literal["video", "audio"], ...], Meta(max_length=2)]
    reason: Text


class End(Base, tag="end", frozen=True, kw_only=True):
    """Nothing more comes from this source.

    complete      the input was read to its end; False: it was stopped, or failed (`reason`)
    truncated     the container promised more than was there
    duration_ns   media time that was read, from 0
    container_ns  length that the container promises; 0 where it does not say
    counters      what the decoder and the assembler counted
    """

    complete: bool
    truncated: bool = False
    duration_ns: Count = 0
    container_ns: Count = 0
    reason: Text = ""
    counters: Annotated[dict[Name, Count], Meta(max_length=256)] = {}


class Shutdown(Base, tag="shutdown", frozen=True, kw_only=True):
    """The sender (named in `source`) has sent everything and leaves in order."""


class Progress(Base, tag="progress", frozen=True, kw_only=True):
    """How a service (named in `source`) is doing; twice a second, and at every change of state.

    counter       grows with each turn of the service's loop: one that stands still is hung
    allowance_ms  how long the next step may rightly take
    state         starting, standby, running, waiting (for its source), draining, done, failed, refused
    counters      totals since the process started; gauges: values now
    restarts      how often the supervisor has started it again; spare: it was started to stand by
    device        analyze: where its model runs
    """

    service: Literal["decode", "analyze", "publish"]
    pid: Small
    counter: Count
    allowance_ms: Small
    state: Literal["starting", "standby", "running", "waiting", "draining", "done", "failed", "refused"]
    counters: Annotated[dict[Name, Count], Meta(max_length=512)]
    gauges: Annotated[dict[Name, Int], Meta(max_length=512)]
    error: Text = ""
    restarts: Small = 0
    spare: bool = False
    device: Text = ""


class Hello(Base, tag="hello", frozen=True, kw_only=True):
    """A sender (named in `source`) asks its receiver how far things are. seq is one more than the last sent.

    epoch   chosen at random by the sending process: another one means that it was restarted
    number  counts this sender's Hellos, so that an answer belongs to one of them
    """

    epoch: Count
    number: Count = 0


class Credit(Base, tag="credit", frozen=True, kw_only=True):
    """A receiver's answer: everything up to `acked` is done with; at most `window` may be under way.

    seq       the last message received, one more than it, so 0 is none
    acked     likewise
    epoch     of the receiving process (and its consumers)
    to        the sender's epoch, as its Hello said
    answers   the number of the Hello this answers; None where nothing was asked
    """

    epoch: Count
    to: Count
    acked: Count
    window: Annotated[int, Meta(ge=1, le=65_536)]
    answers: Count | None = None


Verb = Literal["list", "add", "remove", "pause", "resume", "restart", "reload"]
SourceState = Literal[
    "starting", "running", "waiting", "draining", "done", "failed", "refused", "paused", "lost"
]


class Order(Base, tag="order", frozen=True, kw_only=True):
    """What a person wants of a running run; `source` is the name of the source it is about, or `*`.

    input  add: the source's address. It may hold credentials, and travels on this machine alone.
    """

    verb: Verb
    input: Annotated[str, Meta(max_length=4096, pattern=TEXT)] = ""
    loop: bool = False
    allow_hls: bool = False


class SourceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source of the run as `ctl list` shows it; `shown` is its address without credentials."""

    name: Name
    state: SourceState
    shown: Text
    ticks: Count = 0
    dropped: Count = 0
    reconnects: Count = 0
    restarts: Count = 0
    trouble: Text = ""


class Reply(Base, tag="reply", frozen=True, kw_only=True):
    """What became of an order: one line, and for `list` the sources."""

    ok: bool
    said: Annotated[str, Meta(max_length=4000, pattern=TEXT)]
    sources: Annotated[tuple[SourceRow, ...], Meta(max_length=1024)] = ()


Header = (
    TickHeader
    | AnswerHeader
    | CarriedHeader
    | LabelHeader
    | EventHeader
    | StillHeader
    | StartHeader
    | End
    | Shutdown
    | Progress
    | Hello
    | Credit
    | Order
    | Reply
)
