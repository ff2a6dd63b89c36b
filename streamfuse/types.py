"""The records that travel from source to label.

Time is integer nanoseconds, positions are absolute integers, ranges are half open. Records are frozen
and the arrays in them are treated as read-only. Nothing here imports another room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

NS = 1_000_000_000
MS = 1_000_000

SAMPLE_RATE = 16_000
"""Every AudioChunk is mono at this rate (Hz)."""
SAMPLE_NS = NS // SAMPLE_RATE
"""One sample, 62,500 ns, exactly."""

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

Mode = Literal["live", "recorded"]
Track = Literal["video", "audio"]
Matrix = Literal["bt601", "bt709", "bt2020"]
Presence = Literal["ok", "held", "missing"]
"""`ok`: new in this tick; `held`: the last one again; `missing`: not there."""
Chroma = Literal["420", "422", "444", "nv12"]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One 8-bit YUV picture, the right way up.

    planes        Y (H, W); then U and V, subsampled as `chroma` says with odd sizes rounded up;
                  nv12: Y (H, W) and UV (ceil(H/2), ceil(W/2), 2). All uint8, any strides.
    matrix        the YCbCr matrix; full_range False is 16..235/240
    pixel_aspect  width : height of one pixel
    """

    planes: tuple[U8, ...]
    chroma: Chroma = "420"
    matrix: Matrix = "bt601"
    full_range: bool = False
    pixel_aspect: tuple[int, int] = (1, 1)

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    def on_host(self) -> Picture:
        return self


class DevicePlane(NamedTuple):
    """One plane in the memory of a GPU.

    address      of its first sample
    pitch_bytes  from one row to the next
    shape        of samples: (rows, columns), or (rows, columns, 2) of U and V in turn
    """

    address: int
    pitch_bytes: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class DevicePicture:
    """A picture that stays on the GPU that decoded it.

    planes        as in Picture, and so are chroma, matrix, full_range and pixel_aspect; as they were decoded
    turns         quarter turns counterclockwise that put it upright, after it was
    mirrored      left to right
    sample_bytes  1, or 2: samples are the upper bits of 16
    gpu           its index
    owner         while it lives, nobody else writes into the planes
    on_host       copies it to the host, as the Picture that it would have been there
    """

    planes: tuple[DevicePlane, ...]
    chroma: Chroma
    matrix: Matrix
    full_range: bool
    pixel_aspect: tuple[int, int]
    turns: int
    mirrored: bool
    sample_bytes: int
    gpu: int
    owner: object
    on_host: Callable[[], Picture]

    @property
    def height(self) -> int:
        return self.planes[0].shape[0]

    @property
    def width(self) -> int:
        return self.planes[0].shape[1]


AnyPicture = Picture | DevicePicture
"""`on_host()` is a Picture of either."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrame:
    """A decoded frame. `render()` makes its picture, and is called only for a frame that a tick uses.

    pts_ns, dur_ns  unwrapped media time
    arrival_ns      monotonic time at which its packet came from the demuxer
    still           still(width, quality) -> (JPEG, width, height): the frame for people to look at;
                    any thread may call it
    """

    pts_ns: int
    dur_ns: int
    render: Callable[[], AnyPicture]
    arrival_ns: int = 0
    still: Callable[[int, int], tuple[bytes, int, int]] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class AudioChunk:
    """Sound at 16 kHz mono: samples (n,) float32 in [-1, 1], the first one at pts_ns."""

    pts_ns: int
    samples: F32
    arrival_ns: int = 0

    @property
    def end_ns(self) -> int:
        return self.pts_ns + len(self.samples) * SAMPLE_NS


@dataclass(frozen=True, slots=True)
class SessionStart:
    """A source started, reconnected, jumped or changed its parameters; model state begins anew.

    zero_ns    media time of the session's tick 0
    offset_ns  time in the recording of zero_ns; never falls back between sessions
    tracks     the tracks that were selected; the others will never come
    reason     "start", or what made the break, in words
    """

    session: int
    zero_ns: int
    offset_ns: int
    tracks: frozenset[Track]
    reason: str = "start"


@dataclass(frozen=True, slots=True)
class TrackEnd:
    """Nothing more comes on this track in this session."""

    track: Track


MediaItem = SessionStart | VideoFrame | AudioChunk | TrackEnd


@dataclass(frozen=True, slots=True)
class Stamp:
    """When one stage took an item in, began with it and was done (monotonic ns on one host)."""

    stage: str
    enqueue_ns: int
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an item's time went. `*_arrival_ns` is the arrival of the last sample of that track it uses."""

    video_arrival_ns: int = 0
    audio_arrival_ns: int = 0
    stamps: tuple[Stamp, ...] = ()


