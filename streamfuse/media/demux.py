"""Packets of one or two containers, in one order, whatever the demuxer does on the way."""

from __future__ import annotations

import errno
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av.error

from streamfuse.clock import Clock
from streamfuse.media.faults import PYAV_ERRORS, source_error
from streamfuse.media.opening import Input
from streamfuse.media.playback import in_time
from streamfuse.media.source import Source
from streamfuse.media.timeline import ticks_to_ns
from streamfuse.types import MS, Track

MAX_FAILURES = 32
"""So many reads in a row may fail before a recording is given up as cut off here."""
BUSY_WAIT_NS = 2 * MS
QUEUE_PACKETS = 64
"""A device's packets that wait for the decoder; when it is full, the device drops by itself."""


@dataclass(frozen=True, slots=True)
class Read:
    """A packet and when it came out of the demuxer (monotonic ns)."""

    track: Track
    packet: Any
    arrival_ns: int

    @property
    def time_ns(self) -> int:
        stamp = self.packet.dts if self.packet.dts is not None else self.packet.pts
        return 0 if stamp is None else ticks_to_ns(stamp, self.packet.time_base)


class Demuxer:
    """Iterate for the packets of the chosen streams, to the end.

    paced      the packets come when they happen; else they are brought into the order of time
    broke_off  a recording could not be read to its end
    raises     SourceLost, SourceRefused; a recording's damage is counted and passed over instead
    """

    def __init__(
        self,
        source: Source,
        inputs: list[Input],
        *,
        live: bool,
        paced: bool,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        self.broke_off = False
        self._source, self._inputs, self._live, self._paced = source, inputs, live, paced
        self._clock, self._counters = clock, counters
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []

    def __iter__(self) -> Iterator[Read]:
        if len(self._inputs) == 1:
            reads = self._read(self._inputs[0])
            played = self._live and not self._paced and len(self._inputs[0].streams) > 1
            return in_time(reads) if played else reads
        return self._as_they_come() if self._paced else self._by_time()

    def close(self) -> None:
        """Stop reading and close the containers. A reader thread ends at its read timeout at the latest."""
        self._closed.set()
        for thread in self._threads:
            thread.join()
        for item in self._inputs:
            item.close()

    def _read(self, item: Input) -> Iterator[Read]:
        tracks = {stream.index: track for track, stream in item.streams.items()}
        streams = list(item.streams.values())
        failures = 0
        while True:
            try:
                for packet in item.container.demux(streams):
                    if packet.size == 0 and packet.dts is None:
                        continue  # PyAV's way to say "flush"; the Decoder does it for every track
                    failures = 0
                    yield Read(tracks[packet.stream_index], packet, self._clock.monotonic_ns())
                return
            except PYAV_ERRORS as error:
                failures += 1
                if not self._read_on(error, failures):
                    return

    def _read_on(self, error: Exception, failures: int) -> bool:
        """Whether to read again after a failed read; raises where the source is lost."""
        if isinstance(error, av.error.BlockingIOError) and not self._closed.is_set():
            self._clock.sleep_ns(BUSY_WAIT_NS)
            return True
        self._counters["read_errors"] += 1
        if not self._live and self._source.kind == "http" and getattr(error, "errno", None) == errno.EIO:
            # FFmpeg's word for the end of an answer without a length, and for one that broke off.
            self.broke_off = True
            return False
        damaged = not isinstance(error, av.error.FFmpegError) or isinstance(
            error, av.error.InvalidDataError | av.error.PatchWelcomeError
        )
        if not damaged or (self._live and failures > MAX_FAILURES):
            raise source_error(error, self._source, live=self._live, opened=True) from None
        self.broke_off = failures > MAX_FAILURES
        return not self.broke_off

    def _by_time(self) -> Iterator[Read]:
        """Two inputs that give what they are asked for: always the one that is behind."""
        readers = [self._read(item) for item in self._inputs]
        heads = [next(reader, None) for reader in readers]
        while any(head is not None for head in heads):
            waiting = [(head.time_ns, i) for i, head in enumerate(heads) if head is not None]
            _, chosen = min(waiting)
            head = heads[chosen]
            assert head is not None  # only such are in `waiting`
            yield head
            heads[chosen] = next(readers[chosen], None)

    def _as_they_come(self) -> Iterator[Read]:
        """Two devices that deliver at their own pace: a thread reads each."""
        arrived: queue.Queue[Read | BaseException | None] = queue.Queue(QUEUE_PACKETS)
        self._threads = [
            threading.Thread(target=self._pump, args=(item, arrived), daemon=True) for item in self._inputs
        ]
        for thread in self._threads:
            thread.start()
        running = len(self._threads)
        while running:
            got = arrived.get()
            if isinstance(got, BaseException):
                raise got
            if got is None:
                running -= 1
            else:
                yield got

    def _pump(self, item: Input, arrived: queue.Queue[Read | BaseException | None]) -> None:
        def put(got: Read | BaseException | None) -> None:
            while not self._closed.is_set():
                try:
                    arrived.put(got, timeout=0.1)
                except queue.Full:
                    continue
                return

        try:
            for read in self._read(item):
                put(read)
                if self._closed.is_set():
                    return
            put(None)
        except Exception as error:  # noqa: BLE001, it is raised again in the reader's thread
            put(error)
