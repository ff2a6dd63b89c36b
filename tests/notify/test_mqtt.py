"""A real broker: what is said on it, what it keeps, and what becomes of it when it dies."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jinja2 import Environment

from streamfuse.clock import SYSTEM
from streamfuse.config_notify import MqttTarget, NotifyConfig
from streamfuse.errors import ConfigError
from streamfuse.model.spec import HeadSpec
from streamfuse.notify.courier import NotTaken
from streamfuse.notify.discovery import discovery, identifier
from streamfuse.notify.mqtt import MqttSender
from streamfuse.notify.notifier import Notifier
from streamfuse.types import NS
from tests.notify.made import event, label, notice
from tests.notify.receivers import Broker, Listener
from tests.notify.test_webhook import SCHEMA, until

HEADS = (HeadSpec("scene", ("street", "indoor")), HeadSpec("sound", ("rain", "music"), "sigmoid"))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("mosquitto"))
    yield made
    made.stop()


def target(port: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "mqtt", "url": f"mqtt://127.0.0.1:{port}", "retry_max_s": 1, "client_id": "test"} | fields


def notifier(port: int, **fields: Any) -> Notifier:
    config = NotifyConfig.model_validate({"targets": {"house": target(port, **fields)}})
    return Notifier(config, sources=("door", "back yard"), heads=HEADS)


def sender(port: int, **fields: Any) -> MqttSender:
    config = MqttTarget.model_validate(target(port, **fields))
    return MqttSender(config, sources=("door",), heads=HEADS, clock=SYSTEM)


def test_status_events_and_labels_are_told(broker: Broker) -> None:
    listener = Listener(broker.port)
    house = notifier(broker.port, topic="home/sf", labels_every_s=0)
    assert listener.take("home/sf/status") == b"online"
    assert listener.take("home/sf/door/status") == b"offline"
    house.source("door", up=True)
    assert listener.take("home/sf/door/status") == b"online"
    house.offer(label(7))
    assert json.loads(listener.take("home/sf/door/label"))["tick"] == 7
    house.offer(event())
    told = json.loads(listener.take("home/sf/door/event/scene"))
    jsonschema.validate(told, SCHEMA)
    house.close(20 * NS)
    assert listener.take("home/sf/door/status") == b"offline"
    assert listener.take("home/sf/status") == b"offline"
    assert house.counters["notify_sent:house"] == 1
    listener.close()


def test_broker_keeps_status_and_tells_our_death(broker: Broker) -> None:
    house = sender(broker.port, topic="will", client_id="mortal")
    house.send(notice())
    late = Listener(broker.port)
    assert late.take("will/status") == b"online"
    # What the broker sees when the process is killed: the socket closes without a word.
    socket = house._client.socket()
    assert socket is not None
    house._client._thread_terminate = True
    socket.shutdown(2)
    assert late.take("will/status") == b"offline"
    late.close()
    house.close()


def test_labels_are_sent_no_more_often_than_asked(broker: Broker) -> None:
    listener = Listener(broker.port)
    house = notifier(broker.port, topic="slow", labels_every_s=3600)
    assert listener.take("slow/status") == b"online"
    house.offer(label(1))
    assert json.loads(listener.take("slow/door/label"))["tick"] == 1
    for index in range(2, 50):
        house.offer(label(index))
    house.offer(label(50, source="back yard"))
    assert json.loads(listener.take("slow/back yard/label"))["tick"] == 50
    house.offer(event())
    listener.take("slow/door/event/scene")
    house.close(20 * NS)
    listener.close()


def test_broker_that_died_gets_what_waited_in_order_when_it_is_back(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    house = notifier(broker.port, timeout_s=1)
    house.offer(event(start_ns=0))
    until(lambda: house.counters["notify_sent:house"] == 1)
    broker.stop()
    for number in range(1, 6):
        house.offer(event(start_ns=number * NS))
    assert house.waiting == {"house": 5}
    broker.start()
    listener = Listener(broker.port)
    got = [json.loads(listener.take("streamfuse/door/event/scene"))["start_s"] for _ in range(5)]
    assert got == [1, 2, 3, 4, 5]
    until(lambda: house.counters["notify_sent:house"] == 6)
    house.close(20 * NS)
    listener.close()
    broker.stop()


def test_no_broker_is_said_and_tried_again() -> None:
    house = sender(1, timeout_s=0.1)
    with pytest.raises(NotTaken, match=r"mqtt://127\.0\.0\.1:1 must answer, got no connection") as error:
        house.send(notice())
    assert error.value.again
    house.close()


def password_file(folder: Path) -> Path:
    path = folder / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-b", "-c", str(path), "me", "right"], check=True, capture_output=True
    )
    return path


def test_wrong_password_is_said_and_the_right_one_works(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {password_file(tmp_path)}")
    wrong = sender(broker.port, username="me", password="geheim", timeout_s=0.3)
    until(lambda: "Not authorized" in caplog.text)
    with pytest.raises(NotTaken, match="must answer, got Not authorized"):
        wrong.send(notice())
    wrong.close()
    assert "geheim" not in caplog.text
    right = sender(broker.port, username="me", password="right")
    right.send(notice())
    right.close()
    broker.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a server that it vouches for as 127.0.0.1."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ours", "-keyout", "ca.key", "-out", "ca.crt")
    openssl(*new, "-subj", "/CN=broker", "-keyout", "srv.key", "-out", "srv.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signed = ("x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", "names")
    openssl(*signed, "-in", "srv.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-out", "srv.crt")
    return folder


def test_tls_is_checked(tmp_path: Path, certificates: Path) -> None:
    broker = Broker(tmp_path, f"certfile {certificates}/srv.crt", f"keyfile {certificates}/srv.key")
    url = f"mqtts://127.0.0.1:{broker.port}"
    strangers = sender(broker.port, url=url, timeout_s=0.5)
    with pytest.raises(NotTaken, match=r"mqtts://127\.0\.0\.1:.* must answer"):
        strangers.send(notice())
    strangers.close()
    ours = sender(broker.port, url=url, ca_file=str(certificates / "ca.crt"))
    ours.send(notice())
    ours.close()
    broker.stop()


def test_certificate_that_cannot_be_read_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(ConfigError, match="certificates of an MQTT target must be readable"):
        sender(1, url="mqtts://127.0.0.1", ca_file=str(tmp_path / "ca.crt"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"url": "mqtt://me:geheim@host"}, "username and password have keys of their own"),
        ({"url": "mqtt://host/path"}, "scheme, host and port alone"),
        ({"url": "http://host"}, "an address begins with mqtt:// or mqtts://"),
        ({"url": "mqtt://host:99999"}, "a port in 1..65535"),
        ({"password": "geheim"}, "a password needs a username"),
        ({"cert_file": "x"}, "cert_file and key_file belong together"),
        ({"ca_file": "x"}, "certificates need mqtts://"),
        ({"topic": "a/+/b"}, "should match pattern"),
    ],
)
def test_target_that_cannot_be_meant_is_refused(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MqttTarget.model_validate(target(1) | fields)


def entities(**fields: Any) -> dict[str, dict[str, Any]]:
    config = MqttTarget.model_validate(target(1, **fields))
    return dict(discovery(config, ("door", "Hof #1"), HEADS))


def rendered(template: str, payload: str) -> str:
    """As Home Assistant renders it: Jinja, with value_json."""
    return Environment().from_string(template).render(value_json=json.loads(payload))


def test_discovery_names_every_entity_once_and_by_allowed_words() -> None:
    found = entities(labels_every_s=1)
    assert len({one["unique_id"] for one in found.values()}) == len(found) == 2 * (1 + 2 * 2)
    for topic in found:
        _, component, node, word, last = topic.split("/")
        assert component in ("binary_sensor", "sensor", "event")
        assert identifier(node) == node
        assert identifier(word) == word
        assert last == "config"
    assert {one["device"]["name"] for one in found.values()} == {"door", "Hof #1"}
    assert all("#" not in one["state_topic"] for one in found.values())


def test_templates_give_what_home_assistant_wants() -> None:
    from streamfuse.labels.lines import event_line, label_line
    from streamfuse.types import HeadLabel

    found = {one["unique_id"]: one for one in entities(labels_every_s=1).values()}
    told = label(3)
    told.heads["sound"] = HeadLabel(None, None, (("rain", 0.9), ("music", 0.6)), (("rain", 0.9),))
    line = label_line(told)
    assert rendered(found["streamfuse_door_scene"]["value_template"], line) == "street"
    assert rendered(found["streamfuse_door_sound"]["value_template"], line) == "rain, music"
    told.heads["sound"] = HeadLabel(None, None, (), ())
    assert rendered(found["streamfuse_door_sound"]["value_template"], label_line(told)) == "none"
    attributes = rendered(found["streamfuse_door_scene"]["json_attributes_template"], line)
    assert json.loads(attributes) == {"top": [["street", 0.7], ["indoor", 0.3]], "tick": 3}
    said = json.loads(rendered(found["streamfuse_door_scene_event"]["value_template"], event_line(event())))
    assert (said["event_type"], said["label"]) == ("new", "street")
    assert said["event_type"] in found["streamfuse_door_scene_event"]["event_types"]


def test_broker_keeps_the_discovery(broker: Broker) -> None:
    house = sender(broker.port, discovery=True, topic="disco")
    house.send(notice())
    late = Listener(broker.port)
    record = json.loads(late.take("homeassistant/event/disco_door/scene_event/config"))
    assert record["state_topic"] == "disco/door/event/scene"
    assert record["availability"] == [{"topic": "disco/status"}, {"topic": "disco/door/status"}]
    late.close()
    house.close()


def test_source_that_is_added_later_is_discovered_too(broker: Broker) -> None:
    house = sender(broker.port, discovery=True, topic="grows")
    house.send(notice())
    listener = Listener(broker.port)
    house.source("gate", up=True)
    record = json.loads(listener.take("homeassistant/binary_sensor/grows_gate/status/config"))
    assert record["state_topic"] == "grows/gate/status"
    assert listener.take("grows/gate/status") == b"online"
    house.close()
    listener.close()
