"""The same program under another description: another hop or window, to measure what it would cost."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamfuse.errors import ModelError
from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.inspect import inspect_model
from streamfuse.model.runtime import load_model
from streamfuse.model.spec import SPEC_FILE


def redescribe(source: Path | None, target: Path, *, hop_ms: int | None, frames: int | None) -> None:
    """Write the model with another hop (ms) or window (frames); its answers then mean nothing any more.

    raises  ModelError where the program does not take it: our own streaming networks see one frame a tick
    """
    file = inspect_model(source)
    changed = {"hop_ms": hop_ms, "frames": frames}
    video = msgspec.structs.replace(file.spec.video, **{k: v for k, v in changed.items() if v is not None})
    # The checks of a description are made where it is made.
    spec = msgspec.structs.replace(file.spec, video=video)
    program = torchscript.load(file.data, "cpu")
    write_model(torchscript.dump(program, {SPEC_FILE: spec.to_json()}), target)
    try:
        load_model(target, device="cpu")
    except ModelError as error:
        target.unlink()
        got = f"hop {video.hop_ms} ms, window {video.frames} frames"
        raise ModelError(
            "a model must run with the hop and window that are tried", got=got, hint=str(error)
        ) from error
