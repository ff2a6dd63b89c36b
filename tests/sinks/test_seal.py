"""What is known of a file's past: any change is seen, and a line that changed alone is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given

from streamfuse.sinks.seal import Sealer, changed_line, read_seal

lines = st.lists(
    st.binary(max_size=30).map(lambda b: b.replace(b"\n", b" ") + b"\n"), min_size=1, max_size=40
)


def sealer_of(parts: list[bytes]) -> Sealer:
    sealer = Sealer()
    for part in parts:
        sealer.push(part)
    return sealer


@given(lines)
def test_seal_does_not_depend_on_how_it_was_written(parts: list[bytes]) -> None:
    assert sealer_of(parts).seal() == sealer_of([b"".join(parts)]).seal()
    assert sealer_of(parts).seal().lines == len(parts)


@given(lines, st.data())
def test_the_one_changed_line_is_named(parts: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(parts) - 1))
    other = data.draw(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b" ") + b"\n"))
    changed = [*parts[:number], other, *parts[number + 1 :]]
    then, now = sealer_of(parts).seal(), sealer_of(changed).seal()
    if other == parts[number]:
        assert now == then
    else:
        assert now != then
        assert changed_line(then, now) == number + 1


def test_several_changed_lines_are_seen_but_not_named() -> None:
    then = sealer_of([b"line %d\n" % i for i in range(100)]).seal()
    now = sealer_of([b"LINE %d\n" % i if i in (3, 50) else b"line %d\n" % i for i in range(100)]).seal()
    assert now.sha256 != then.sha256
    assert changed_line(then, now) is None


def test_lines_that_came_or_went_are_not_named_wrongly() -> None:
    then = sealer_of([b"a\n", b"b\n", b"c\n"]).seal()
    assert changed_line(then, sealer_of([b"a\n", b"b\n"]).seal()) is None


@given(lines)
def test_a_file_is_sealed_up_to_a_length(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_bytes(b"".join(parts) + b"what came later\nand a torn li")
        length = sum(map(len, parts))
        assert read_seal(path, length).seal() == sealer_of(parts).seal()
        assert read_seal(path, length).length == length
