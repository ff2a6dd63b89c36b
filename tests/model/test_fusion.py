"""Every way of fusing: what is missing never leaks in, and a table knows them all."""

from __future__ import annotations

import pytest
import torch

from streamfuse.errors import ModelError
from streamfuse.model.fusion import FUSIONS, LowRank, Outer, build_fusion
from streamfuse.model.network import build_network
from tests.model.networks import random_inputs, random_network, run_chunks, small_spec

NAN = float("nan")


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_what_is_absent_never_leaks_in(fusion: str, absent: int) -> None:
    spec = small_spec(fusion=fusion, views=("frame", "face"))
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 4)
    present[:, absent] = False
    answers = []
    for value in (0.0, NAN, 7.0):
        picture, sound = video.clone(), audio.clone()
        (sound if absent == 2 else picture[:, absent]).fill_(value)
        by_clip = run_chunks(network, (picture, sound, present), [4])
        by_step = run_chunks(network, (picture, sound, present), [1] * 4, by_step=True)
        answers.append([*by_clip[0], *by_clip[1], *by_step[0], *by_step[1]])
    for other in answers[1:]:
        for one, two in zip(answers[0], other, strict=True):
            assert torch.isfinite(one).all()
            assert torch.equal(one, two), "a payload of zeros, NaN or anything else is the same"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_modality_counts(fusion: str) -> None:
    spec = small_spec(fusion=fusion)
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 2)
    said, _ = run_chunks(network, (video, audio, present), [2])
    deaf, _ = run_chunks(network, (video, audio * 0, present), [2])
    blind, _ = run_chunks(network, (video * 0, audio, present), [2])
    gone = torch.zeros_like(present)
    nothing, _ = run_chunks(network, (video, audio, gone), [2])
    for others in (deaf, blind, nothing):
        assert all(float((one - other).abs().max()) > 1e-4 for one, other in zip(said, others, strict=True))


def test_absence_in_one_row_leaves_the_other_alone() -> None:
    spec = small_spec()
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 3, batch=2)
    both, _ = run_chunks(network, (video, audio, present), [1] * 3, by_step=True)
    present[0] = False
    video[0], audio[0] = NAN, NAN
    one, _ = run_chunks(network, (video, audio, present), [1] * 3, by_step=True)
    assert all(torch.allclose(a[1], b[1], rtol=1e-5, atol=1e-6) for a, b in zip(one, both, strict=True))


def test_an_absent_modality_holds_its_state_ages_and_begins_anew() -> None:
    spec = small_spec()
    network = random_network(spec)
    assert network.max_gap == 20, "2000 ms of 100 ms ticks"
    video, audio, present = random_inputs(spec, 6)
    _, state = run_chunks(network, (video, audio, present), [6])
    blind = torch.tensor([[False, True]])
    count = 1 + network.video_states
    before = [one.clone() for one in state[1:count]]
    with torch.inference_mode():
        for tick in range(1, 22):
            _, state = network.step(video[:, :, :1], audio[:, :10], blind, state)
            assert state[0].tolist() == [[float(tick), 0.0]]
            same = all(torch.equal(a, b) for a, b in zip(state[1:count], before, strict=True))
            empty = all(not one.any() for one in state[1:count])
            assert (same, empty) == ((True, False) if tick <= 20 else (False, True)), tick
        logits, seen = network.step(video[:, :, :1], audio[:, :10], present, state)
        fresh = network.init_state(1)[:count] + state[count:]
        wanted, _ = network.step(video[:, :, :1], audio[:, :10], present, fresh)
    assert all(torch.equal(a, b) for a, b in zip(logits, wanted, strict=True))
    assert seen[0].tolist() == [[0.0, 0.0]]


def test_a_clip_ages_as_its_ticks_do() -> None:
    spec = small_spec()
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 24)
    present[:, 1] = False
    _, by_clip = run_chunks(network, (video, audio, present), [8, 8, 8])
    _, by_step = run_chunks(network, (video, audio, present), [1] * 24, by_step=True)
    assert by_clip[0].tolist() == by_step[0].tolist() == [[0.0, 24.0]]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_number_learns(fusion: str) -> None:
    # A known library keeps low-rank factors in a plain list, neither trained nor saved.
    spec = small_spec(fusion=fusion)
    torch.manual_seed(0)
    network = build_network(spec, dropout=0.1).train()
    video, audio, present = random_inputs(spec, 2, batch=4)
    present[0, 0] = present[1, 1] = False
    logits, alone, _ = network.clip(video, audio, present, network.init_state(4))
    assert len(logits) == 3 and len(alone) == 6
    sum(one.pow(2).sum() for one in [*logits, *alone]).backward()
    still = [name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()]
    # A new block's last scale is zero, so that what is inside it waits for the first step of training.
    assert [name for name in still if not name.startswith("videos.0.blocks")] == []


def test_low_rank_and_outer_keep_what_is_unimodal() -> None:
    torch.manual_seed(0)
    silent, sound = torch.zeros(1, 1, 6), torch.randn(1, 1, 5)
    for mix in (LowRank([6, 5]), Outer([6, 5])):
        one, other = mix([silent, sound]), mix([silent, -sound])
        assert not torch.allclose(one, other), "an all-zero partner must not silence a modality"


def test_low_rank_is_the_factored_outer_product() -> None:
    torch.manual_seed(1)
    mix = LowRank([3, 4], rank=2).double()
    x, y = torch.randn(3).double(), torch.randn(4).double()
    tensor = torch.zeros(128, 4, 5).double()
    one, two = (
        torch.cat([layer.weight, layer.bias[:, None]], 1).view(2, 128, -1) for layer in mix.factors.each
    )
    for rank in range(2):
        tensor += mix.weights[rank] * one[rank][:, :, None] * two[rank][:, None, :]
    outer = torch.outer(torch.cat([x, torch.ones(1).double()]), torch.cat([y, torch.ones(1).double()]))
    want = torch.nn.functional.hardswish((tensor * outer).sum((1, 2)) + mix.bias)
    assert torch.allclose(mix([x.view(1, 1, -1), y.view(1, 1, -1)])[0, 0], want)


def test_unknown_fusion_is_named() -> None:
    with pytest.raises(
        ModelError, match="a fusion must have a known name, got wish; one of concat, sum, gated"
    ):
        build_fusion("wish", [4, 4], [2])
