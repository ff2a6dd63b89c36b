"""A finished recording for the page: its labels and events as columns, its video with seeking."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

from streamfuse.config import ViewConfig
from streamfuse.errors import ConfigError, StreamfuseError, WireError
from streamfuse.labels.lines import event_from_line, label_from_line
from streamfuse.types import MS, Event, Label
from streamfuse.view.app import site_routes
from streamfuse.view.rows import Row, face_row

MAX_POINTS = 200_000
"""Ticks that a page is given: five and a half hours at ten a second; of longer ones every second, third..."""
MAX_EVENTS = 20_000
MAX_LINE = 1 << 20
"""Bytes of a line; ours have about a thousand."""

VIDEO_TYPES = {".mkv": "video/x-matroska", ".mov": "video/mp4", ".m4v": "video/mp4", ".ts": "video/mp2t"}
"""Where the system's table says nothing, or what a browser declines to try."""
VIDEO_ENDINGS = (".mp4", ".webm", ".mov", ".m4v", ".mkv", ".ogv", ".avi", ".mpg", ".mpeg", ".ts")


@dataclass
class HeadColumn:
    """One head over time. Places are into `labels`; a score has 1/1000."""

    name: str
    kind: str
    labels: dict[str, int] = field(default_factory=dict)
    said: list[list[int]] = field(default_factory=list)
    top: list[list[int]] = field(default_factory=list)

    def place(self, label: str) -> int:
        return self.labels.setdefault(label, len(self.labels))


@dataclass
class Recording:
    """Everything the page draws. Times are milliseconds of file time."""

    name: str
    starts: list[int] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    ages: list[int | None] = field(default_factory=list)
    presence: list[dict[str, str]] = field(default_factory=list)
    faces: list[Row | None] = field(default_factory=list)
    heads: list[HeadColumn] = field(default_factory=list)
    events: list[list[Any]] = field(default_factory=list)
    hop: int = 100
    end: int = 0
    ticks: int = 0
    wall: int | None = None

    def push_label(self, label: Label) -> None:
        if not self.heads:
            self.heads = [
                HeadColumn(name, "sigmoid" if part.labels is not None else "softmax")
                for name, part in label.heads.items()
            ]
        self.starts.append(label.head.start_ns // MS)
        self.sessions.append(label.head.session)
        age_ns = (label.latency or {}).get("edge_age")
        self.ages.append(None if age_ns is None else age_ns // 1000)
        self.presence.append(dict(label.modalities))
        self.faces.append(face_row(label.face))
        self.hop = max(1, label.head.hop_ns // MS)
        self.end = max(self.end, label.head.end_ns // MS)
        for column in self.heads:
            part = label.heads.get(column.name)
            said: list[int] = []
            top: list[int] = []
            if part is not None:
                for name, score in part.top:
                    top += (column.place(name), round(score * 1000))
                if part.labels is not None:
                    said = [column.place(name) for name, _ in part.labels]
                elif part.label is not None and part.label != "unknown":
                    said = [column.place(part.label)]
            column.said.append(said)
            column.top.append(top)

    def push_event(self, event: Event) -> None:
        column = next((head for head in self.heads if head.name == event.head), None)
        if event.kind == "end" and event.end_ns is not None and column is not None:
            start, end = event.start_ns // MS, event.end_ns // MS
            place = self.heads.index(column)
            self.events.append([place, column.place(event.label), start, end, round(event.peak * 1000)])

    def as_message(self, *, video: bool) -> dict[str, Any]:
        every = -(-len(self.starts) // MAX_POINTS) or 1
        return {
            "type": "recording",
            "name": self.name,
            "ticks": self.ticks,
            "every": every,
            "hop": self.hop,
            "end": self.end,
            "video": video,
            "starts": self.starts[::every],
            "sessions": self.sessions[::every],
            "ages": self.ages[::every] if any(age is not None for age in self.ages) else None,
            "presence": self.presence[::every],
            "faces": self.faces[::every] if any(self.faces) else None,
            "heads": [
                {
                    "name": head.name,
                    "kind": head.kind,
                    "labels": list(head.labels),
                    "said": head.said[::every],
                    "top": head.top[::every],
                }
                for head in self.heads
            ],
            "events": sorted(self.events, key=lambda row: row[2])[:MAX_EVENTS],
        }


def read_recording(labels: Path, events: Path | None = None) -> Recording:
    """A labels file (of a recording, or as `run -o` writes it) and the events beside it.

    events  unset: <stem>.events.jsonl beside <stem>.labels.jsonl, where there is one
    raises  ConfigError where a file cannot be read or is something else
    """
    recording = Recording(labels.name.removesuffix(".jsonl").removesuffix(".labels"))
    told: list[Event] = []
    for item in _read(labels):
        if isinstance(item, Event):
            told.append(item)
            continue
        if recording.ticks and item.head.source != recording.name:
            rule = "a labels file is of one source"
            raise ConfigError(rule, got=f"{recording.name!r} and {item.head.source!r}", where=labels)
        recording.name = item.head.source
        recording.ticks += 1
        recording.push_label(item)
    if not recording.ticks:
        raise ConfigError("a labels file has at least one label", got="none", where=labels)
    beside = events or labels.with_name(f"{labels.name.removesuffix('.labels.jsonl')}.events.jsonl")
    if beside != labels and (events is not None or beside.is_file()):
        told += [item for item in _read(beside) if isinstance(item, Event)]
    for event in told:
        recording.push_event(event)
    return recording


def find_video(labels: Path) -> Path | None:
    """A video of the same stem beside the labels: with the labels burnt in rather than without."""
    stem = labels.name.removesuffix(".jsonl").removesuffix(".labels")
    for ending in (".overlay.mp4", *VIDEO_ENDINGS):
        path = labels.with_name(stem + ending)
        if path.is_file():
            return path
    return None


def recording_app(recording: Recording, video: Path | None, config: ViewConfig) -> Starlette:
    body = msgspec.json.encode(recording.as_message(video=video is not None))

    async def data(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    async def film(_request: Request) -> Response:
        if video is None:
            return Response(status_code=404)
        if not await asyncio.to_thread(video.is_file):  # removed since
            return Response(status_code=410)
        return FileResponse(video, media_type=video_type(video))

    routes: list[BaseRoute] = [Route("/recording", data), Route("/video", film)]
    return Starlette(routes=[*site_routes("recording", config), *routes])


def video_type(path: Path) -> str:
    return VIDEO_TYPES.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "video/mp4"


def _read(path: Path) -> Iterator[Label | Event]:
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                yield _item(line, path, number)
    except OSError as error:
        raise ConfigError("the labels must be readable", got=error.strerror, where=path) from error


def _item(line: bytes, path: Path, number: int) -> Label | Event:
    try:
        return label_from_line(line)
    except (StreamfuseError, ValueError) as wrong:
        try:
            return event_from_line(line)
        except (StreamfuseError, ValueError):
            place = f"{path}:{number}"
            got = wrong.rule if isinstance(wrong, WireError) else "something else"
            hint = "such files are written by `streamfuse process` and by `streamfuse run -o`"
            raise ConfigError("each line is a label or an event", got=got, where=place, hint=hint) from wrong
