"""The rules and all targets of a run: offer() never waits, sending happens in threads."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

from streamfuse.clock import SYSTEM, Clock
from streamfuse.config_notify import CommandTarget, NotifyConfig, Target, WebhookTarget
from streamfuse.model.spec import HeadSpec
from streamfuse.notify.command import CommandSender
from streamfuse.notify.courier import Courier, Sender
from streamfuse.notify.mqtt import MqttSender
from streamfuse.notify.rules import Rules
from streamfuse.notify.webhook import WebhookSender
from streamfuse.types import NS, Event, Label

OUTCOMES = ("sent", "failed", "dropped")
GOODBYE_NS = NS
"""For the last word to a broker, when everything else is over."""


class Notifier:
    """Tells labels, events and the sources' state to whoever the configuration names.

    sources, heads  for MQTT's status and discovery
    raises          ConfigError where a target cannot be made: a secret or a certificate is wrong
    """

    def __init__(
        self,
        config: NotifyConfig,
        *,
        sources: Sequence[str] = (),
        heads: Sequence[HeadSpec] = (),
        clock: Clock = SYSTEM,
    ) -> None:
        self._clock = clock
        self._rules = Rules(config)
        senders = {
            name: make_sender(target, sources=sources, heads=heads, clock=clock)
            for name, target in config.targets.items()
        }
        self._mqtt = [sender for sender in senders.values() if isinstance(sender, MqttSender)]
        self._couriers = {
            name: Courier(
                name,
                senders[name],
                queue=target.queue,
                retry_max_s=target.retry_max_s,
                clock=clock,
                rng=random.Random(),
            )
            for name, target in config.targets.items()
        }

    def offer(self, told: Label | Event) -> None:
        """Take in what is published, in order: a tick's label, then its events."""
        if not self._couriers:
            return
        if isinstance(told, Label):
            for sender in self._mqtt:
                sender.label(told)
        for notice in self._rules.push(told, self._clock.monotonic_ns(), self._clock.wall_ns()):
            for name in notice.targets:
                self._couriers[name].offer(notice)

    def source(self, name: str, *, up: bool) -> None:
        """A source delivers, or does not."""
        for sender in self._mqtt:
            sender.source(name, up)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Target -> sent, failed, dropped."""
        return {name: dict(courier.counts) for name, courier in self._couriers.items()}

    @property
    def waiting(self) -> dict[str, int]:
        """Target -> notices that wait or are under way."""
        return {name: courier.waiting for name, courier in self._couriers.items()}

    @property
    def counters(self) -> dict[str, int]:
        """For progress reports: notify_sent:phone and so on, and what the rules kept back."""
        targets = {
            f"notify_{outcome}:{name}": counts[outcome]
            for name, counts in self.counts.items()
            for outcome in OUTCOMES
        }
        kept_back = self._rules.counts if self._couriers else {}
        return {**targets, **{f"notify_{reason}": count for reason, count in kept_back.items()}}

    def close(self, within_ns: int = 5 * NS) -> None:
        """Send what waits, for so long; the rest is dropped, counted and told."""
        deadline_ns = self._clock.monotonic_ns() + within_ns
        closing = [
            threading.Thread(target=courier.close, args=(deadline_ns,), daemon=True)
            for courier in self._couriers.values()
        ]
        for thread in closing:
            thread.start()
        for thread in closing:  # a broker that accepts and says nothing holds up nobody's end
            thread.join(max(0, deadline_ns + GOODBYE_NS - self._clock.monotonic_ns()) / NS)


def make_sender(
    target: Target,
    *,
    sources: Sequence[str] = (),
    heads: Sequence[HeadSpec] = (),
    clock: Clock = SYSTEM,
    announce: bool = True,
) -> Sender:
    """What tells this target. announce: as MqttSender's. Raises ConfigError."""
    if isinstance(target, WebhookTarget):
        return WebhookSender(target, clock)
    if isinstance(target, CommandTarget):
        return CommandSender(target)
    return MqttSender(target, sources=sources, heads=heads, clock=clock, announce=announce)
