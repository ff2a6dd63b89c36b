"""`streamfuse notify`: try the receivers of a configuration."""

from __future__ import annotations

from pathlib import Path

import click

from streamfuse.cli.options import read_config
from streamfuse.clock import SYSTEM, utc_iso
from streamfuse.config_notify import NotifyConfig
from streamfuse.errors import ConfigError
from streamfuse.notify.courier import NotTaken
from streamfuse.notify.notifier import make_sender
from streamfuse.notify.rules import Notice
from streamfuse.types import MS, Event

TEST = "notify-test"
"""Source and label of the event that is sent."""


@click.group()
def notify() -> None:
    """Try the receivers that a configuration tells of events."""


@notify.command()
@click.option("-c", "--config", "config_file", type=click.Path(path_type=Path), required=True, metavar="FILE")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override one setting.")
@click.option("--target", "only", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
def test(config_file: Path, settings: tuple[str, ...], only: tuple[str, ...]) -> int:
    """Send one made-up event to every target, once, and say what became of it.

    Its source and label are `notify-test`. Exit code 1 where a target did not take it.
    """
    config = read_config(config_file, settings).notify
    failed = 0
    for name in _chosen(config, only, config_file):
        failed += not _try(config, name)
    return 1 if failed else 0


def _chosen(config: NotifyConfig, only: tuple[str, ...], config_file: Path) -> list[str]:
    known = ", ".join(config.targets) or "none"
    if not config.targets:
        hint = "see docs/notify.md"
        raise ConfigError("`notify.targets` must name a target", got="none", where=config_file, hint=hint)
    for name in only:
        if name not in config.targets:
            raise ConfigError(
                "--target names a target of the configuration", got=name, hint=f"known: {known}"
            )
    return list(only) or list(config.targets)


def _try(config: NotifyConfig, name: str) -> bool:
    target = config.targets[name]
    if target.kind == "mqtt":
        # The broker allows one connection an id, and a run may be using it.
        changes = {"client_id": f"{target.client_id}-test", "labels_every_s": None}
        target = target.model_copy(update=changes)
    time = utc_iso(SYSTEM.wall_ns())
    event = Event("new", TEST, 0, TEST, TEST, SYSTEM.wall_ns(), None, 1.0, 1.0, time)
    began_ns = SYSTEM.monotonic_ns()
    sender = make_sender(target, announce=False)
    try:
        sender.send(Notice(event, TEST, (name,)))
    except NotTaken as error:
        click.echo(f"{name}: {error}")
        return False
    finally:
        sender.close()
    took_ms = (SYSTEM.monotonic_ns() - began_ns) // MS
    click.echo(f"{name}: taken after {took_ms} ms")
    return True
