"""From a list of data sets to a model file: read, decode, learn, calibrate, export, measure.

What `streamfuse train` does where `data:` is a list (or `--data LAYOUT:PATH`). All is learned in one stage;
a run that was killed goes on within it, and on the CPU ends with the very same weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import torch

from streamfuse.errors import ConfigError
from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.export import export_model
from streamfuse.model.lite import LiteBranch
from streamfuse.model.network import PRESETS, Network, build_network, network_spec
from streamfuse.model.runtime import Model, load_model
from streamfuse.model.spec import DataSource, HeadSpec, ModelSpec
from streamfuse.model.video import VideoBranch
from streamfuse.training.assess import Measures, assess
from streamfuse.training.cache import Progress
from streamfuse.training.calibrate import fitted_head
from streamfuse.training.clip_batches import ClipBatches
from streamfuse.training.clip_card import CARD_CONDITIONS, clip_qualities
from streamfuse.training.clip_store import ClipStore
from streamfuse.training.datasets.clips import Clip, ClipSet
from streamfuse.training.distil import Teacher
from streamfuse.training.fit import ClipFit
from streamfuse.training.placing import refuse_device_that_is_not_there
from streamfuse.training.pretrained import INPUT_MEAN, INPUT_STD, load_lite0
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Report
from streamfuse.training.settings import TrainConfig
from streamfuse.training.takes import played, take_of
from streamfuse.types import F32

ROOM = 1.25
"""Stored pictures are so much larger than the model's, for the training camera to crop."""
DESCRIPTION = "Trained by `streamfuse train`; its licences are those of what it learned from."


def clip_model_spec(config: TrainConfig, found: ClipSet) -> ModelSpec:
    """The model for these data sets, not yet trained: a head for everything that is labelled."""
    heads = tuple(
        HeadSpec(name, labels, found.kinds.get(name, "softmax")) for name, labels in found.heads.items()
    )
    ours = config.network
    size = ours.picture_side or (PRESETS[ours.preset].size if ours.preset in PRESETS else 96)
    picture = FrameSpec(size=size, colour=ours.colour)
    if ours.pretrained is not None:
        picture = FrameSpec(size=size, mean=(INPUT_MEAN,) * 3, std=(INPUT_STD,) * 3, colour=ours.colour)
    return network_spec(
        heads,
        preset=ours.preset,
        fusion=ours.fusion,
        sound=ours.sound,
        views=ours.views,
        picture=picture,
        memory_ticks=ours.memory_ticks,
        name=config.name,
    )


