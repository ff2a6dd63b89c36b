"""What a recording says of itself: rec/recording.json, with the model and the settings of its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamfuse.errors import OutputError, WireError
from streamfuse.sinks.durable import prepare_folder, write_whole

SCHEMA = "streamfuse.recording/1"
FACTS = "recording.json"


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Say with which model and settings a recording is made.

    raises  OutputError where the folder cannot be written to, or holds a recording made with others
    """
    path = folder / FACTS
    prepare_folder(path)
    try:
        known = read_facts(folder) if path.exists() else facts
    except WireError as error:
        raise OutputError("a recording goes into a folder of its own", got=error, where=folder) from None
    if known != facts:
        changed = ", ".join(key for key in facts if known.get(key) != facts[key])
        rule, hint = "a recording is made with one model and configuration", "choose another folder"
        raise OutputError(rule, got=f"another {changed}", where=folder, hint=hint)
    write_whole(path, json.dumps(facts, indent=1) + "\n")


def read_facts(folder: Path) -> dict[str, Any]:
    """What write_facts() wrote. Raises WireError."""
    path = folder / FACTS
    if not path.is_file():
        hint = "make one with `streamfuse run ... --record DIR`"
        raise WireError(f"a recording has a file {FACTS}", got="none", where=folder, hint=hint)
    try:
        facts = json.loads(path.read_bytes())
    except ValueError as error:
        raise WireError(f"{FACTS} is JSON", got=error, where=path) from None
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise WireError(f"{FACTS} is of {SCHEMA}", got=type(facts).__name__, where=path)
    return facts
