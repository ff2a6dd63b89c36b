"""The other encoders behind the same contract: a GRU for sound, the textbook's clip 3D-CNN for pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from streamfuse.model.clip3d import CLIP_FRAMES
from streamfuse.model.export import export_model
from streamfuse.model.network import SOUND_BRANCHES
from streamfuse.model.runtime import load_model
from tests.model.networks import PER_TICK, random_inputs, random_network, relative, run_chunks, small_spec

TICKS = 12


@pytest.mark.parametrize("sound", ["lstm", "gru"])
def test_any_chunking_equals_the_clip(sound: str) -> None:
    spec = small_spec(sound=sound)
    network, inputs = random_network(spec), random_inputs(spec, TICKS, batch=2)
    whole, last = run_chunks(network, inputs, [TICKS])
    for chunks in ([1] * TICKS, [5, 1, 6]):
        logits, state = run_chunks(network, inputs, chunks)
        assert relative(logits, whole) <= 1e-5
        assert relative(state, last) <= 1e-5
    logits, state = run_chunks(network, inputs, [1] * TICKS, by_step=True)
    assert relative(logits, whole) <= 1e-5
    assert relative(state, last) <= 1e-5


def test_gru_is_an_outside_gru_on_what_it_hears() -> None:
    spec = small_spec(sound="gru")
    branch = random_network(spec).audio
    x = torch.randn(1, 3 * PER_TICK, 40)
    state = [torch.zeros(shape) for _, shape in branch.state_shapes()]
    with torch.inference_mode():
        features, fresh = branch.clip(x, 3, state)
        normed, _ = branch.norm(x, state[:3])
        outside, h = torch.nn.GRU.forward(branch.gru, normed)
    torch.testing.assert_close(features[:, :, :128], outside[:, PER_TICK - 1 :: PER_TICK])
    torch.testing.assert_close(fresh[3], h)
    assert set(SOUND_BRANCHES) >= {"lstm", "gru"}


def test_gru_holds_its_feature_for_a_tick_without_sound() -> None:
    branch = random_network(small_spec(sound="gru")).audio
    state = [torch.randn(shape) for _, shape in branch.state_shapes()]
    with torch.inference_mode():
        feature, fresh = branch.step(torch.zeros(1, 0, 40), state)
    assert torch.equal(feature, state[-1])
    assert all(torch.equal(a, b) for a, b in zip(state, fresh, strict=True))


def windows(video: torch.Tensor) -> torch.Tensor:
    """As the pipeline has it: the first picture stands for those before it."""
    first = video[:, :, :1].expand(-1, -1, CLIP_FRAMES - 1, -1, -1, -1)
    return torch.cat([first, video], 2)


def test_clip_3d_cnn_slides_over_a_stream_as_its_clip_does(tmp_path: Path) -> None:
    spec = small_spec(preset="clip3d", size=32)
    assert spec.video.frames == CLIP_FRAMES and spec.warm_ticks == CLIP_FRAMES
    network = random_network(spec)
    video, audio, present = random_inputs(spec, TICKS)
    padded = windows(video)
    with torch.inference_mode():
        whole, _, last = network.clip(padded, audio, present, network.init_state(1))
        parts, state = [], network.init_state(1)
        for start, end in ((0, 5), (5, 6), (6, 12)):
            some = padded[:, :, start : end + CLIP_FRAMES - 1]
            logits, _, state = network.clip(some, audio[:, start * PER_TICK : end * PER_TICK], present, state)
            parts.append(logits)
    chunked = [torch.cat(head, 1) for head in zip(*parts, strict=True)]
    assert relative(chunked, whole) <= 1e-5
    assert relative(state, last) <= 1e-5
    # The file, by sliding windows, is the clip; its sound is heard once, not once for each window.
    export_model(network, spec, tmp_path / "clip.ts")
    model = load_model(tmp_path / "clip.ts", device="cpu")
    said, kept = [], model.init_state(1)
    for tick in range(TICKS):
        shown = padded[:, :, tick : tick + CLIP_FRAMES].contiguous().numpy()
        window = [max(0, n) for n in range(tick - CLIP_FRAMES + 1, tick + 1)]
        heard = np.concatenate([audio[:, n * PER_TICK : (n + 1) * PER_TICK].numpy() for n in window], 1)
        logits, kept = model.step(shown, heard, present.numpy(), kept)
        said.append(logits)
    stepped = [torch.tensor(np.stack(head, 1)) for head in zip(*said, strict=True)]
    assert relative(stepped, whole) <= 1e-5


def test_clip_3d_cnn_sees_no_more_than_its_window() -> None:
    spec = small_spec(preset="clip3d", size=32)
    branch = random_network(spec).videos[0]
    video = torch.randn(1, CLIP_FRAMES - 1 + 10, 1, 32, 32)
    other = video.clone()
    other[:, CLIP_FRAMES + 1] += 1.0
    with torch.inference_mode():
        one, _ = branch.clip(video, [])
        two, _ = branch.clip(other, [])
    reached = [t for t in range(10) if not torch.equal(one[:, t], two[:, t])]
    assert reached == list(range(2, 10)), "from the tick that shows it on, for eight ticks"