class ClipRun:
    """One training run on clips. `work` holds the decoded clips and what a killed run goes on from."""

    def __init__(
        self, config: TrainConfig, found: ClipSet, work: Path, report: Report, cached: Progress
    ) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        refuse_device_that_is_not_there(config.device)
        self.config, self.work, self.report = config, work, report
        self.dropped = list(found.dropped)
        self.spec = clip_model_spec(config, found)
        self.network: Network = build_network(self.spec, dropout=config.dropout)
        if config.network.pretrained is not None:
            for branch in self.network.videos:
                if not isinstance(branch, LiteBranch):
                    got = config.network.preset
                    raise ConfigError("pretrained weights are for the preset lite", got=got, where="network")
                load_lite0(branch, Path(config.network.pretrained))
        if config.network.frozen:
            freeze_trunk(self.network)
        side = round(ROOM * self.spec.video.picture.size)
        self.store = ClipStore(self.spec, side, work / "cache", config.clips.memory_mb)
        self.clips = self.store.ready(found.clips, self.dropped, cached)
        self.train = [clip for clip in self.clips if clip.part == "train" and clip.marks]
        self.tune = [clip for clip in self.clips if clip.part == "tune" and clip.marks]
        if not self.train:
            raise ConfigError("training needs clips to learn from", got="none", hint=_reasons(self.dropped))
        self._refuse_a_face_view_in_vain()

    def _refuse_a_face_view_in_vain(self) -> None:
        if "face" not in self.spec.views:
            return
        view = self.spec.views.index("face")
        if not any(self.store.read(clip).present[:, view].any() for clip in self.train):
            got, hint = f"none in {len(self.train)} clips", "leave `face` out of `network.views`"
            raise ConfigError("the face view learns from clips with faces", got=got, hint=hint)

    def learn(self) -> None:
        """Train, or take the weights that an earlier run of the same settings ended with."""
        said = self.config.model_dump_json(exclude_defaults=True) + repr([clip.name for clip in self.train])
        kept = self.work / f"clips-{sha256(said.encode()).hexdigest()[:12]}.pt"
        if kept.is_file():
            self.network.load_state_dict(torch.load(kept, weights_only=True))
            return
        distil = self.config.clips.distil
        teacher = Teacher(distil, self.spec, self.config.device) if distil is not None else None
        batches = ClipBatches(self.store, self.train, self.config.clips, self.config.seed + 1)
        fit = ClipFit(self.network, self.spec, batches, self.config.clips, self.config.device, teacher)
        keep = Keeper(kept.with_suffix(".safetensors"), (batches.rng,), self.config.keep_every)
        fit.run(self.tune, self.report, keep)
        part = kept.with_name(kept.name + ".part")
        torch.save(self.network.state_dict(), part)
        part.replace(kept)
        keep.done()

    def finish(self, out: Path) -> ModelSpec:
        """Calibrate on the clips for tuning, and export."""
        out.parent.mkdir(parents=True, exist_ok=True)
        spec = msgspec.structs.replace(self.spec, training=clip_sources(self.train), description=DESCRIPTION)
        if self.tune:
            scratch = self.work / "uncalibrated.ts"
            export_model(self.network, spec, scratch)
            model = load_model(scratch, device="cpu")
            spec = calibrated(model, spec, self.tune)
        return export_model(self.network, spec, out)

    def measure(self, out: Path, spec: ModelSpec, command: str) -> tuple[ModelSpec, list[Measures]]:
        """Measure the file that finish() wrote on the held-out clips, and write the figures into it.

        command  what measures it again
        returns  the description with the figures; no figure where no clip was held out
        """
        clips = [clip for clip in self.clips if clip.part == "test" and clip.marks]
        measures = assess(
            load_model(out, device="cpu"),
            clips,
            conditions=CARD_CONDITIONS,
            dropped=self.dropped,
            progress=lambda done, total: self.report("measuring", done / total, {}),
        )
        spec = msgspec.structs.replace(spec, quality=clip_qualities(measures, command))
        return export_model(self.network, spec, out), measures


def freeze_trunk(network: Network) -> None:
    """The picture branches' stems and blocks learn nothing; the layer above them, and all else, does.

    raises  ConfigError for a branch that has no such parts
    """
    for branch in network.videos:
        if not isinstance(branch, LiteBranch | VideoBranch):
            raise ConfigError("only a branch of blocks can be frozen", got=type(branch).__name__)
        for parameter in (*branch.stem.parameters(), *branch.blocks.parameters()):
            parameter.requires_grad_(False)


def calibrated(model: Model, spec: ModelSpec, clips: Sequence[Clip]) -> ModelSpec:
    """The spec with each head's temperature and threshold, fitted on these clips; every clip counts alike."""
    logits: list[list[F32]] = [[] for _ in spec.heads]
    truth: list[list[F32]] = [[] for _ in spec.heads]
    weight: list[list[F32]] = [[] for _ in spec.heads]
    for clip in clips:
        take = take_of(clip, model.spec)
        if take is None:
            continue
        for n, (head, said) in enumerate(zip(spec.heads, played(model, [take])[0], strict=True)):
            right = take.truth[head.name]
            known = ~np.isnan(right).any(1)
            if known.any():
                logits[n].append(said[known])
                truth[n].append(right[known])
                weight[n].append(np.full(int(known.sum()), 1.0 / known.sum(), np.float32))
    heads = []
    for n, head in enumerate(spec.heads):
        if not logits[n]:
            heads.append(head)
            continue
        right = np.concatenate(truth[n])
        wanted = right.argmax(1) if head.kind == "softmax" else right
        heads.append(fitted_head(head, np.concatenate(logits[n]), wanted, np.concatenate(weight[n])))
    return msgspec.structs.replace(spec, heads=tuple(heads))


def clip_sources(clips: Sequence[Clip]) -> tuple[DataSource, ...]:
    """One entry for each data set and licence that was learned from."""
    counts = Counter((clip.dataset, clip.licence) for clip in clips)
    return tuple(
        DataSource(name, licence or "not said", f"{count} clips")
        for (name, licence), count in sorted(counts.items())
    )


def _reasons(dropped: Sequence[str]) -> str | None:
    return (
        f"left out: {dropped[0]}" + (f" and {len(dropped) - 1} more" if dropped[1:] else "")
        if dropped
        else None
    )
