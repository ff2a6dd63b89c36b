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


def test_items_that_cannot_be_begun_are_an_error_and_no_wait_for_ever() -> None:
    class Spent:
        def __iter__(self) -> Iterator[int]:
            raise LookupError("iterated once")

    with pytest.raises(LookupError, match="iterated once"):
        list(Prefetch(Spent(), ahead=1))


def test_error_in_closing_the_items_is_told() -> None:
    def items() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise LookupError("cannot be closed")

    got = []
    with pytest.raises(LookupError, match="cannot be closed"):
        for item in Prefetch(items(), ahead=4):
            got.append(item)
    assert got == [1]


def test_error_in_closing_a_reader_that_left_early_does_not_hold_it_up() -> None:
    class Endless:
        def __iter__(self) -> Endless:
            return self

        def __next__(self) -> int:
            return 1

        def close(self) -> None:
            raise LookupError("cannot be closed")

    with Prefetch(Endless(), ahead=1) as ahead:
        assert next(iter(ahead)) == 1
