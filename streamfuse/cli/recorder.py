"""What `run --record` says of itself in the recording's folder, and a configuration made of that again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamfuse.checkpoint.identity import settings_identity
from streamfuse.config import AppConfig, RunConfig
from streamfuse.errors import ConfigError, WireError
from streamfuse.model.inspect import inspect_model
from streamfuse.settings import load_config
from streamfuse.wire.facts import SCHEMA, write_facts

SECTIONS = ("labels", "ticks")


def describe_recording(config: RunConfig) -> None:
    """Write the facts of this run's recording, where it makes one. Raises OutputError, ConfigError.

    Nothing of the sources but their names and gaps: a recording goes to other people's desks.
    """
    if config.record.folder is None:
        return
    if len(config.devices) > 1:
        hint = "leave `analyzers` or `--record` away"
        raise ConfigError("a recording is made on one device", got=", ".join(config.devices), hint=hint)
    (device,) = config.devices
    file = inspect_model(config.model.path, sha256=config.model.sha256)
    kept: dict[str, Any] = {section: getattr(config, section).model_dump() for section in SECTIONS}
    kept |= {
        "model": file.path.name,
        "device": device,
        "threads": config.model.threads,
        "max_gap_ms": {name: one.ticks.max_gap_ms for name, one in config.sources.items() if one.ticks},
    }
    identity = settings_identity(config, model_sha256=file.sha256, device=device)
    write_facts(Path(config.record.folder), {"schema": SCHEMA, "config": kept, "identity": identity})


def recorded_config(facts: dict[str, Any], settings: Sequence[str], folder: Path) -> AppConfig:
    """The configuration of a recording, with these settings in place of its own. Raises ConfigError."""
    try:
        kept = facts["config"]
        recorded = [f"{section}={json.dumps(kept[section])}" for section in SECTIONS]
        recorded += [f"model.device={kept['device']}", f"model.threads={kept['threads']}"]
    except (KeyError, TypeError) as error:
        raise WireError("a recording says with which settings it was made", got=error, where=folder) from None
    return load_config(None, [*recorded, *settings])
