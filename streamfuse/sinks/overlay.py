"""`<stem>.overlay.mp4`: the recording with its labels burnt in, for people without a player of subtitles.

The recording is decoded once more, by the same rules as for the analysis, so that a frame and its label
agree also where time jumps. Pictures keep their size and their time; sound is encoded anew at its own rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import av
import av.error
import numpy as np

from streamfuse.errors import OutputError
from streamfuse.media.decode import open_decoder
from streamfuse.media.soundtrack import Samples, Soundtrack
from streamfuse.sinks.caption import Captions, blend
from streamfuse.sinks.durable import PartFile, part_path
from streamfuse.types import NS, SessionStart, VideoFrame

if TYPE_CHECKING:
    from pathlib import Path

    from streamfuse.config import DecodeConfig, TickConfig
    from streamfuse.media.source import Source
    from streamfuse.types import U8, Event, Label, Picture

WHOLE_SIZE = 1 << 20
"""A picture side that none exceeds, so that pictures are not shrunk."""
CLOCK = Fraction(1, 90_000)
"""Of the video track: what MPEG uses; exact for every usual frame rate."""
QUALITY = {"preset": "veryfast", "crf": "20"}
_SPACES = {"bt601": 6, "bt709": 1, "bt2020": 9}  # AVColorSpace


class OverlayVideo:
    """Frames are written up to each label's end as the label comes.

    span    as in the analysis; the overlay begins at its beginning
    raises  OutputError for a recording without a video track, before anything is written
    """

    replays: ClassVar[bool] = True

    def __init__(
        self,
        path: Path,
        source: Source,
        *,
        decode: DecodeConfig,
        ticks: TickConfig,
        span: tuple[int, int | None] | None = None,
    ) -> None:
        self.path = path
        self._decoder = open_decoder(
            source, decode=decode, ticks=ticks, mode="recorded", picture_side=WHOLE_SIZE, span=span
        )
        self._sound: Soundtrack | None = None
        self._video: _Encoder | None = None
        self._label: Label | None = None
        self._ended = False
        self._zero_ns = span[0] if span else 0
        try:
            info = self._decoder.info
            if info.track("video") is None:
                hint = "leave the overlay out for it"
                raise OutputError(
                    "an overlay needs a video track", got="sound alone", where=source, hint=hint
                )
            if info.track("audio") is not None:
                self._sound = Soundtrack(
                    source, decode, from_ns=self._zero_ns, to_ns=span[1] if span else None
                )
            # Holds the lock and the name; FFmpeg writes to the same file by its path.
            self._file = PartFile(path)
        except BaseException:
            self._stop_reading()
            raise
        self._frames = self._timed_frames()
        self._next: tuple[int, VideoFrame] | None = next(self._frames, None)

    def write_label(self, label: Label) -> None:
        self._label = label
        self._write_frames(label.head.end_ns)

    def write_event(self, event: Event) -> None:
        """Events do not show; the labels do."""

    def mark(self) -> None:
        """It replays."""

    def settle(self) -> None:
        self._end(complete=True)

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        try:
            self._end(complete)
        except BaseException:
            self._file.close(complete=False)
            raise
        self._file.close(complete)

    def _end(self, complete: bool) -> None:
        """Write the rest, where it is wanted, and let FFmpeg end its file; again is nothing."""
        if self._ended:
            return
        self._ended = True
        try:
            if complete:
                self._write_frames(None)
            if self._video is not None:
                self._video.close(complete)
            elif complete:
                raise OutputError("an overlay needs pictures", got="none", where=self.path)
        finally:
            self._stop_reading()

    def _timed_frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """(time in the recording, frame)."""
        zero_ns = offset_ns = 0
        for item in self._decoder:
            if isinstance(item, SessionStart):
                zero_ns, offset_ns = item.zero_ns, item.offset_ns
                if self._sound is not None:
                    self._sound.add_session(item)
            elif isinstance(item, VideoFrame):
                yield offset_ns + item.pts_ns - zero_ns, item

    def _write_frames(self, until_ns: int | None) -> None:
        while self._next is not None and (until_ns is None or self._next[0] < until_ns):
            at_ns, frame = self._next
            label = self._label
            # Where no tick was made there is nothing to say; the last label lasts through its own tick.
            if label is not None and not label.head.start_ns <= at_ns < label.head.end_ns:
                label = None
            self._write_frame(at_ns, frame, label)
            self._next = next(self._frames, None)
        if until_ns is None and self._sound is not None and self._video is not None:
            self._video.add_sound(self._sound.rest())

    def _write_frame(self, at_ns: int, frame: VideoFrame, label: Label | None) -> None:
        picture = frame.render().on_host()
        if self._video is None:
            track = self._decoder.info.track("video")
            self._video = _Encoder(self.path, picture, track.fps if track else None, self._sound)
        self._video.add_picture(at_ns - self._zero_ns, frame.dur_ns, picture, label)
        if self._sound is not None:
            self._video.add_sound(self._sound.until(at_ns))

    def _stop_reading(self) -> None:
        self._decoder.close()
        if self._sound is not None:
            self._sound.close()


class _Encoder:
    """The mp4 being written: H.264 of the first picture's size, AAC of the sound's rate."""

    def __init__(self, path: Path, first: Picture, fps: float | None, sound: Soundtrack | None) -> None:
        self._path = path
        self.width, self.height = first.width + first.width % 2, first.height + first.height % 2
        self._captions = Captions(self.width, self.height, first.matrix, first.full_range)
        self._last_pts = -1
        self._samples, self._layout = 0, sound.layout if sound else ""
        with _told(path):
            options = {"movflags": "+faststart"}
            self._out = av.open(str(part_path(path)), "w", format="mp4", options=options)
            video: Any = self._out.add_stream("libx264", rate=_usual_rate(fps), options=QUALITY)
            video.width, video.height, video.pix_fmt = self.width, self.height, "yuv420p"
            context = video.codec_context
            context.time_base = CLOCK
            context.sample_aspect_ratio = Fraction(*first.pixel_aspect)
            context.colorspace = _SPACES[first.matrix]
            context.color_range = 2 if first.full_range else 1
            self._stream = video
            self._sound: Any = None
            if sound is not None:
                self._sound = self._out.add_stream("aac", rate=sound.rate, layout=sound.layout)

    def add_picture(self, at_ns: int, dur_ns: int, picture: Picture, label: Label | None) -> None:
        pts = round(at_ns * CLOCK.denominator / NS)
        if pts <= self._last_pts:
            return
        self._last_pts = pts
        frame = self._frame(picture)
        if label is not None and label.heads:
            blend(_planes(frame), self._captions.panel(label))
        frame.pts, frame.time_base = pts, CLOCK
        frame.duration = round(dur_ns * CLOCK.denominator / NS)
        with _told(self._path):
            self._out.mux(self._stream.encode(frame))

    def add_sound(self, blocks: Iterator[Samples]) -> None:
        for samples in blocks:
            frame: Any = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", self._layout)
            frame.sample_rate, frame.pts = self._sound.rate, self._samples
            frame.time_base = Fraction(1, self._sound.rate)
            self._samples += samples.shape[1]
            with _told(self._path):
                self._out.mux(self._sound.encode(frame))

    def close(self, complete: bool) -> None:
        with _told(self._path):
            try:
                if complete:
                    for stream in filter(None, (self._stream, self._sound)):
                        self._out.mux(stream.encode(None))
            finally:
                self._out.close()

    def _frame(self, picture: Picture) -> Any:
        """A frame of our own with the picture's planes, even in size; a later size becomes the first."""
        wide, high = picture.width + picture.width % 2, picture.height + picture.height % 2
        frame: Any = av.VideoFrame(wide, high, "yuv420p")
        for target, plane in zip(_planes(frame), picture.planes, strict=True):
            target[: plane.shape[0], : plane.shape[1]] = plane
            # An odd edge is repeated: no pixel of the recording is lost.
            target[plane.shape[0] :] = target[plane.shape[0] - 1]
            target[:, plane.shape[1] :] = target[:, plane.shape[1] - 1 : plane.shape[1]]
        if (wide, high) != (self.width, self.height):
            frame = frame.reformat(width=self.width, height=self.height)
        return frame


def _planes(frame: Any) -> tuple[U8, U8, U8]:
    """A frame's planes as arrays that write through."""
    y, u, v = (
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    return y, u, v


def _usual_rate(fps: float | None) -> Fraction:
    """What the encoder plans its bits by; time itself comes with every frame."""
    return Fraction(fps).limit_denominator(1001) if fps and 1 <= fps <= 240 else Fraction(30)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        text = f"errno {error.errno} ({error.strerror})"
        raise OutputError("an output must be written whole", got=text, where=path) from error
