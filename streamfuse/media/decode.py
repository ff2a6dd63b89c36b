"""A source, opened, as a stream of sessions, frames and chunks. Everything FFmpeg may do wrong ends here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import DecodeConfig, TickConfig
from streamfuse.errors import SourceLost, SourceRefused, StageError
from streamfuse.media.demux import Demuxer, Read
from streamfuse.media.device_frames import Gpu
from streamfuse.media.faults import PYAV_ERRORS
from streamfuse.media.gate import Builder, Span
from streamfuse.media.interleave import Interleave
from streamfuse.media.limits import MAX_CHANNELS, RATES_HZ
from streamfuse.media.opening import Input, open_inputs
from streamfuse.media.preroll import Preroll
from streamfuse.media.probe import pixel_aspect, source_info
from streamfuse.media.sessions import Sessions
from streamfuse.media.source import FileSource, Pacing, Source
from streamfuse.media.timeline import Decoded, ticks_to_ns
from streamfuse.media.tracks import NO_PTS, AudioBuilder, TrackReader, VideoBuilder
from streamfuse.media.truncation import is_truncated
from streamfuse.types import MS, NS, AudioChunk, MediaItem, Mode, Track, VideoFrame

if TYPE_CHECKING:
    from streamfuse.media.clips import PacketRing

KEY_FRAME_PATIENCE = 3
"""Before its first item a live source gets so many read timeouts: its key frame may be that far away."""


class Decoder:
    """One opened source; iterate once: SessionStart first, then items in the order in which they arrived.

    info         what is in the source
    position_ns  media time reached, from 0
    counters     what was dropped, skipped, repaired and seen, by name
    pacing       when its items come
    truncated    recorded: the file ends before it should (known at the end)
    transport_ns live: of the last picture, from the sender's wall clock to its arrival here; None: it does
                 not tell its time. Two clocks, so never added to an age
    raises       SourceLost from the iteration when a live source ends, stalls or breaks off, after its last
                 item; SourceRefused when nothing of it can be decoded
    """

    def __init__(
        self,
        source: Source,
        inputs: list[Input],
        *,
        decode: DecodeConfig,
        ticks: TickConfig,
        mode: Mode,
        picture_side: int,
        first_session: int = 0,
        clock: Clock = SYSTEM,
        span: tuple[int, int | None] | None = None,
        video_from_ns: int = 0,
        keep: bool = False,
    ) -> None:
        self.source, self.mode = source, mode
        self.info = source_info(inputs)
        self.truncated = False
        self.transport_ns: int | None = None
        self._inputs, self._decode, self._clock = inputs, decode, clock
        self._live = mode == "live"
        # A film has a length, wherever it lies; a camera has none.
        self._ends = source.ends or (source.kind in ("http", "hls") and self.info.duration_ns is not None)
        self.pacing: Pacing = "read" if source.ends else "own" if source.paced and not self._ends else "sent"
        self._counts: Counter[str] = Counter()
        self._tracks = {
            track: TrackReader(item, stream, self._live, source, decode)
            for item in inputs
            for track, stream in item.streams.items()
        }
        builders: dict[Track, Builder] = {}
        if "video" in self._tracks:
            aspect = pixel_aspect(self._tracks["video"].stream)
            builders["video"] = VideoBuilder(picture_side, aspect, keep=keep)
        self._audio = AudioBuilder()
        # Live, sound must not wait; and one thread without B-frames, as cameras are decoded, delays nothing.
        self._interleave = Interleave() if not self._live and len(self._tracks) > 1 else None
        if "audio" in self._tracks:
            builders["audio"] = self._audio
        starts = {t.track: t.start_ns for t in self.info.tracks if t.start_ns is not None}
        self._sessions = Sessions(
            builders,
            mode=mode,
            max_gap_ns=ticks.max_gap_ms * MS,
            first_session=first_session,
            starts=starts,
            duration_ns=self.info.duration_ns,
            span=None if span is None else Span(min(starts.values(), default=0), *span),
            counters=self._counts,
        )
        self._span = span
        begins = self._begins(span, video_from_ns)
        zero_ns = min(starts.values(), default=0)
        self._preroll = (
            Preroll(inputs, {t: zero_ns + at_ns for t, at_ns in begins.items()}) if begins else None
        )
        paced = self.pacing == "own"
        self._demuxer = Demuxer(
            source, inputs, live=self._live, paced=paced, clock=clock, counters=self._counts
        )
        self._packets: PacketRing | None = None
        self._last_item_ns: int | None = None
        self._given = 0
        self._begun = False
        self._reached_ns: dict[Track, int] = {}

    @property
    def position_ns(self) -> int:
        return self._sessions.position_ns

    @property
    def counters(self) -> dict[str, int]:
        return dict(self._counts) | self._audio.counters

    def __iter__(self) -> Iterator[MediaItem]:
        if self._begun:
            raise StageError("a Decoder is iterated once", where=self.source)
        self._begun = True
        return self._items()

    def keep_packets(self, ring: PacketRing) -> None:
        """Also put every packet into this ring, for clips. Call it before the iteration."""
        ring.begin(self._inputs)
        self._packets = ring

    def close(self) -> None:
        self._demuxer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _items(self) -> Iterator[MediaItem]:
        started_ns = self._clock.monotonic_ns()
        lost: SourceLost | None = None
        try:
            for read in self._demuxer:
                if self._packets is not None:
                    self._packets.push(read)
                for packet in [read] if self._preroll is None else self._preroll.take(read):
                    yield from self._decode_packet(packet)
                if self._sessions.done:
                    break
                if self._live:
                    self._check_progress(read.arrival_ns, started_ns)
        except SourceLost as error:
            lost = error
        yield from self._end()
        if lost is None and self._live and not self._ends:
            lost = SourceLost("a live source must not end", got="end of stream", where=self.source)
        if lost is not None:
            try:
                raise lost
            finally:
                # Its traceback has this frame: left here, both and the decoders would stay for the collector,
                # and a camera that goes every few seconds would grow its process by tens of megabytes.
                lost = None

    def _begins(self, span: tuple[int, int | None] | None, video_from_ns: int) -> dict[Track, int]:
        """File time before which a track's packets are left out, where any are."""
        from_ns = span[0] if span is not None else 0
        begins: dict[Track, int] = {"video": max(from_ns, video_from_ns), "audio": from_ns}
        return {track: at_ns for track, at_ns in begins.items() if at_ns > 0 and track in self._tracks}

    def _end(self) -> Iterator[MediaItem]:
        """Drain the decoders, close the session, and judge how it ended."""
        for read in [] if self._preroll is None else self._preroll.rest():
            yield from self._decode_packet(read)
        if not self._sessions.done:
            for track in self._tracks:
                yield from self._push_frames(track, self._decode_frames(track, None), None)
                if not self._live:
                    self._tracks[track].ended()
            for item in [] if self._interleave is None else self._interleave.flush():
                yield from self._place(item)
        items = self._sessions.end()
        yield from items
        self._given += sum(isinstance(item, VideoFrame | AudioChunk) for item in items)
        if not self._given and not self._live:
            raise self._nothing()
        if not self._live and not self._sessions.done:
            self.truncated = self._demuxer.broke_off or is_truncated(
                self.source, self._inputs, self._reached_ns
            )

    def _nothing(self) -> SourceRefused:
        """Why a recording that was opened gave not one frame."""
        if self._span is not None and self._span[0]:
            long = "" if self.info.duration_ns is None else f" of {self.info.duration_ns / NS:g} s"
            rule = f"a span must begin within the recording{long}"
            return SourceRefused(rule, got=f"{self._span[0] / NS:g} s", where=self.source)
        hint = "it may be damaged" if isinstance(self.source, FileSource) else None
        return SourceRefused("some picture or sound must decode", got="none", where=self.source, hint=hint)

    def _check_progress(self, now_ns: int, started_ns: int) -> None:
        """Bytes alone are no progress: a live source has to bring frames."""
        timeout_ns = round(self._decode.read_timeout_s * NS)
        if self._last_item_ns is None:
            late = now_ns - started_ns > KEY_FRAME_PATIENCE * timeout_ns
        else:
            late = now_ns - self._last_item_ns > timeout_ns
        if late:
            raise SourceLost("a live source must bring frames", got="bytes only", where=self.source)

    # -- packets to frames -------------------------------------------------------

    def _decode_packet(self, read: Read) -> Iterator[MediaItem]:
        packet = read.packet
        if packet.is_corrupt:
            self._counts["corrupt_packets"] += 1
            # A damaged picture is concealed and better than none; damaged sound is a burst of noise.
            if read.track == "audio":
                return
        if self._live and packet.pts is not None:
            self._tracks[read.track].note_arrival(packet.pts, read.arrival_ns)
            self._note_transport(read)
        yield from self._push_frames(read.track, self._decode_frames(read.track, packet), read)

    def _decode_frames(self, track: Track, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = self._tracks[track].context.decode(packet)
        except PYAV_ERRORS as error:
            self._counts["decode_errors"] += 1
            self._tracks[track].refused(packet, error)
            return []
        return frames

    def _push_frames(self, track: Track, frames: list[Any], read: Read | None) -> Iterator[MediaItem]:
        state = self._tracks[track]
        for frame in frames:
            arrival_ns = 0 if read is None else read.arrival_ns
            item = state.video(frame, arrival_ns) if track == "video" else state.audio(frame, arrival_ns)
            if item is None or not self._within_limits(item):
                self._counts["bad_frames"] += 1
                continue
            for due in [item] if self._interleave is None else self._interleave.push(item):
                yield from self._place(due)

    def _place(self, item: Decoded) -> Iterator[MediaItem]:
        track = item.track
        if item.pts_ns == NO_PTS:
            self._counts["pts_interpolated"] += 1
            expected = self._sessions.expected_ns(track)
            item = replace(item, pts_ns=self._tracks[track].start_ns if expected is None else expected)
        self._counts[f"{track}_frames"] += 1
        end_ns = item.pts_ns + item.dur_ns
        self._reached_ns[track] = max(end_ns, self._reached_ns.get(track, end_ns))
        for media in self._sessions.push(item):
            self._given += isinstance(media, VideoFrame | AudioChunk)
            self._last_item_ns = item.arrival_ns
            yield media

    def _note_transport(self, read: Read) -> None:
        """The sender's reports (RTCP) say what its wall clock showed at media time 0."""
        zero_us = self._inputs[0].container.start_time_realtime
        if zero_us is not None and (read.track == "video" or "video" not in self._tracks):
            sent_ns = zero_us * 1000 + ticks_to_ns(read.packet.pts, read.packet.time_base)
            since_ns = self._clock.monotonic_ns() - read.arrival_ns
            self.transport_ns = self._clock.wall_ns() - since_ns - sent_ns

    def _within_limits(self, item: Decoded) -> bool:
        frame = item.frame
        if item.track == "video":
            return bool(0 < frame.width * frame.height <= self._decode.max_pixels)
        return bool(
            RATES_HZ[0] <= frame.sample_rate <= RATES_HZ[1] and 1 <= frame.layout.nb_channels <= MAX_CHANNELS
        )


def open_decoder(
    source: Source,
    *,
    decode: DecodeConfig | None = None,
    ticks: TickConfig | None = None,
    mode: Mode,
    picture_side: int,
    first_session: int = 0,
    clock: Clock = SYSTEM,
    span: tuple[int, int | None] | None = None,
    video_from_ns: int = 0,
    keep_on: Gpu | None = None,
) -> Decoder:
    """Open a source for decoding.

    picture_side   largest short side of rendered pictures: pictures are shrunk by the whole factor that
                   brings them to it or below
    first_session  number of the first session (live: above every earlier one of this source)
    span           (from, to) in nanoseconds of file time; to None is the end
    video_from_ns  file time before which no picture is wanted, but all sound: decoders of sound keep a state
                   that reaches back seconds, so only from its beginning on is it the same again
    keep_on        the GPU that decodes, and on which pictures stay; unset: they come to the host
    raises         SourceRefused, SourceLost, BackendError
    """
    decode, ticks = decode or DecodeConfig(), ticks or TickConfig()
    inputs = open_inputs(source, decode, mode, keep_on)
    return Decoder(
        source,
        inputs,
        decode=decode,
        ticks=ticks,
        mode=mode,
        picture_side=picture_side,
        first_session=first_session,
        clock=clock,
        span=span,
        video_from_ns=video_from_ns,
        keep=keep_on is not None,
    )
