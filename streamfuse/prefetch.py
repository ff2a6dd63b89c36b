"""Run an iterator in its own thread, a few items ahead.

Decoding, Numba kernels and TorchScript all release the GIL, so one process keeps several cores busy and
the order of items, hence every result, stays what it is without the thread.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Failed:
    error: BaseException


_END = object()
ASK_S = 0.2


class Prefetch(Generic[Item]):
    """Iterate over `items` with up to `ahead` of them made in advance.

    An exception of the iterator is raised here, in its place in the order. close() (also called at the
    end, and by leaving `with`) stops the thread, closes a generator inside that thread and waits for it.

    should_stop  asked while nothing comes: once True, the iteration ends
    """

    def __init__(
        self,
        items: Iterable[Item],
        *,
        ahead: int,
        name: str = "prefetch",
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._items, self._should_stop = items, should_stop
        self._queue: queue.Queue[object] = queue.Queue(maxsize=ahead)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Prefetch[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        while (item := self._next()) is not _END:
            if isinstance(item, _Failed):
                self.close()
                raise item.error
            yield item  # type: ignore[misc]
        self.close()

    def _next(self) -> object:
        if self._should_stop is None:
            return self._queue.get()
        while not self._should_stop():
            try:
                return self._queue.get(timeout=ASK_S)
            except queue.Empty:
                continue
        return _END

    def close(self) -> None:
        self._stopped.set()
        while self._thread.is_alive():  # the producer may wait for room, once more for its last word
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def _produce(self) -> None:
        last: object = _END
        try:
            self._put_all()
        except BaseException as error:  # noqa: BLE001, it is raised where the items are used
            last = _Failed(error)
        self._queue.put(last)

    def _put_all(self) -> None:
        items = iter(self._items)
        try:
            for item in items:
                self._queue.put(item)
                if self._stopped.is_set():
                    break
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
