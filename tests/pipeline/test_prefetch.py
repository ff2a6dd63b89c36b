"""An iterator in another thread: the same items, the same error, and always an end."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from streamfuse.prefetch import Prefetch


def test_items_come_in_order() -> None:
    assert list(Prefetch(range(1000), ahead=3)) == list(range(1000))


def test_items_are_made_in_another_thread() -> None:
    def where() -> Iterator[threading.Thread]:
        yield threading.current_thread()

    assert list(Prefetch(where(), ahead=1)) != [threading.current_thread()]


def test_no_more_than_asked_for_is_made_ahead() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with Prefetch(items(), ahead=2) as ahead:
        stream = iter(ahead)
        assert next(stream) == 0
        # One taken, two waiting, and one that found no room.
        assert len(made) <= 4


def test_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("broken")

    got = []
    with pytest.raises(LookupError, match="broken"):
        for item in Prefetch(items(), ahead=4):
            got.append(item)
    assert got == [1]


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_leaving_early_closes_the_iterator_in_its_thread(taken: int) -> None:
    closed_in = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread())

    with Prefetch(endless(), ahead=2, name="the reader") as ahead:
        stream = iter(ahead)
        for _ in range(taken):
            next(stream)
    assert [thread.name for thread in closed_in] == ["the reader"]
    assert not closed_in[0].is_alive()


def test_close_twice_is_one_close() -> None:
    ahead = Prefetch(range(3), ahead=1)
    ahead.close()
    ahead.close()
