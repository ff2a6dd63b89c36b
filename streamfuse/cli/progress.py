"""Where a run stands: a bar on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from streamfuse.clock import SYSTEM, Clock
from streamfuse.types import NS

PLAIN_EVERY_NS = 30 * NS


class RunProgress:
    """One line per recording, with the media time reached, the speed and the time left."""

    def __init__(self, of: int = 1, console: Console | None = None, clock: Clock = SYSTEM) -> None:
        self._console = console or Console(stderr=True)
        self._clock, self._number, self._of = clock, 0, of
        self._tasks: dict[str, _Recording] = {}
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                _MediaTime(),
                _Speed(clock),
                _Left(clock),
                console=self._console,
                transient=True,
            )

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, name: str, goal_ns: int | None, start_ns: int = 0) -> None:
        """A recording is begun; several may be under way, each with a name of its own.

        start_ns, goal_ns  where in the recording the work begins and, where that is known, ends
        """
        self._number += 1
        text = f"[{self._number}/{self._of}] {name}" if self._of > 1 else name
        now_ns = self._clock.monotonic_ns()
        todo_ns = None if goal_ns is None else max(0, goal_ns - start_ns)
        task = None
        if self._bar is not None:
            total = None if todo_ns is None else float(todo_ns)
            task = self._bar.add_task(text, total=total, begun_ns=now_ns)
        self._tasks[name] = _Recording(text, start_ns, todo_ns, now_ns, now_ns, task)

    def advance(self, name: str, position_ns: int) -> None:
        """Work on a recording has come to position_ns of it."""
        one = self._tasks[name]
        done_ns = max(0, position_ns - one.start_ns)
        if self._bar is not None and one.task is not None:
            self._bar.update(one.task, completed=done_ns)
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns - one.said_ns >= PLAIN_EVERY_NS:
            one.said_ns = now_ns
            total = "" if one.todo_ns is None else f" of {clock_text(one.todo_ns)}"
            speed = _ratio(done_ns, now_ns - one.begun_ns)
            self.say(f"{one.text}: {clock_text(done_ns)}{total}, {speed}")

    def end(self, name: str) -> None:
        one = self._tasks.pop(name, None)
        if self._bar is not None and one is not None and one.task is not None:
            self._bar.remove_task(one.task)

    def say(self, text: str) -> None:
        """One line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@dataclass
class _Recording:
    text: str
    start_ns: int
    todo_ns: int | None
    begun_ns: int
    said_ns: int
    task: TaskID | None


class _MediaTime(ProgressColumn):
    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{clock_text(int(task.total))}"
        return Text(clock_text(int(task.completed)) + total)


class _Speed(ProgressColumn):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        return Text(_ratio(int(task.completed), self._clock.monotonic_ns() - task.fields["begun_ns"]))


class _Left(ProgressColumn):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        done = int(task.completed)
        if task.total is None or done <= 0:
            return Text("ETA -:--")
        spent_ns = self._clock.monotonic_ns() - task.fields["begun_ns"]
        return Text(f"ETA {clock_text(int(spent_ns * max(0.0, task.total - done) / done))}")


def clock_text(ns: int) -> str:
    """0:42, 12:03, 1:00:00; rounded to the second."""
    seconds = (ns + NS // 2) // NS
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _ratio(media_ns: int, wall_ns: int) -> str:
    return f"{media_ns / wall_ns:.1f} x real time" if wall_ns > 0 else "-"
