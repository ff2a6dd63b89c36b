"""Events, labels and status through an MQTT broker, and Home Assistant's discovery.

<topic>/status                  online or offline, kept by the broker; offline is the last will
<topic>/<source>/status         online or offline, kept by the broker
<topic>/<source>/event/<head>   an event's JSON, QoS 1
<topic>/<source>/label          the newest label's JSON, QoS 0
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from streamfuse.clock import Clock
from streamfuse.config_notify import MqttTarget
from streamfuse.errors import ConfigError, StreamfuseError
from streamfuse.labels.lines import label_line
from streamfuse.model.spec import HeadSpec
from streamfuse.notify.courier import NotTaken
from streamfuse.notify.discovery import discovery, level
from streamfuse.notify.rules import Notice
from streamfuse.types import NS, Label

log = logging.getLogger(__name__)

PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 30
"""The broker tells the world that we are gone after one and a half of it."""
ONLINE, OFFLINE = "online", "offline"


class MqttSender:
    """One connection, kept up by a thread of the MQTT library, which also sends again what got lost with one.

    announce  False: says nothing of status, for a client beside the run's own
    raises    ConfigError where a certificate cannot be used
    """

    def __init__(
        self,
        config: MqttTarget,
        *,
        sources: Sequence[str],
        heads: Sequence[HeadSpec],
        clock: Clock,
        announce: bool = True,
    ) -> None:
        self._config, self._announce = config, announce
        self._sources = dict.fromkeys(sources, OFFLINE)
        self._heads = tuple(heads)
        parts = urlsplit(config.url)
        self._display = f"{parts.scheme}://{parts.hostname}:{parts.port or PORTS[parts.scheme]}"
        self._under_way: tuple[str, paho.MQTTMessageInfo] | None = None
        self._connected = threading.Event()
        self._refused = ""
        self._client = _client(config, parts.scheme == "mqtts")
        if announce:
            self._client.will_set(self._topic("status"), OFFLINE, qos=1, retain=True)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.connect_async(parts.hostname or "", parts.port or PORTS[parts.scheme], KEEPALIVE_S)
        self._client.loop_start()
        self._labels = (
            None if config.labels_every_s is None else _Labels(self, round(config.labels_every_s * NS), clock)
        )

    def send(self, notice: Notice) -> None:
        if not self._connected.wait(self._config.timeout_s):
            got = self._refused or "no connection"
            raise NotTaken(f"{self._display} must answer", got=got, again=True)
        # A message that was published stays with the library until the broker has it: once is enough.
        if self._under_way is None or self._under_way[0] != notice.id:
            event = notice.event
            topic = self._topic(event.source, "event", event.head)
            self._under_way = (notice.id, self._client.publish(topic, notice.body, qos=1))
        info = self._under_way[1]
        try:
            info.wait_for_publish(self._config.timeout_s)
            taken = info.is_published()
        except (RuntimeError, ValueError) as error:
            self._under_way = None
            raise NotTaken(f"{self._display} must take a message", got=error, again=True) from None
        if not taken:
            raise NotTaken(f"{self._display} must confirm a message", got="nothing", again=True, after_s=0)
        self._under_way = None

    def label(self, label: Label) -> None:
        """The newest label of a source; never waits."""
        if self._labels is not None:
            self._labels.offer(label)

    def source(self, name: str, up: bool) -> None:
        """A source delivers, or does not; never waits."""
        state, known = ONLINE if up else OFFLINE, self._sources.get(name)
        if known != state:
            self._sources = {**self._sources, name: state}
            if self._connected.is_set():
                if known is None:  # added while the run goes on
                    self._discover(self._client, [name])
                self._client.publish(self._topic(name, "status"), state, qos=1, retain=True)

    def close(self) -> None:
        if self._labels is not None:
            self._labels.close()
        if self._connected.is_set() and self._announce:
            last = [self._topic(name, "status") for name in self._sources] + [self._topic("status")]
            sent = [self._client.publish(topic, OFFLINE, qos=1, retain=True) for topic in last]
            try:
                sent[-1].wait_for_publish(1)
            except (RuntimeError, ValueError) as error:
                log.warning("%s: the last word was not sent (%s)", self._display, error)
        self._client.disconnect()
        self._client.loop_stop()

    def publish_label(self, label: Label, within_s: float) -> None:
        """Send a label and wait for the socket to take it, so that a slow broker gets fewer."""
        if not self._connected.is_set():
            return
        info = self._client.publish(self._topic(label.head.source, "label"), label_line(label).encode())
        try:
            info.wait_for_publish(within_s)
        except (RuntimeError, ValueError):  # the connection has just gone; the next label is newer
            return

    def _topic(self, *parts: str) -> str:
        return "/".join((self._config.topic, *map(level, parts)))

    def _on_connect(
        self, client: paho.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            if self._refused != str(reason):
                log.error("%s: %s", self._display, reason)
            self._refused = str(reason)
            return
        self._refused = ""
        if self._announce:
            self._say_what_there_is(client)
        self._connected.set()

    def _say_what_there_is(self, client: paho.Client) -> None:
        client.publish(self._topic("status"), ONLINE, qos=1, retain=True)
        for name, state in self._sources.items():
            client.publish(self._topic(name, "status"), state, qos=1, retain=True)
        self._discover(client, list(self._sources))

    def _discover(self, client: paho.Client, sources: Sequence[str]) -> None:
        if self._config.discovery:
            for topic, record in discovery(self._config, sources, self._heads):
                client.publish(topic, json.dumps(record).encode(), qos=1, retain=True)

    def _on_disconnect(
        self, _client: paho.Client, _userdata: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if self._connected.is_set() and reason.is_failure:
            log.warning("%s: connection lost (%s)", self._display, reason)
        self._connected.clear()


class _Labels:
    """The newest label of each source, sent at most so often, by a thread that may wait for the broker."""

    WITHIN_S = 5.0

    def __init__(self, sender: MqttSender, every_ns: int, clock: Clock) -> None:
        self._sender, self._every_ns, self._clock = sender, every_ns, clock
        self._newest: dict[str, Label] = {}
        self._due_ns: dict[str, int] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mqtt-labels", daemon=True)
        self._thread.start()

    def offer(self, label: Label) -> None:
        with self._changed:
            self._newest[label.head.source] = label
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(self.WITHIN_S)

    def _run(self) -> None:
        while (label := self._next()) is not None:
            try:
                self._sender.publish_label(label, self.WITHIN_S)
            except StreamfuseError as error:
                log.error("%s", error)

    def _next(self) -> Label | None:
        with self._changed:
            while not self._closed:
                now_ns = self._clock.monotonic_ns()
                waits_ns = {name: self._due_ns.get(name, 0) - now_ns for name in self._newest}
                due = [name for name, wait_ns in waits_ns.items() if wait_ns <= 0]
                if due:
                    self._due_ns[due[0]] = now_ns + self._every_ns
                    return self._newest.pop(due[0])
                self._changed.wait(min(waits_ns.values()) / NS if waits_ns else None)
        return None


def _client(config: MqttTarget, tls: bool) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=config.client_id, protocol=paho.MQTTv311)
    client.reconnect_delay_set(1, max(1, round(config.retry_max_s)))
    client.connect_timeout = config.timeout_s
    if config.username is not None:
        client.username_pw_set(config.username, config.password)
    if tls:
        try:
            context = ssl.create_default_context(cafile=config.ca_file)
            if config.cert_file is not None:
                context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ssl.SSLError) as error:
            hint = "check ca_file, cert_file and key_file"
            raise ConfigError(
                "the certificates of an MQTT target must be readable", got=error, hint=hint
            ) from None
        client.tls_set_context(context)
    return client
