from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from streamfuse.sinks.table import BoardStatus, SourceStatus, State, StatusBoard
from streamfuse.types import MS, NS
from tests.sinks.made import make_label, said, said_many

DOOR = SourceStatus(
    *("door", "running", make_label(sound=said_many(("rain", 0.91), ("dog", 0.5)))),
    age_p50_ns=62 * MS,
    fps=9.96,
    dropped=1234,
    reconnects=2,
)
YARD = SourceStatus("yard", "reconnecting", reconnects=1, trouble="no answer for 10 s")
BOARD = BoardStatus(3723 * NS, "cpu", "base 0.1", notes=("disk is full: 12 lines lost",))


def shown(sources: Sequence[SourceStatus], board: BoardStatus | None = None, width: int = 160) -> list[str]:
    console = Console(record=True, width=width, file=io.StringIO(), color_system=None)
    console.print(StatusBoard(sources, board))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return [line for line in lines if line and "───" not in line]


def test_table_wide_has_bars() -> None:
    assert shown([DOOR, YARD], BOARD) == [
        " source   state            scene                      emotion                    sound"
        "                 age p50    fps   drops   reconn",
        " door     ● running        street     ━━━━━━━━ 0.81   happy      ━━━━━━━━ 0.61   rain 0.91, dog 0.50"
        "     62 ms   10.0   1,234        2",
        " yard     ● reconnecting   –                          –                          –"
        "                           –      –       0        1",
        "1:02:03 · cpu · base 0.1",
        "yard: no answer for 10 s",
        "disk is full: 12 lines lost",
    ]


def test_table_of_a_hundred_columns_has_scores() -> None:
    assert shown([DOOR], width=110)[1] == (
        " door     ● running   street 0.81   happy 0.61   rain 0.91, dog 0.50"
        "     62 ms   10.0   1,234        2"
    )


def test_table_of_eighty_columns_has_every_source_and_number() -> None:
    assert shown([DOOR, YARD], width=80)[:3] == [
        " source  state           scene · emotion · sound     age p50   fps  drops",
        " door    ● running       street · happy · rain, dog    62 ms  10.0  1,234",
        " yard    ● reconnecting  –                                 –     –      0",
    ]


def test_table_before_the_first_label() -> None:
    assert shown([SourceStatus("door", "connecting")])[:2] == [
        " source   state          scene   emotion   age p50   fps   drops   reconn",
        " door     ● connecting   –       –               –     –       0        0",
    ]


def test_table_score_is_a_bar_of_eight() -> None:
    console = Console(
        record=True, width=160, file=io.StringIO(), color_system="standard", force_terminal=True
    )
    console.print(StatusBoard([SourceStatus("door", "running", make_label(scene=said("sea", 0.5)))]))
    styled = console.export_text(styles=True)
    assert "\x1b[36m━━━━\x1b[0m\x1b[90m━━━━\x1b[0m" in styled


def test_table_dead_track_is_said() -> None:
    label = make_label()
    label.modalities.update(video="missing", face="missing")
    assert "● running no video" in shown([SourceStatus("door", "running", label)])[1]


@pytest.mark.parametrize("state", ["connecting", "running", "reconnecting", "stalled", "failed", "ended"])
def test_table_every_state_has_its_word(state: State) -> None:
    assert f"● {state}" in shown([SourceStatus("door", state)])[1]


def test_table_names_from_outside_cannot_steer_the_terminal() -> None:
    evil = "cam\x1b[2J\x07[bold]"
    (row,) = (line for line in shown([SourceStatus(evil, "failed", trouble="\x1b]0;x\x07")]) if "●" in line)
    assert row.startswith(" cam?[2J?[bold]   ● failed")
    assert "cam?[2J?[bold]: ?]0;x?" in shown([SourceStatus(evil, "failed", trouble="\x1b]0;x\x07")])[-1]
