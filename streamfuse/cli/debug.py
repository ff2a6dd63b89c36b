"""--debug: the traceback behind a one-line error."""

from __future__ import annotations

import click


def with_debug(command: click.Command) -> click.Command:
    """Give a verb, and the verbs inside it, --debug: it is typed at the end of the line that failed."""
    if not any(parameter.name == "debug" for parameter in command.params):
        command.params.append(
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_remember,
                help="Show the traceback of an error.",
            )
        )
    for inner in getattr(command, "commands", {}).values():
        with_debug(inner)
    return command


def debugging() -> bool:
    """Was --debug given to the command that runs now?"""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.find_root().meta.get("debug"))


def _remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta["debug"] = True
