"""What is to be done with a recording: begin it, go on with it, or nothing, as it is finished."""

from __future__ import annotations

from pathlib import Path

import msgspec

from streamfuse.checkpoint.identity import Identity, differences
from streamfuse.checkpoint.outputs import are_there, finish_closing
from streamfuse.checkpoint.record import Checkpoint, CheckpointFile
from streamfuse.errors import OutputError
from streamfuse.sinks.durable import RESTART, Patience, persist, told

SHOWN = 3
"""So many differences are told; the rest is counted."""


def look(base: Path, identity: Identity) -> Checkpoint | None:
    """The checkpoint to go on from, or of the finished recording (phase done); None: begin anew.

    A recording that an earlier run had only to close is closed here. One that is finished otherwise than
    is asked for now, or whose outputs are gone, begins anew.

    raises  OutputError where an unfinished one was begun otherwise than is asked for now, and where the
            checkpoint cannot be believed
    """
    file = CheckpointFile(base)
    found = file.read()
    if found is None:
        return None
    changed = differences(found.identity, identity)
    if found.phase == "done":
        if not changed and are_there(base.parent, found.sizes):
            return found
        file.remove()
        return None
    if changed:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise OutputError(
            "what was begun must be gone on with as it was begun",
            got=", ".join(changed[:SHOWN]) + more,
            where=base,
            hint=f"type it as before, or {RESTART}",
        )
    return found if found.phase == "running" else close(file, found)


def close(file: CheckpointFile, found: Checkpoint) -> Checkpoint:
    """Give the outputs of a recording in phase closing their names, and say that it is done."""
    finish_closing(file.path.parent, found.sizes)
    return finished(file, found)


def finished(file: CheckpointFile, closing: Checkpoint, patience: Patience | None = None) -> Checkpoint:
    """The outputs have their names: say so. OutputError where it cannot be written."""
    return _written(file, msgspec.structs.replace(closing, phase="done"), patience)


def closing(
    file: CheckpointFile, who: Identity, sizes: dict[str, int], result: bytes, patience: Patience | None
) -> Checkpoint:
    """All is written: from now on the outputs only have to get their names. OutputError."""
    return _written(file, Checkpoint(who, "closing", sizes=sizes, result=result), patience)


def _written(file: CheckpointFile, checkpoint: Checkpoint, patience: Patience | None) -> Checkpoint:
    with told(file.path, "a checkpoint must be written"):
        persist(file.path, lambda: file.write(checkpoint), patience)
    return checkpoint
