"""`streamfuse ctl`: look at a run that goes on, and change its sources without touching the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streamfuse.cli.control import EVERY, control_endpoint
from streamfuse.cli.launch import absolute_input, state_folder
from streamfuse.cli.run import named_sources
from streamfuse.clock import SYSTEM
from streamfuse.errors import ConfigError, StreamfuseError, WireError
from streamfuse.types import NS
from streamfuse.wire.codec import PARTS, Message, decode, encode
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.headers import Order, Reply, SourceRow
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire, receive_parts, send_parts, wait

ANSWER_NS = 10 * NS
"""A run answers within a tenth of a second, unless it hangs."""
LOOK_NS = NS // 20


@dataclass(frozen=True)
class Asker:
    """Sends an order to the run of this directory and waits for its reply.

    raises  StreamfuseError where no run answers, or the order was refused
    """

    folder: Path

    def ask(self, order: Order) -> Reply:
        if not is_running(self.folder):
            hint = "name its directory with --run-dir"
            raise StreamfuseError(
                "a run must be going on to be controlled", got="none", where=self.folder, hint=hint
            )
        wire = Wire()
        try:
            reply = self._exchange(wire, order)
        finally:
            wire.close()
        if not reply.ok:
            raise StreamfuseError(reply.said)
        return reply

    def _exchange(self, wire: Wire, order: Order) -> Reply:
        socket = wire.connect("send", control_endpoint(self.folder), queue=TOPICS["order"].queue)
        parts, sent = encode(Message(order.source, 0, order)), False
        end_ns = SYSTEM.monotonic_ns() + ANSWER_NS
        while SYSTEM.monotonic_ns() < end_ns:
            sent = sent or send_parts(socket, parts)  # False until it is connected
            wait([socket] if sent else [], LOOK_NS)
            received = receive_parts(socket, PARTS)
            if received is not None:
                body = decode(received).body
                if not isinstance(body, Reply):
                    raise WireError("a run answers orders with replies", got=type(body).__name__)
                return body
        raise StreamfuseError(
            "the run must answer", got=f"nothing within {ANSWER_NS // NS} s", where=self.folder
        )


def is_running(folder: Path) -> bool:
    """A living run holds this directory."""
    if not (folder / "control.sock").exists():
        return False
    lock = EndpointLock(control_endpoint(folder))
    free = lock.try_acquire()
    lock.release()
    return not free


def the_run() -> Path:
    """The directory of the one run that goes on. Raises ConfigError where there is none, or a choice."""
    found = sorted(path.parent for path in state_folder().glob("*/control.sock") if is_running(path.parent))
    if len(found) == 1:
        return found[0]
    hint = "start one with `streamfuse run`, or name its directory with --run-dir"
    if found:
        hint = "choose with --run-dir: " + ", ".join(str(path) for path in found)
    raise ConfigError("a run must be going on to be controlled", got=f"{len(found)} runs", hint=hint)


@click.group()
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Of the run; needed where several go on.",
)
@click.pass_context
def ctl(ctx: click.Context, run_dir: Path | None) -> None:
    """Look at a run that goes on, and change its sources without touching the others."""
    if not ctx.resilient_parsing:
        ctx.obj = run_dir


def _ask(ctx: click.Context, order: Order) -> Reply:
    return Asker(ctx.obj if ctx.obj is not None else the_run()).ask(order)


@ctl.command("list")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each source.")
@click.pass_context
def list_sources(ctx: click.Context, as_json: bool) -> None:
    """Every source: its state, what it has done, and what troubles it."""
    rows = _ask(ctx, Order(source=EVERY, verb="list")).sources
    if as_json:
        for row in rows:
            click.echo(json.dumps(msgspec.to_builtins(row)))
    else:
        Console().print(_table(rows))


@ctl.command()
@click.argument("source", metavar="[NAME=]SOURCE")
@click.option("--loop", is_flag=True, help="Begin a file again when it ends.")
@click.option(
    "--allow-hls", is_flag=True, help="Accept an HLS playlist, which names further addresses to open."
)
@click.pass_context
def add(ctx: click.Context, source: str, loop: bool, allow_hls: bool) -> None:
    """Watch one more source, until it is removed or the run ends."""
    ((name, chosen),) = named_sources([source], loop=loop, allow_hls=allow_hls).items()
    order = Order(source=name, verb="add", input=absolute_input(chosen.input), loop=loop, allow_hls=allow_hls)
    click.echo(_ask(ctx, order).said)


@ctl.command()
@click.argument("name")
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """Watch a source no longer: what it has sent is seen off, its events end."""
    click.echo(_ask(ctx, Order(source=name, verb="remove")).said)


@ctl.command()
@click.argument("name")
@click.pass_context
def pause(ctx: click.Context, name: str) -> None:
    """Let go of a source until `resume`: nothing is connected to it meanwhile."""
    click.echo(_ask(ctx, Order(source=name, verb="pause")).said)


@ctl.command()
@click.argument("name")
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """Go on with a paused source, in a new session."""
    click.echo(_ask(ctx, Order(source=name, verb="resume")).said)


@ctl.command()
@click.argument("name")
@click.pass_context
def restart(ctx: click.Context, name: str) -> None:
    """Open a source anew, also one that was given up or has ended."""
    click.echo(_ask(ctx, Order(source=name, verb="restart")).said)


@ctl.command()
@click.pass_context
def reload(ctx: click.Context) -> None:
    """Read the run's configuration file again (as does SIGHUP), and say what changed."""
    click.echo(_ask(ctx, Order(source=EVERY, verb="reload")).said)


def _table(rows: tuple[SourceRow, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("source", "state", "ticks", "dropped", "reconnects", "restarts", "address", "trouble"):
        number = title in ("ticks", "dropped", "reconnects", "restarts")
        table.add_column(title, justify="right" if number else "left", overflow="fold")
    for row in rows:
        counts = (str(n) for n in (row.ticks, row.dropped, row.reconnects, row.restarts))
        table.add_row(row.name, row.state, *counts, row.shown, row.trouble)
    return table
