"""`streamfuse notify test`: every receiver, or the one that is named, gets one event."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from tests.cli.conftest import Run
from tests.notify.receivers import Broker, HttpReceiver, Listener
from tests.notify.test_webhook import SCHEMA
from tests.ports import free_port


def config(folder: Path, *targets: str) -> Path:
    path = folder / "run.yaml"
    path.write_text("notify:\n  targets:\n" + "".join(f"    {target}\n" for target in targets))
    return path


def test_every_target_gets_one_event_and_each_is_told_of(run: Run, tmp_path: Path) -> None:
    with HttpReceiver(lambda _: 200).running() as web:
        path = config(
            tmp_path,
            f"desk: {{kind: webhook, url: '{web.url}'}}",
            f"gone: {{kind: webhook, url: 'http://127.0.0.1:{free_port()}/t0ken'}}",
            f"script: {{kind: command, run: [sh, -c, 'cat > {tmp_path}/got']}}",
        )
        ran = run("notify", "test", "-c", path)
        told = json.loads(web.take().body)
    assert ran.code == 1
    desk, gone, script = ran.out.splitlines()
    assert desk.startswith("desk: taken after ")
    assert gone.endswith("must answer, got NewConnectionError")
    assert "t0ken" not in ran.out + ran.err
    assert script.startswith("script: taken after ")
    jsonschema.validate(told, SCHEMA)
    assert (told["source"], told["label"]) == ("notify-test", "notify-test")
    assert json.loads((tmp_path / "got").read_text())["source"] == "notify-test"


def test_one_target_is_tried_where_it_is_named(run: Run, tmp_path: Path) -> None:
    path = config(
        tmp_path,
        f"one: {{kind: command, run: [touch, {tmp_path}/one]}}",
        f"two: {{kind: command, run: [touch, {tmp_path}/two]}}",
    )
    ran = run("notify", "test", "-c", path, "--target", "two")
    assert (ran.code, ran.complaints) == (0, [])
    assert [(tmp_path / name).exists() for name in ("one", "two")] == [False, True]


def test_broker_hears_the_event_and_nothing_of_status(run: Run, tmp_path: Path) -> None:
    """A run beside it says whether it is online: a try must not say otherwise."""
    broker = Broker(tmp_path)
    listener = Listener(broker.port)
    path = config(tmp_path, f"house: {{kind: mqtt, url: 'mqtt://127.0.0.1:{broker.port}', discovery: true}}")
    ran = run("notify", "test", "-c", path)
    assert ran.code == 0, ran.err
    assert json.loads(listener.take("streamfuse/notify-test/event/notify-test"))["kind"] == "new"
    listener.close()
    late = Listener(broker.port)
    assert late.kept() == []
    late.close()
    broker.stop()


def test_name_that_is_no_target_and_file_without_any_are_mistakes(run: Run, tmp_path: Path) -> None:
    path = config(tmp_path, "one: {kind: command, run: ['true']}")
    ran = run("notify", "test", "-c", path, "--target", "two")
    assert (ran.code, ran.complaints) == (
        2,
        ["streamfuse: --target names a target of the configuration, got two; known: one"],
    )
    empty = tmp_path / "empty.yaml"
    empty.write_text("")
    ran = run("notify", "test", "-c", empty)
    assert ran.code == 2
    assert "`notify.targets` must name a target, got none" in ran.err


def test_mistake_in_a_target_is_told_without_its_secrets(run: Run, tmp_path: Path) -> None:
    for target in (
        "one: {kind: webhook, url: 'https://h/geheim', timeout_s: 0}",
        "one: {kind: webhook, url: 'ftp://h/geheim'}",
        "one: {kind: mqtt, url: 'mqtt://h', password: geheim}",
        "one: {kind: command, run: geheim}",
        "one: {kind: pigeon, url: geheim}",
    ):
        ran = run("notify", "test", "-c", config(tmp_path, target))
        assert ran.code == 2
        assert "`notify.targets.one" in ran.err
        assert "geheim" not in ran.out + ran.err
