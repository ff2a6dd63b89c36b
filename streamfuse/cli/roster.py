"""The sources of a run that goes on: which there are, and what becomes of the run when they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamfuse.cli.launch import check_names, roles, run_config, write_run
from streamfuse.cli.recorder import describe_recording
from streamfuse.cli.screen import Screen
from streamfuse.config import OWN, AppConfig, RunConfig, SourceConfig
from streamfuse.errors import ConfigError
from streamfuse.media.source import parse_source
from streamfuse.supervise.supervisor import Slot, Supervisor, Wish
from streamfuse.wire.codec import printable
from streamfuse.wire.headers import SourceRow, SourceState

Sources = Mapping[str, SourceConfig]
ReadAgain = Callable[[], tuple[AppConfig, dict[str, SourceConfig]]]
"""The configuration as it stands now, file and command line together."""

_ELSEWHERE = ("sources", "run_dir", *OWN)
"""What a reload takes up at once; of OWN, by a restart of the sources that it counts for."""


@dataclass
class Roster:
    """Adds, removes, pauses and restarts sources; every other one goes on untouched.

    file   run.json, which each process reads when it starts
    read   the configuration and its sources as they were last read
    """

    config: RunConfig
    file: Path
    supervisor: Supervisor
    screen: Screen
    read: tuple[AppConfig, dict[str, SourceConfig]]
    read_again: ReadAgain

    def rows(self) -> Iterator[SourceRow]:
        for name, source in self.config.sources.items():
            slot = self.supervisor.slot("decode", name)
            shown = parse_source(source.input, allow_hls=source.allow_hls).display
            if slot is not None:
                yield _row(name, slot, printable(shown))

    def add(self, name: str, source: SourceConfig) -> str:
        """raises  ConfigError where the name is taken; SourceRefused where the address can be none"""
        if name in self.config.sources:
            hint = "remove that one first, or choose another name"
            raise ConfigError("each source has a name of its own", got=f"{name} twice", hint=hint)
        shown = parse_source(source.input, allow_hls=source.allow_hls).display
        self._change({**self.config.sources, name: source})
        return f"added {name}: {shown}"

    def remove(self, name: str) -> str:
        self._slot(name)
        if len(self.config.sources) == 1:
            hint = "pause it, or stop the run"
            raise ConfigError("a run needs at least one source", got=f"{name} is the last", hint=hint)
        self._change({other: s for other, s in self.config.sources.items() if other != name})
        return f"removed {name}"

    def pause(self, name: str) -> str:
        slot = self._slot(name)
        if slot.paused:
            return f"{name} is paused already"
        self._note(paused=(*self.config.paused, name))
        self.supervisor.wish(slot, "pause")
        return f"paused {name}"

    def resume(self, name: str) -> str:
        slot = self._slot(name)
        if not slot.paused:
            raise ConfigError("only a paused source can go on", got=f"{name} is {_state(slot)}")
        self._anew(name, "run")
        return f"{name} goes on"

    def restart(self, name: str) -> str:
        self._slot(name)
        self._anew(name, "restart")
        return f"restarted {name}"

    def reload(self) -> str:
        """Read the configuration again; say in one line what changed, and what waits for a new run.

        raises  ConfigError: then nothing has changed
        """
        (old, old_sources), (new, new_sources) = self.read, self.read_again()
        check_names(new_sources)
        for source in new_sources.values():
            parse_source(source.input, allow_hls=source.allow_hls)
        now = {name: s for name, s in self.config.sources.items() if name not in old_sources}
        now |= new_sources  # those that `ctl add` brought stay
        before = self.config
        self._change(now, sections={name: getattr(new, name) for name in OWN})
        after, said = self.config.sources, []
        added = [name for name in after if name not in before.sources]
        gone = [name for name in before.sources if name not in after]
        changed = [name for name in after if name in before.sources and self._differs(name, before)]
        for name in changed:
            self._anew(name, "restart")
        for what, names in (("added", added), ("removed", gone), ("restarted", changed)):
            said += [f"{what} {', '.join(sorted(names))}"] if names else []
        waiting = sorted(_differences(_settings(old), _settings(new)))
        said += [f"in effect after a new start of the run: {', '.join(waiting)}"] if waiting else []
        # What waits is said again next time: this run still has the old values.
        self.read = (old, new_sources)
        return "; ".join(said) or "nothing has changed"

    def _change(self, sources: Sources, sections: Mapping[str, Any] | None = None) -> None:
        paused = tuple(name for name in self.config.paused if name in sources)
        base = self.config.model_copy(update={**dict(sections or {}), "paused": paused})
        settled = run_config(base, dict(sources), "live")
        describe_recording(settled)  # first: it may refuse
        write_run(settled, self.file)  # before anything is started that reads it
        self.config = settled
        self.supervisor.change(roles(settled, self.file))
        self.screen.board.keep(settled.sources)

    def _differs(self, name: str, before: RunConfig) -> bool:
        """What the source's own process is told is not what it was."""

        def told(config: RunConfig) -> list[Any]:
            own = config.of(name)
            return [config.sources[name], *(getattr(own, key) for key in OWN)]

        return told(self.config) != told(before)

    def _note(self, *, paused: tuple[str, ...]) -> None:
        """For the page, which is served by a process of its own."""
        if paused != self.config.paused:
            noted = self.config.model_copy(update={"paused": paused})
            write_run(noted, self.file)
            self.config = noted

    def _anew(self, name: str, wish: Wish) -> None:
        slot = self._slot(name)
        self._note(paused=tuple(other for other in self.config.paused if other != name))
        self.supervisor.wish(slot, wish)
        self.screen.board.keep(self.config.sources, begun_anew=[name])

    def _slot(self, name: str) -> Slot:
        slot = self.supervisor.slot("decode", name) if name in self.config.sources else None
        if slot is None:
            known = ", ".join(sorted(self.config.sources))
            raise ConfigError("a source is known by its name", got=name, hint=f"known: {known}"[:400])
        return slot


def _row(name: str, slot: Slot, shown: str) -> SourceRow:
    report = slot.report
    counters = {} if report is None else report.counters
    trouble = report.error if report is not None and report.error else ""
    return SourceRow(
        name=name,
        state=_state(slot),
        shown=shown,
        ticks=counters.get("ticks", 0),
        dropped=counters.get("link_dropped", 0) + counters.get("link_lost", 0),
        reconnects=counters.get("reconnects", 0),
        restarts=slot.watch.restarts,
        trouble=printable(trouble or ("" if slot.child is not None else slot.watch.reason)),
    )


def _state(slot: Slot) -> SourceState:
    if slot.paused:
        return "paused"
    if slot.watch.state == "given up":
        return "failed"
    if slot.report is None:
        return "starting" if slot.child is not None or not slot.watch.reason else "lost"
    return "waiting" if slot.report.state == "standby" else slot.report.state


def _settings(config: AppConfig) -> dict[str, Any]:
    return {key: value for key, value in config.model_dump().items() if key not in _ELSEWHERE}


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Names of the settings that differ, never their values: some are secrets."""
    for key in old.keys() | new.keys():
        a, b, place = old.get(key), new.get(key), f"{path}{key}"
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(a, b, f"{place}.")
        elif a != b:
            yield place
