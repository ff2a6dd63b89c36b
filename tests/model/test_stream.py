"""A stream equals its clip, whatever the chunks; nothing looks ahead; nothing is hidden in the module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from streamfuse.model.fusion import FUSIONS
from streamfuse.model.network import build_network
from streamfuse.model.runtime import load_model
from tests.model.networks import (
    PER_TICK,
    random_inputs,
    random_network,
    relative,
    run_chunks,
    small_spec,
)

TICKS = 24
CHUNKINGS = [[1] * 24, [2] * 12, [8] * 3, [5, 1, 7, 3, 8]]
SINGLE = 1e-5
"""float32, 15 blocks deep: 1.5e-7 was measured on such a network."""


@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_chunking_equals_the_clip(fusion: str) -> None:
    spec = small_spec(fusion=fusion)
    network, inputs = random_network(spec), random_inputs(spec, TICKS, batch=2)
    whole, last = run_chunks(network, inputs, [TICKS])
    assert max(float(one.std()) for one in whole) > 1e-3, "a network that says nothing proves nothing"
    for chunks in CHUNKINGS:
        logits, state = run_chunks(network, inputs, chunks)
        assert relative(logits, whole) <= SINGLE
        assert relative(state, last) <= SINGLE


@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_chunking_equals_the_clip_in_double(fusion: str) -> None:
    spec = small_spec(fusion=fusion)
    network = random_network(spec).double()
    video, audio, present = random_inputs(spec, TICKS)
    inputs = (video.double(), audio.double(), present)
    whole, last = run_chunks(network, inputs, [TICKS])
    logits, state = run_chunks(network, inputs, CHUNKINGS[-1])
    assert relative(logits, whole) <= 1e-12
    assert relative(state, last) <= 1e-12
    logits, state = run_chunks(network, inputs, [1] * TICKS, by_step=True)
    assert relative(logits, whole) <= 1e-12
    assert relative(state, last) <= 1e-12


@pytest.mark.parametrize(
    ("preset", "size"), [("tiny", 32), ("small", 33), ("base", 128), ("a0", 44), ("lite", 47)]
)
def test_steps_equal_both_kinds_of_clip(preset: str, size: int) -> None:
    spec = small_spec(preset=preset, size=size)
    ticks = 6
    inputs = random_inputs(spec, ticks)
    volumetric = run_chunks(random_network(spec, volumetric=True), inputs, [ticks])
    planar = run_chunks(random_network(spec), inputs, [ticks])
    steps = run_chunks(random_network(spec), inputs, [1] * ticks, by_step=True)
    for logits, state in (planar, steps):
        assert relative(logits, volumetric[0]) <= SINGLE
        assert relative(state, volumetric[1]) <= SINGLE


@pytest.mark.parametrize("sound", ["conv", "gru"])
def test_other_sound_branches_stream_too(sound: str) -> None:
    spec = small_spec(sound=sound, fusion="hybrid")
    network, inputs = random_network(spec), random_inputs(spec, TICKS, batch=2)
    whole, last = run_chunks(network, inputs, [TICKS])
    for chunks in (CHUNKINGS[0], CHUNKINGS[-1]):
        logits, state = run_chunks(network, inputs, chunks, by_step=len(chunks) == TICKS)
        assert relative(logits, whole) <= SINGLE
        assert relative(state, last) <= SINGLE


def test_a_view_that_nobody_has_is_not_computed_and_changes_nothing() -> None:
    """A batch of its own (skipped) and one beside a stream that has a face (computed, not used)."""
    spec = small_spec(views=("frame", "face"), fusion="hybrid")
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 4, batch=2)
    present[0, 1] = False
    together, both = run_chunks(network, (video, audio, present), [1] * 4, by_step=True)
    stepped: list[int] = []
    whole_step = network.videos[1].step
    network.videos[1].step = lambda x, state: (stepped.append(len(x)), whole_step(x, state))[1]
    one = slice(0, 1)
    alone, state = run_chunks(network, (video[one], audio[one], present[one]), [1] * 4, by_step=True)
    assert relative(alone, [head[one] for head in together]) <= SINGLE
    assert stepped == [0] * 4, "no row of the face's branch was computed"
    age, rows = state[0], [s.select(d.batch_dim, 0) for s, d in zip(both, spec.state, strict=True)]
    assert age.tolist() == [[0.0, 4.0, 0.0]]
    for got, want, named in zip(state, rows, spec.state, strict=True):
        assert torch.allclose(got.select(named.batch_dim, 0), want, atol=1e-5), named.name


def test_certainty_of_what_is_there_scales_the_answers() -> None:
    spec = small_spec(fusion="decision")
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 1, batch=3)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    before, _ = run_chunks(network, (video, audio, present), [1], by_step=True)
    network.certainty[1] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    after, _ = run_chunks(network, (video, audio, present), [1], by_step=True)
    clip, _ = run_chunks(network, (video, audio, present), [1])
    want = before[1] * torch.tensor([4.0, 2.0, 3.0])[:, None, None]
    assert torch.allclose(after[1], want)
    assert torch.allclose(clip[1], want, atol=1e-5)
    assert torch.equal(after[0], before[0])


def test_colour_and_two_views_stream_too() -> None:
    spec = small_spec(colour="rgb", views=("frame", "face"))
    network, inputs = random_network(spec), random_inputs(spec, 6)
    assert inputs[0].shape == (1, 2, 6, 3, 32, 32)
    whole, _ = run_chunks(network, inputs, [6])
    assert relative(run_chunks(network, inputs, [1] * 6, by_step=True)[0], whole) <= SINGLE
    swapped = (inputs[0].flip(1), *inputs[1:])
    assert relative(run_chunks(network, swapped, [6])[0], whole) > 1e-3, "each view has its own branch"


@pytest.mark.parametrize("first", [1, 7, 23])
def test_nothing_looks_ahead(first: int) -> None:
    spec = small_spec()
    network = random_network(spec)
    video, audio, present = random_inputs(spec, TICKS)
    other_video, other_audio, _ = random_inputs(spec, TICKS, seed=9)
    whole, _ = run_chunks(network, (video, audio, present), [TICKS])
    video = torch.cat([video[:, :, :first], other_video[:, :, first:]], 2)
    audio = torch.cat([audio[:, : first * PER_TICK], other_audio[:, first * PER_TICK :]], 1)
    changed, _ = run_chunks(network, (video, audio, present), [TICKS])
    for one, other in zip(changed, whole, strict=True):
        assert torch.equal(one[:, :first], other[:, :first]), "bit for bit"
        assert not torch.equal(one[:, first], other[:, first])


@pytest.mark.parametrize(("preset", "field"), [("tiny", 29), ("lite", 9)])
def test_frame_zero_reaches_exactly_the_receptive_field(preset: str, field: int) -> None:
    # With a memory of one tick every running mean is of this frame alone; the convolutions remain. Judged by
    # slopes, as at the edge a change of the frame moves an answer by less than a float64's rounding; of 64
    # pixels, as torch's slopes through a convolution from 2 x 2 pixels to one come out wrong.
    spec = small_spec(preset=preset, memory_ticks=1, size=64)
    network = random_network(spec).double()
    assert network.receptive_field == field
    assert spec.warm_ticks == field
    video = random_inputs(spec, 32)[0].double().requires_grad_()
    state = [one.double() for one in network.init_state(1)]
    seen, _ = network.videos[0].clip(video[:, 0], state[1 : 1 + network.video_states])

    def reaches(tick: int) -> bool:
        (slope,) = torch.autograd.grad(seen[:, tick].sum(), video, retain_graph=True)
        return bool(slope[:, 0, 0].any())

    edge = (0, 1, field - 1, field, field + 1)
    assert [tick for tick in edge if reaches(tick)] == [tick for tick in edge if tick < field]


def test_a_step_is_pure() -> None:
    spec = small_spec()
    network, inputs = random_network(spec), random_inputs(spec, 1)
    _, state = run_chunks(network, random_inputs(spec, 4), [4])
    before = [one.clone() for one in (*inputs, *state)]
    with torch.inference_mode():
        first, first_state = network.step(*inputs, state)
        second, second_state = network.step(*inputs, state)
    for one, other in zip([*first, *first_state], [*second, *second_state], strict=True):
        assert torch.equal(one, other)
    for one, other in zip((*inputs, *state), before, strict=True):
        assert torch.equal(one, other), "an input was changed"
    given = {one.untyped_storage().data_ptr() for one in (*inputs, *state)}
    assert not given & {one.untyped_storage().data_ptr() for one in (*first, *first_state)}


@pytest.mark.parametrize("file", ["tiny", "default"])
def test_a_step_of_an_exported_file_is_pure(file: str, tiny_model: Path) -> None:
    """Freezing and fusing may turn a copy into a write in place."""
    model = load_model(tiny_model if file == "tiny" else None, device="cpu")
    shapes = (model.spec.video_shape(), model.spec.audio_shape())
    torch.manual_seed(3)
    for present in (True, False):
        video, audio = (torch.randn(shape) for shape in shapes)
        presence = torch.full((1, len(model.spec.views) + 1), present)
        with torch.inference_mode():
            state = model.init_state(1)
            for _ in range(3):  # the optimiser rewrites the program in its first steps
                _, state = model.step_tensors(video, audio, presence, state)
            given = [video, audio, presence, *state]
            before = [one.clone() for one in given]
            first = flat(model.step_tensors(video, audio, presence, state))
            second = flat(model.step_tensors(video, audio, presence, state))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
        changed = [i for i, one in enumerate(given) if not torch.equal(one, before[i])]
        assert changed == [], "inputs (video, sound, present, then the state) were changed"
        places = {one.untyped_storage().data_ptr() for one in given}
        assert not places & {one.untyped_storage().data_ptr() for one in first}


def flat(stepped: tuple[list[torch.Tensor], list[torch.Tensor]]) -> list[torch.Tensor]:
    return [*stepped[0], *stepped[1]]


def test_rows_of_a_batch_are_streams_of_their_own() -> None:
    spec = small_spec()
    network = random_network(spec)
    video, audio, present = random_inputs(spec, 5, batch=3)
    together, _ = run_chunks(network, (video, audio, present), [1] * 5, by_step=True)
    for row in range(3):
        one = slice(row, row + 1)
        alone, _ = run_chunks(network, (video[one], audio[one], present[one]), [1] * 5, by_step=True)
        assert relative([head[one] for head in together], alone) <= SINGLE


def test_a_new_network_is_one_of_still_pictures() -> None:
    # What training on stills with invented motion rests on.
    torch.manual_seed(0)
    network = build_network(small_spec())
    taps = [p for n, p in network.named_parameters() if n.endswith(".taps")]
    assert taps and all(float((tap[-1] - 1).detach().abs().mean()) < 0.2 for tap in taps)


@pytest.mark.parametrize("preset", ["tiny", "lite"])
@pytest.mark.parametrize("size", [95, 96, 97, 171, 172, 173])
def test_state_spec_tells_the_real_shapes_at_odd_sizes(preset: str, size: int) -> None:
    spec = small_spec(preset=preset, size=size)
    network = random_network(spec)
    _, state = run_chunks(network, random_inputs(spec, 2, batch=2), [1, 1], by_step=True)
    _, clipped = run_chunks(network, random_inputs(spec, 2, batch=2), [2])
    wanted = [one.batched(2) for one in spec.state]
    assert [tuple(one.shape) for one in network.init_state(2)] == wanted
    assert [tuple(one.shape) for one in state] == wanted
    assert [tuple(one.shape) for one in clipped] == wanted
    assert len({one.name for one in spec.state}) == len(spec.state)