@dataclass(frozen=True, slots=True)
class TickHead:
    """What a tick, its answer and its label share.

    Tick `index` covers [index * hop_ns, (index + 1) * hop_ns) of its session; offset_ns is the time in
    the recording of the session's zero. `dropped` counts the ticks lost directly before this one.
    `skew_ns` live: how much later the sound of a moment came than its picture; recorded: video end minus
    audio end, each cut at the tick's end; 0 where one is absent.
    `wall_ns` live: wall clock of the arrival of the last sample it uses, or of its making where it uses none.
    """

    source: str
    session: int
    index: int
    offset_ns: int
    hop_ns: int
    video: Presence
    audio: Presence
    partial: bool = False
    dropped: int = 0
    skew_ns: int = 0
    wall_ns: int = 0
    trace: Trace = field(default_factory=Trace)

    @property
    def start_ns(self) -> int:
        return self.offset_ns + self.index * self.hop_ns

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.hop_ns


@dataclass(frozen=True, slots=True, eq=False)
class Tick:
    """The unit of analysis: one picture and one hop of sound.

    picture  the newest with pts < end, or None when head.video is "missing"
    samples  (context + hop,) float32: the hop's samples after those the MFCC window reaches back to;
             zeros where there is no sound
    """

    head: TickHead
    picture: AnyPicture | None
    samples: F32


@dataclass(frozen=True, slots=True)
class Face:
    """The face that the face view shows. box: left, top, width, height as shares of the picture."""

    box: tuple[float, float, float, float]
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the model said to a tick.

    probabilities  head name -> (classes,) float32, calibrated, not smoothed
    views          view name -> presence, as the model was given them ("audio" too)
    warm           the network has seen enough to be past its start-up transient
    face           where the face view looked, where there is one
    """

    head: TickHead
    probabilities: dict[str, F32]
    views: dict[str, Presence]
    warm: bool
    face: Face | None = None


@dataclass(frozen=True, slots=True)
class Carried:
    """What the analysis of a recording carries on after this tick, in the checkpoint's encoding."""

    session: int
    index: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeadLabel:
    """One head's part of a label.

    label, score  softmax heads: the smoothed winner, or "unknown" below the threshold
    labels        sigmoid heads: every label above its threshold, best first
    top           up to five labels with smoothed probabilities, best first
    raw           unsmoothed probabilities by label, when asked for
    scores        all smoothed probabilities, best first, for the events; not told in the line
    """

    label: str | None
    score: float | None
    labels: tuple[tuple[str, float], ...] | None
    top: tuple[tuple[str, float], ...]
    raw: dict[str, float] | None = None
    scores: dict[str, float] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Label:
    """A tick's answer for people: one line of labels.jsonl (schema streamfuse.label/1).

    latency  live only: integer nanoseconds by name
    time     live only: wall clock of the tick's end, ISO 8601 in UTC
    face     the face that was looked at, for models with a face view
    """

    head: TickHead
    heads: dict[str, HeadLabel]
    modalities: dict[str, Presence]
    warm: bool
    time: str | None = None
    latency: dict[str, int] | None = None
    face: Face | None = None

    @property
    def start_s(self) -> float:
        return self.head.start_ns / NS

    @property
    def end_s(self) -> float:
        return self.head.end_ns / NS

    @property
    def scene(self) -> HeadLabel:
        return self.heads["scene"]

    @property
    def emotion(self) -> HeadLabel:
        return self.heads["emotion"]


@dataclass(frozen=True, slots=True)
class Event:
    """A label of one head that began (`new`) or ended (`end`); schema streamfuse.event/1.

    peak, mean      of the smoothed score from start to here; end_ns is None in a `new` event
    snapshot, clip  live, where they are kept: paths of its picture and of the seconds around its beginning
    """

    kind: Literal["new", "end"]
    source: str
    session: int
    head: str
    label: str
    start_ns: int
    end_ns: int | None
    peak: float
    mean: float
    time: str | None = None
    snapshot: str | None = None
    clip: str | None = None


@dataclass(frozen=True, slots=True)
class Still:
    """One picture of a live source for people: the page and the snapshots of events.

    pts_ns   time in the recording, as TickHead.start_ns: the tick that saw this frame is the one around it
    wall_ns  wall clock at which the frame arrived
    jpeg     width x height, the right way up, square pixels
    """

    source: str
    session: int
    pts_ns: int
    wall_ns: int
    width: int
    height: int
    jpeg: bytes = field(repr=False)
