"""What a recorded run says of its settings comes back as it was, for each source, to another desk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamfuse.cli.launch import run_config
from streamfuse.cli.recorder import describe_recording, own_labels, recorded_config
from streamfuse.config import AppConfig, RunConfig
from streamfuse.errors import OutputError
from streamfuse.wire.facts import read_facts

DOOR = {"input": "rtsp://bob:geheim@192.0.2.1/x", "labels": {"raw": True, "heads": {"scene": {"enter": 0.9}}}}


@pytest.fixture
def of_run(tiny_model: Path, tmp_path: Path) -> Any:
    def made(sources: dict[str, Any], **labels: Any) -> RunConfig:
        data = {
            "model": {"path": str(tiny_model), "device": "cpu"},
            "labels": {"smoothing_s": 2, "heads": {"sound": {"enter": 0.8}}} | labels,
            "record": {"folder": str(tmp_path / "rec")},
            "run_dir": str(tmp_path / "run"),
            "sources": sources,
        }
        config = AppConfig.model_validate(data)
        return run_config(config, config.sources, "live")

    return made


def test_labels_of_every_source_come_back(of_run: Any, tmp_path: Path) -> None:
    config = of_run({"Tür 😀": DOOR, "yard": {"input": "x"}})
    describe_recording(config)
    facts = read_facts(tmp_path / "rec")
    assert "geheim" not in json.dumps(facts)
    again = recorded_config(facts, (), tmp_path)
    for name in ("Tür 😀", "yard"):
        assert again.of(name).labels == config.of(name).labels
    # Another setting than recorded counts for what a source leaves open.
    other = recorded_config(facts, ["labels.smoothing_s=9", "labels.raw=false"], tmp_path)
    assert (other.of("Tür 😀").labels.smoothing_s, other.of("Tür 😀").labels.raw) == (9, True)
    assert own_labels(again) == own_labels(config)
    assert (
        recorded_config(facts, ["sources.yard={input: x, labels: {raw: true}}"], tmp_path)
        .of("yard")
        .labels.raw
    )


def test_source_that_is_removed_stays_in_what_was_recorded_and_a_changed_one_is_refused(
    of_run: Any, tmp_path: Path
) -> None:
    describe_recording(of_run({"door": DOOR, "yard": {"input": "x"}}))
    describe_recording(of_run({"yard": {"input": "x"}}))
    assert recorded_config(read_facts(tmp_path / "rec"), (), tmp_path).of("door").labels.raw
    for changed in ({**DOOR, "labels": {}}, {**DOOR, "labels": None}):
        with pytest.raises(OutputError, match=r"^a recording is made with one model and configuration"):
            describe_recording(of_run({"door": changed, "yard": {"input": "x"}}))
