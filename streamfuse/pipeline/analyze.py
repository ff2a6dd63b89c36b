"""`for label in streamfuse.analyze("clip.mp4")`: a source in, labels out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import partial

from streamfuse.batch import recorded_batch, stages
from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import AppConfig, DecodeConfig, LabelConfig, TickConfig
from streamfuse.errors import ConfigError
from streamfuse.media.decode import open_decoder
from streamfuse.media.source import Source, parse_source
from streamfuse.model.runtime import Model
from streamfuse.pipeline.interpret import Interpreter, loaded_model, new_assembler
from streamfuse.pipeline.live import LiveTicks, dated, paced
from streamfuse.pipeline.names import source_name
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.pipeline.recorded import Processing
from streamfuse.types import NS, Label, Mode


def analyze(
    source: str | os.PathLike[str],
    *,
    model: Model | str | os.PathLike[str] | None = None,
    mode: Mode = "recorded",
    device: str = "auto",
    name: str | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    labels: LabelConfig | None = None,
    ticks: TickConfig | None = None,
    decode: DecodeConfig | None = None,
) -> Iterator[Label]:
    """Labels of a file or a live source, one per tick (by default ten a second), as they come.

    source         a path, a URL (rtsp, rtmp, http, udp), a device or `lavfi:...`
    model          a loaded model, a model file, or None for the default model
    mode           "recorded": every tick, as fast as this machine can; "live": at the source's pace (a file
                   is played), and when that is too fast, the oldest ticks are dropped and counted in
                   label.head
    device         "auto", "cpu", "cuda" or "cuda:1", for a model that is not loaded yet
    start_s,end_s  recorded: only this part of the file
    raises         SourceError, ModelError, BackendError, ConfigError
    """
    if mode not in ("recorded", "live"):
        raise ConfigError('mode must be "recorded" or "live"', got=repr(mode))
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        raise ConfigError("start_s must be at least 0 and below end_s", got=f"{start_s} and {end_s}")
    if mode == "live" and (start_s or end_s is not None):
        raise ConfigError("a live source has no start_s and end_s", got=f"{start_s} and {end_s}")
    loaded = loaded_model(model, device)
    config = AppConfig(
        labels=labels or LabelConfig(), ticks=ticks or TickConfig(), decode=decode or DecodeConfig()
    )
    parsed = parse_source(os.fspath(source))
    name = name or source_name(parsed)
    if mode == "live":
        return _live_labels(parsed, loaded, config, name)
    span = (round(start_s * NS), None if end_s is None else round(end_s * NS))
    processing = Processing(parsed, loaded, config, name=name, span=span if start_s or end_s else None)
    return _recorded_labels(processing)


def _recorded_labels(processing: Processing) -> Iterator[Label]:
    with processing:
        for item in processing:
            if isinstance(item, Label):
                yield item


def _live_labels(
    source: Source, model: Model, config: AppConfig, name: str, clock: Clock = SYSTEM
) -> Iterator[Label]:
    spec = model.spec
    decoder = open_decoder(
        source,
        decode=config.decode,
        ticks=config.ticks,
        mode="live",
        picture_side=spec.picture_side,
        clock=clock,
        keep_on=stays_on(config.decode, model.device),
    )
    assembler = new_assembler(name, config.ticks, spec, "live")
    together = recorded_batch(model, config.model)
    preparer, stepper = stages(model, name, max_gap_ms=config.ticks.max_gap_ms, together=together)
    interpreter = Interpreter(stepper, config.labels, config.ticks, partial(dated, clock=clock))
    stopped = threading.Event()
    live = LiveTicks(paced(decoder, clock, stopped), assembler, clock=clock)
    try:
        for tick in live:
            for inputs in preparer.push(tick):
                for item in interpreter.push(inputs):
                    if isinstance(item, Label):
                        yield item
    finally:
        stopped.set()
        live.close()
        decoder.close()
