"""`streamfuse profile detect`: how soon a change is said, and how steadily."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from streamfuse.analysis import TickAnalyzer
from streamfuse.batch import recorded_batch, stages
from streamfuse.cli.options import MediaTime, config_options, read_config
from streamfuse.cli.stop import stoppable
from streamfuse.config import AppConfig, LabelConfig
from streamfuse.errors import ConfigError
from streamfuse.labels.events import EventTracker
from streamfuse.labels.smooth import Labeller
from streamfuse.media.source import parse_source
from streamfuse.model.runtime import Model, load_model
from streamfuse.pipeline.ticks import RecordedTicks
from streamfuse.profiling.detect import Detections, Switch, detections
from streamfuse.types import Answer, Tick


class SwitchParam(click.ParamType[Switch]):
    """TIME=LABEL."""

    name = "switch"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Switch:
        if isinstance(value, Switch):
            return value
        time, equals, label = str(value).partition("=")
        if not equals or not label:
            self.fail(f"{value!r} is not TIME=LABEL, such as 10=forest or 0:10=forest", param, ctx)
        return Switch(MediaTime().convert(time.removesuffix("s"), param, ctx), label)


class Seconds(click.ParamType[tuple[float, ...]]):
    """Numbers of seconds with commas between them."""

    name = "seconds"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            found = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not seconds such as 0,0.5,1", param, ctx)
        if not all(0 <= number <= 600 for number in found):
            self.fail(f"seconds lie in 0..600, got {value!r}", param, ctx)
        return found


@click.command()
@click.argument("clip", metavar="CLIP")
@click.option(
    "--switch", "switches", type=SwitchParam(), multiple=True, required=True, metavar="TIME=LABEL",
    help="From this time on, this is the right label: --switch 0=street --switch 10=forest.",
)  # fmt: skip
@click.option("--head", default="scene", show_default=True, metavar="NAME", help="The head that is judged.")
@click.option(
    "--hold",
    type=click.IntRange(1, 1000),
    default=3,
    metavar="TICKS",
    help="A label counts once it stays [3].",
)
@click.option(
    "--smoothing", type=Seconds(), metavar="S,S,...",
    help="Try these in place of labels.smoothing_s: what it gives in time, it takes in flips.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The results as JSON.")
@config_options
def detect(
    clip: str,
    switches: tuple[Switch, ...],
    head: str,
    hold: int,
    smoothing: tuple[float, ...] | None,
    as_json: bool,
    config_file: Path | None,
    settings: tuple[str, ...],
    model: str | None,
    device: str | None,
    allow_codec: tuple[str, ...],
) -> int:
    """Time until a change is said, beside flips a minute, on a CLIP whose truth is known."""
    config = read_config(config_file, settings, model=model, device=device, allow_codec=allow_codec)
    loaded = load_model(
        config.model.path,
        device=config.model.device,
        sha256=config.model.sha256,
        threads=config.model.threads,
    )
    _check(loaded, head, switches)
    with stoppable():
        answers = analysed(clip, loaded, config)
    tried = smoothing or (config.labels.head(head).smoothing_s,)
    results = {s: judged(answers, loaded, config, s, switches, head, hold) for s in tried}
    if as_json:
        rows = [{"smoothing_s": s} | msgspec.to_builtins(found) for s, found in results.items()]
        told = {"schema": "streamfuse.detect/1", "head": head, "hold_ticks": hold, "rows": rows}
        click.echo(msgspec.json.format(msgspec.json.encode(told), indent=1).decode())
    else:
        _show(results, head)
    return 0


def analysed(clip: str, model: Model, config: AppConfig) -> list[Answer]:
    """The network's answers to every tick of a clip."""
    ticks = RecordedTicks(
        parse_source(clip), model.spec, name="clip", decode=config.decode, ticks=config.ticks
    )
    gap_ms, together = config.ticks.max_gap_ms, recorded_batch(model, config.model)
    pair = stages(model, "clip", max_gap_ms=gap_ms, together=together)
    analyzer = TickAnalyzer(model, stages=pair)
    try:
        made = (item for item in ticks if isinstance(item, Tick))
        return [answer for tick in made for answer in analyzer.push(tick)]
    finally:
        ticks.close()


def judged(
    answers: list[Answer],
    model: Model,
    config: AppConfig,
    smoothing_s: float,
    switches: tuple[Switch, ...],
    head: str,
    hold: int,
) -> Detections:
    """The answers, smoothed so, held against the truth."""
    own = config.labels.head(head).model_copy(update={"smoothing_s": smoothing_s})
    if isinstance(own, LabelConfig):
        own = own.model_copy(update={"heads": {}})
    heads = {**config.labels.heads, head: own}
    settings = config.labels.model_copy(update={"heads": heads})
    labeller = Labeller(model.spec.heads, settings, max_gap_ms=config.ticks.max_gap_ms)
    tracker = EventTracker(model.spec.heads, settings, max_gap_ms=config.ticks.max_gap_ms)
    labels = [label for answer in answers for label in labeller.push(answer)]
    told = [(label.head.end_ns, event) for label in labels for event in tracker.push(label)]
    return detections(labels, told, switches, head, hold_ticks=hold)


def _check(model: Model, head: str, switches: tuple[Switch, ...]) -> None:
    spec = next((one for one in model.spec.heads if one.name == head), None)
    if spec is None:
        known = ", ".join(one.name for one in model.spec.heads)
        raise ConfigError("--head must be a head of the model", got=head, hint=f"one of {known}")
    for switch in switches:
        if switch.label not in spec.labels:
            known = ", ".join(spec.labels)
            raise ConfigError(
                f"--switch must name a label of {head}", got=switch.label, hint=f"one of {known}"
            )


def _show(results: dict[float, Detections], head: str) -> None:
    console = Console(highlight=False)
    first = next(iter(results.values()))
    if len(results) == 1:
        for one in first.switches:
            said = "not said" if one.label_s is None else f"said after {one.label_s:.1f} s"
            event = "no event" if one.event_s is None else f"event after {one.event_s:.1f} s"
            console.print(f"at {one.at_s:g} s {one.label}: {said}, {event}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("smoothing", "median", "p90", "event", "missed", "flips/min", "needless/min", "right")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for smoothing_s, found in results.items():
        times = (found.median_s, found.p90_s, found.event_median_s)
        table.add_row(
            f"{smoothing_s:g} s",
            *("–" if time is None else f"{time:.1f} s" for time in times),
            f"{found.missed} of {len(found.switches)}",
            f"{found.flips_per_min:.1f}",
            f"{found.needless_per_min:.1f}",
            f"{found.right:.0%}",
        )
    console.print(table)
    console.print(
        f"{head}: media time from a switch to the end of the tick that says so; an answer's age "
        "(`streamfuse profile SOURCE`) is to be added",
        markup=False,
    )
