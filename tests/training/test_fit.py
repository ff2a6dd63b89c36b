"""What is drawn from clips, and what is learned from: nothing here trains for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamfuse.errors import ConfigError
from streamfuse.kernels.mfcc import mfcc
from streamfuse.model.network import Network
from streamfuse.model.spec import HeadSpec
from streamfuse.training import augment
from streamfuse.training.clip_batches import ClipBatches
from streamfuse.training.clip_run import ClipRun, freeze_trunk
from streamfuse.training.clip_store import ClipStore
from streamfuse.training.datasets.clips import Clip, Mark
from streamfuse.training.distil import Teacher
from streamfuse.training.fit import ClipFit, head_loss
from streamfuse.training.losses import masked_soft_cross_entropy
from streamfuse.training.settings import DistilSettings
from streamfuse.training.takes import played, take_of
from tests.clips import Clip as Media
from tests.training.made import run_of, settings
from tests.training.tree import tone, write_wav

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ClipRun:
    folder = tmp_path_factory.mktemp("fit")
    return run_of(folder, settings(folder, steps=2, batch=3))


def batches(run: ClipRun, seed: int = 0, **more: object) -> ClipBatches:
    bent = bool(more.pop("bent", True))
    chosen = run.config.clips.model_copy(update=more)
    return ClipBatches(run.store, run.train, chosen, seed, bent=bent)


def test_the_same_seed_draws_the_same_and_the_state_goes_on(run: ClipRun) -> None:
    one, two = batches(run), batches(run)
    first, again = one.batch(2), two.batch(2)
    assert torch.equal(first.video, again.video) and torch.equal(first.audio, again.audio)
    two.rng.bit_generator.state = one.rng.bit_generator.state
    assert torch.equal(one.batch(2).video, two.batch(2).video)
    assert not torch.equal(batches(run, 1).batch(2).video, first.video)


def test_an_unbent_stream_is_what_the_analyzer_shows_the_model(run: ClipRun) -> None:
    clip = run.train[0]
    batch = batches(run, bent=False, ticks=12).of([clip])
    take = take_of(clip, run.spec)
    assert take is not None
    # Samples were kept in 16 bits and pictures in 8, and at a larger size.
    np.testing.assert_allclose(batch.audio[0], take.audio[:12].reshape(-1, 40), atol=0.35)
    assert np.abs(batch.audio[0].numpy() - take.audio[:12].reshape(-1, 40)).mean() < 0.02
    assert np.abs(batch.video[0, 0].numpy() - take.video[:12, 0]).mean() < 0.15
    for head in run.spec.heads:
        np.testing.assert_array_equal(batch.targets[head.name][0], take.truth[head.name][:12])
    assert batch.present.tolist() == [[True, True]]


def test_masked_sound_lies_where_the_kernel_puts_it(run: ClipRun) -> None:
    one = batches(run, masks=0, speed=0.0, noise=0.0, reverberation=0.0, missing=0.0)
    clip = run.train[0]
    ticks = run.store.read(clip)
    wave = one._sound(ticks, 3, {})
    hop = run.spec.hop_samples
    frames = len(wave) // 160 - one._frames()
    assert frames * 160 >= run.spec.audio.context_samples, "no frame reaches before what is there"
    whole = mfcc(ticks.samples[: (3 + one.settings.ticks) * hop].astype(np.float32) / 32767, run.spec.audio)
    ours = one._mfcc(np.clip(wave, -1, 1)).numpy()
    # The gain is drawn: a constant in the first coefficient alone.
    np.testing.assert_allclose(ours[:, 1:], whole[-len(ours) :, 1:], atol=0.05)


def test_every_fate_of_a_modality_is_drawn(run: ClipRun) -> None:
    one = batches(run, missing=0.3, faded=1.0)
    fates = np.array([one._fate(np.array([True, True])) for _ in range(400)])
    gone = fates == 0
    assert 0.2 < gone[:, 0].mean() < 0.4 and 0.2 < gone[:, 1].mean() < 0.4
    assert not gone.all(1).any(), "never both"
    faded = fates[~gone.any(1)]
    assert ((faded == 1.0).any(1)).all() and (faded >= 0.1).all(), "one fades as the other stays"
    alone = one._fate(np.array([True, False]))
    assert alone.tolist() == [1.0, 1.0], "what is there alone is never taken away"


def test_clips_of_one_modality_and_short_ones_are_whole_streams(tmp_path: Path) -> None:
    from tests.model.networks import small_spec

    write_wav(tmp_path / "a.wav", tone(500.0, 0.55, RNG))
    Media(seconds=0.5, fps=10, width=64, height=64, audio=None).write(tmp_path / "v.mp4")
    spec = small_spec(size=32)
    marks = (Mark("scene", "forest"),)
    sound = Clip("a", marks, "a", "", "", None, tmp_path / "a.wav")
    sight = Clip("v", marks, "v", "", "", tmp_path / "v.mp4", None)
    both = Clip("b", marks, "b", "", "", tmp_path / "v.mp4", tmp_path / "a.wav")
    store = ClipStore(spec, 40, tmp_path / "cache")
    dropped: list[str] = []
    missing = Clip("m", marks, "m", "", "", None, tmp_path / "tree.py")
    (tmp_path / "tree.py").write_text("no media")
    assert store.ready([sound, sight, both, missing], dropped) == [sound, sight, both]
    assert len(dropped) == 1 and dropped[0].startswith("m: ")
    there = [store.read(one).present.all(0).tolist() for one in (sound, sight)]
    assert there == [[False, True], [True, False]]
    assert store.read(both).present.tolist() == [[True, True]] * 5 + [[False, True]]
    config = settings(tmp_path, ticks=8)
    batch = ClipBatches(store, [sound, sight, both], config.clips, 0).of([sound, sight, both])
    assert batch.video.shape == (3, 1, 8, 1, 32, 32) and batch.audio.shape == (3, 80, 40)
    known = (~batch.targets["scene"].isnan().any(-1)).sum(1)
    assert known.tolist() == [6, 5, 6], "behind its end a clip is not asked"
    assert batch.targets["emotion"].isnan().all(), "and never what nobody labelled"


def test_soft_cross_entropy_is_torchs() -> None:
    logits = torch.randn(5, 7, 4)
    target = torch.softmax(torch.randn(5, 7, 4), -1)
    known = torch.rand(5, 7) < 0.6
    wanted = F.cross_entropy(logits[known], target[known], label_smoothing=0.1)
    torch.testing.assert_close(masked_soft_cross_entropy(logits, target, known, 0.1), wanted)
    head = HeadSpec("scene", ("a", "b", "c", "d"))
    unknown = torch.full((5, 7, 4), float("nan"))
    assert float(head_loss(head, logits, unknown, 0.1)) == 0.0


def test_chunks_carry_their_state(run: ClipRun) -> None:
    """The loss of chunks is that of the whole: the state goes from one to the next."""
    batch = batches(run, bent=False, ticks=8).of(run.train[:2])
    fits = [
        ClipFit(run.network, run.spec, batches(run, ticks=8, chunk_ticks=chunk), settings_of(run, chunk))
        for chunk in (8, 4)
    ]
    run.network.eval()
    with torch.no_grad():
        whole, chunked = (float(fit.loss(batch)) for fit in fits)
    assert chunked == pytest.approx(whole, rel=1e-4)
    run.network.train()


def settings_of(run: ClipRun, chunk: int) -> object:
    return run.config.clips.model_copy(update={"ticks": 8, "chunk_ticks": chunk})


@pytest.mark.parametrize("bend", [augment.in_a_room, augment.with_noise])
def test_bent_sound_keeps_its_length_and_begins_when_it_did(bend: object) -> None:
    wave = np.zeros(8000, np.float32)
    wave[4000:] = tone(440.0, 0.25, RNG).astype(np.float32)
    bent = bend(wave, np.random.default_rng(0))  # type: ignore[operator]
    assert bent.shape == wave.shape and bent.dtype == np.float32
    if bend is augment.in_a_room:
        assert np.abs(bent[:4000]).max() < 1e-5, "a room echoes, it does not foretell"
        assert np.abs(bent[4000:] - wave[4000:]).mean() > 1e-3


def test_noise_is_as_loud_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = tone(440.0, 1.0, RNG).astype(np.float32)
    monkeypatch.setattr(augment, "LEAST_SNR_DB", 10.0)
    monkeypatch.setattr(augment, "MOST_SNR_DB", 10.0 + 1e-9)
    noise = augment.with_noise(wave, np.random.default_rng(1)) - wave
    assert 10 * np.log10((wave**2).sum() / (noise**2).sum()) == pytest.approx(10.0, abs=0.1)
    silence = np.zeros(100, np.float32)
    assert not augment.with_noise(silence, np.random.default_rng(1)).any()


def test_faster_is_shorter_and_higher() -> None:
    wave = tone(400.0, 1.0, RNG).astype(np.float32)
    quick = augment.faster(wave, 1.1)
    assert len(quick) == pytest.approx(16_000 / 1.1, abs=2)
    peak = np.abs(np.fft.rfft(quick)).argmax() * 16_000 / len(quick)
    assert peak == pytest.approx(440.0, abs=3)
    assert augment.faster(wave, 1.0) is wave


def test_a_frozen_trunk_learns_nothing_and_the_rest_does(run: ClipRun, tmp_path: Path) -> None:
    config = settings(tmp_path, steps=2, batch=2)
    config = config.model_copy(update={"network": config.network.model_copy(update={"frozen": True})})
    other = run_of(tmp_path, config)
    before = {name: one.clone() for name, one in other.network.state_dict().items()}
    other.learn()
    after = other.network.state_dict()
    trunk = [n for n in before if n.startswith(("videos.0.stem", "videos.0.blocks"))]
    assert trunk and all(torch.equal(before[n], after[n]) for n in trunk)
    assert not torch.equal(before["videos.0.last.conv.weight"], after["videos.0.last.conv.weight"])
    from tests.model.networks import small_spec

    with pytest.raises(ConfigError, match="only a branch of blocks can be frozen, got Clip3d"):
        freeze_trunk(Network(small_spec(preset="clip3d", size=32)))


# Distillation


def test_a_teacher_of_pictures_pulls_the_students_ear(made_model: Path, run: ClipRun) -> None:
    """The teacher sees; the student's sound branch alone learns from its answers."""
    teacher = Teacher(DistilSettings(teacher=made_model, sees="video"), run.spec, "cpu")
    batch = batches(run, bent=False, ticks=8).of(run.train[:3])
    wanted = teacher.answers(batch)
    take = take_of(run.train[0], run.spec)
    assert take is not None
    blind = take.present.copy()
    blind[:, 1] = False
    from dataclasses import replace

    (alone,) = played(teacher.model, [replace(take, present=blind)])
    # 8-bit pictures of another size: near, not equal.
    assert (wanted["scene"][0].numpy().argmax(1) == alone[0][:8].argmax(1)).mean() > 0.6
    ear = [one.clone() for one in run.network.audio.parameters()]
    optimiser = torch.optim.SGD(run.network.parameters(), 0.5)
    losses = []
    for _ in range(6):
        logits, apart, _ = run.network.clip(
            batch.video, batch.audio, batch.present, run.network.init_state(3)
        )
        loss = teacher.loss(logits, apart, wanted, slice(0, 8), batch.present)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    assert any(not torch.equal(a, b) for a, b in zip(ear, run.network.audio.parameters(), strict=True))


def test_a_teacher_of_other_pictures_or_labels_is_refused(made_model: Path, run: ClipRun) -> None:
    import msgspec

    from tests.model.networks import small_spec

    other = msgspec.structs.replace(run.spec, heads=(HeadSpec("place", ("here", "there")),))
    with pytest.raises(ConfigError, match="a teacher must share a head and labels, got scene, emotion"):
        Teacher(DistilSettings(teacher=made_model), other, "cpu")
    with pytest.raises(ConfigError, match="a teacher must take the same pictures"):
        Teacher(DistilSettings(teacher=made_model), small_spec(size=40), "cpu")
