"""`streamfuse keys`: CURVE keys for runs over more than one machine."""

from __future__ import annotations

from pathlib import Path

import click

from streamfuse.wire.keys import new_keys


@click.group()
def keys() -> None:
    """Make the keys without which nothing leaves this machine."""


@keys.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Make a server's and a client's pair of keys in FOLDER, readable by you alone, and let that client in.

    Name the folder in `wire.keys`. A machine that only connects needs client.key_secret, client.key and
    server.key of it; the public keys in FOLDER/clients are those that are let in.
    """
    for path in new_keys(folder):
        click.echo(path)
