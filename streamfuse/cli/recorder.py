"""What `run --record` says of itself in the recording's folder, and a configuration made of that again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from streamfuse.checkpoint.identity import settings_identity
from streamfuse.config import AppConfig, LabelConfig, RunConfig
from streamfuse.errors import ConfigError, WireError
from streamfuse.model.inspect import inspect_model
from streamfuse.settings import load_config
from streamfuse.wire.facts import SCHEMA, read_facts, write_facts

SECTIONS = ("labels", "ticks")
BY_SOURCE = ("max_gap_ms", "own_labels")


def describe_recording(config: RunConfig) -> None:
    """Write the facts of this run's recording, where it makes one. Raises OutputError, ConfigError.

    Nothing of the sources but their names, gaps and labels: a recording goes to other people's desks.
    """
    if config.record.folder is None:
        return
    if len(config.devices) > 1:
        hint = "leave `analyzers` or `--record` away"
        raise ConfigError("a recording is made on one device", got=", ".join(config.devices), hint=hint)
    folder, (device,) = Path(config.record.folder), config.devices
    file = inspect_model(config.model.path, sha256=config.model.sha256)
    kept: dict[str, Any] = {section: getattr(config, section).model_dump() for section in SECTIONS}
    kept |= {
        "model": file.path.name,
        "device": device,
        "threads": config.model.threads,
        "max_gap_ms": {name: one.ticks.max_gap_ms for name, one in config.sources.items() if one.ticks},
        "own_labels": own_labels(config),
    }
    with suppress(WireError):  # of sources that the run has no more, there are records
        before = read_facts(folder)["config"]
        for key in BY_SOURCE:
            gone = {name: told for name, told in before.get(key, {}).items() if name not in config.sources}
            kept[key] |= gone
    identity = settings_identity(config, model_sha256=file.sha256, device=device)
    write_facts(folder, {"schema": SCHEMA, "config": kept, "identity": identity})


def recorded_config(facts: dict[str, Any], settings: Sequence[str], folder: Path) -> AppConfig:
    """The configuration of a recording, with these settings in place of its own. Raises ConfigError."""
    try:
        kept = facts["config"]
        recorded = [f"{section}={json.dumps(kept[section])}" for section in SECTIONS]
        recorded += [f"model.device={kept['device']}", f"model.threads={kept['threads']}"]
        own = kept.get("own_labels", {})
        sources = {name: {"input": "recorded", "labels": labels} for name, labels in own.items()}
        recorded += [f"sources={json.dumps(sources, ensure_ascii=False)}"]
    except (KeyError, TypeError) as error:
        raise WireError("a recording says with which settings it was made", got=error, where=folder) from None
    return load_config(None, [*recorded, *settings])


def own_labels(config: AppConfig) -> dict[str, dict[str, Any]]:
    """By source, what its labels have otherwise than the run's."""
    return {name: _own(one.labels, config.labels) for name, one in config.sources.items() if one.labels}


def _own(labels: LabelConfig, common: LabelConfig) -> dict[str, Any]:
    ours, theirs = labels.model_dump(), common.model_dump()
    heads = {name: head for name, head in ours.pop("heads").items() if head != theirs["heads"].get(name)}
    return {key: value for key, value in ours.items() if value != theirs[key]} | {"heads": heads}
