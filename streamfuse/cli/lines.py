"""Standard output whose reader may be slow, stopped or gone, for a program that must not wait for it."""

from __future__ import annotations

import os
import threading
from collections import deque

LINES = 1000
"""Lines kept for a reader that lags: 100 s of one source."""


class PatientStream:
    """A text stream for StreamLines: writing never waits; a thread hands the lines to `handle`.

    handle  an open file descriptor; written to directly, for a buffered stream that a stuck thread
            holds cannot be closed when the interpreter ends
    lost    lines thrown away, oldest first, because the reader did not keep up
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lines: deque[str] = deque()
        self._changed = threading.Condition()
        self._under_way = False
        self._gone: OSError | None = None
        self.lost = 0
        threading.Thread(target=self._run, name="stdout", daemon=True).start()

    def fileno(self) -> int:
        return self._handle

    def write(self, text: str) -> int:
        """Take a line. Raises the OSError of an earlier one: BrokenPipeError where the reader has left."""
        with self._changed:
            if self._gone is not None:
                raise self._gone
            if len(self._lines) >= LINES:
                self._lines.popleft()
                self.lost += 1
            self._lines.append(text)
            self._changed.notify()
        return len(text)

    def flush(self) -> None:
        """Nothing is held back: each line is written as soon as the reader takes it."""

    def finish(self, timeout_s: float) -> None:
        """Give the reader so long to take what is left; what it does not take is lost."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._under_way) or self._gone, timeout_s)
            if self._gone is None:  # one that has left wanted no more
                self.lost += len(self._lines)
            self._lines.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._under_way = False
                self._changed.notify()
                self._changed.wait_for(lambda: self._lines)
                data = self._lines.popleft().encode()
                self._under_way = True
            try:
                while data:
                    data = data[os.write(self._handle, data) :]
            except OSError as error:
                with self._changed:
                    self._gone = error
                    self._changed.notify()
                return
