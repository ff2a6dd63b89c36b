"""The picture branch's running means, blocks and sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from streamfuse.model.layers import running_weights, scaled
from streamfuse.model.network import PRESETS, build_branch
from streamfuse.model.video import A0


def means(items: Tensor, memory: int, chunks: list[int]) -> tuple[Tensor, Tensor]:
    """All running means (B, T, C) of items (B, T, C), and the last count."""
    batch = items.size(0)
    count, mean = torch.zeros(batch, 1, dtype=items.dtype), torch.zeros_like(items[:, 0])
    parts, at = [], 0
    for length in chunks:
        mix, keep = running_weights(count, length, memory)
        part = keep.unsqueeze(2) * mean.unsqueeze(1) + mix @ items[:, at : at + length]
        mean, count, at = part[:, -1], (count + length).clamp(max=memory), at + length
        parts.append(part)
    return torch.cat(parts, 1), count


def test_running_mean_is_the_plain_mean_until_its_memory_is_full() -> None:
    items = torch.randn(2, 40, 3, dtype=torch.float64)
    got, _ = means(items, 64, [7, 1, 20, 12])
    plain = items.cumsum(1) / torch.arange(1, 41).view(1, -1, 1)
    assert torch.allclose(got, plain, rtol=0, atol=1e-14)


def test_running_mean_forgets_at_a_steady_rate_after() -> None:
    items = torch.randn(1, 30, 2, dtype=torch.float64)
    got, count = means(items, 8, [30])
    want = items[:, :8].mean(1)
    for t in range(8, 30):
        want = want + (items[:, t] - want) / 8
    assert torch.allclose(got[:, -1], want, rtol=0, atol=1e-14)
    assert count.tolist() == [[8.0]], "the count stays where float32 can hold it"


def test_running_mean_keeps_rows_of_different_ages_apart() -> None:
    mix, keep = running_weights(torch.tensor([[0.0], [5.0]]), 1, 100)
    assert mix.flatten().tolist() == pytest.approx([1.0, 1.0 / 6.0])
    assert keep.flatten().tolist() == pytest.approx([0.0, 5.0 / 6.0])


def test_a0_has_the_shape_of_movinet_a0() -> None:
    assert len(A0) == 15
    assert sum(row.stride == 2 for row in A0) == 4
    assert all(one.outputs == two.inputs for one, two in pairwise(A0))
    assert sum(row.taps - 1 for row in A0) == 28


def test_width_keeps_whole_eights() -> None:
    assert [scaled(channels, 0.5) for channels in (8, 24, 184, 344)] == [8, 16, 96, 176]
    assert scaled(480, 1.0) == 480


def test_presets_grow() -> None:
    sizes = [
        sum(p.numel() for p in build_branch(name, 1, 32).parameters()) for name in ("tiny", "small", "base")
    ]
    assert sizes == sorted(sizes) and sizes[0] > 100_000
    assert sizes[2] < 2_000_000, "MoViNet-A0's trunk has 1.5 million"
    assert PRESETS["base"].size == 128
