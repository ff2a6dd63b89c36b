"""Checkpoints beside the work: the disk's time is not the analysis's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from streamfuse.checkpoint.identity import Identity
from streamfuse.checkpoint.record import Checkpoint, CheckpointFile
from streamfuse.clock import Clock
from streamfuse.errors import OutputError
from streamfuse.sinks.durable import FULL
from streamfuse.types import NS


@dataclass(frozen=True, slots=True)
class _Wanted:
    sync: Callable[[], None]
    checkpoint: Checkpoint


class Keeper:
    """Writes a recording's checkpoints in a thread of its own, one at a time.

    The outputs are put to disk, then the checkpoint that speaks of them is; work goes on meanwhile, for what
    is appended later lies behind the lengths of the checkpoint. Where the disk is slower than the wish
    for checkpoints, there are fewer of them.

    every_s  wall time between two checkpoints
    skipped  how many could not be written for want of space: the one before stands
    raises   OutputError from the next call where the disk failed otherwise. A failed fsync is final: the
             kernel may have dropped what it could not write, and would not say so a second time
    """

    def __init__(self, file: CheckpointFile, identity: Identity, every_s: float, clock: Clock) -> None:
        self._file, self._identity, self._clock = file, identity, clock
        self._every_ns = round(every_s * NS)
        self._due_ns = clock.monotonic_ns() + self._every_ns
        self._wanted: queue.SimpleQueue[_Wanted | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._error: OutputError | None = None
        self.skipped = self.written = 0
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    @property
    def due(self) -> bool:
        """It is time for a checkpoint, and the last one is written."""
        return self.idle and self._clock.monotonic_ns() >= self._due_ns

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        self._check()
        return self._idle.is_set()

    def keep(self, sync: Callable[[], None], analysed: bytes, told: bytes) -> None:
        """Have a checkpoint written, after the one that is under way.

        sync  puts to disk what `told` speaks of
        """
        self._check()
        self._idle.clear()
        self._due_ns = self._clock.monotonic_ns() + self._every_ns
        self._wanted.put(_Wanted(sync, Checkpoint(self._identity, "running", analysed, told)))

    def close(self) -> None:
        """Wait for what is under way. Raises OutputError where it failed."""
        if self._thread.is_alive():
            self._wanted.put(None)
            self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            try:
                wanted.sync()
                self._write(wanted.checkpoint)
            except OutputError as error:
                self._error = error
                return
            if self._wanted.empty():
                self._idle.set()

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._file.write(checkpoint)
        except OSError as error:
            if error.errno not in FULL:
                got = f"errno {error.errno} ({error.strerror})"
                raise OutputError("a checkpoint must be written", got=got, where=self._file.path) from error
            self.skipped += 1
        else:
            self.written += 1
