"""Ways of making one answer from what was seen and heard.

Each takes the features of every modality (views, then sound), (B, T, D_m) with the absence vector in
place where a modality is missing, and `present` (B, M); it returns logits (B, T, classes) per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamfuse.errors import ModelError

WIDTH = 128
"""Size of the fused feature."""


class Unimodal(nn.Module):
    """Every head from every modality alone: the auxiliary losses, and the votes of late fusion."""

    def __init__(self, dims: Sequence[int], classes: Sequence[int]) -> None:
        super().__init__()
        self.by_modality: Any = nn.ModuleList(
            nn.ModuleList(nn.Linear(dim, count) for count in classes) for dim in dims
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Logits of all heads of the first modality, then of the second, and so on."""
        logits: list[Tensor] = []
        for index, heads in enumerate(self.by_modality):
            for head in heads:
                logits.append(head(features[index]))
        return logits


class Answer(nn.Module):
    """The heads over a fused feature."""

    def __init__(self, width: int, classes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.heads: Any = nn.ModuleList(nn.Linear(width, count) for count in classes)

    def forward(self, fused: Tensor) -> list[Tensor]:
        fused = self.dropout(fused)
        logits: list[Tensor] = []
        for head in self.heads:
            logits.append(head(fused))
        return logits


class Projections(nn.Module):
    """Each modality to a common width."""

    def __init__(self, dims: Sequence[int], width: int) -> None:
        super().__init__()
        self.each: Any = nn.ModuleList(nn.Linear(dim, width) for dim in dims)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        projected: list[Tensor] = []
        for index, one in enumerate(self.each):
            projected.append(one(features[index]))
        return projected


class Concat(nn.Module):
    """One layer over all features side by side."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.mix = nn.Linear(sum(dims), WIDTH)

    def forward(self, features: list[Tensor]) -> Tensor:
        return F.hardswish(self.mix(torch.cat(features, -1)))


class Sum(nn.Module):
    """The sum of the projected features."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.project: Any = Projections(dims, WIDTH)

    def forward(self, features: list[Tensor]) -> Tensor:
        return F.hardswish(torch.stack(self.project(features)).sum(0))


class Gated(nn.Module):
    """A gate on each modality, opened by all of them (Arevalo et al., GMU, arXiv 1702.01992)."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        self.project: Any = Projections(dims, WIDTH)
        # From the projected features: a quarter of the weights that gates on all the features would take.
        self.gates = nn.Linear(len(dims) * WIDTH, len(dims) * WIDTH)

    def forward(self, features: list[Tensor]) -> Tensor:
        projected = torch.tanh(torch.cat(self.project(features), -1))
        gates = torch.sigmoid(self.gates(projected))
        batch, ticks = gates.size(0), gates.size(1)
        return (gates * projected).reshape(batch, ticks, len(features), -1).sum(-2)


class Attention(nn.Module):
    """One token per modality; a learned query attends to them, four heads."""

    def __init__(self, dims: Sequence[int], heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.project: Any = Projections(dims, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key_value = nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, features: list[Tensor]) -> Tensor:
        tokens = torch.stack(self.project(features), -2)
        mean = tokens.mean(-2)
        split = [self.heads, mean.size(-1) // self.heads]
        query = self.query(mean).unflatten(-1, split).unsqueeze(-2)
        key, value = self.key_value(tokens).chunk(2, -1)
        key = key.unflatten(-1, split).transpose(-3, -2)
        value = value.unflatten(-1, split).transpose(-3, -2)
        weights = torch.softmax(query @ key.transpose(-2, -1) * split[1] ** -0.5, -1)
        return F.hardswish(mean + self.out((weights @ value).squeeze(-2).flatten(-2)))


class LowRank(nn.Module):
    """The outer product of all features, each with a one added, in `rank` factors (LMF, ACL 2018)."""

    def __init__(self, dims: Sequence[int], rank: int = 4) -> None:
        super().__init__()
        self.rank = rank
        self.factors: Any = Projections(dims, rank * WIDTH)
        self.weights = nn.Parameter(torch.full((rank, 1), 1.0 / rank))
        self.bias = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, features: list[Tensor]) -> Tensor:
        # The bias of each factor's layer is the weight of the appended one.
        product = torch.stack(self.factors(features)).prod(0)
        product = product.reshape(product.size(0), product.size(1), self.rank, -1)
        return F.hardswish((product * self.weights).sum(-2) + self.bias)


class Outer(nn.Module):
    """The outer product of the (projected) features, each with a one added (TFN, arXiv 1707.07250)."""

    def __init__(self, dims: Sequence[int]) -> None:
        super().__init__()
        # Projected first: unprojected, the product alone would outweigh the whole video branch.
        side = 32 if len(dims) <= 2 else 12
        self.project: Any = Projections(dims, side)
        self.mix = nn.Linear((side + 1) ** len(dims), WIDTH)

    def forward(self, features: list[Tensor]) -> Tensor:
        product = torch.ones_like(features[0][..., :1])
        for one in self.project(features):
            one = F.pad(torch.tanh(one), [0, 1], value=1.0)
            product = (product.unsqueeze(-1) * one.unsqueeze(-2)).flatten(-2)
        return F.hardswish(self.mix(product))


class Early(nn.Module):
    """Fuse features, then answer."""

    def __init__(self, mix: nn.Module, dims: Sequence[int], classes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.mix: Any = mix
        self.answer: Any = Answer(WIDTH, classes, dropout)
        self.unimodal: Any = Unimodal(dims, classes)

    def forward(self, features: list[Tensor], present: Tensor) -> list[Tensor]:  # noqa: ARG002
        logits: list[Tensor] = self.answer(self.mix(features))
        return logits


class Decision(nn.Module):
    """Each modality answers; the present ones are weighed: a product of experts.

    A weighted mean of logits is the weighted geometric mean of the probabilities, for softmax and
    sigmoid alike. With nothing present the answers from the absence vectors are weighed.
    """

    def __init__(self, dims: Sequence[int], classes: Sequence[int]) -> None:
        super().__init__()
        self.unimodal: Any = Unimodal(dims, classes)
        self.trust = nn.Parameter(torch.zeros(len(classes), len(dims)))
        self.count = len(classes)

    def forward(self, features: list[Tensor], present: Tensor) -> list[Tensor]:
        votes: list[Tensor] = self.unimodal(features)
        counted = present | ~present.any(1, keepdim=True)
        logits: list[Tensor] = []
        for head in range(self.count):
            trust = self.trust[head].masked_fill(~counted, -1e9)
            weights = torch.softmax(trust, -1)[:, None, None]
            stacked = torch.stack([votes[m * self.count + head] for m in range(len(features))], -1)
            logits.append((stacked * weights).sum(-1))
        return logits


class Hybrid(nn.Module):
    """Gated fusion and late fusion, mixed by a learned share for each head."""

    def __init__(self, dims: Sequence[int], classes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.mix = Gated(dims)
        self.answer: Any = Answer(WIDTH, classes, dropout)
        self.late: Any = Decision(dims, classes)
        self.unimodal = self.late.unimodal
        self.share = nn.Parameter(torch.zeros(len(classes)))

    def forward(self, features: list[Tensor], present: Tensor) -> list[Tensor]:
        early: list[Tensor] = self.answer(self.mix(features))
        late: list[Tensor] = self.late(features, present)
        share = torch.sigmoid(self.share)
        logits: list[Tensor] = []
        for head in range(len(early)):
            logits.append(torch.lerp(late[head], early[head], share[head]))
        return logits


MIXES: dict[str, type[nn.Module]] = {
    "concat": Concat,
    "sum": Sum,
    "gated": Gated,
    "attention": Attention,
    "tensor": Outer,
    "lmf": LowRank,
}
FUSIONS = (*MIXES, "decision", "hybrid")


def build_fusion(name: str, dims: Sequence[int], classes: Sequence[int], dropout: float = 0.0) -> nn.Module:
    """The fusion of that name over modalities of these feature sizes, for heads of these class counts."""
    if name in MIXES:
        return Early(MIXES[name](dims), dims, classes, dropout)
    if name == "decision":
        return Decision(dims, classes)
    if name == "hybrid":
        return Hybrid(dims, classes, dropout)
    raise ModelError("a fusion must have a known name", got=name, hint=f"one of {', '.join(FUSIONS)}")
