"""How late an answer must be whatever the machine: what the configuration alone decides, without a clock."""

from __future__ import annotations

import math

import msgspec

from streamfuse.config import AppConfig, HeadConfig
from streamfuse.model.spec import ModelSpec


class HeadFloor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a head whose probability steps from 0 to 1 at once: how long until the smoothed one shows it.

    half_ms   until the smoothed score passes a half (a label of two changes)
    event_ms  until an event may begin: the score at `enter`, and the dwell after it
    """

    head: str
    smoothing_ms: float
    half_ms: float
    event_ms: float | None


class Floor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Milliseconds that the configuration costs before anything is computed.

    hop_ms          a tick is answered when it is over: what happens just after its start waits so long
    mean_wait_ms    and on average half of it
    window_ms       picture that one answer sees; its centre lies half of it back
    mfcc_window_ms  sound that one MFCC frame sees, never ahead
    late_track_ms   live, the longest that a late track is waited for; null: by its packets and usual lag
    """

    hop_ms: float
    mean_wait_ms: float
    window_ms: float
    mfcc_window_ms: float
    late_track_ms: float | None
    heads: tuple[HeadFloor, ...]


def floor_of(config: AppConfig, spec: ModelSpec) -> Floor:
    """The algorithmic latency of a configuration with a model."""
    hop_ms = float(spec.video.hop_ms)
    return Floor(
        hop_ms=hop_ms,
        mean_wait_ms=hop_ms / 2,
        window_ms=hop_ms * spec.video.frames,
        mfcc_window_ms=spec.audio.n_fft * 1000 / spec.audio.sample_rate,
        late_track_ms=None if config.ticks.max_wait_ms is None else float(config.ticks.max_wait_ms),
        heads=tuple(_head_floor(h.name, config.labels.head(h.name), hop_ms) for h in spec.heads),
    )


def _head_floor(name: str, head: HeadConfig, hop_ms: float) -> HeadFloor:
    reached = _ticks_until(head.enter, head.smoothing_s * 1000, hop_ms)
    event = None
    if reached is not None:
        # The dwell is of whole ticks, of which the first one at `enter` is one.
        event = hop_ms * (reached - 1 + max(1, math.ceil(round(head.min_dwell_s * 1000 / hop_ms, 9))))
    half = _ticks_until(0.5, head.smoothing_s * 1000, hop_ms)
    return HeadFloor(
        head=name, smoothing_ms=head.smoothing_s * 1000, half_ms=hop_ms * (half or 1), event_ms=event
    )


def _ticks_until(score: float, smoothing_ms: float, hop_ms: float) -> int | None:
    """Ticks of an exponential mean, stepped from 0 towards 1, until it reaches the score; None: never."""
    if smoothing_ms == 0 or score <= 0:
        return 1
    if score >= 1:
        return None
    return math.ceil(round(-math.log1p(-score) * smoothing_ms / hop_ms, 9))
