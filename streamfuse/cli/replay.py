"""`streamfuse replay`: the labels of a recorded run again, on another desk."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from streamfuse.checkpoint.identity import Identity, differences, settings_identity
from streamfuse.cli.recorder import own_labels, recorded_config
from streamfuse.cli.stop import stoppable
from streamfuse.clock import SYSTEM, utc_iso
from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError, ModelError, StreamfuseError
from streamfuse.labels.lines import event_line, label_line
from streamfuse.model.inspect import ModelFile, inspect_model
from streamfuse.sinks.durable import PartFile
from streamfuse.types import NS, Event, Label
from streamfuse.wire.facts import read_facts
from streamfuse.wire.recording import read_index, segments, sources_in

if TYPE_CHECKING:
    from streamfuse.services.replay import Findings


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--speed", type=click.Choice(["1", "max"]), default="max", help="1: as fast as it was live.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Write <source>.jsonl there."
)
@click.option("--source", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--session", type=click.IntRange(0), metavar="N", help="Only this session.")
@click.option("--events", "events_only", is_flag=True, help="On stdout: events in place of labels.")
@click.option("--list", "only_list", is_flag=True, help="Say what was recorded, and end.")
@click.option("--model", metavar="FILE", help="The recorded model, or another to compare with.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another setting than recorded.")
def replay(
    folder: Path,
    speed: str,
    output: Path | None,
    only: tuple[str, ...],
    session: int | None,
    events_only: bool,
    only_list: bool,
    model: str | None,
    settings: tuple[str, ...],
) -> int:
    """Give the labels of a run that was recorded with `run --record DIR` again.

    Model and settings are those of the run; with others (--model, --set) the labels are other ones, which is
    said.
    """
    facts = read_facts(folder)
    chosen = _chosen(folder, only)
    if only_list:
        _list(chosen)
        return 0
    _check_records(folder, chosen, session)
    config = recorded_config(facts, settings, folder)
    file = _model(facts, model, folder)
    found = settings_identity(config, model_sha256=file.sha256, device=config.model.device)
    then = facts["identity"] | _labels_of(recorded_config(facts, (), folder))
    for difference in differences(then, found | _labels_of(config)):
        click.echo(f"streamfuse: not as recorded, so labels may differ: {difference}", err=True)
    with stoppable():
        return _replay(facts, config, file, chosen, speed, output, session, events_only)


def _chosen(folder: Path, only: tuple[str, ...]) -> dict[str, Path]:
    known = sources_in(folder)
    for name in only:
        if name not in known:
            rule, hint = "--source names a source of the recording", f"known: {', '.join(known) or 'none'}"
            raise ConfigError(rule, got=name, where=folder, hint=hint)
    return {name: path for name, path in known.items() if not only or name in only}


def _check_records(folder: Path, chosen: dict[str, Path], session: int | None) -> None:
    """Raise StreamfuseError where there is nothing to replay; what is damaged is told where it is read."""
    from streamfuse.services.replay import Findings, entries

    found = Findings()
    if (
        all(next(entries(path, found, session), None) is None for path in chosen.values())
        and not found.damage
    ):
        got = "none" if session is None else f"none of session {session}"
        hint = "--list says what there is"
        raise StreamfuseError("a replay needs records", got=got, where=folder, hint=hint)


def _model(facts: dict[str, Any], given: str | None, folder: Path) -> ModelFile:
    """The model of the recording, or the one that was asked for in its place."""
    file = inspect_model(given)
    then = facts["identity"].get("model.sha256")
    if given is None and file.sha256 != then:
        name = facts["config"]["model"]
        rule, hint = f"a replay needs the recorded model, {name}", "name its file with --model"
        raise ModelError(rule, got="another default model", where=folder, hint=hint)
    return file


def _labels_of(config: AppConfig) -> Identity:
    """What sources have for themselves, as an identity tells it."""
    own = own_labels(config).items()
    return {f"sources.{name}.labels": json.dumps(labels, ensure_ascii=False) for name, labels in own}


def _list(chosen: dict[str, Path]) -> None:
    """One line for each session, from the indexes alone."""
    for name, folder in chosen.items():
        sessions: dict[int, list[int]] = {}
        for segment in segments(folder):
            for entry in read_index(segment):
                sessions.setdefault(entry.session, []).append(entry.wall_ns)
        for session, walls in sessions.items():
            lasted_s = (walls[-1] - walls[0]) / NS
            click.echo(
                f"{name}: session {session}, {utc_iso(walls[0])}, {lasted_s:.1f} s, {len(walls)} records"
            )


def _replay(
    facts: dict[str, Any],
    config: AppConfig,
    file: ModelFile,
    chosen: dict[str, Path],
    speed: str,
    output: Path | None,
    session: int | None,
    events_only: bool,
) -> int:
    from streamfuse.batch import recorded_batch
    from streamfuse.model.runtime import load_model
    from streamfuse.services.replay import SourceReplay, entries, in_order

    model = load_model(
        file.path, device=config.model.device, sha256=file.sha256, threads=config.model.threads
    )
    model.warm_up()
    together = recorded_batch(model, config.model, streams=len(chosen))
    gaps = facts["config"]["max_gap_ms"]
    streams = []
    for name, path in chosen.items():
        gap_ms = gaps.get(name, config.ticks.max_gap_ms)
        one = SourceReplay(name, model, config.of(name).labels, max_gap_ms=gap_ms, together=together)
        streams.append((one, entries(path, one.found, session)))
    with ExitStack() as stack:
        outputs = _Outputs(output, list(chosen), events_only)
        stack.callback(outputs.close, complete=False)
        pace = _Pace() if speed == "1" else None
        for one, entry in in_order(streams):
            if pace is not None:
                pace.wait(entry.wall_ns)
            outputs.write(one.name, one.push(entry))
        for one, _ in streams:
            outputs.write(one.name, one.flush())
        outputs.close(complete=True)
    damaged = [_report(one.name, one.found) for one, _ in streams]
    return 1 if any(damaged) else 0


class _Pace:
    """Records when they were sent, from the first one on."""

    def __init__(self) -> None:
        self._began: tuple[int, int] | None = None

    def wait(self, wall_ns: int) -> None:
        now_ns = SYSTEM.monotonic_ns()
        if self._began is None:
            self._began = wall_ns, now_ns
        SYSTEM.sleep_ns(self._began[1] + wall_ns - self._began[0] - now_ns)


class _Outputs:
    """Files with labels and events as a live run writes them, or lines on stdout."""

    def __init__(self, folder: Path | None, names: list[str], events_only: bool) -> None:
        self._wanted: type = Event if events_only else Label
        self._files = {}
        if folder is not None:
            self._files = {name: PartFile(folder / f"{quote(name, safe=' ')}.jsonl") for name in names}

    def write(self, name: str, told: list[Label | Event]) -> None:
        for one in told:
            line = label_line(one) if isinstance(one, Label) else event_line(one)
            if name in self._files:
                self._files[name].write_line(line)
            elif isinstance(one, self._wanted):
                sys.stdout.write(line + "\n")

    def close(self, *, complete: bool) -> None:
        for file in self._files.values():
            file.close(complete)


def _report(name: str, found: Findings) -> bool:
    """Say what was replayed, and what was not whole; True: something was damaged."""
    sessions = f"{len(found.sessions)} sessions" if len(found.sessions) != 1 else "1 session"
    click.echo(f"streamfuse: {name}: {found.counts['ticks']} ticks, {sessions}", err=True)
    if found.headless:
        text = "its beginning is gone, so the labels before the first new session are not those of the run"
        click.echo(f"streamfuse: {name}: {text}", err=True)
    if found.counts["lost"]:
        text = f"{found.counts['lost']} records were not written when it was recorded"
        click.echo(f"streamfuse: {name}: {text}", err=True)
    for text in found.damage:
        click.echo(f"streamfuse: {name}: {text}", err=True)
    return bool(found.damage)
