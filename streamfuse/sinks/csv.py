"""Labels as a table for spreadsheets and pandas: one row per tick, one header, UTF-8 with a byte-order mark.

The byte-order mark is what makes Excel read names outside ASCII; pandas drops it by itself.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, ClassVar

from streamfuse.sinks.durable import PartFile, Patience
from streamfuse.sinks.mark import Mark
from streamfuse.types import NS

if TYPE_CHECKING:
    from pathlib import Path

    from streamfuse.types import Event, HeadLabel, Label

_BOM = "\ufeff"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class LabelTable:
    """`<stem>.csv`: where and when, each head's label and score, each modality's presence, then the flags.

    The columns are those of the first label; a head that says several labels at once joins them by `;`
    and its score is that of the best. Raw probabilities, where labels carry them, are `<head>.<label>`.
    """

    replays: ClassVar[bool] = False

    def __init__(self, path: Path, *, resume: Mark | None = None, patience: Patience | None = None) -> None:
        self.path = path
        self._file = PartFile(path, resume=None if resume is None else resume.seal, patience=patience)
        self._has_header = self._file.length > 0

    def write_label(self, label: Label) -> None:
        row = label_row(label)
        if not self._has_header:
            self._file.write(_BOM + csv_line(list(row)))
            self._has_header = True
        self._file.write(csv_line(list(row.values())))

    def write_event(self, event: Event) -> None:
        """A row is a tick; events are in the events file."""

    def mark(self) -> Mark:
        return Mark(self._file.seal())

    def settle(self) -> None:
        """Nothing is held back."""

    def sync(self) -> int:
        return self._file.sync()

    def close(self, complete: bool) -> None:
        self._file.close(complete)


def label_row(label: Label) -> dict[str, str]:
    """Column -> text, in the order of the columns."""
    head = label.head
    row = {
        "source": plain_text(head.source),
        "session": str(head.session),
        "tick": str(head.index),
        "start_s": seconds(head.start_ns),
        "end_s": seconds(head.end_ns),
    }
    if label.time is not None:
        row["time"] = label.time
    for name, said in label.heads.items():
        row |= _head_columns(name, said)
    row |= {f"{name}_presence": presence for name, presence in label.modalities.items()}
    return row | {
        "partial": str(head.partial).lower(),
        "warm": str(label.warm).lower(),
        "dropped": str(head.dropped),
    }


def _head_columns(name: str, said: HeadLabel) -> dict[str, str]:
    if said.labels is not None:
        text = ";".join(label for label, _ in said.labels)
        best = said.labels[0][1] if said.labels else None
    else:
        text, best = said.label or "", said.score
    columns = {name: plain_text(text), f"{name}_score": "" if best is None else f"{best:.4f}"}
    raw = {f"{name}.{label}": f"{value:.4f}" for label, value in (said.raw or {}).items()}
    return columns | raw


def seconds(ns: int) -> str:
    """Integer nanoseconds as seconds, exactly: 4100000000 -> 4.1."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    whole, rest = divmod(ns, NS)
    return f"{sign}{whole}.{rest:09d}".rstrip("0").removesuffix(".")


def plain_text(text: str) -> str:
    """Keep a spreadsheet from running a name that begins like a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def csv_line(cells: list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
