"""`streamfuse profile compare`: two reports side by side."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streamfuse.profiling.compare import Compared, Condition, compare_reports, parse_condition, unlike
from streamfuse.profiling.schema import read_report


@click.command()
@click.argument("a", type=click.Path(path_type=Path), metavar="A.json")
@click.argument("b", type=click.Path(path_type=Path), metavar="B.json")
@click.option(
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="RULE",
    help="Exit with 1 where it holds: p99>1.1x (B against A), p99>150ms, dropped>1% (B alone).",
)
@click.option("--json", "as_json", is_flag=True, help="The rows as JSON.")
def compare(a: Path, b: Path, conditions: tuple[str, ...], as_json: bool) -> int:
    """Compare two report.json: ratios with 95 % intervals.

    The intervals come from resampling both runs in blocks. They know of the noise within the two runs, not of
    what a machine does between runs: where it matters, measure each side more than once.
    """
    rules = [parse_condition(text) for text in conditions]
    left, right = read_report(a), read_report(b)
    rows = compare_reports(left, right)
    broken = [rule for rule in rules if any(_breaks(rule, row) for row in rows)]
    if as_json:
        told = {
            "schema": "streamfuse.profile-compare/1",
            "a": str(a),
            "b": str(b),
            "rows": [msgspec.to_builtins(row) | {"verdict": row.verdict} for row in rows],
            "unlike": unlike(left, right),
            "broken": [rule.text for rule in broken],
        }
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=1).decode())
    else:
        _show(rows, a, b, unlike(left, right))
    blind = [text for rule in rules if (text := _unjudged(rule, rows))]
    for text in [*blind, *(f"--fail-if {rule.text} holds" for rule in broken)]:
        click.echo(f"streamfuse: {text}", err=True)
    return 1 if blind or broken else 0


def _unjudged(rule: Condition, rows: list[Compared]) -> str:
    """Why the rule says nothing of these reports, which must not pass for a rule that was kept."""
    row = next((row for row in rows if row.metric == rule.metric), None)
    if row is None:
        return f"--fail-if {rule.text}: the reports have no {rule.metric}"
    if rule.can_judge(row):
        return ""
    why = f"too few {row.too_few} were measured" if row.too_few else f"A has a {rule.metric} of 0"
    return f"--fail-if {rule.text} cannot be judged: {why}"


def _breaks(rule: Condition, row: Compared) -> bool:
    return row.metric == rule.metric and rule.can_judge(row) and rule.broken_by(row)


def _show(rows: list[Compared], a: Path, b: Path, differences: list[str]) -> None:
    console = Console(highlight=False)
    console.print(f"A {a}\nB {b}", markup=False)
    for line in differences:
        console.print(f"  not alike, {line}", markup=False, style="yellow")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "A", "B", "B / A", "95 % interval"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.3f}"
        interval = "–" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
        metric = f"{row.metric.replace('_', '.')}, {row.unit}"
        table.add_row(metric, f"{row.a:.3f}", f"{row.b:.3f}", ratio, interval, row.verdict)
    console.print(table)
