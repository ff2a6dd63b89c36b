"""Labelled clips: pictures and sound of one moment, and what is known about them over time.

Every published layout is read into these records; decoding them is clip_store's part. Groups (a speaker,
a place, a recording) never cross splits: that is refused here, by the group's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from streamfuse.errors import ConfigError
from streamfuse.training.datasets.recordings import Division, Part, check_groups

Kind = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Mark:
    """`label` of `head` holds in [start_ns, end_ns) of file time (None: to the end).

    weight  several marks of a softmax head at once are shares of votes; of a sigmoid head, several labels
    """

    head: str
    label: str
    start_ns: int = 0
    end_ns: int | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip. `video` and `audio` are files, the same one where it has both; None is a missing modality.

    seed            of a generated clip, which has no files
    shots           clips shown one after the other as one stream; each has an end, the stream has no files
    split           the data set's own word for it; `part` is what we make of it
    """

    name: str
    marks: tuple[Mark, ...]
    group: str
    split: str
    dataset: str
    video: Path | None = None
    audio: Path | None = None
    start_ns: int = 0
    end_ns: int | None = None
    seed: int | None = None
    licence: str = ""
    part: Part = "train"
    shots: tuple[Clip, ...] = ()

    def marks_of(self, head: str) -> tuple[Mark, ...]:
        return tuple(mark for mark in self.marks if mark.head == head)

    def paths(self) -> tuple[Path, ...]:
        """Its files, each once."""
        return tuple(dict.fromkeys(path for path in (self.video, self.audio) if path is not None))


@dataclass(frozen=True, slots=True)
class ClipSet:
    """Clips sorted by name. heads: labels by head, in order; dropped: what was left out, and why."""

    clips: tuple[Clip, ...]
    heads: dict[str, tuple[str, ...]]
    kinds: dict[str, Kind] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def of(self, part: Part) -> tuple[Clip, ...]:
        return tuple(clip for clip in self.clips if clip.part == part)


def clip_set(
    clips: Iterable[Clip],
    heads: Mapping[str, Sequence[str]],
    dropped: Iterable[str] = (),
    kinds: Mapping[str, Kind] | None = None,
) -> ClipSet:
    """The set in a fixed order, whatever the order in which a file system lists its files.

    raises  ConfigError for a label that its head does not have, or two clips of one name
    """
    ordered = tuple(sorted(clips, key=lambda clip: clip.name))
    for one, other in pairwise(ordered):
        if one.name == other.name:
            raise ConfigError("clips of a data set must have distinct names", got=one.name, where=one.dataset)
    for clip in ordered:
        for mark in clip.marks:
            if mark.label not in heads.get(mark.head, ()):
                raise ConfigError(
                    f"a label must be one of {', '.join(heads.get(mark.head, ()))}",
                    got=mark.label,
                    where=f"{clip.dataset} {clip.name}",
                )
    return ClipSet(
        ordered, {k: tuple(v) for k, v in heads.items()}, dict(kinds or {}), tuple(sorted(dropped))
    )


def at_most(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Of each data set so many, evenly over its names."""
    kept: list[Clip] = []
    for dataset in dict.fromkeys(clip.dataset for clip in clips):
        mine = [clip for clip in clips if clip.dataset == dataset]
        few = min(count, len(mine))
        kept += [mine[n * len(mine) // few] for n in range(few)]
    return kept


def divide(found: ClipSet, division: Division, where: object) -> ClipSet:
    """The same clips with their part set.

    raises  ConfigError naming a group that is in two splits, or would be in two parts
    """
    check_groups(found.clips, where)
    heard = {clip.group for clip in found.clips if clip.audio is not None and division.pictures_only}
    divided = tuple(
        replace(clip, part=division.part(clip, share=clip.group not in heard)) for clip in found.clips
    )
    check_groups([replace(clip, split=clip.part) for clip in divided], where)
    return replace(found, clips=divided)


def joined(sets: Sequence[ClipSet]) -> ClipSet:
    """Several data sets as one: a head's labels in the order in which they are first named.

    raises  ConfigError where a head is softmax in one and sigmoid in another
    """
    heads: dict[str, tuple[str, ...]] = {}
    kinds: dict[str, Kind] = {}
    for one in sets:
        for head, labels in one.heads.items():
            heads[head] = tuple(dict.fromkeys((*heads.get(head, ()), *labels)))
            kind = one.kinds.get(head, "softmax")
            if kinds.setdefault(head, kind) != kind:
                raise ConfigError("a head must be of one kind in all data sets", got=f"{head} of both")
    clips = tuple(replace(c, name=f"{n}:{c.name}") for n, one in enumerate(sets) for c in one.clips)
    if len(sets) == 1:
        clips = sets[0].clips
    return ClipSet(clips, heads, kinds, tuple(line for one in sets for line in one.dropped))


def relabelled(found: ClipSet, mapping: Mapping[str, Mapping[str, str | None]]) -> ClipSet:
    """The same clips with labels renamed or merged; a label that becomes None is forgotten.

    A clip without any mark left is dropped.
    raises  ConfigError for a head or label that the data set does not have
    """
    for head, names in mapping.items():
        for name in names:
            if name not in found.heads.get(head, ()):
                known = ", ".join(found.heads.get(head, ())) or f"no head {head}"
                raise ConfigError("a label to be renamed must be in the data set", got=name, hint=known)
    heads = {
        head: tuple(dict.fromkeys(new for one in labels if (new := mapping.get(head, {}).get(one, one))))
        for head, labels in found.heads.items()
    }
    clips, dropped = [], list(found.dropped)
    for clip in found.clips:
        marks = tuple(
            replace(mark, label=new)
            for mark in clip.marks
            if (new := mapping.get(mark.head, {}).get(mark.label, mark.label)) is not None
        )
        if marks or not clip.marks:
            clips.append(replace(clip, marks=marks))
        else:
            dropped.append(f"{clip.name}: its label is left out by `labels`")
    return replace(found, clips=tuple(clips), heads=heads, dropped=tuple(dropped))
