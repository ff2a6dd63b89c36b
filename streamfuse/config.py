"""The configuration: one frozen, strict schema, read from YAML.

Unknown keys are errors, units are in the key names, and every number has bounds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from streamfuse.config_live import LiveOutputConfig, PictureConfig, RecordConfig, WireConfig
from streamfuse.config_notify import NotifyConfig
from streamfuse.section import Fraction01, Section, given, merged
from streamfuse.types import Mode


class DecodeConfig(Section):
    """How sources are opened and decoded."""

    threads: int | None = Field(None, ge=1, le=64)
    """Video decoder threads per source; unset: 1 live (slice threads), twice the cores but at most 8 for a
    recording (frame threads: at two for two cores each waits for the other, 10 % of a 1080p run)."""
    hwaccel: str = Field("none", pattern=r"^(none|cuda(:\d+)?)$")
    """cuda, cuda:1: video is decoded by that NVIDIA GPU. Where one process decodes and analyses (process
    --inline, the Python API) with its model on a GPU, that is the one, and pictures stay on it, unshrunk;
    else they are copied to the host."""
    hwaccel_fallback: bool = False
    """Decode on the CPU, with a warning, what that GPU does not decode; else it is an error."""
    allow_codecs: tuple[str, ...] = ()
    """Codecs accepted beside the default list, by FFmpeg's decoder name."""
    video: bool = True
    audio: bool = True
    max_pixels: int = Field(4096 * 2304, ge=64 * 64, le=16384 * 16384)
    open_timeout_s: float = Field(10.0, gt=0, le=300)
    read_timeout_s: float = Field(10.0, gt=0, le=300)
    ca_file: str | None = None
    """Certificates (PEM) that are trusted for https, rtsps and rtmps in place of the system's."""

    @field_validator("ca_file")
    @classmethod
    def _absolute(cls, path: str | None) -> str | None:
        """The processes that read it have folders of their own."""
        return None if path is None else str(Path(path).absolute())

    def threads_for(self, mode: Mode) -> int:
        """The number of decoder threads where none is set."""
        if self.threads is not None:
            return self.threads
        return 1 if mode == "live" else min(8, 2 * (os.cpu_count() or 1))


class TickConfig(Section):
    """How two tracks become ticks. The hop belongs to the model."""

    max_wait_ms: int | None = Field(None, ge=0, le=10_000)
    """Live: how long the slower track is waited for; unset: max(40, 1.5 x its packet duration, what it
    usually lags behind by), at most a second."""
    max_gap_ms: int = Field(2000, ge=100, le=3_600_000)
    """A larger jump of media time begins a new session."""
    hold_max_ms: int = Field(1000, ge=0, le=60_000)
    """How long the last picture stands in for a new one."""


DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class ModelConfig(Section):
    path: str | None = None
    """A model file; unset: the default model inside the package."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Refuse a model file with another sha256 before it is loaded."""
    device: DeviceName = "auto"
    threads: int = Field(1, ge=1, le=256)
    workers: int | None = Field(None, ge=1, le=256)
    """CPU: streams that an analyze process steps at once, each in a thread; unset: as many as the processors
    that it may use allow."""
    max_batch: int = Field(64, ge=1, le=4096)
    """CUDA: ticks of different streams that are stepped together; on the CPU each stream is stepped alone."""
    max_batch_wait_ms: float = Field(5.0, ge=0, le=1000)
    """CUDA: how long a tick waits for those of other streams, where not all are there yet."""
    max_streams: int = Field(1024, ge=1, le=65_536)
    """CUDA: streams whose state is held on the device at once."""
    recorded_batch: int = Field(8, ge=1, le=4096)
    """CUDA: the batch size in which recordings are stepped, however many there are; results may differ in
    their last bits from one size to another, so a checkpoint of another size is not gone on from."""
    cuda_graphs: bool = True
    """CUDA: record the model's step as a graph at start; false for a model whose step cannot be."""

    def streams_at_once(self) -> int:
        """The streams that are stepped at once on the CPU, where `workers` does not say."""
        return self.workers or max(1, len(os.sched_getaffinity(0)) // self.threads)


class HeadConfig(Section):
    """How one head's probabilities become labels and events."""

    smoothing_s: float = Field(1.0, ge=0, le=600)
    """Time constant of the exponential mean over probabilities; 0 is none."""
    threshold: Fraction01 | None = None
    """Softmax: below it the label is `unknown`; sigmoid: labels above it are said. Unset: the model's own."""
    enter: Fraction01 = 0.6
    """An event may begin when its smoothed score reaches this."""
    leave: Fraction01 = 0.4
    """An event ends when its smoothed score falls below this."""
    min_dwell_s: float = Field(0.5, ge=0, le=600)
    """An event begins only when the score has stayed at `enter` for this long."""

    @model_validator(mode="after")
    def _leave_is_not_above_enter(self) -> Self:
        if self.leave > self.enter:
            raise ValueError(f"leave ({self.leave}) must not be above enter ({self.enter})")
        return self


class LabelConfig(HeadConfig):
    """How probabilities become labels and events, for every head and by head."""

    heads: dict[str, HeadConfig] = Field(default_factory=dict)
    """Settings of one head by its name, in place of those above."""
    raw: bool = False
    """Add the unsmoothed probabilities to each label."""

    def head(self, name: str) -> HeadConfig:
        return self.heads.get(name, self)


class OutputConfig(Section):
    """Which files are written for each recording."""

    labels: bool = True
    """One line of JSON per tick: <stem>.labels.jsonl."""
    events: bool = True
    """One line of JSON per beginning and end of a label: <stem>.events.jsonl."""
    vtt: bool = True
    """Subtitles for a player: <stem>.vtt."""
    csv: bool = False
    """One row per tick: <stem>.csv."""
    html: bool = False
    """A timeline in one self-contained page: <stem>.html."""
    overlay: bool = False
    """The recording with the labels burnt in: <stem>.overlay.mp4."""
    checkpoint_s: float = Field(3.0, gt=0, le=3600)
    """Wall time between two checkpoints: so much work is done again after a crash, at most."""


SourceName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f/]+$")]
"""Stands in labels, metrics and file names."""


AnalyzerName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]


class AnalyzerConfig(Section):
    """One analyze process of a live run, by the name that its sources give as `analyzer`."""

    device: DeviceName | None = None
    """In place of model.device, so that each GPU has a process of its own."""


class SourceConfig(Section):
    """One source of a run. Its name is its key among the sources."""

    input: str = Field(min_length=1, max_length=4096)
    """A path, URL or device. It may hold credentials, so it is never shown as it is."""
    allow_hls: bool = False
    loop: bool = False
    """Live: begin a file again when it ends."""
    decode: DecodeConfig | None = None
    """What differs from the run's own, key by key."""
    ticks: TickConfig | None = None
    """Likewise."""
    labels: LabelConfig | None = None
    """Likewise, and head by head."""
    analyzer: AnalyzerName = "0"
    """Which analyze process takes its ticks."""
    output: str | None = None
    """Recorded: folder and stem of the files that are written."""
    span_ns: tuple[int, int | None] | None = None
    """Recorded: only this part, in nanoseconds of file time; None is the end."""


OWN = ("decode", "ticks", "labels")
"""Sections that a source may have of its own."""

Channel = Literal["ticks", "answers", "labels", "progress", "status", "pictures"]


class ViewConfig(Section):
    """The page that shows the sources in a browser."""

    address: str | None = Field(None, max_length=255)
    """HOST:PORT; port 0 is any free one; unset: no page. Other addresses than loopback need a token."""
    token: str | None = Field(None, min_length=16, max_length=256, pattern=r"^[\x21-\x7e]+$", repr=False)
    """What a browser has to give once, best as `${STREAMFUSE_VIEW_TOKEN}`."""
    hosts: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,253}$")], ...] = ()
    """Names by which browsers may ask for the page, beside localhost and plain IP addresses."""
    minutes: float = Field(5.0, ge=0.5, le=60)
    """How far back the timelines reach."""
    max_pages: int = Field(16, ge=1, le=100)
    """Open pages at a time; one more is turned away."""


