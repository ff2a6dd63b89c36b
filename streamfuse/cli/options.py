"""Options that several verbs share, and the configuration they make together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from streamfuse.config import AppConfig
from streamfuse.settings import load_config

F = TypeVar("F", bound=Callable[..., Any])


def config_options(function: F) -> F:
    """-c, --set, --model, --device and --allow-codec, passed on as the arguments of read_config()."""
    for option in (
        click.option(
            "--allow-codec",
            multiple=True,
            metavar="NAME",
            help="Accept this codec beside the default list (may be repeated).",
        ),
        click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:1."),
        click.option("--model", metavar="FILE", help="A model file in place of the default model."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Override one setting, such as labels.smoothing_s=2 (may be repeated).",
        ),
        click.option(
            "-c",
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Settings in YAML; `streamfuse validate` checks them.",
        ),
    ):
        function = option(function)
    return function


def read_config(
    config_file: Path | None,
    settings: tuple[str, ...],
    *,
    model: str | None = None,
    device: str | None = None,
    allow_codec: tuple[str, ...] = (),
) -> AppConfig:
    """The file, then --set in order, then the options that have a name of their own.

    raises  ConfigError
    """
    config = load_config(config_file, settings)
    overrides = [f"model.path={_quoted(model)}"] if model is not None else []
    overrides += [f"model.device={_quoted(device)}"] if device is not None else []
    if allow_codec:
        codecs = (*config.decode.allow_codecs, *allow_codec)
        overrides.append(f"decode.allow_codecs=[{', '.join(_quoted(c) for c in codecs)}]")
    return load_config(config_file, [*settings, *overrides]) if overrides else config


def _quoted(text: str) -> str:
    """As a YAML scalar that means exactly this text."""
    return "'" + text.replace("'", "''").replace("${", "$${") + "'"


class MediaTime(click.ParamType[int]):
    """A time in the recording, as nanoseconds: 90, 1:30, 0:01:30.5."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        total_ns = 0
        try:
            parts = str(value).split(":")
            if len(parts) > 3:
                raise ValueError
            whole = [int(part) for part in parts[:-1]]
            seconds, _, fraction = parts[-1].partition(".")
            if not (seconds + fraction).isdecimal() or len(fraction) > 9 or any(p < 0 for p in whole):
                raise ValueError
            for part in (*whole, int(seconds or "0")):
                total_ns = total_ns * 60 + part
            return total_ns * 1_000_000_000 + int(fraction.ljust(9, "0"))
        except ValueError:
            self.fail(f"a time is seconds, m:s or h:m:s, got {value!r}", param, ctx)
