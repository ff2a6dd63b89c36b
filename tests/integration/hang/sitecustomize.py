"""Makes a service hang at SIGUSR1: alive, answering on its sockets' own threads, and going nowhere."""

import contextlib
import signal


def _hang(_number: int, _frame: object) -> None:
    while True:
        pass


with contextlib.suppress(ValueError):  # not in the main thread of some embedded interpreter
    signal.signal(signal.SIGUSR1, _hang)
