"""report.json: what a measurement found, in numbers; schema streamfuse.profile/1 (docs/schema)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from streamfuse.errors import ConfigError
from streamfuse.profiling.environment import Environment
from streamfuse.profiling.floor import Floor
from streamfuse.profiling.statistics import Distribution

SCHEMA: Literal["streamfuse.profile/1"] = "streamfuse.profile/1"

Rate = Literal["paced", "saturated"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One part of the way; share is of the mean age that it belongs to."""

    stage: str
    part: Literal["transit", "queue_wait", "compute"]
    share: float
    time_ms: Distribution


class Stream(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One source. deadline_misses are answers later than one hop, and ticks of which none came."""

    source: str
    answers: int
    dropped: int
    partial: int
    deadline_misses: int | None
    offered_per_s: float | None
    achieved_per_s: float
    sessions: int
    reconnects: int
    flips_per_min: dict[str, float]
    """Head -> how often its label changed."""
    edge_age_ms: Distribution | None
    transport_ms: Distribution | None
    """Sender's clock to arrival, where the sender tells its time (RTCP): no part of any age here."""


class ProcessUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """cpu_share is of one core."""

    process: str
    cpu_s: float
    cpu_share: float
    rss_mean_bytes: int
    rss_max_bytes: int
    waiting_max: int | None
    """Messages in its queue to the next process, at most."""


class Happened(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """at_s is from the beginning of the measured part."""

    at_s: float
    kind: Literal["drop", "session", "reconnect", "loop", "restart", "trouble"]
    source: str
    text: str


class Samples(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `profile compare` resamples, in the order of time.

    edge_age_us    by source
    answers_per_s  of all sources, second by second; so are
    cpu_share      of one core, all processes together
    rss_bytes      of all processes together
    """

    edge_age_us: dict[str, list[int]]
    answers_per_s: list[int]
    cpu_share: list[float]
    rss_bytes: list[int]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A paced report (offered load of real time) and a saturated one are never compared.

    offered_per_s      ticks that were due, all sources together; achieved_per_s: answers that came
    dropped            ticks that were not analysed, because the ones before them took too long
    absent             ticks that were never offered: a source was away, or between two sessions
    deadline_misses    answers later than one hop, and the dropped
    missed_by_profile  labels that were published and did not reach the measuring; in no figure
    cpu_s_per_media_s  of all processes, for one second of one source

    Saturated: nothing is due at any time, so offered_per_s, absent and deadline_misses are null, and an age
    says how long the queues are.
    """

    schema: Literal["streamfuse.profile/1"]
    created: str
    source: str
    rate: Rate
    streams_wanted: int
    warm_up_s: float
    duration_s: float
    hop_ms: float
    answers: int
    dropped: int
    absent: int | None
    partial: int
    missed_by_profile: int
    deadline_misses: int | None
    offered_per_s: float | None
    achieved_per_s: float
    realtime_factor: float
    cpu_s_per_media_s: float | None
    rss_bytes: int | None
    ages_ms: dict[str, Distribution]
    parts: list[Part]
    track_parts: dict[str, list[Part]]
    streams: list[Stream]
    processes: list[ProcessUse]
    happened: list[Happened]
    floor: Floor
    environment: Environment
    samples: Samples


def read_report(path: Path) -> Report:
    """A report.json. Raises ConfigError for one that is not of this schema."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ConfigError("a report must be readable", got=error.strerror, where=path) from error
    except msgspec.DecodeError as error:
        hint = "`streamfuse profile` writes report.json"
        raise ConfigError(f"a report must be of {SCHEMA}", got=error, where=path, hint=hint) from error


def report_text(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n"


def report_schema() -> dict[str, Any]:
    """JSON Schema of report.json, as it stands in docs/schema/profile-1.schema.json."""
    made: dict[str, Any] = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **made}


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(report_schema()), indent=1).decode())
