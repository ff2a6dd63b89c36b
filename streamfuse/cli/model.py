"""`streamfuse model`: look into model files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from streamfuse.model.inspect import inspect_model


@click.group()
def model() -> None:
    """Look into model files."""


@model.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def inspect(file: Path | None, as_json: bool) -> None:
    """Say what a model file holds, without running it (no FILE: the default model)."""
    facts = inspect_model(file).as_dict()
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    console = Console(soft_wrap=True, highlight=False)
    for name, value in facts.items():
        _show(console, name, value, 0)


def _show(console: Console, name: str, value: Any, depth: int) -> None:
    indent = "  " * depth
    if isinstance(value, dict):
        console.print(f"{indent}{name}:", markup=False)
        for key, inner in value.items():
            _show(console, str(key), inner, depth + 1)
    elif isinstance(value, list | tuple) and any(isinstance(inner, dict) for inner in value):
        for number, inner in enumerate(value):
            _show(console, f"{name}[{number}]", inner, depth)
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        console.print(f"{indent}{name}: {text}", markup=False)
