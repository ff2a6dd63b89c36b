"""From a folder of recordings to a model file: read, learn in stages, calibrate, export, measure.

Each branch first learns alone, with a head of every kind on it (they stay on as auxiliary heads and as
the votes of late fusion); then the branches stand still and the fusion learns from their features on
pairs composed by label, with each modality missing in turn.

`python -m streamfuse.training.train -c configs/train/default.yaml --data DIR` is `streamfuse train`.
Each stage leaves its weights in the work folder; a run that was killed goes on after the last one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from math import ceil
from pathlib import Path

import msgspec
import numpy as np
import torch

from streamfuse.errors import ConfigError
from streamfuse.kernels.spec import FrameSpec
from streamfuse.model.export import export_model
from streamfuse.model.network import PRESETS, Network, build_network, network_spec
from streamfuse.model.runtime import load_model
from streamfuse.model.spec import HeadSpec, ModelSpec
from streamfuse.training.cache import Progress, cache_pictures, cache_sound
from streamfuse.training.calibrate import said_threshold, unknown_threshold
from streamfuse.training.card import DESCRIPTION, sources
from streamfuse.training.certainty import (
    Heard,
    clip_means,
    fit_certainty,
    set_certainty,
    situation_of,
)
from streamfuse.training.datasets.meaning import EMOTIONS, PLACES, SOUNDS
from streamfuse.training.datasets.recordings import Part, Recordings, read_recordings
from streamfuse.training.evaluate import SETTLE_TICKS, Score, evaluate, qualities
from streamfuse.training.hearing import set_sound_statistics, train_sound
from streamfuse.training.joining import train_fusion
from streamfuse.training.listen import heard_features, seen_features
from streamfuse.training.motion import Camera
from streamfuse.training.pairs import Pairs
from streamfuse.training.placing import refuse_device_that_is_not_there
from streamfuse.training.play import play
from streamfuse.training.portraits import Portraits, train_faces
from streamfuse.training.pretrained import INPUT_MEAN, INPUT_STD, load_lite0
from streamfuse.training.resume import Keeper
from streamfuse.training.schedule import Report
from streamfuse.training.seeing import FRAME, train_picture
from streamfuse.training.settings import TrainConfig, division_of
from streamfuse.training.sound import SoundMixer
from streamfuse.training.trials import Suite, asked, build_suites

HELD = 100
"""Held-out streams and clips are drawn with seeds so far above those of what is learned from."""
HELD_SHARE = 0.25
"""Of the clips and streams for the fusion to learn from: so many more are held out, where it ends early."""


def model_spec(config: TrainConfig) -> ModelSpec:
    """The model that this configuration describes, not yet trained."""
    heads = [HeadSpec("scene", PLACES), HeadSpec("emotion", EMOTIONS)]
    if config.sound_head:
        heads.append(HeadSpec("sound", SOUNDS, "sigmoid"))
    ours = config.network
    picture = FrameSpec(
        size=ours.picture_side or PRESETS[ours.preset].size if ours.preset in PRESETS else 96,
        mean=(INPUT_MEAN,) * 3,
        std=(INPUT_STD,) * 3,
        colour="luma",
    )
    return network_spec(
        tuple(heads),
        preset=ours.preset,
        fusion=ours.fusion,
        sound=ours.sound,
        views=ours.views,
        picture=picture,
        memory_ticks=ours.memory_ticks,
        name=config.name,
    )


def refuse_what_is_not_done(config: TrainConfig) -> None:
    """The settings that only training on a list of data sets knows: never passed over in silence."""
    for key, value, only in (
        ("network.frozen", config.network.frozen, False),
        ("network.colour", config.network.colour, "luma"),
        ("clips.distil", config.clips.distil, None),
    ):
        if value != only:
            raise ConfigError(
                f"a folder of recordings is learned from with `{key}` {only or 'unset'}",
                got=value,
                hint="leave it out, or train on a list of data sets (`--data LAYOUT:PATH`)",
            )


def refuse_patience_in_vain(config: TrainConfig, recordings: Recordings, data: Path) -> None:
    """Early stopping looks at the `tune` part: it must have something of each kind to look at."""
    heard = [one for one in recordings.sound if one.part == "tune"]
    seen = [one for one in recordings.pictures if one.part == "tune"]
    faces = [one for one in seen if one.kind == "face_image"]
    for stage, patience, needed in (
        ("sound", config.sound.patience, (heard,)),
        ("picture", config.picture.patience, (seen,)),
        ("faces", config.faces.patience if "face" in config.network.views else 0, (faces,)),
        ("fusion", config.fusion.patience, (heard, seen)),
    ):
        if patience and not all(needed):
            hint = "hold some groups out (`data: tune_splits, tune_groups, tune_share`), or leave it out"
            raise ConfigError(
                f"`{stage}.patience` needs held-out recordings", got="none", where=data, hint=hint
            )


class Run:
    """One training run. `work` holds its caches and the weights after each stage."""

    def __init__(self, config: TrainConfig, data: Path, work: Path, report: Report, cached: Progress) -> None:
        refuse_what_is_not_done(config)
        refuse_device_that_is_not_there(config.device)
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config, self.work, self.report = config, work, report
        self.recordings: Recordings = read_recordings(data, division_of(config))
        if not self.recordings.sound or not self.recordings.pictures:
            raise ConfigError("training needs recordings of sound and pictures", where=data)
        refuse_patience_in_vain(config, self.recordings, data)
        self.spec = model_spec(config)
        self.network: Network = build_network(self.spec, dropout=config.dropout)
        if config.network.pretrained:
            load_lite0(self.network.videos[FRAME], Path(config.network.pretrained))
        self.dropped = list(self.recordings.dropped)
        folder = work / "cache"
        self.sounds = cache_sound(self.recordings.sound, self.spec.audio, folder, self.dropped, cached)
        self.pictures = cache_pictures(self.recordings.pictures, folder, self.dropped, cached)

    def _mixer(self, seed: int, part: Part = "train") -> SoundMixer:
        frames = self.config.sound.ticks * self.spec.frames_per_tick
        return SoundMixer(self.sounds, self.spec.audio, frames, self.config.seed + seed, part)

    def _camera(self, seed: int, part: Part = "train") -> Camera:
        picture, ticks = self.spec.video.picture, self.config.picture.ticks
        crops = "face" in self.spec.views
        return Camera(self.pictures, picture, ticks, self.config.seed + seed, part, crops=crops)

    def _portraits(self, seed: int, part: Part = "train") -> Portraits:
        return Portraits(self.pictures, self.spec.video.picture, self.config.seed + seed, part)

    def _pairs(self, seed: int, part: Part = "train", share: float = 1.0) -> Pairs:
        settings = self.config.fusion
        clips, streams = (ceil(share * n) for n in (settings.clips, settings.streams))
        ours, device = (self.network, self.spec), self.config.device
        seen = seen_features(*ours, self._camera(seed, part), clips, self.report, device)
        heard = heard_features(*ours, self._mixer(seed + 1, part), streams, self.report, device)
        return Pairs(seen, heard, self.config.seed + seed + 2)

    def learn(self) -> None:
        """The stages, each skipped where an earlier run of the same settings left its weights."""
        self._stage("sound", self._hear)
        self._stage("picture", self._see)
        if "face" in self.spec.views:
            self._stage("faces", self._face)
        self._stage("fusion", self._fuse)

    def _stage(self, name: str, act: Callable[[Keeper], None]) -> None:
        # What a stage leaves depends on everything before it, too.
        said = self.config.model_dump_json(exclude_defaults=True).encode() + name.encode()
        kept = self.work / f"{name}-{sha256(said).hexdigest()[:12]}.pt"
        if kept.is_file():
            self.network.load_state_dict(torch.load(kept, weights_only=True))
            return
        torch.manual_seed(self.config.seed)
        keep = Keeper(kept.with_suffix(".safetensors"), every=self.config.keep_every)
        act(keep)
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(kept.name + ".part")
        torch.save(self.network.state_dict(), part)
        part.replace(kept)
        keep.done()

    def _hear(self, keep: Keeper) -> None:
        mixer = self._mixer(1)
        set_sound_statistics(self.network, mixer, self.spec.audio)
        config = self.config
        held = self._mixer(HELD + 1, "tune") if config.sound.patience else None
        train_sound(
            self.network, self.spec, mixer, config.sound, config.dropout, self.report, keep, held,
            config.device,
        )  # fmt: skip

    def _see(self, keep: Keeper) -> None:
        config, camera = self.config, self._camera(2)
        held = self._camera(HELD + 2, "tune") if config.picture.patience else None
        train_picture(
            self.network, self.spec, camera, config.picture, config.dropout, self.report, keep, held,
            config.device,
        )  # fmt: skip

    def _face(self, keep: Keeper) -> None:
        config, portraits = self.config, self._portraits(6)
        held = self._portraits(HELD + 6, "tune") if config.faces.patience else None
        train_faces(
            self.network, self.spec, portraits, config.faces, config.dropout, self.report, keep, held,
            config.device,
        )  # fmt: skip

    def _fuse(self, keep: Keeper) -> None:
        settings, pairs = self.config.fusion, self._pairs(3)
        held = self._pairs(HELD + 3, "tune", HELD_SHARE) if settings.patience else None
        train_fusion(self.network, self.spec, pairs, settings, self.report, keep, held, self.config.device)

    def finish(self, out: Path) -> tuple[ModelSpec, list[Score]]:
        """Calibrate, export, measure what was exported, and write the figures into it."""
        pretrained = self.config.network.pretrained is not None
        spec = msgspec.structs.replace(
            self.spec, training=sources(self.recordings.all(), pretrained), description=DESCRIPTION
        )
        spec = calibrated(self.network, spec, self.recordings, self.work / "uncalibrated.ts")
        out.parent.mkdir(parents=True, exist_ok=True)
        export_model(self.network, spec, out)
        scores = evaluate(
            load_model(out, device="cpu"),
            self.recordings,
            "test",
            lambda what, n, of: self.report(what, n / of, {}),
        )
        spec = export_model(self.network, msgspec.structs.replace(spec, quality=qualities(scores)), out)
        return spec, scores


def calibrated(network: Network, spec: ModelSpec, recordings: Recordings, scratch: Path) -> ModelSpec:
    """The spec with each head's threshold, and the certainties in the network, fitted on the `tune` part."""
    network.certainty.fill_(1.0)
    scratch.parent.mkdir(parents=True, exist_ok=True)
    export_model(network, spec, scratch)
    model = load_model(scratch, device="cpu")
    suites = build_suites(recordings, "tune", spec)
    played: dict[int, list[list[np.ndarray]]] = {}
    for suite in suites:
        if id(suite.trials) not in played:
            played[id(suite.trials)] = play(model, suite.trials)
    heads = []
    for index, head in enumerate(spec.heads):
        some = [suite for suite in suites if suite.head == head.name]
        if not some:
            heads.append(head)
            continue
        heard = _answers(head, some, [played[id(suite.trials)] for suite in some], index, spec)
        certainty = fit_certainty(heard, head, network.certainty.size(1))
        set_certainty(network, index, certainty)
        told = clip_means(heard, head, certainty[heard.situation])
        if head.kind == "softmax":
            threshold = unknown_threshold(told, heard.truth, heard.weight)
        else:
            threshold = said_threshold(told, heard.truth)
        heads.append(msgspec.structs.replace(head, temperature=1.0, threshold=round(threshold, 3)))
    return msgspec.structs.replace(spec, heads=tuple(heads))


def _answers(
    head: HeadSpec, suites: list[Suite], answers: list[list[list[np.ndarray]]], index: int, spec: ModelSpec
) -> Heard:
    """What the model said to the clips of these suites, and what is true; every suite counts alike."""
    logits, truth, weight, situation = [], [], [], []
    for suite, played in zip(suites, answers, strict=True):
        kept = asked(suite) if head.kind == "softmax" else _known(suite)
        for n in kept:
            one = played[n][index]
            logits.append(one[min(SETTLE_TICKS, len(one) - 1) :])
            truth.append(_truth(suite, n, head))
            weight.append(1.0 / len(kept))
            situation.append(situation_of(suite.trials[n], spec))
    return Heard(logits, np.stack(truth).astype(np.int64), np.array(weight), np.array(situation))


def _known(suite: Suite) -> list[int]:
    """Trials whose sounds are known, also those with none: a threshold must keep quiet there."""
    return [n for n, one in enumerate(suite.trials) if one.sounds is not None]


def _truth(suite: Suite, n: int, head: HeadSpec) -> np.ndarray:
    one = suite.trials[n]
    if head.kind == "softmax":
        return np.asarray(one.truth[head.name])
    return np.array([label in (one.sounds or ()) for label in head.labels], np.int64)
