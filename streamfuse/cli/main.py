"""`streamfuse`: the table of verbs, and what every verb shares: one-line errors and exit codes.

0 done; 1 failed; 2 usage or configuration; 3 model refused; 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

import click

from streamfuse.cli.argv import be_discreet
from streamfuse.cli.debug import with_debug
from streamfuse.cli.stop import Stopped
from streamfuse.errors import StreamfuseError

# Verb -> (module:command, what it does). A verb's module is imported when the verb is used, so that
# `streamfuse --help` and one verb's slip do not wait for, or depend on, what another verb needs.
VERBS: dict[str, tuple[str, str]] = {
    "run": ("streamfuse.cli.run:run", "Watch live sources until stopped."),
    "ctl": ("streamfuse.cli.ctl:ctl", "Look at a run that goes on, change its sources."),
    "view": ("streamfuse.cli.view:view", "Look at a finished recording in a browser."),
    "process": ("streamfuse.cli.process:process", "Label recordings: files and folders."),
    "profile": ("streamfuse.cli.profile:profile", "Measure where the time of an answer goes."),
    "replay": ("streamfuse.cli.replay:replay", "Give the labels of a recorded run again."),
    "notify": ("streamfuse.cli.notify:notify", "Try the receivers that are told of events."),
    "probe": ("streamfuse.cli.probe:probe", "Say what is in a source."),
    "validate": ("streamfuse.cli.validate:validate", "Check a configuration file."),
    "doctor": ("streamfuse.cli.doctor:doctor", "Check this machine, and say what to type for what is wrong."),
    "demo": ("streamfuse.cli.demo:demo", "Label a clip and show the labels over time."),
    "keys": ("streamfuse.cli.keys:keys", "Make keys for runs over more than one machine."),
    "model": ("streamfuse.cli.model:model", "Look into model files."),
    "train": ("streamfuse.cli.train:train", "Train a model on a folder of recordings."),
    "evaluate": ("streamfuse.cli.evaluate:evaluate", "Measure a model on recordings it never met."),
    "export": ("streamfuse.cli.export:export", "Write a model for another runtime (ONNX)."),
    "explain": ("streamfuse.cli.explain:explain", "Show what drove a label: frames, regions, sounds."),
}


class _Verbs(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return with_debug(command)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("streamfuse"), prog_name="streamfuse")
def cli() -> None:
    """Label what scene live cameras and recordings show, and what emotion they let see and hear."""


with_debug(cli)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    # Before torch is imported: with a busy neighbour, two threads gave a p99 of 1350 ms, one 7.7 ms.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in typed
    be_discreet(typed)
    try:
        with cli.make_context("streamfuse", typed) as ctx:
            return _code(cli.invoke(ctx))
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help(), err=True)
        return error.exit_code
    except click.ClickException as error:
        _tell(_usage_text(error), debug)
        return error.exit_code
    except StreamfuseError as error:
        _tell(str(error), debug)
        return error.exit_code
    except Stopped as error:
        _tell(f"stopped by {error.name}", debug=False)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`| head`): not an error, and nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _tell(message: str, debug: bool) -> None:
    if debug:
        import traceback

        traceback.print_exc()
    click.echo(f"streamfuse: {message}", err=True)


def _usage_text(error: click.ClickException) -> str:
    text = " ".join(error.format_message().split()).removesuffix(".")
    ctx = getattr(error, "ctx", None)
    return f"{text}; try `{ctx.command_path} --help`" if ctx else text


if __name__ == "__main__":
    sys.exit(main())
