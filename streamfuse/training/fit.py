"""Learn everything at once from clips: chunks with carried, detached state, each modality's own heads
beside the fused ones, and, where there is a teacher, its answers beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamfuse.model.layers import Norm
from streamfuse.model.network import Network
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.training.clip_batches import ClipBatch, ClipBatches
from streamfuse.training.datasets.clips import Clip
from streamfuse.training.distil import Teacher
from streamfuse.training.losses import masked_sigmoid, masked_soft_cross_entropy
from streamfuse.training.placing import in_bfloat16, moved
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Report, run_stage
from streamfuse.training.settings import ClipSettings

STATISTICS_BATCHES = 4
"""Streams from which mean and deviation of the MFCCs are taken: this many batches."""


@dataclass
class ClipFit:
    """The network, what it learns from, and how."""

    network: Network
    spec: ModelSpec
    batches: ClipBatches
    settings: ClipSettings
    device: str = "cpu"
    teacher: Teacher | None = None

    def run(self, tune: Sequence[Clip], report: Report, keep: Keeper | None) -> None:
        """Train; held-out clips may end it early. The network is left on the CPU, in training mode."""
        network = self.network.to(self.device).train()
        for one in network.modules():
            if isinstance(one, Norm) and not one.weight.requires_grad:
                one.eval()  # what is frozen keeps its statistics too
        self._set_statistics()
        check = None
        if tune:
            looking = ClipBatches(self.batches.store, tune, self.settings, 0, bent=False)
            parts = [tune[n : n + self.settings.batch] for n in range(0, len(tune), self.settings.batch)]

            def check() -> float:
                losses = [(float(self.loss(looking.of(part))), len(part)) for part in parts]
                return sum(loss * count for loss, count in losses) / len(tune)

        learned = [one for one in network.parameters() if one.requires_grad]
        run_stage(
            "clips", network, [(learned, 1.0)], self.settings,
            lambda _: self.loss(self.batches.batch(self.settings.batch)), report, keep=keep, check=check,
        )  # fmt: skip
        network.cpu()

    def _set_statistics(self) -> None:
        """Whiten by what will be heard. Drawn again by a resumed run, which then takes what it kept."""
        drawn = [self.batches.batch(self.settings.batch) for _ in range(STATISTICS_BATCHES)]
        heard = torch.cat([one.audio[one.present[:, -1]].flatten(0, 1) for one in drawn])
        if len(heard):
            self.network.audio.set_statistics(heard.to(self.device))

    def loss(self, batch: ClipBatch) -> Tensor:
        """The loss of one batch, over chunks through which the state is carried."""
        settings = self.settings
        wanted = self.teacher.answers(batch) if self.teacher is not None and self.network.training else None
        batch = moved(batch, self.device)
        state = [one.to(self.device) for one in self.network.init_state(len(batch.present))]
        total = torch.zeros((), device=self.device)
        before = self.spec.video.frames - 1
        frames = self.spec.frames_per_tick
        for start in range(0, settings.ticks, settings.chunk_ticks):
            end = min(start + settings.chunk_ticks, settings.ticks)
            with in_bfloat16(self.device, settings.mixed and self.device == "cuda"):
                logits, alone, state = self.network.clip(
                    batch.video[:, :, start : before + end],
                    batch.audio[:, start * frames : end * frames],
                    batch.present,
                    [one.detach().float() for one in state],
                )
            chunk = slice(start, end)
            losses = [self._chunk_loss(logits, batch, chunk)]
            if settings.auxiliary and self.network.training:
                losses.append(settings.auxiliary * self._alone(alone, batch, chunk))
            if wanted is not None and self.teacher is not None:
                losses.append(self.teacher.loss(logits, alone, wanted, chunk, batch.present))
            total = total + torch.stack(losses).sum() * (end - start) / settings.ticks
        return total

    def _chunk_loss(
        self, logits: Sequence[Tensor], batch: ClipBatch, chunk: slice, rows: Tensor | None = None
    ) -> Tensor:
        smoothing = self.settings.smoothing if self.network.training else 0.0
        losses = [
            head_loss(head, one.float(), batch.targets[head.name][:, chunk], smoothing, rows)
            for head, one in zip(self.spec.heads, logits, strict=True)
        ]
        return torch.stack(losses).sum()

    def _alone(self, alone: Sequence[Tensor], batch: ClipBatch, chunk: slice) -> Tensor:
        """Each modality's own answers, where it is present; `alone` is modality after modality."""
        heads = len(self.spec.heads)
        losses = [
            self._chunk_loss(alone[m * heads : (m + 1) * heads], batch, chunk, batch.present[:, m])
            for m in range(batch.present.size(1))
        ]
        return torch.stack(losses).sum()


def head_loss(
    head: HeadSpec, logits: Tensor, target: Tensor, smoothing: float, rows: Tensor | None = None
) -> Tensor:
    """The loss of one head, (B, T, classes); NaN targets and the rows that are False do not count."""
    known = ~target.isnan().any(-1)
    if rows is not None:
        known = known & rows[:, None]
    target = target.nan_to_num(0.0)
    if head.kind == "softmax":
        return masked_soft_cross_entropy(logits, target, known, smoothing)
    return masked_sigmoid(logits, target, known.float())
