"""Ticks of all sources become answers: kernels and one step of the model each, on one device.

python -m streamfuse.services.analyze --config RUN/run.json --name 0 [--standby]
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from streamfuse.analysis import TickAnalyzer
from streamfuse.clock import SYSTEM
from streamfuse.config import RunConfig
from streamfuse.errors import ModelError
from streamfuse.model.runtime import Model, load_model
from streamfuse.services.alone import Alone
from streamfuse.services.analyzing import AnalyzeService
from streamfuse.services.batches import Batches, first_tick, stepped_together
from streamfuse.services.loop import Reporter, Stop, serve
from streamfuse.services.process import deadline, load_run, run
from streamfuse.services.streams import Streams
from streamfuse.types import MS
from streamfuse.wire.endpoints import EndpointLock
from streamfuse.wire.keys import Keys
from streamfuse.wire.link import Inlet, Outlet
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire, wait

log = logging.getLogger(__name__)

DRY_RUN_S = 50
"""For loading a model and its first steps: less than the supervisor gives a process to start."""
STANDS_BY = "warm; stands by"
STANDBY_NS = 50 * MS
"""How often a warm spare looks whether it is needed."""


def main(arguments: argparse.Namespace) -> None:
    stop = Stop()
    config = load_run(arguments.config)
    wire = Wire(None if config.wire.keys is None else Keys(Path(config.wire.keys)))
    name: str = arguments.name
    endpoint = config.endpoint("ticks", name)
    watchers = (config.endpoint("progress"), config.endpoint("status"))
    reporter = Reporter(wire, watchers, "analyze", name, SYSTEM)
    with reporter.last_words():
        lock = EndpointLock(endpoint)
        if not arguments.standby:
            lock.acquire()
        reporter.report("starting")
        endless = ModelError(
            "a model must answer", got=f"no answer within {DRY_RUN_S} s", where=config.model.path
        )
        with deadline(DRY_RUN_S, endless):
            model = load_model(
                config.model.path,
                device=config.device(name),
                sha256=config.model.sha256,
                threads=config.model.threads,
            )
            model.warm_up()
        reporter.device = str(model.device)
        streams = _streams(model, config)
        if not _is_needed(lock, reporter, stop):
            return
        ticks = Inlet(
            wire,
            endpoint,
            mode=config.mode,
            topic=TOPICS["tick"],
            accepts=("tick", "start", "end", "shutdown"),
            own_only=True,
            lock=lock,
        )
        answers = Outlet(
            wire,
            config.endpoint("answers"),
            name=f"analyze {name}",
            mode=config.mode,
            topic=TOPICS["answer"],
            clock=SYSTEM,
        )
        service = AnalyzeService(f"analyze {name}", config, streams, ticks, answers)
        serve(service, wire, reporter, stop, SYSTEM)
    wire.close(within_ms=200)


def _streams(model: Model, config: RunConfig) -> Streams:
    """Warm: nothing is compiled, recorded or allocated at the first tick any more."""
    tick, together = first_tick(model.spec), stepped_together(model, config)
    if together is not None:
        together.warm_up(tick)
        return Batches(together, SYSTEM)
    TickAnalyzer(model).push(tick)
    return Alone(model, config.model.streams_at_once(), SYSTEM)


def _is_needed(lock: EndpointLock, reporter: Reporter, stop: Stop) -> bool:
    """Wait, warm, until no other process serves the address; False: asked to stop first."""
    if lock.try_acquire():
        return True
    log.info(STANDS_BY)
    while not lock.try_acquire():
        if stop.asked:
            reporter.report("done")
            return False
        reporter.report("standby")
        wait([stop.wake.fileno()], STANDBY_NS)
    return True


if __name__ == "__main__":
    run(main, "name", "standby?")
