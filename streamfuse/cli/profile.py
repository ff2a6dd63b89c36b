"""`streamfuse profile`: where the time of an answer goes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from streamfuse.cli.debug import with_debug
from streamfuse.cli.measure import Measured, Plan, measure
from streamfuse.cli.options import config_options, read_config
from streamfuse.cli.run import Duration
from streamfuse.cli.stop import stoppable
from streamfuse.profiling.chrome import trace_text
from streamfuse.profiling.page import render_page
from streamfuse.profiling.plots import part_title
from streamfuse.profiling.schema import Report, report_text
from streamfuse.profiling.statistics import Distribution
from streamfuse.sinks.durable import prepare_folder, write_whole

VERBS = {
    "compare": ("streamfuse.cli.profile_compare:compare", "Two report.json side by side."),
    "sweep": ("streamfuse.cli.profile_sweep:sweep", "A grid of settings, and what to choose."),
    "detect": ("streamfuse.cli.profile_detect:detect", "How soon a change is said, and how steadily."),
}
"""Imported when used, as the table of main."""
DEFAULT = "source"


class _SourceOrVerb(click.Group):
    """A group whose first word need not be a verb: then the line is a measurement of a source."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*VERBS, "-h", "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return with_debug(command)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] SOURCE")
        for verb, rest in (("compare", "A.json B.json"), ("sweep", "SOURCE"), ("detect", "CLIP")):
            formatter.write_usage(f"{ctx.command_path} {verb}", f"[OPTIONS] {rest}", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands[DEFAULT].format_options(ctx, formatter)
        with formatter.section("Instead of a SOURCE"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=_SourceOrVerb, context_settings={"help_option_names": ["-h", "--help"]})
def profile() -> None:
    """Measure where the time of an answer goes, and write report.html, report.json and trace.json.

    SOURCE is what `run` takes: a file (played at its own pace), a URL, a device, lavfi:GRAPH; or `test`,
    a test picture with a tone. The processes are those of `run`; their start and warm-up are left out.
    """


@profile.command("source", hidden=True)
@click.argument("source", metavar="SOURCE")
@click.option(
    "--duration",
    "duration_ns",
    type=Duration(),
    default="30s",
    metavar="TIME",
    help="How long to measure [30s].",
)
@click.option(
    "--warm-up", "warm_up_ns", type=Duration(), default="3s", metavar="TIME",
    help="Left out once every stream gives answers [3s].",
)  # fmt: skip
@click.option(
    "--rate",
    type=click.Choice(["paced", "saturated"]),
    default="paced",
    help="paced: the load of real time, which waits for nobody; saturated: as fast as it goes.",
)
@click.option(
    "--streams", type=click.IntRange(1, 64), default=1, metavar="N", help="The source so many times [1]."
)
@click.option("--allow-hls", is_flag=True, help="Accept HLS playlists, which name further addresses to open.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("profile"),
    metavar="DIR",
    help="Where the three files go [profile].",
)
@config_options
def source(
    source: str,
    duration_ns: int,
    warm_up_ns: int,
    rate: Any,
    streams: int,
    allow_hls: bool,
    output: Path,
    config_file: Path | None,
    settings: tuple[str, ...],
    model: str | None,
    device: str | None,
    allow_codec: tuple[str, ...],
) -> int:
    """Measure a SOURCE."""
    config = read_config(config_file, settings, model=model, device=device, allow_codec=allow_codec)
    console = Console(highlight=False)
    plan = Plan(source, duration_ns, warm_up_ns, rate, streams, allow_hls)
    with kept_if_used(output), stoppable(), Console(stderr=True).status("starting") as line:
        measured = measure(plan, config, line.update)
    write_files(measured, output)
    show_summary(console, measured.report)
    console.print(f"\nwritten: {output / 'report.html'}, report.json, trace.json", markup=False)
    return 0


@contextmanager
def kept_if_used(folder: Path) -> Iterator[None]:
    """The folder is there and can be written to before anything is measured; where nothing comes of it, it
    goes again. Raises OutputError."""
    is_new = not folder.exists()
    prepare_folder(folder / "report.json")
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def write_files(measured: Measured, folder: Path) -> None:
    """report.html, report.json, trace.json. Raises OutputError."""
    write_whole(folder / "report.json", report_text(measured.report))
    write_whole(folder / "trace.json", trace_text(measured.recording))
    write_whole(folder / "report.html", render_page(measured.report, measured.recording))


def show_summary(console: Console, report: Report) -> None:
    """The measurement in a terminal."""
    left_out = f"{report.warm_up_s:.1f} s of starting and warm-up left out"
    times = f", {report.streams_wanted} streams" if report.streams_wanted > 1 else ""
    console.print(
        f"{report.source}: {report.rate}{times}, {report.duration_s:g} s measured, {left_out}", markup=False
    )
    if report.rate == "paced":
        table = _table("age, ms")
        for name in ("edge_age", "video_age", "audio_age", "sync_wait"):
            if name in report.ages_ms:
                _add(table, name.replace("_", " "), report.ages_ms[name])
        console.print(table)
    table = _table("stage, ms", "share")
    for part in report.parts:
        if part.time_ms.max >= 0.01:
            _add(table, part_title(f"{part.stage}.{part.part}"), part.time_ms, f"{part.share:.0%}")
    console.print(table)
    console.print(_verdict(report), markup=False)


def _verdict(report: Report) -> str:
    lines = []
    if report.rate == "paced":
        lines.append(
            f"{report.answers} answers, {report.achieved_per_s:.1f} of {report.offered_per_s:.1f} a second; "
            f"{report.dropped} ticks dropped, {report.absent} not offered; "
            f"{report.deadline_misses} deadlines missed (one hop, {report.hop_ms:g} ms)"
        )
    else:
        lines.append(
            f"{report.realtime_factor:.1f} x real time: {report.achieved_per_s:.1f} answers a second. "
            "Queues are full at this rate, so no ages are told; measure those with --rate paced"
        )
    if report.cpu_s_per_media_s is not None and report.rss_bytes is not None:
        cpu = f"{report.cpu_s_per_media_s:.3f} s of processor time for a second of a stream"
        lines.append(f"{cpu}, {report.rss_bytes / 1e6:,.0f} MB in all processes")
    return "\n".join(lines)


def _table(title: str, *more: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, no_wrap=True)
    for name in ("mean", "p50", "p95", "p99", "max", *more):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add(table: Table, name: str, spread: Distribution, *more: str) -> None:
    numbers = (spread.mean, spread.p50, spread.p95, spread.p99, spread.max)
    table.add_row(name, *("–" if value is None else f"{value:.2f}" for value in numbers), *more)
