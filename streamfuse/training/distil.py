"""A teacher: another model's answers, for a student that may be smaller or know another modality.

The teacher sees the same streams as the student, or only their pictures or their sound, and the student
learns to answer alike (Hinton et al., arXiv 1503.02531), where both have a head of the same name with
labels of the same names. So a teacher of pictures can teach a student to hear.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from streamfuse.errors import ConfigError
from streamfuse.model.runtime import load_model
from streamfuse.model.spec import ModelSpec
from streamfuse.training.clip_batches import ClipBatch
from streamfuse.training.settings import DistilSettings

Answers = dict[str, Tensor]
"""By head: the teacher's logits (B, T, the student's classes), minus infinity where it has no such label."""


class Teacher:
    """Loads the teacher and checks that it can teach this student.

    raises  ConfigError where it takes other pictures, views or MFCCs, or has no head in common; ModelError
    """

    def __init__(self, settings: DistilSettings, student: ModelSpec, device: str) -> None:
        self.model = load_model(settings.teacher, device=device)
        self.settings, self.student = settings, student
        spec = self.model.spec
        for what, theirs, ours in (
            ("pictures", spec.video.picture, student.video.picture),
            ("MFCCs", spec.audio, student.audio),
            ("views", spec.views, student.views),
            ("ticks", (spec.video.hop_ms, spec.video.frames), (student.video.hop_ms, student.video.frames)),
        ):
            if theirs != ours:
                raise ConfigError(f"a teacher must take the same {what}", got=theirs, where=settings.teacher)
        own = {head.name: head for head in spec.heads if head.kind == "softmax"}
        self.shared: dict[str, list[int]] = {}
        for head in student.heads:
            labels = own[head.name].labels if head.name in own and head.kind == "softmax" else ()
            if set(head.labels) & set(labels):
                self.shared[head.name] = [labels.index(x) if x in labels else -1 for x in head.labels]
        if not self.shared:
            names = ", ".join(own)
            raise ConfigError("a teacher must share a head and labels", got=names, where=settings.teacher)

    def answers(self, batch: ClipBatch) -> Answers:
        """What the teacher says to every tick of the batch."""
        spec = self.model.spec
        present = batch.present.clone()
        if self.settings.sees != "both":
            present[:, -1 if self.settings.sees == "video" else slice(0, -1)] = False
        state = self.model.init_state(len(present))
        said: list[list[Tensor]] = []
        frames, window = spec.frames_per_tick, spec.video.frames
        device = next(iter(state)).device if state else torch.device("cpu")
        present = present.to(device)
        with torch.inference_mode():
            for tick in range(batch.video.size(2) - window + 1):
                sound = batch.audio[:, tick * frames : (tick + 1) * frames].to(device)
                video = batch.video[:, :, tick : tick + window].contiguous().to(device)
                logits, state = self.model.step_tensors(video, sound, present, state)
                said.append(list(logits))
        heads = {head.name: n for n, head in enumerate(spec.heads)}
        return {
            name: _chosen(torch.stack([one[heads[name]] for one in said], 1), columns)
            for name, columns in self.shared.items()
        }

    def loss(
        self,
        logits: Sequence[Tensor],
        alone: Sequence[Tensor],
        wanted: Answers,
        chunk: slice,
        present: Tensor,
    ) -> Tensor:
        """Divergence of the student's answers, fused and of each modality, from the teacher's."""
        heads = [head.name for head in self.student.heads]
        losses = []
        for name, theirs in wanted.items():
            at = heads.index(name)
            target = theirs[:, chunk].to(present.device)
            everyone = torch.ones_like(present[:, 0])
            losses.append(self._divergence(logits[at].float(), target, everyone))
            for m in range(present.size(1)):
                mine = alone[m * len(heads) + at].float()
                losses.append(self._divergence(mine, target, present[:, m]))
        return self.settings.weight * torch.stack(losses).mean()

    def _divergence(self, mine: Tensor, theirs: Tensor, rows: Tensor) -> Tensor:
        t = self.settings.temperature
        known = theirs.isfinite()
        ours = torch.log_softmax((mine / t).masked_fill(~known, -1e4), -1)
        shares = torch.softmax(theirs / t, -1)
        each = F.kl_div(ours, shares, reduction="none").sum(-1).mean(1) * t * t
        return (each * rows).sum() / rows.sum().clamp(min=1)


def _chosen(logits: Tensor, columns: list[int]) -> Tensor:
    """The teacher's logits in the student's order, outside inference mode."""
    picked = logits[..., [max(one, 0) for one in columns]].clone()
    picked[..., [one < 0 for one in columns]] = float("-inf")
    return torch.from_numpy(picked.cpu().numpy().copy())
