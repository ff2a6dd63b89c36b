"""Small networks with weights that make a mistake visible, and what is fed to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model import torchscript
from streamfuse.model.export import write_model
from streamfuse.model.network import Network, build_network, network_spec
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import SPEC_FILE, HeadSpec, ModelSpec

SCENES = ("forest", "coast", "street", "indoor", "mountain")
EMOTIONS = ("none", "neutral", "happy", "sad", "angry")
SOUNDS = ("rain", "storm", "wind")
HEADS = (HeadSpec("scene", SCENES), HeadSpec("emotion", EMOTIONS), HeadSpec("sound", SOUNDS, "sigmoid"))
PER_TICK = 10
"""MFCC frames in a tick of 100 ms."""


def small_spec(
    preset: str = "tiny", fusion: str = "gated", size: int = 32, colour: str = "luma", **more: object
) -> ModelSpec:
    picture = FrameSpec(size=size, colour=colour)
    return network_spec(HEADS, preset=preset, fusion=fusion, picture=picture, **more)


def random_network(spec: ModelSpec, seed: int = 0, *, volumetric: bool = False) -> Network:
    """In evaluation mode, every number random: as built, blocks begin as their skip connections."""
    torch.manual_seed(seed)
    network = build_network(spec, volumetric=volumetric).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_var", "norm.weight", "prior_std")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith(".taps"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.7)
        elif tensor.dim() == 1 and tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return network


def model_of(program: nn.Module, spec: ModelSpec, path: Path) -> Model:
    """A test's own program as a model file, loaded as anybody's."""
    scripted = torchscript.script(program.eval())
    write_model(torchscript.dump(scripted, {SPEC_FILE: spec.to_json()}), path)
    return load_model(path, device="cpu")


def random_inputs(
    spec: ModelSpec, ticks: int, batch: int = 1, seed: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """video (B, V, T, C, H, W), audio (B, T * PER_TICK, n_mfcc), present (B, V + 1)."""
    generator = torch.Generator().manual_seed(seed)
    picture, views = spec.video.picture, len(spec.views)
    shape = (batch, views, ticks, picture.channels, picture.size, picture.size)
    video = torch.randn(shape, generator=generator)
    audio = torch.randn((batch, ticks * PER_TICK, spec.audio.n_mfcc), generator=generator) * 2 + 0.5
    return video, audio, torch.ones(batch, views + 1, dtype=torch.bool)


def run_chunks(
    network: Network, inputs: tuple[Tensor, Tensor, Tensor], chunks: Sequence[int], *, by_step: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """Logits (B, T, classes) per head and the last state, the ticks fed in chunks of these lengths."""
    video, audio, present = inputs
    state = [one.to(video.dtype) for one in network.init_state(video.size(0))]
    parts: list[list[Tensor]] = []
    at = 0
    with torch.inference_mode():
        for length in chunks:
            picture = video[:, :, at : at + length]
            sound = audio[:, at * PER_TICK : (at + length) * PER_TICK]
            if by_step:
                logits, state = network.step(picture, sound, present, state)
                parts.append([one.unsqueeze(1) for one in logits])
            else:
                logits, _, state = network.clip(picture, sound, present, state)
                parts.append(logits)
            at += length
    assert at == video.size(2), "the chunks must cover the clip"
    return [torch.cat(head, 1) for head in zip(*parts, strict=True)], state


def relative(got: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """The largest difference of each tensor over the largest value in it; NaN and wrong shapes fail."""
    assert [one.shape for one in got] == [one.shape for one in want]
    worst = 0.0
    for one, other in zip(got, want, strict=True):
        assert torch.isfinite(one).all() and torch.isfinite(other).all()
        scale = max(float(other.abs().max()), 1e-6)
        worst = max(worst, float((one.double() - other.double()).abs().max()) / scale)
    return worst
