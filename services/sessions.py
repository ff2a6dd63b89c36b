"""Numbers of live sessions, above every earlier one also after a restart, and sessions we begin ourselves."""

from __future__ import annotations

import json
import os
import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from streamfuse.errors import OutputError
from streamfuse.private import private_folder
from streamfuse.types import SessionStart, Tick


class SessionNumbers:
    """One source's numbers, kept in the run directory.

    A number is written before it is used: whatever dies when, none is used twice. How far time has got is
    written with every tick, so that it goes on from there also where the wall clock was set back meanwhile.
    raises  OutputError where the files cannot be read or written
    """

    def __init__(self, run_dir: Path, source: str) -> None:
        self._path = private_folder(run_dir / "sessions") / f"{quote(source, safe='')}.json"
        self._next, self._begun_wall_ns = self._read()
        self._reached = self._open(self._path.with_suffix(".reached"))
        self.reached_ns = self._read_reached()
        """Where the last tick of the source's last process ended; 0 where that is not known."""

    def reach(self, end_ns: int) -> None:
        """A tick ends there. Eight bytes to the page cache: what a killed process wrote stays."""
        with suppress(OSError):  # a full disk costs nothing but this: sessions go by the wall clock then
            os.pwrite(self._reached, struct.pack("<q", end_ns), 0)

    def take(self) -> int:
        number, self._next = self._next, self._next + 1
        self._write()
        return number

    def begun_wall_ns(self, now_ns: int) -> int:
        """Wall time at which the source's first session began; `now_ns` where this is the first."""
        if self._begun_wall_ns == 0:
            self._begun_wall_ns = now_ns
        return self._begun_wall_ns

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise OutputError("session numbers must be kept", got=error.strerror, where=path) from error

    def _read_reached(self) -> int:
        data = os.pread(self._reached, 8, 0)
        return max(0, struct.unpack("<q", data)[0]) if len(data) == 8 else 0

    def _read(self) -> tuple[int, int]:
        try:
            state = json.loads(self._path.read_text())
            return int(state["next"]), int(state["begun_wall_ns"])
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "remove it if nothing depends on the numbers of sessions"
            raise OutputError("session numbers must be readable", where=self._path, hint=hint) from error

    def _write(self) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps({"next": self._next, "begun_wall_ns": self._begun_wall_ns}))
            os.replace(new, self._path)  # noqa: PTH105  atomic, and says so
        except OSError as error:
            rule = "session numbers must be kept"
            raise OutputError(rule, got=error.strerror, where=self._path) from error


class LiveSessions:
    """Gives live sessions their numbers and their place in time, and begins one where we lost the thread.

    Whoever reads the media numbers its sessions from 0 and counts time from its own beginning, each time
    it connects; a receiver that died knows nothing of a session that goes on.
    """

    def __init__(self, numbers: SessionNumbers) -> None:
        self._numbers = numbers
        self._start: SessionStart | None = None
        self._base = 0
        """Index, in the assembler's session, of the first tick of ours."""
        self._next = 0
        self._end_ns = numbers.reached_ns

    def begin(self, start: SessionStart, wall_ns: int) -> SessionStart:
        """The media begin a session: the same with our number and our time."""
        offset_ns = max(self._end_ns, wall_ns - self._numbers.begun_wall_ns(wall_ns))
        self._start = replace(start, session=self._numbers.take(), offset_ns=offset_ns)
        self._base = self._next = 0
        return self._start

    def begin_again(self, hop_ns: int, reason: str) -> SessionStart | None:
        """Begin a session at the next tick; None: the media have not begun yet."""
        if self._start is None:
            return None
        skipped_ns = (self._next - self._base) * hop_ns
        self._base = self._next
        self._start = replace(
            self._start,
            session=self._numbers.take(),
            zero_ns=self._start.zero_ns + skipped_ns,
            offset_ns=self._start.offset_ns + skipped_ns,
            reason=reason,
        )
        return self._start

    def place(self, tick: Tick) -> Tick:
        """The assembler's tick in our session."""
        if self._start is None or tick.head.index < self._base:
            return tick
        self._next = tick.head.index + 1
        head = replace(
            tick.head,
            session=self._start.session,
            index=tick.head.index - self._base,
            offset_ns=self._start.offset_ns,
        )
        self._end_ns = head.end_ns
        self._numbers.reach(head.end_ns)
        return replace(tick, head=head)
