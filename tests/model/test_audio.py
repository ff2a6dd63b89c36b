"""The sound branch: causal normalisation and an LSTM that never notices the chunks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from streamfuse.kernels.spec import MfccSpec
from streamfuse.model.audio import LIMIT, MEMORY_FRAMES, PRIOR_FRAMES, AudioBranch, RunningNorm
from streamfuse.model.conv_sound import ConvSound, inverse_dct

Branch = AudioBranch | ConvSound


def zeros(branch: Branch) -> list[Tensor]:
    return [torch.zeros(shape) for _, shape in branch.state_shapes()]


@pytest.fixture
def lstm() -> AudioBranch:
    torch.manual_seed(0)
    branch = AudioBranch(40).eval()
    branch.norm.set_statistics(torch.linspace(-60, 3, 40), torch.linspace(20, 2, 40))
    return branch


@pytest.fixture(params=["lstm", "conv"])
def branch(request: pytest.FixtureRequest, mfcc: Tensor) -> Branch:
    if request.param == "lstm":
        chosen: AudioBranch = request.getfixturevalue("lstm")
        return chosen
    torch.manual_seed(0)
    branch = ConvSound(40).eval()
    branch.set_statistics(mfcc[0] * 2.0)
    return branch


@pytest.fixture
def mfcc() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 240, 40, generator=generator) * 8 + torch.linspace(-50, 0, 40)


def reference(frames: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Both normalisations of (n, C) frames in float64, frame by frame, as the docstring says them."""
    rows = []
    running_mean, running_power = np.zeros(frames.shape[1]), np.ones(frames.shape[1])
    for index, z in enumerate((frames.astype(np.float64) - mean) / std):
        rate = max(1 / (PRIOR_FRAMES + min(index, MEMORY_FRAMES) + 1), 1 / (PRIOR_FRAMES + MEMORY_FRAMES))
        running_mean += rate * (z - running_mean)
        running_power += rate * (z * z - running_power)
        var = np.maximum(running_power - running_mean**2, 1e-2)
        rows.append(np.concatenate([z, (z - running_mean) / np.sqrt(var)]))
    return np.clip(np.array(rows), -LIMIT, LIMIT)


def test_normalisation_matches_its_definition(lstm: AudioBranch, mfcc: Tensor) -> None:
    norm: RunningNorm = lstm.norm
    got, state = norm(mfcc, zeros(lstm)[:3])
    want = reference(mfcc[0].numpy(), norm.prior_mean.numpy(), norm.prior_std.numpy())
    assert np.abs(got[0].numpy() - want).max() <= 1e-4
    assert state[0].item() == 240


def test_normalisation_forgets_a_room_that_was_left(lstm: AudioBranch) -> None:
    # Two rooms, each of its own level: after minutes in the second one its frames are centred again.
    norm: RunningNorm = lstm.norm
    state = zeros(lstm)[:3]
    generator = torch.Generator().manual_seed(2)
    for level in (-3.0, 3.0):
        for _ in range(60):
            z = torch.randn(1, 500, 40, generator=generator) * 0.5 + level
            y, state = norm(z * norm.prior_std + norm.prior_mean, state)
    assert state[0].item() == MEMORY_FRAMES
    assert float(y[:, :, 40:].mean().abs()) < 0.1


def test_silence_and_full_scale_stay_finite(branch: Branch) -> None:
    state = zeros(branch)
    for value in (-184.2, 0.0, 1e4):
        y, state = branch.step(torch.full((1, 10, 40), value), state)
        assert torch.isfinite(y).all()
        assert all(torch.isfinite(one).all() for one in state)


@pytest.mark.parametrize("chunks", [[1] * 24, [2] * 12, [8] * 3, [5, 1, 7, 3, 8]])
def test_any_chunking_equals_the_whole(branch: Branch, mfcc: Tensor, chunks: list[int]) -> None:
    with torch.inference_mode():
        whole, last = branch.clip(mfcc, 24, zeros(branch))
        state, parts, at = zeros(branch), [], 0
        for length in chunks:
            part, state = branch.clip(mfcc[:, at * 10 : (at + length) * 10], length, state)
            parts.append(part)
            at += length
    assert float((torch.cat(parts, 1) - whole).abs().max()) <= 1e-5
    for one, other in zip(state, last, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_tick_without_frames_holds_the_answer(branch: Branch, mfcc: Tensor) -> None:
    with torch.inference_mode():
        said, state = branch.step(mfcc[:, :10], zeros(branch))
        held, same = branch.step(mfcc[:, :0], state)
        later, _ = branch.step(mfcc[:, 10:20], same)
        undisturbed, _ = branch.step(mfcc[:, 10:20], state)
    assert torch.equal(held, said)
    assert all(torch.equal(one, other) for one, other in zip(same, state, strict=True))
    assert torch.equal(later, undisturbed)


def test_the_answer_of_a_tick_is_that_of_its_last_frame(lstm: AudioBranch, mfcc: Tensor) -> None:
    with torch.inference_mode():
        ticks, _ = lstm.clip(mfcc, 24, zeros(lstm))
        frames, _ = lstm.clip(mfcc, 240, zeros(lstm))
    assert torch.allclose(ticks, frames[:, 9::10], atol=1e-6)


def test_bands_are_the_log_mel_spectrum_again() -> None:
    """All 64 coefficients give it back exactly; 40 give it without its finest ripple."""
    spectrum = torch.randn(5, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mfcc = torch.from_numpy(scipy.fft.dct(spectrum.numpy(), norm="ortho"))
    assert torch.allclose(mfcc @ inverse_dct(64, 64).double(), spectrum, atol=1e-5)
    smooth = mfcc.clone()
    smooth[:, 40:] = 0.0
    want = torch.from_numpy(scipy.fft.idct(smooth.numpy(), norm="ortho"))
    assert torch.allclose(mfcc[:, :40] @ inverse_dct(40, 64).double(), want, atol=1e-5)


def test_conv_nothing_looks_ahead(mfcc: Tensor) -> None:
    torch.manual_seed(0)
    branch = ConvSound(40).eval()
    other = mfcc.clone()
    other[:, 120:] += 3.0
    with torch.inference_mode():
        one, _ = branch.clip(mfcc, 24, zeros(branch))
        two, _ = branch.clip(other, 24, zeros(branch))
    assert torch.equal(one[:, :12], two[:, :12])
    assert not torch.equal(one[:, 12], two[:, 12])


def test_conv_spec_of_the_default_mfcc_fits() -> None:
    assert inverse_dct(MfccSpec().n_mfcc, MfccSpec().n_mels).shape == (40, 64)
