"""SIGINT and SIGTERM become an exception in the main thread, once; the second one ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(BaseException):
    """A signal asked this command to stop; everything open is closed on the way out."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        self.exit_code = 128 + number
        super().__init__(self.name)


class Stop:
    """Whether a signal has asked this command to stop."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._orderly = False

    @property
    def asked(self) -> bool:
        return self._number is not None

    @contextmanager
    def orderly(self) -> Iterator[None]:
        """Within, a signal interrupts nothing: whoever works looks at `asked`. On the way out it is Stopped,
        whatever else went wrong since: the next run meets that again.
        """
        self._orderly = True
        try:
            yield
        finally:
            self._orderly = False
            if self._number is not None:
                raise Stopped(self._number)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            os._exit(128 + number)
        self._number = number
        if not self._orderly:
            raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Within, the first SIGINT or SIGTERM raises Stopped; the second exits at once with 130 or 143."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # signals belong to the main thread
        yield stop
        return
    before = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
