"""`streamfuse export`: a model file for another runtime."""

from __future__ import annotations

from pathlib import Path

import click

from streamfuse.errors import OutputError
from streamfuse.model.export import export_model, load_network, write_model
from streamfuse.model.inspect import inspect_model
from streamfuse.model.onnx_export import export_onnx

SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx"}


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[MODEL]")
@click.option("--format", "kind", type=click.Choice(list(SUFFIXES)), default="onnx", show_default=True)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Unset: the model's name, here.")
def export(file: Path | None, kind: str, out: Path | None) -> None:
    """Write a model (none: the default one) for another runtime. Its state goes in and comes out by name."""
    model = inspect_model(file)
    target = out or Path(model.path.with_suffix(SUFFIXES[kind]).name)
    if target.exists() and target.samefile(model.path):
        raise OutputError("a model can not be exported onto itself", got=target, hint="name another with -o")
    if kind == "onnx":
        export_onnx(model, target)
    elif model.format == "torchscript":
        write_model(model.data, target)  # it is one already, with its weights by name or without
    else:
        export_model(load_network(model), model.spec, target)
    click.echo(f"wrote {target}: {model.spec.name}, {target.stat().st_size} bytes")
