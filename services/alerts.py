"""What publish does with events beside publishing them: names their files, tells whoever is to be told."""

from __future__ import annotations

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config import RunConfig
from streamfuse.model.spec import ModelSpec
from streamfuse.notify.files import EventArchive
from streamfuse.notify.notifier import Notifier
from streamfuse.services.status import Status
from streamfuse.types import MS, NS, Event, Label
from streamfuse.view.pictures import Pictures
from streamfuse.wire.headers import Progress

TELL_NS = NS
"""How often the metrics hear of the counts."""
NEAR_NS = 2 * NS
"""A picture that is further from the beginning (or than four from each other) shows something else."""
PICTURE_LAG_NS = 200 * MS
"""A picture takes so long from its frame to here, with room to spare."""


class Alerts:
    """Nothing here waits: sending and writing happen in threads.

    raises  ConfigError where a target cannot be made; OutputError where files cannot be kept
    """

    def __init__(
        self,
        config: RunConfig,
        spec: ModelSpec,
        pictures: Pictures,
        status: Status,
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._pictures, self._status, self._clock = pictures, status, clock
        self._due_ns = 0
        self._period_ns = round(NS / config.pictures.fps)
        self._archive = EventArchive(
            config.notify.files,
            list(config.sources),
            self._nearest,
            delay_ns=self._period_ns + PICTURE_LAG_NS,
            clock=clock,
        )
        self._notifier = Notifier(config.notify, sources=list(config.sources), heads=spec.heads, clock=clock)
        status.listen(self._report)

    @property
    def counters(self) -> dict[str, int]:
        return {**self._notifier.counters, **self._archive.counts}

    def attach(self, event: Event) -> Event:
        """The event with the paths of its files, before it is written anywhere."""
        return self._archive.attach(event)

    def tell(self, told: Label | Event) -> None:
        self._notifier.offer(told)

    def ended(self, source: str) -> None:
        self._notifier.source(source, up=False)

    def turn(self, now_ns: int) -> None:
        if now_ns < self._due_ns:
            return
        self._due_ns = now_ns + TELL_NS
        self._archive.tidy()
        waiting = self._notifier.waiting
        for target, counts in self._notifier.counts.items():
            self._status.notified(target, counts, waiting[target])

    def close(self, within_ns: int) -> None:
        self._archive.close()
        self._notifier.close(within_ns)
        self.turn(self._due_ns)

    def _report(self, report: Progress) -> None:
        if report.service == "decode":
            self._notifier.source(report.source, up=bool(report.gauges.get("source_up")))

    def _nearest(self, source: str, session: int, pts_ns: int) -> bytes | None:
        # The nearest to half a period later is the first from the beginning on, not one just before it.
        within_ns = max(NEAR_NS, 4 * self._period_ns)
        still = self._pictures.nearest(source, session, pts_ns + self._period_ns // 2, within_ns)
        return None if still is None else still.jpeg
