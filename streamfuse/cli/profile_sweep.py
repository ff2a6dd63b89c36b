"""`streamfuse profile sweep`: a grid of settings, and what to choose."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streamfuse.cli.measure import Plan, measure
from streamfuse.cli.options import config_options, read_config
from streamfuse.cli.profile import kept_if_used
from streamfuse.cli.run import Duration
from streamfuse.cli.stop import stoppable
from streamfuse.clock import SYSTEM, utc_iso
from streamfuse.config import AppConfig
from streamfuse.errors import ConfigError, StreamfuseError
from streamfuse.profiling.sweep import (
    OF_THE_PLAN,
    SCHEMA,
    SHORT_NAMES,
    Cell,
    Settings,
    Sweep,
    cell_of,
    choose,
    parse_grid,
    render_sweep,
)
from streamfuse.sinks.durable import write_whole
from streamfuse.types import MS, NS


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "--vary", "grid", multiple=True, required=True, metavar="NAME=V,V,...",
    help="hop (ms), window (frames), streams, threads, device, model, batch, batch_wait (CUDA batches "
    "only), wait, decode_threads, or any key of the configuration. May be repeated: every combination is "
    "measured.",
)  # fmt: skip
@click.option(
    "--target", "target_ns", type=Duration(), metavar="TIME",
    help="How late an answer may be (hop + p99 of its age), such as 150ms: the cheapest within is chosen.",
)  # fmt: skip
@click.option(
    "--duration",
    "duration_ns",
    type=Duration(),
    default="10s",
    metavar="TIME",
    help="Of each combination [10s].",
)
@click.option("--warm-up", "warm_up_ns", type=Duration(), default="2s", metavar="TIME", help="Left out [2s].")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("profile"),
    metavar="DIR",
    help="Where sweep.html and sweep.json go [profile].",
)
@config_options
def sweep(
    source: str,
    grid: tuple[str, ...],
    target_ns: int | None,
    duration_ns: int,
    warm_up_ns: int,
    output: Path,
    config_file: Path | None,
    settings: tuple[str, ...],
    model: str | None,
    device: str | None,
    allow_codec: tuple[str, ...],
) -> int:
    """Measure a SOURCE under every combination of settings: one table, one plot, what to choose.

    hop and window describe the model anew: the cost is then right, and what it says means nothing.
    """
    wanted = parse_grid(grid)

    def configured(more: tuple[str, ...]) -> AppConfig:
        return read_config(
            config_file, (*settings, *more), model=model, device=device, allow_codec=allow_codec
        )

    for cell in wanted:
        configured(_overrides(cell))  # what is wrong is told before anything is measured
    cells = []
    with kept_if_used(output), stoppable(), Console(stderr=True).status("starting") as line:
        for place, cell in enumerate(wanted):
            line.update(f"{place + 1} of {len(wanted)}: {' '.join(f'{k}={v}' for k, v in cell.items())}")
            plan = Plan(source, duration_ns, warm_up_ns, streams=_whole(cell, "streams") or 1)
            cells.append(_measured(plan, cell, configured(_overrides(cell))))
    target_ms = None if target_ns is None else target_ns / MS
    made = Sweep(
        schema=SCHEMA,
        created=utc_iso(SYSTEM.wall_ns()),
        source=source,
        duration_s=duration_ns / NS,
        target_ms=target_ms,
        chosen=choose(cells, target_ms),
        cells=cells,
    )
    write_whole(
        output / "sweep.json", msgspec.json.format(msgspec.json.encode(made), indent=1).decode() + "\n"
    )
    write_whole(output / "sweep.html", render_sweep(made))
    _show(made)
    click.echo(f"\nwritten: {output / 'sweep.html'}, sweep.json")
    return 0 if any(cell.error is None for cell in cells) else 1


def _measured(plan: Plan, settings: Settings, config: AppConfig) -> Cell:
    """One cell; a setting that does not work is a row of the table, not the end of the sweep."""
    hop_ms, frames = _whole(settings, "hop"), _whole(settings, "window")
    try:
        if hop_ms is None and frames is None:
            return cell_of(settings, measure(plan, config).report)
        from streamfuse.model.redescribe import redescribe  # torch, only for those who want this

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.ts"
            given = Path(config.model.path) if config.model.path is not None else None
            redescribe(given, path, hop_ms=hop_ms, frames=frames)
            described = config.model.model_copy(update={"path": str(path), "sha256": None})
            config = config.model_copy(update={"model": described})
            return cell_of(settings, measure(plan, config).report)
    except StreamfuseError as error:
        return Cell(settings=settings, error=str(error))


def _overrides(settings: Settings) -> tuple[str, ...]:
    keys = {name: SHORT_NAMES.get(name, name) for name in settings if name not in OF_THE_PLAN}
    return tuple(f"{key}={settings[name]}" for name, key in keys.items())


def _whole(settings: Settings, name: str) -> int | None:
    text = settings.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) == 0:
        raise ConfigError(f"--vary {name} must be whole numbers above 0", got=repr(text))
    return int(text)


def _show(made: Sweep) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("settings")
    for name in ("age p50", "age p99", "hop + p99", "dropped", "late", "cores", "s/s", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, cell in enumerate(made.cells):
        mark = "→" if place == made.chosen else ""
        if cell.error is not None:
            table.add_row(mark, cell.name, *["–"] * 8)
            continue
        ages = (cell.age_p50_ms, cell.age_p99_ms, cell.late_ms)
        table.add_row(
            mark,
            cell.name,
            *(_age(age, is_max=cell.p99_is_max and column == 1) for column, age in enumerate(ages)),
            f"{cell.dropped_share:.1%}",
            f"{cell.missed_share:.1%}",
            f"{cell.cores:.2f}",
            f"{cell.cpu_s_per_s:.3f}" if cell.cpu_s_per_s is not None else "–",
            f"{(cell.rss_bytes or 0) / 1e6:,.0f}",
        )
    console.print(table)
    for cell in made.cells:
        if cell.error is not None:
            console.print(f"{cell.name}: {cell.error}", markup=False, style="red")
    console.print(_advice(made), markup=False)


def _age(age_ms: float | None, *, is_max: bool) -> str:
    return f"{age_ms:.1f} ms" + (" (max)" if is_max else "")


def _advice(made: Sweep) -> str:
    wanted = "" if made.target_ms is None else f" within {made.target_ms:g} ms"
    if made.chosen is None:
        return f"no combination answers{wanted} and drops less than 1 % of its ticks"
    cell = made.cells[made.chosen]
    why = "the least late" if made.target_ms is None else "the cheapest"
    return f"choose {cell.name}: {why}{wanted} of those that drop less than 1 % of their ticks"
