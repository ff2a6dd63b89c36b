"""MFCC on the CPU, judged by torchaudio and librosa in float64, and by the reference."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamfuse.errors import BackendError, ModelError, StageError
from streamfuse.kernels.mfcc import MfccSpec, MfccStream, mfcc, mfcc_reference, mfcc_with_context
from streamfuse.kernels.mfcc_cpu import mfcc_cpu
from streamfuse.kernels.mfcc_tables import hann_in_frame, mel_matrix
from tests.kernels.signals import noise, recording, sounds, spoken, tone

SPEC = MfccSpec()
CLOSE, FAR = 1e-3, 0.1
"""Bounds of the project: where every band is above 1e-7 of the frame's peak power, and elsewhere."""


def bound(samples: np.ndarray, spec: MfccSpec = SPEC) -> np.ndarray:
    """(frames, 1): the bound of each frame, by the power of its bands in float64."""
    padded = np.concatenate([np.zeros(spec.context_samples), samples.astype(np.float64)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, spec.n_fft)[:: spec.hop_length]
    power = np.abs(np.fft.rfft(frames * hann_in_frame(spec))) ** 2
    clear = (power @ mel_matrix(spec).T).min(axis=1) > 1e-7 * power.max(axis=1)
    return np.where(clear, CLOSE, FAR)[: len(samples) // spec.hop_length, None]


def assert_within(got: np.ndarray, expected: np.ndarray, allowed: np.ndarray) -> None:
    """Finite, of one shape, and no coefficient further off than `allowed`."""
    assert got.shape == expected.shape
    assert np.isfinite(got).all() and np.isfinite(expected).all()
    excess = np.abs(got - expected) - allowed
    assert excess.max(initial=-1) <= 0, f"worst at {np.unravel_index(excess.argmax(), excess.shape)}"


def by_torchaudio(samples: np.ndarray, spec: MfccSpec = SPEC) -> np.ndarray:
    torch, transforms = pytest.importorskip("torch"), pytest.importorskip("torchaudio.transforms")
    options = {"n_fft": spec.n_fft, "win_length": spec.win_length, "hop_length": spec.hop_length,
               "f_min": spec.f_min, "f_max": spec.f_max, "n_mels": spec.n_mels, "center": False}  # fmt: skip
    judge = transforms.MFCC(spec.sample_rate, spec.n_mfcc, melkwargs=options)
    judge.amplitude_to_DB.top_db = None
    padded = np.concatenate([np.zeros(spec.context_samples), samples.astype(np.float64)])
    found = judge.double()(torch.from_numpy(padded)).numpy().T * (np.log(10) / 10)
    return found[: len(samples) // spec.hop_length]


def by_librosa(samples: np.ndarray, spec: MfccSpec = SPEC) -> np.ndarray:
    librosa, fft = pytest.importorskip("librosa"), pytest.importorskip("scipy.fft")
    padded = np.concatenate([np.zeros(spec.context_samples), samples.astype(np.float64)])
    transform = librosa.stft(
        padded, n_fft=spec.n_fft, win_length=spec.win_length, hop_length=spec.hop_length, center=False
    )
    bank = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_mels, fmin=spec.f_min, fmax=spec.f_max,
        htk=True, norm=None, dtype=np.float64,
    )  # fmt: skip
    mel = bank @ np.abs(transform) ** 2
    logs = np.log(np.maximum(mel, spec.log_floor))
    return fft.dct(logs, axis=0, type=2, norm="ortho")[: spec.n_mfcc].T[: len(samples) // spec.hop_length]


@pytest.mark.parametrize("name", sounds())
def test_mfcc_matches_torchaudio(name: str) -> None:
    samples = sounds()[name]
    assert_within(mfcc(samples), by_torchaudio(samples), bound(samples))


@pytest.mark.parametrize("name", sounds())
def test_mfcc_matches_librosa(name: str) -> None:
    samples = sounds()[name]
    assert_within(mfcc(samples), by_librosa(samples), bound(samples))


@pytest.mark.needs_shared
@pytest.mark.parametrize("clip", ["obama_speech.mp4", "movie-hello.mp4"])
def test_mfcc_of_real_speech_matches_both_judges(shared, clip: str) -> None:
    samples = recording(shared / "media" / clip)
    assert np.abs(samples).max() > 0.01, "this clip is expected to be audible"
    assert_within(mfcc(samples), by_torchaudio(samples), bound(samples))
    assert_within(mfcc(samples), by_librosa(samples), bound(samples))


@pytest.mark.parametrize("name", sounds())
def test_reference_matches_librosa_in_float64(name: str) -> None:
    samples = sounds()[name]
    # Not torchaudio: its window and mel bank are float32, and it is off by 7e-3 on a full-scale tone.
    np.testing.assert_allclose(mfcc_reference(samples, SPEC), by_librosa(samples), atol=1e-6, rtol=0)


def test_mfcc_of_any_full_scale_tone_is_near_the_reference() -> None:
    """A tone leaves bands 14 decades down; a float32 transform was off by 0.28 here."""
    for hertz in np.linspace(15, 7990, 97):
        samples = tone(hertz, 3200)
        np.testing.assert_allclose(mfcc(samples), mfcc_reference(samples, SPEC), atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    "spec",
    [
        MfccSpec(n_fft=256, win_length=256, hop_length=128, n_mels=40, n_mfcc=13),
        MfccSpec(n_fft=1024, win_length=1023, hop_length=100),
        MfccSpec(n_fft=2048, win_length=2047, hop_length=2048),
        MfccSpec(n_fft=64, win_length=63, hop_length=7, n_mels=5, n_mfcc=5),
        MfccSpec(n_fft=32, win_length=2, hop_length=32, n_mels=3, n_mfcc=1),
        MfccSpec(sample_rate=8000, f_max=4000, f_min=0),
    ],
    ids=str,
)
def test_mfcc_of_other_specs_matches_the_reference(spec: MfccSpec) -> None:
    for samples in (noise(5000), spoken(5000)):
        np.testing.assert_allclose(mfcc(samples, spec), mfcc_reference(samples, spec), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("size", [1, 160, 441, 640, 1024, 7777])
@pytest.mark.parametrize("name", sounds())
def test_stream_in_any_chunks_gives_the_same_bits(name: str, size: int) -> None:
    samples = sounds()[name]
    if size == 1:
        samples = samples[5000:9000]
    stream = MfccStream()
    parts = [stream.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    np.testing.assert_array_equal(np.concatenate([*parts, stream.flush()]), mfcc(samples))


@settings(max_examples=60)
@given(st.lists(st.integers(0, 1500), max_size=12), st.sampled_from([7, 160, 512]))
def test_stream_in_random_chunks_gives_the_same_bits(sizes: list[int], hop: int) -> None:
    spec, samples = MfccSpec(hop_length=hop), noise(sum(sizes))
    stream, at, parts = MfccStream(spec), 0, []
    for size in sizes:
        parts.append(stream.push(samples[at : at + size]))
        at += size
    np.testing.assert_array_equal(np.concatenate([*parts, stream.flush()]), mfcc(samples, spec))


def test_ticks_with_context_give_the_same_bits_as_the_whole() -> None:
    samples = spoken(16_000)
    padded = np.concatenate([np.zeros(SPEC.context_samples, np.float32), samples])
    ticks = np.stack([padded[i : i + SPEC.context_samples + 1600] for i in range(0, 16_000, 1600)])
    np.testing.assert_array_equal(mfcc_with_context(ticks).reshape(-1, 40), mfcc(samples))


def test_rows_of_a_batch_do_not_depend_on_each_other() -> None:
    rows = [noise(4001, seed=s, level=10.0**-s) for s in range(5)]
    batch = mfcc(np.stack(rows))
    assert batch.shape == (5, 25, 40) and batch.dtype == np.float32
    for row, samples in zip(batch, rows, strict=True):
        np.testing.assert_array_equal(row, mfcc(samples))


def test_frame_looks_no_further_than_its_hop() -> None:
    samples = noise(4800)
    changed = samples.copy()
    changed[10 * 160 :] = 0.9
    np.testing.assert_array_equal(mfcc(changed)[:10], mfcc(samples)[:10])
    assert not np.array_equal(mfcc(changed)[10], mfcc(samples)[10])


def test_silence_is_the_floor() -> None:
    expected = np.zeros(40)
    expected[0] = 8 * np.log(1e-10)
    np.testing.assert_allclose(mfcc(np.zeros(1600, np.float32)), np.tile(expected, (10, 1)), atol=CLOSE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_sample_that_is_not_sound_spoils_only_the_frames_that_hold_it(value: float) -> None:
    samples = noise(8000)
    broken = samples.copy()
    broken[4000] = value
    got, clean = mfcc(broken), mfcc(samples)
    assert np.isfinite(got).all()
    changed = np.flatnonzero((got != clean).any(axis=1))
    assert changed.min() >= 24 and changed.max() <= 28
    if not np.isfinite(value):
        np.testing.assert_allclose(got[26], mfcc(np.zeros(8000, np.float32))[26], atol=CLOSE)


@pytest.mark.parametrize("n", [0, 1, 159, 160])
def test_mfcc_of_short_input(n: int) -> None:
    assert mfcc(np.full(n, 0.1, np.float32)).shape == (n // 160, 40)
    assert mfcc(np.full((3, n), 0.1, np.float32)).shape == (3, n // 160, 40)
    assert mfcc(np.zeros((0, n), np.float32)).shape == (0, n // 160, 40)
    assert MfccStream().push(np.full(n, 0.1, np.float32)).shape == (n // 160, 40)


def test_mfcc_of_a_strided_view_matches_its_copy() -> None:
    wide = noise(6400).reshape(3200, 2)
    np.testing.assert_array_equal(mfcc(wide[:, 0]), mfcc(wide[:, 0].copy()))


def test_mfcc_compiles_once_for_writable_and_read_only_samples() -> None:
    samples = noise(3200)
    expected = mfcc(samples)
    samples.flags.writeable = False
    np.testing.assert_array_equal(mfcc(samples), expected)
    np.testing.assert_array_equal(MfccStream().push(samples), expected)
    assert len(mfcc_cpu.signatures) == 1


def test_with_context_writes_into_out() -> None:
    out = np.full((2, 10, 40), np.nan, np.float32)
    batch = noise(2 * 1952).reshape(2, 1952)
    assert mfcc_with_context(batch, out=out) is out
    np.testing.assert_array_equal(out, mfcc_with_context(batch))


def test_stream_after_reset_is_as_new() -> None:
    stream = MfccStream()
    first = stream.push(noise(1000))
    stream.flush()
    stream.reset()
    np.testing.assert_array_equal(stream.push(noise(1000)), first)


def test_stream_after_flush_refuses() -> None:
    stream = MfccStream()
    stream.flush()
    with pytest.raises(StageError, match=r"nothing may be pushed after flush.*MfccStream"):
        stream.push(noise(160))


@pytest.mark.parametrize(
    ("samples", "got"),
    [
        (np.zeros(160), r"float64 \(160,\)"),
        (np.zeros((1, 1, 160), np.float32), r"float32 \(1, 1, 160\)"),
        (np.zeros(160, np.int16), r"int16 \(160,\)"),
        ([0.0] * 160, "list"),
    ],
)
def test_samples_of_another_kind_are_refused(samples, got: str) -> None:
    with pytest.raises(StageError, match=rf"samples must be a float32 array .*, got {got} \[mfcc\]"):
        mfcc(samples)


def test_with_context_refuses_less_than_the_context() -> None:
    with pytest.raises(StageError, match=r"must be \(B, 352 \+ n\), got \(1, 351\)"):
        mfcc_with_context(np.zeros((1, 351), np.float32))


def test_with_context_refuses_an_out_that_does_not_fit() -> None:
    with pytest.raises(
        StageError, match=r"out must be C-contiguous float32 \(1, 10, 40\), got float32 \(1, 9"
    ):
        mfcc_with_context(np.zeros((1, 1952), np.float32), out=np.zeros((1, 9, 40), np.float32))


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(BackendError, match=r"got 'tpu'"):
        mfcc(noise(160), backend="tpu")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("n_fft", 500, "a power of two"),
        ("n_fft", 16384, "a power of two"),
        ("win_length", 513, "in 2..n_fft"),
        ("hop_length", 0, "in 1..n_fft"),
        ("n_mels", 300, "in 1..n_fft / 2"),
        ("n_mfcc", 65, "in 1..n_mels"),
        ("f_min", 7600.0, "in 0..f_max"),
        ("f_max", 8001.0, "at most 8000.0, half the rate"),
        ("f_max", float("nan"), "f_m"),
        ("log_floor", 0.0, "in 1e-30..1"),
    ],
)
def test_spec_out_of_bounds_is_refused(field: str, value: float, rule: str) -> None:
    with pytest.raises(ModelError, match=rf"must be .*{rule}|{rule}.*must"):
        MfccSpec(**{field: value})


def test_spec_survives_json_and_unknown_keys_do_not() -> None:
    assert msgspec.json.decode(msgspec.json.encode(SPEC), type=MfccSpec) == SPEC
    with pytest.raises(msgspec.ValidationError, match="hop"):
        msgspec.json.decode(b'{"hop": 160}', type=MfccSpec)
