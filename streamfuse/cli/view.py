"""`streamfuse view`: a finished recording in a browser, its labels beside its video."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from streamfuse.cli.stop import Stopped, stoppable
from streamfuse.errors import ConfigError
from streamfuse.settings import load_config
from streamfuse.view.address import USUAL, settle
from streamfuse.view.recording import find_video, read_recording, recording_app
from streamfuse.view.server import ViewServer


@click.command()
@click.argument("labels", type=click.Path(path_type=Path), metavar="LABELS.jsonl")
@click.argument("video", required=False, type=click.Path(path_type=Path), metavar="[VIDEO]")
@click.option("--address", metavar="HOST:PORT", help=f"Where the page is; by default {USUAL} or a free port.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in this machine's browser.")
@click.option(
    "-c", "--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Section `view`."
)
def view(
    labels: Path, video: Path | None, address: str | None, open_browser: bool, config_file: Path | None
) -> int:
    """Show what `process` or `run -o` wrote, until Ctrl-C: timelines, events, and the video to seek in.

    VIDEO is the recording; without it, one of the same name beside the labels.
    """
    labels = _labels_file(labels)
    if video is not None and not video.is_file():
        raise ConfigError("the video must be a file", got="none there", where=video)
    video = video or find_video(labels)
    config = load_config(config_file, ()).view
    config = settle(config.model_copy(update={"address": address or config.address}))
    recording = read_recording(labels)
    with stoppable():
        server = ViewServer(recording_app(recording, video, config), config)
        try:
            shown = (
                f"with {video.name}" if video else "without a video (name one, or put it beside the labels)"
            )
            click.echo(f"{recording.name}: {recording.ticks} labels, {shown}", err=True)
            click.echo(f"look at it at {server.url} (Ctrl-C ends it)", err=True)
            if open_browser:
                webbrowser.open(server.url)
            threading.Event().wait()
        except Stopped:
            return 0
        finally:
            server.close()
    return 0


def _labels_file(path: Path) -> Path:
    """The file itself; of a folder, the one labels file in it."""
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.labels.jsonl"))
    if len(found) == 1:
        return found[0]
    got = "none" if not found else ", ".join(file.name for file in found[:5])
    raise ConfigError("the folder must have one labels file", got=got, where=path, hint="name one of them")
