"""A model's description: read back as written, and refused for what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamfuse.errors import ModelError
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.model.spec import (
    DataSource,
    HeadSpec,
    ModelSpec,
    NetworkSpec,
    Quality,
    StateSpec,
    VideoSpec,
    read_spec,
)

SCENE = HeadSpec("scene", ("forest", "street"))


def full() -> ModelSpec:
    return ModelSpec(
        name="door",
        heads=(SCENE, HeadSpec("sound", ("rain",), "sigmoid", temperature=1.7, threshold=0.3)),
        views=("frame", "face"),
        video=VideoSpec(hop_ms=40, picture=FrameSpec(size=96, colour="luma")),
        audio=MfccSpec(n_mels=40, n_mfcc=20),
        network=NetworkSpec(preset="tiny", fusion="concat"),
        state=(StateSpec("age", (1, 3)), StateSpec("h", (2, 1, 128), batch_dim=1)),
        warm_ticks=28,
        training=(DataSource("RAVDESS", "CC BY-NC-SA 4.0", "emotion"),),
        quality=(Quality("UAR", 0.61, "unseen actors", "streamfuse evaluate"),),
        weights_sha256="00" * 32,
    )


def changed(**parts: Any) -> bytes:
    return json.dumps(json.loads(full().to_json()) | parts).encode()


def test_spec_is_read_back_as_written() -> None:
    assert read_spec(full().to_json().encode(), "door.ts") == full()


def test_derived_numbers() -> None:
    spec = full()
    assert (spec.hop_samples, spec.frames_per_tick, spec.max_gap_ticks) == (640, 4, 50)
    assert spec.video_shape(3) == (3, 2, 1, 1, 96, 96)
    assert spec.audio_shape(3) == (3, 4, 20)
    assert spec.video.hop_ns == 40_000_000
    assert StateSpec("h", (2, 1, 128), batch_dim=1).batched(5) == (2, 5, 128)
    assert ModelSpec(name="own", heads=(SCENE,)).preset == "foreign"


def test_another_contract_is_named_before_anything_else() -> None:
    with pytest.raises(
        ModelError, match=r"must follow contract 1, got contract 2 \[door.ts\]; export it again"
    ):
        read_spec(changed(contract=2, surprise=1), "door.ts")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"surprise": 1}, "unknown field `surprise`"),
        ({"heads": []}, r"heads must be one or more, of distinct names, got \[\]"),
        ({"views": ["frame", "ear"]}, "views must be distinct and of frame, face, got"),
        ({"heads": [{"name": "scene", "labels": ["a"]}]}, r"must be 2 or more, got \['a'\] \[head scene\]"),
        ({"heads": [{"name": "scene", "labels": ["a", "a"]}]}, "labels must be distinct and not empty"),
        ({"heads": [{"name": "scene", "labels": ["a", "b"], "kind": "softer"}]}, "enum value 'softer'"),
        ({"heads": [{"name": "s", "labels": ["a", "b"], "temperature": 0}]}, "temperature must be positive"),
        ({"video": {"hop_ms": 45}}, r"hop_ms must be whole MFCC frames of 10 ms, got 45 \[model door\]"),
        ({"video": {"frames": 0}}, "frames must be in 1..64, got 0"),
        ({"audio": {"sample_rate": 8000, "f_max": 4000}}, "sample_rate must be 16000, got 8000"),
        ({"audio": {"n_fft": 500}}, "n_fft must be a power of two"),
        ({"state": [{"name": "h", "shape": [2, 2]}]}, r"must be of one stream, got \[2, 2\] \[state h\]"),
        ({"state": [{"name": "h", "shape": [1], "batch_dim": 3}]}, "batch_dim must be a dimension of"),
        ({"state": [{"name": "h", "shape": [1], "dtype": "int8"}]}, "Invalid enum value 'int8'"),
        ({"warm_ticks": -1}, "warm_ticks must be 0 or more, got -1"),
        ({"name": 4}, "Expected `str`, got `int`"),
        ({"network": {"memory_ticks": 0}}, "memory_ticks must be in 1..100000, got 0"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_spec(changed(**parts), "door.ts")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"contract": "one"}'])
def test_text_that_is_no_description_is_refused(text: bytes) -> None:
    with pytest.raises(ModelError, match=r"streamfuse.json must describe the model, got .* \[door.ts\]"):
        read_spec(text, "door.ts")
