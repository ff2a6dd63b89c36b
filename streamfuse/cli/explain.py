"""`streamfuse explain`: what drove a label, as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import click

from streamfuse.cli.options import MediaTime
from streamfuse.errors import OutputError, SourceRefused
from streamfuse.model.runtime import load_model
from streamfuse.training.datasets.clips import Clip
from streamfuse.training.explain import explain as explained
from streamfuse.training.explain_picture import explanation_picture
from streamfuse.types import NS


class Moment(MediaTime):
    """As MediaTime; `12.3s` too."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return super().convert(value.removesuffix("s") if isinstance(value, str) else value, param, ctx)


@click.command()
@click.argument("clip", type=click.Path(path_type=Path))
@click.option("--at", "at_ns", type=Moment(), required=True, help="The time of the label: 12.3s, 1:30.")
@click.option("--head", help="scene, emotion, ...; unset: the model's first.")
@click.option("--model", type=click.Path(path_type=Path), metavar="FILE", help="Unset: the default model.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="The picture; unset: <clip>.explain.png.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON, on standard output.")
def explain(
    clip: Path, at_ns: int, head: str | None, model: Path | None, out: Path | None, as_json: bool
) -> None:
    """Show which moments, regions and sounds drove the label of a recording at one time.

    The three seconds before it are played again with parts hidden; what the label loses is their share.
    """
    if not clip.is_file():
        raise SourceRefused("a recording must be a file", got="nothing there", where=clip)
    loaded = load_model(model, device="cpu")
    target = out or Path(f"{clip.stem}.explain.png")
    what = explained(loaded, Clip(clip.name, (), clip.name, "", "", clip, clip), at_ns / NS, head)
    try:
        explanation_picture(what, clip.name).save(target, format="PNG")
    except OSError as error:
        raise OutputError("a picture must be writable", got=error.strerror, where=target) from error
    if as_json:
        facts = {"head": what.head, "label": what.label, "score": round(what.score, 4), "share": what.share}
        lists = {name: getattr(what, name).round(4).tolist() for name in ("times", "moments", "sounds")}
        regions = {view: one.round(4).tolist() for view, one in what.regions.items()}
        click.echo(json.dumps(facts | lists | {"regions": regions}))
        return
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in what.share.items())
    click.echo(f"{what.head} at {what.at_s:g} s: {what.label} ({what.score:.2f}); {shares}; wrote {target}")
