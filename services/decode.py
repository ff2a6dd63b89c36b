"""One source becomes ticks: read, assembled, sent to its analyzer. (Recordings: recorded_decode.py.)

python -m streamfuse.services.decode --config RUN/run.json --source NAME
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path
from urllib.parse import quote

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import DecodeConfig, RunConfig
from streamfuse.errors import ConfigError
from streamfuse.media.decode import KEY_FRAME_PATIENCE, Decoder, open_decoder
from streamfuse.media.source import Source, parse_source
from streamfuse.model.inspect import inspect_model
from streamfuse.model.spec import ModelSpec
from streamfuse.services.decoding import DECODE_NS, DecodeService
from streamfuse.services.keeping import Keeping
from streamfuse.services.loop import Reporter, Stop, serve
from streamfuse.services.process import DECODE_MEMORY, CpuAllowance, confine, load_run, run
from streamfuse.services.reader import Reader
from streamfuse.services.recorded_decode import serve_recording
from streamfuse.services.sessions import LiveSessions, SessionNumbers
from streamfuse.services.stills import StillMaker
from streamfuse.ticks.assemble import Assembler
from streamfuse.types import NS
from streamfuse.wire.broadcast import Publisher
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.keys import Keys
from streamfuse.wire.link import Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire


def service_of(config: RunConfig, name: str, wire: Wire, clock: Clock = SYSTEM) -> DecodeService:
    """The service for a live source of this run. Raises ConfigError, ModelError, SourceRefused."""
    if name not in config.sources:
        known = ", ".join(sorted(config.sources))
        raise ConfigError("a decode process needs a source of the run", got=name, hint=f"known: {known}")
    chosen, own = config.sources[name], config.of(name)
    source = parse_source(chosen.input, allow_hls=chosen.allow_hls)
    spec = inspect_model(config.model.path, sha256=config.model.sha256).spec
    sessions = LiveSessions(SessionNumbers(Path(config.run_dir), name))
    keeping = Keeping(config, name, wire, clock) if Keeping.is_wanted(config) else None
    opening = partial(_open, source, own, spec, clock, keeping)
    address = config.endpoint("ticks", chosen.analyzer)
    link = Outlet(wire, address, name=name, mode="live", topic=TOPICS["tick"], clock=clock)
    if keeping is not None:
        keeping.listen_to(link)
    return DecodeService(
        name,
        Reader(opening, live=True, loop=chosen.loop, clock=clock, rng=random.Random()),
        _assembler(name, own, spec),
        link,
        hop_ns=spec.video.hop_ns,
        sessions=sessions,
        silence_ns=_silence_ns(own.decode),
        drain_ns=round(config.wire.drain_s * NS),
        trace=config.trace,
        gets_on=CpuAllowance().renew,
        clock=clock,
        stills=_stills(config, name, wire, clock),
        keeping=keeping,
    )


def _assembler(name: str, own: RunConfig, spec: ModelSpec) -> Assembler:
    return Assembler(
        name,
        own.ticks,
        mode="live",
        hop_ns=spec.video.hop_ns,
        context_samples=spec.audio.context_samples,
        stamps=own.trace,
    )


def _stills(config: RunConfig, name: str, wire: Wire, clock: Clock) -> StillMaker | None:
    if not config.wants_pictures:
        return None
    watchers = Publisher(wire, topic=TOPICS["picture"], connect=[config.endpoint("pictures")])
    return StillMaker(name, config.pictures, watchers, clock)


def _silence_ns(decode: DecodeConfig) -> int:
    # Two inputs (camera and microphone) may each take their time to open.
    own_s = 2 * decode.open_timeout_s + (1 + KEY_FRAME_PATIENCE) * decode.read_timeout_s
    return DECODE_NS + round(own_s * NS)


def _open(source: Source, own: RunConfig, spec: ModelSpec, clock: Clock, keeping: Keeping | None) -> Decoder:
    decoder = open_decoder(
        source,
        decode=own.decode,
        ticks=own.ticks,
        mode="live",
        picture_side=spec.picture_side,
        clock=clock,
    )
    if keeping is not None and keeping.ring is not None:
        decoder.keep_packets(keeping.ring)
    return decoder


def _memory_of(config: RunConfig, name: str) -> int | None:
    # CUDA reserves more addresses than the GPU has memory, and does not start where it may not.
    on_gpu = name in config.sources and config.of(name).decode.hwaccel != "none"
    return None if on_gpu else DECODE_MEMORY


def main(arguments: argparse.Namespace) -> None:
    stop = Stop()
    config = load_run(arguments.config)
    wire = Wire(None if config.wire.keys is None else Keys(Path(config.wire.keys)))
    name: str = arguments.source
    reporter = Reporter(
        wire, (config.endpoint("progress"), config.endpoint("status")), "decode", name, SYSTEM
    )
    with reporter.last_words(), EndpointLock(f"ipc://{config.run_dir}/decode-{quote(name, safe='')}").held():
        reporter.report("starting")
        confine(_memory_of(config, name))
        if config.mode == "recorded":
            serve_recording(config, name, wire, reporter, stop)
        else:
            service = service_of(config, name, wire)
            try:
                serve(service, wire, reporter, stop, SYSTEM)
            finally:
                if service.keeping is not None:
                    service.keeping.close()
            if service.error is not None:
                raise service.final_error
    wire.close(within_ms=200)


def begin() -> None:
    """The whole life of this process, its command line in sys.argv."""
    run(main, "source")


if __name__ == "__main__":
    begin()
