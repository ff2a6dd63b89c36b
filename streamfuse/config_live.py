"""What a run of live sources has beside them: its wire, what it writes, pictures, a recording of it."""

from __future__ import annotations

from pydantic import Field

from streamfuse.section import Section


class WireConfig(Section):
    """Where the processes of a run find each other. Unset addresses are sockets in the run directory."""

    keys: str | None = None
    """Folder of CURVE keys (`streamfuse keys new`); without it only this machine's own addresses are used."""
    ticks: str | None = None
    """Decode to analyze; `{analyzer}` stands for the analyze process's name."""
    answers: str | None = None
    """Analyze to publish."""
    labels: str | None = None
    """Labels and events for whoever subscribes."""
    progress: str | None = None
    """How each process is doing, for the supervisor."""
    status: str | None = None
    """The same for publish, which makes metrics of it."""
    pictures: str | None = None
    """Pictures of the sources, for publish, which shows and keeps them."""
    drain_s: float = Field(5.0, gt=0, le=60)
    """How long a process that was asked to stop waits for what is under way."""


class LiveOutputConfig(Section):
    """What publish writes of live sources, beside the labels that it sends out; and what stands by."""

    spare: bool = True
    """A second analyze process stands by, warm, and one that becomes decode or publish, lest one of them die;
    off: less memory, slower recovery."""
    folder: str | None = None
    """Folder of <source>.jsonl; unset: none are written."""
    max_bytes: int | None = Field(100_000_000, ge=10_000)
    """A file that would become longer is set aside."""
    daily: bool = False
    """Begin a new file every day (UTC)."""
    keep: int | None = Field(None, ge=0)
    """How many older files stay; unset: all."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(None, ge=0, le=65_535)
    """Prometheus metrics, /healthz and /readyz; unset: none."""


class PictureConfig(Section):
    """Pictures for people, made only where something shows or keeps them."""

    fps: float = Field(2.0, gt=0, le=10)
    """Pictures a second of each source."""
    width: int = Field(640, ge=64, le=1920)
    """At most; smaller ones are not enlarged."""
    quality: int = Field(80, ge=10, le=95)
    """Of the JPEG."""


class RecordConfig(Section):
    """Everything that the decode processes send, kept for `streamfuse replay`."""

    folder: str | None = None
    """Unset: nothing is recorded."""
    max_bytes: int = Field(4_000_000_000, ge=1_000_000)
    """Of each source; the oldest part is removed."""
    max_s: float | None = Field(None, gt=0)
    """Likewise by age."""
