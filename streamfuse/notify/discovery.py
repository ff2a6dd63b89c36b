"""What Home Assistant is told, so that every source shows up as a device with its sensors.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from streamfuse.config_notify import MqttTarget
from streamfuse.model.spec import HeadSpec

Entity = tuple[str, dict[str, Any]]


def discovery(config: MqttTarget, sources: Sequence[str], heads: Sequence[HeadSpec]) -> Iterator[Entity]:
    """Topic and record of each entity: whether a source delivers; for each head its events, and its label."""
    for source in sources:
        yield _entity(
            config,
            source,
            "binary_sensor",
            "status",
            name="Connection",
            state_topic=f"{config.topic}/{level(source)}/status",
            payload_on="online",
            payload_off="offline",
            device_class="connectivity",
            entity_category="diagnostic",
        )
        for head in heads:
            yield _event(config, source, head)
            if config.labels_every_s is not None:
                yield _sensor(config, source, head)


def identifier(text: str) -> str:
    """A word that Home Assistant takes as an id; names that differ give words that differ."""
    word = re.sub(r"[^A-Za-z0-9_-]", "_", text)
    return word if word == text else f"{word}_{zlib.crc32(text.encode()):08x}"


def level(text: str) -> str:
    """A name as one level of a topic, in which +, # and / mean something."""
    return identifier(text) if re.search(r"[+#/\x00-\x1f\x7f]", text) else text


def _event(config: MqttTarget, source: str, head: HeadSpec) -> Entity:
    # An event entity wants `event_type`, and takes whatever stands beside it as attributes.
    template = (
        "{{ {'event_type': value_json.kind, 'label': value_json.label, 'peak': value_json.peak,"
        " 'mean': value_json.mean, 'start_s': value_json.start_s} | tojson }}"
    )
    return _entity(
        config,
        source,
        "event",
        f"{identifier(head.name)}_event",
        name=f"{head.name} event",
        state_topic=f"{config.topic}/{level(source)}/event/{level(head.name)}",
        event_types=["new", "end"],
        value_template=template,
    )


def _sensor(config: MqttTarget, source: str, head: HeadSpec) -> Entity:
    place = f"value_json[{head.name!r}]"
    template = f"{{{{ {place}.label }}}}"
    if head.kind == "sigmoid":
        template = f"{{{{ {place}.labels | map('first') | join(', ') or 'none' }}}}"
    topic = f"{config.topic}/{level(source)}/label"
    return _entity(
        config,
        source,
        "sensor",
        identifier(head.name),
        name=head.name,
        state_topic=topic,
        value_template=template,
        json_attributes_topic=topic,
        json_attributes_template=f"{{{{ {{'top': {place}.top, 'tick': value_json.tick}} | tojson }}}}",
    )


def _entity(config: MqttTarget, source: str, component: str, word: str, **fields: Any) -> Entity:
    node = f"{identifier(config.topic)}_{identifier(source)}"
    topics = [f"{config.topic}/status"]
    if component != "binary_sensor":
        topics.append(f"{config.topic}/{level(source)}/status")
    record = {
        **fields,
        "unique_id": f"{node}_{word}",
        "availability": [{"topic": topic} for topic in topics],
        "availability_mode": "all",
        "device": {
            "identifiers": [node],
            "name": source,
            "manufacturer": "streamfuse",
            "sw_version": version("streamfuse"),
        },
        "origin": {"name": "streamfuse", "sw_version": version("streamfuse")},
    }
    return f"{config.discovery_topic}/{component}/{node}/{word}/config", record
