"""The stage that learns to read faces: the face view's own branch, on faces as that view shows them."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.network import Network
from streamfuse.model.spec import ModelSpec
from streamfuse.training.branches import branch_state, heads_of, keep_statistics
from streamfuse.training.cache import PictureCache
from streamfuse.training.datasets.meaning import EMOTIONS, FEELINGS, emotion_index
from streamfuse.training.datasets.recordings import Part
from streamfuse.training.losses import masked_cross_entropy
from streamfuse.training.motion import IGNORED, Camera, crop_path
from streamfuse.training.placing import in_bfloat16, moved
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Groups, Report, learn
from streamfuse.training.settings import FaceSettings

SCENE_SHARE = 0.1
"""Of what is shown: a part of a scene that the detector could have taken for a face."""
EVENNESS = 0.35
"""Power of a feeling's count in how often it is shown; 0 would be evenly, and few faces learned by heart."""


class Portraits(Camera):
    """Draws crops of faces, of every feeling that is known, and some crops of scenes."""

    def __init__(self, cache: PictureCache, spec: FrameSpec, seed: int, part: Part = "train") -> None:
        super().__init__(cache, spec, 1, seed, part)
        self.by_feeling: dict[str, list[int]] = {}
        for index, row in enumerate(cache.rows):
            if row.part == part and row.kind == "face_image" and row.label in FEELINGS:
                self.by_feeling.setdefault(row.label, []).append(index)
        self.labels = sorted(self.by_feeling)
        odds = np.array([len(self.by_feeling[one]) for one in self.labels], np.float64) ** EVENNESS
        self.label_odds = odds / max(odds.sum(), 1.0)
        self.scenes = [index for some in self.places for index in some]

    def portraits(self, clips: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (B, 1, 1, S, S), their emotion (B,) and feeling (B,), -1 where not asked."""
        rng = self.rng
        images, emotions, feelings = [], [], []
        for _ in range(clips):
            if self.scenes and rng.random() < SCENE_SHARE:
                images.append(self.cache.luma[rng.choice(self.scenes)])
                emotions.append(EMOTIONS.index("none"))
                feelings.append(IGNORED)
                continue
            label = self.labels[rng.choice(len(self.labels), p=self.label_odds)]
            images.append(self.cache.luma[rng.choice(self.by_feeling[label])])
            emotions.append(emotion_index(label))
            feelings.append(FEELINGS.index(label))
        shown = self.film(torch.from_numpy(np.stack(images)), crop_path(rng, clips, 1))
        return shown, torch.tensor(emotions), torch.tensor(feelings)


class Reading:
    """The face view's branch, its head, and one for all feelings that goes with the stage; and their loss.

    The branch begins as the frame's, which has seen faces among much else.
    """

    def __init__(
        self, network: Network, spec: ModelSpec, settings: FaceSettings, dropout: float, device: str
    ) -> None:
        view = spec.views.index("face")
        self.branch = network.videos[view]
        if view > 0:
            self.branch.load_state_dict(network.videos[0].state_dict())
        self.emotion = heads_of(network, view, spec)["emotion"]
        self.feelings = nn.Linear(self.branch.features, len(FEELINGS))
        self.learned = nn.ModuleList([self.branch, self.feelings, self.emotion]).to(device)
        keep_statistics(self.learned)
        self.branch.last.train()
        self.settings, self.dropout, self.device, self.size = settings, dropout, device, network.size

    @property
    def groups(self) -> Groups:
        new = [p for part in (self.branch.last, self.feelings, self.emotion) for p in part.parameters()]
        rest = [p for p in self.branch.parameters() if all(p is not one for one in new)]
        return [(rest, self.settings.trunk_rate), (new, 1.0)]

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        shown, emotion, feeling = moved(batch, self.device)
        settings, training = self.settings, self.learned.training
        state = branch_state(self.branch.state_shapes(self.size), settings.batch, self.device)
        with in_bfloat16(self.device, settings.bfloat16):
            feature, _fresh = self.branch.clip(shown, state)
        y = F.dropout(feature.float()[:, 0], self.dropout, training)
        smoothing = settings.smoothing if training else 0.0
        loss = masked_cross_entropy(self.emotion(y), emotion, None, smoothing)
        return loss + settings.feelings * masked_cross_entropy(self.feelings(y), feeling, None, smoothing)


def train_faces(
    network: Network,
    spec: ModelSpec,
    portraits: Portraits,
    settings: FaceSettings,
    dropout: float,
    report: Report,
    keep: Keeper | None = None,
    held: Portraits | None = None,
    device: str = "cpu",
) -> None:
    """Learn to read faces. held: of held-out groups, to end early by. The network is left on the CPU."""
    draw = partial(portraits.portraits, settings.batch)
    looked = None if held is None else partial(held.portraits, settings.batch)
    stage = Reading(network, spec, settings, dropout, device)
    learn("faces", stage, draw, settings, report, rng=portraits.rng, keep=keep, held=looked)
    network.cpu()