class AppConfig(Section):
    """The whole configuration file. A verb reads the sections it needs; all are checked."""

    decode: DecodeConfig = Field(default_factory=DecodeConfig)
    ticks: TickConfig = Field(default_factory=TickConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    labels: LabelConfig = Field(default_factory=LabelConfig)
    outputs: OutputConfig = Field(default_factory=OutputConfig)
    sources: dict[SourceName, SourceConfig] = Field(default_factory=dict)
    """What `run` watches, by name."""
    analyzers: dict[AnalyzerName, AnalyzerConfig] = Field(default_factory=dict)
    """Live: the analyze processes that differ from `model`, by the names that sources give as `analyzer`."""
    run_dir: str | None = None
    """Where `run` keeps sockets, locks and session numbers; unset: a folder of its own for these sources."""
    wire: WireConfig = Field(default_factory=WireConfig)
    trace: bool = True
    """Stamps on every item; off, labels carry no latency and the metrics of time stay empty."""
    live: LiveOutputConfig = Field(default_factory=LiveOutputConfig)
    pictures: PictureConfig = Field(default_factory=PictureConfig)
    view: ViewConfig = Field(default_factory=ViewConfig)
    notify: NotifyConfig = Field(default_factory=NotifyConfig)
    record: RecordConfig = Field(default_factory=RecordConfig)

    @model_validator(mode="before")
    @classmethod
    def _complete_sources(cls, data: Any) -> Any:
        """Before anything is checked: what a source leaves open counts when its own keys are."""
        if not isinstance(data, Mapping) or not isinstance(sources := data.get("sources"), Mapping):
            return data
        return {**data, "sources": {name: _completed(source, data) for name, source in sources.items()}}

    def of(self, source: str) -> Self:
        """The configuration as the source of this name has it: with its own sections, where it has some."""
        chosen = self.sources.get(source)
        own = {} if chosen is None else {key: getattr(chosen, key) for key in OWN}
        return self.model_copy(update={key: section for key, section in own.items() if section is not None})

    @property
    def wants_pictures(self) -> bool:
        """Something shows or keeps the sources' pictures."""
        return self.view.address is not None or self.notify.files.takes_snapshots

    @model_validator(mode="after")
    def _analyzers_have_sources(self) -> Self:
        used = sorted({source.analyzer for source in self.sources.values()})
        for name in self.analyzers:
            if name not in used:
                raise ValueError(f"analyzers.{name} has no source; sources name {', '.join(used) or 'none'}")
        return self


def _completed(source: Any, common: Mapping[str, Any]) -> Any:
    """A source's own sections, with the keys that they leave open as the run has them."""
    told = given(source)
    if not isinstance(told, Mapping):
        return source
    own = {key: merged(common.get(key), told[key]) for key in OWN if told.get(key) is not None}
    return {**told, **own}


class RunConfig(AppConfig):
    """What the processes of one run are told: the whole configuration, its mode, and where to meet."""

    mode: Mode
    run_dir: str
    paused: tuple[str, ...] = ()
    """Sources that `ctl pause` has let go of."""

    @model_validator(mode="after")
    def _analyzers_have_sources(self) -> Self:
        """Not of a run: its sources come and go."""
        return self

    def endpoint(self, channel: Channel, analyzer: str = "0") -> str:
        """The address of a channel; there is one of `ticks` for each analyze process."""
        given: str | None = getattr(self.wire, channel)
        if given is not None:
            return given.replace("{analyzer}", analyzer)
        name = f"ticks-{analyzer}" if channel == "ticks" else channel
        return f"ipc://{self.run_dir}/{name}.sock"

    def device(self, analyzer: str) -> str:
        """Where this analyze process runs its model."""
        own = self.analyzers.get(analyzer)
        return self.model.device if own is None or own.device is None else own.device

    @property
    def devices(self) -> list[str]:
        """Every device that a source is analysed on."""
        used = {self.device(source.analyzer) for source in self.sources.values()}
        return sorted(used or {self.model.device})
