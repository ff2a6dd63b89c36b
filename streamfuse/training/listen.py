"""Features of the trained branches, for the fusion to learn from."""

from __future__ import annotations

import torch
from torch import Tensor

from streamfuse.model.lite import LiteBranch
from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.branches import branch_state, fused
from streamfuse.training.features import mfcc_from_log_mel
from streamfuse.training.motion import Camera
from streamfuse.training.pairs import Heard, Seen
from streamfuse.training.placing import moved
from streamfuse.training.schedule import Report
from streamfuse.training.sound import SoundMixer

SURE = 0.5
"""A tick of sound is used where its target has at least this weight."""
BATCH = 32


@torch.no_grad()
def seen_features(
    network: Network, spec: ModelSpec, camera: Camera, clips: int, report: Report, device: str = "cpu"
) -> Seen:
    """Film `clips` clips and keep what each view's branch says at the end of them."""
    network.to(device)
    branches = [fused(one) if isinstance(one, LiteBranch) else one.eval() for one in network.videos]
    found: list[tuple[Tensor, ...]] = []
    for done in range(0, clips, BATCH):
        batch = camera.batch(BATCH)
        features = []
        for view, branch in zip(spec.views, branches, strict=True):
            shown = batch.faces if view == "face" else batch.frames
            state = branch_state(branch.state_shapes(network.size), BATCH, device)
            feature, _ = branch.clip(moved(shown, device), state)
            features.append(feature[:, -1].cpu())
        found.append((batch.place, batch.emotion, batch.faced, *features))
        report("look", done / clips, {"clips": done})
    place, emotion, faced, *features = (torch.cat(some) for some in zip(*found, strict=True))
    there = [faced if view == "face" else torch.ones_like(faced) for view in spec.views]
    return Seen(tuple(features), tuple(there), place, emotion)


@torch.no_grad()
def heard_features(
    network: Network, spec: ModelSpec, mixer: SoundMixer, streams: int, report: Report, device: str = "cpu"
) -> Heard:
    """Mix `streams` streams and keep what the sound branch says at four ticks of each."""
    audio = network.to(device).audio.eval()
    frames = spec.frames_per_tick
    found: list[tuple[Tensor, ...]] = []
    for done in range(0, streams, BATCH):
        batch = mixer.batch(BATCH)
        mfcc = mfcc_from_log_mel(batch.bands, spec.audio)
        ticks = mfcc.size(1) // frames
        state = branch_state(audio.state_shapes(), BATCH, device)
        feature = audio.clip(moved(mfcc, device), ticks, state)[0].cpu()
        ends = torch.arange(ticks) * frames + frames - 1
        for tick in range(ticks // 4 - 1, ticks, max(1, ticks // 4)):
            end = int(ends[tick])
            emotion = torch.where(batch.heard[:, end] >= SURE, batch.emotion[:, end], -1)
            kept = emotion >= 0
            found.append(
                tuple(
                    one[kept] for one in (feature[:, tick], batch.place, emotion, batch.sounds, batch.asked)
                )
            )
        report("listen", done / streams, {"streams": done})
    return Heard(*(torch.cat(some) for some in zip(*found, strict=True)))
