"""What a model made from clips says of itself: the figures inside its file, and its card in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamfuse.model.spec import ModelSpec, Quality
from streamfuse.training.assess import Measures
from streamfuse.training.card import card_head, share, table

CARD_CONDITIONS = ("as recorded", "no sound", "no picture")
FIGURES = ("data", "head", "condition", "clips", "accuracy", "UAR", "F1", "per tick", "ECE", "mAP")
READING = """\
Each clip is played tick by tick from a new state through the model file itself. A clip's answer is the
mean of its calibrated probabilities without the first half second; where a clip changes its label, its
ticks are counted instead. UAR is the mean recall over the classes that occur. ECE is the calibration error
of the winner. F1 is macro-F1, and micro-F1 for a head of several labels at once, which has mAP as well."""
NONE_HELD_OUT = "Nothing: no clip of the data was held out (`split: test`), so how good it is, is not known."


def clip_qualities(measures: Sequence[Measures], command: str) -> tuple[Quality, ...]:
    """The figures that a model file carries: one for each data set, head and condition that has one."""
    found = []
    for one in measures:
        name, value = _main_figure(one)
        if value == value:  # NaN is a measure that does not apply
            data = f"{one.dataset}: {one.clips} clips of held-out groups"
            said = f"{one.head} {one.condition}: {name}"
            found.append(Quality(said, round(value, 4), data, command))
    return tuple(found)


def clip_card(spec: ModelSpec, measures: Sequence[Measures], command: str) -> str:
    """The card of a model trained on clips."""
    lines = card_head(spec)
    if not measures:
        return "\n".join([*lines, NONE_HELD_OUT]) + "\n"
    lines += [f"`{command}`", "", READING, "", *table(FIGURES, [_figures(one) for one in measures])]
    lines += ["", "## Which for which", "", "Rows: the truth; columns: the answer, in clips or in ticks."]
    for one in measures:
        lines += _confusion(one)
    return "\n".join(lines) + "\n"


def _main_figure(one: Measures) -> tuple[str, float]:
    if "map" in one.tick:
        return "mean average precision per tick", one.tick["map"]
    if one.clip:
        return "unweighted recall", one.clip["uar"]
    return "unweighted recall per tick", one.tick.get("uar", float("nan"))


def _figures(one: Measures) -> tuple[str, ...]:
    main = one.clip or one.tick
    nan = float("nan")
    shares = (
        main.get("accuracy", nan),
        main.get("uar", nan),
        main.get("macro_f1", one.tick.get("micro_f1", nan)),
        one.tick.get("accuracy", nan),
        main.get("ece", nan),
        one.tick.get("map", nan),
    )
    return (one.dataset, one.head, one.condition, str(one.clips), *map(share, shares))


def _confusion(one: Measures) -> Iterator[str]:
    if not one.table:
        return
    rows = [
        (label, share(row[n] / sum(row)), *row)
        for n, (label, row) in enumerate(zip(one.labels, one.table, strict=True))
        if sum(row)
    ]
    yield from ("", f"### {one.head} ({one.dataset}, {one.condition})", "")
    yield from table(("truth", "recall %", *one.labels), rows)
