"""The inputs of a run: files, folders and addresses become jobs, each with its own output name."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from streamfuse.checkpoint.identity import place_digest
from streamfuse.errors import SourceRefused, StreamfuseError
from streamfuse.media.source import FileSource, HttpSource, LavfiSource, Source, file_source, parse_source
from streamfuse.pipeline.names import source_name

MEDIA_SUFFIXES = frozenset(
    """
    .3g2 .3gp .aac .ac3 .aif .aiff .asf .au .avi .caf .eac3 .f4v .flac .flv .h264 .h265 .hevc .m2t
    .m2ts .m2v .m4a .m4v .mjpeg .mjpg .mka .mkv .mov .mp2 .mp3 .mp4 .mpe .mpeg .mpg .mts .mxf .nut .oga
    .ogg .ogv .opus .ts .vob .wav .webm .wma .wmv .y4m
    """.split()  # noqa: SIM905, one line for many short words
)
"""What a folder is searched for; a file that is named itself may be called anything."""


NAME_CHARS = 100
"""Of a name; with what makes it distinct it stays within the 128 of a source's name."""


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to process.

    given   as it was typed, or found in a folder; safe to show
    text    the same with what is secret in it: a process that opens it needs that
    source  None when it is refused already, and `error` says why
    stem    its outputs are DIR/<stem>.labels.jsonl and so on; may contain folders; "" when refused
    name    `source` of its labels: never a path, and no other job's
    """

    given: str
    text: str = field(repr=False)
    source: Source | None
    stem: str
    name: str
    error: StreamfuseError | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    given: str
    text: str
    source: Source | None
    stem: str
    identity: str
    error: StreamfuseError | None = None


def beside(job: Job, source: Source) -> Job:
    """The job with outputs of another name, as a clash within one command gives it."""
    return replace(job, stem=f"{job.stem}-{place_digest(source)[:8]}")


def find_jobs(inputs: Sequence[str], output: Path) -> list[Job]:
    """One job per recording, in the order given (folders: by name), none twice.

    Where two recordings would have the same output name, each of them gets the first 8 hex digits of the
    sha256 of its absolute path added: so no name depends on the order, and a second run finds its own.
    """
    found: dict[str, _Found] = {}
    for text in inputs:
        for one in _find(text, output):
            found.setdefault(one.identity, one)
    good = [one for one in found.values() if one.error is None]  # a refused one has no stem
    stems = Counter(one.stem.casefold() for one in good)
    names = Counter(_name(one.stem).casefold() for one in good)

    def job(one: _Found) -> Job:
        stem = _distinct(one.stem, one) if stems[one.stem.casefold()] > 1 else one.stem
        name = _name(one.stem or one.given)
        name = _distinct(name, one) if names[name.casefold()] > 1 else name
        return Job(one.given, one.text, one.source, stem, name, one.error)

    return [job(one) for one in found.values()]


def _name(stem: str) -> str:
    """The last part of a stem, as a name that labels, metrics and messages can carry."""
    return "".join(c if c.isprintable() else "?" for c in PurePath(stem).name)[:NAME_CHARS]


def _distinct(text: str, one: _Found) -> str:
    return f"{text}-{hashlib.sha256(one.identity.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _find(text: str, output: Path) -> Iterator[_Found]:
    path = Path(text)
    if os.path.isdir(path):  # noqa: PTH112  also for a name that is too long, which Path.is_dir() raises for
        yield from _find_in_folder(text, path, output)
        return
    try:
        source = parse_source(text)
        if not isinstance(source, FileSource | HttpSource | LavfiSource):
            raise SourceRefused(
                "process takes recordings", got=source.display, hint="for a live source: `streamfuse run`"
            )
    except StreamfuseError as error:
        yield _refused(_safe(text), text, error)
        return
    if isinstance(source, FileSource):
        yield _Found(source.display, _absolute(path), source, path.stem, _absolute(path))
    else:
        yield _Found(source.display, text, source, source_name(source), source.display)


def _find_in_folder(text: str, folder: Path, output: Path) -> Iterator[_Found]:
    unreadable: list[OSError] = []
    files = list(_media_files(folder, output, unreadable))
    for problem in unreadable:
        where = str(problem.filename)
        error = SourceRefused("a folder must be readable", got=problem.strerror, where=where)
        yield _refused(where, where, error)
    if not files and not unreadable:
        error = SourceRefused("a folder must hold media files", got="none", where=folder)
        yield _refused(text, _absolute(folder), error)
    for file in files:
        stem = file.relative_to(folder).with_suffix("").as_posix()
        source = file_source(file)
        yield _Found(source.display, _absolute(file), source, stem, _absolute(file))


def _refused(given: str, identity: str, error: StreamfuseError) -> _Found:
    return _Found(given, "", None, "", identity, error)


def _safe(text: str) -> str:
    """An address that could not be read may still hold a password."""
    scheme, is_url, _ = text.partition("://")
    return f"{scheme}://***" if is_url else text


def _absolute(path: Path) -> str:
    """Without `.` and `..`, symbolic links as they are."""
    return os.path.normpath(path.absolute())


def _media_files(folder: Path, output: Path, unreadable: list[OSError]) -> Iterator[Path]:
    """Media files under a folder, sorted; hidden ones and what the run itself writes left out."""
    own = output.resolve()
    for root, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(root)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (here / f).resolve() != own)
        for file in sorted(files):
            is_result = file.endswith(".overlay.mp4") and folder.resolve() == own
            if not file.startswith(".") and Path(file).suffix.lower() in MEDIA_SUFFIXES and not is_result:
                yield here / file
