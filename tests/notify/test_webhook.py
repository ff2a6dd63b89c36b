"""POSTs to a real server that fails, hangs up, redirects, and goes away."""

from __future__ import annotations

import base64
import json
import logging
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from streamfuse.clock import SYSTEM
from streamfuse.config_notify import NotifyConfig, WebhookTarget
from streamfuse.notify.courier import Courier, NotTaken
from streamfuse.notify.notifier import Notifier
from streamfuse.notify.rules import Notice
from streamfuse.notify.webhook import WebhookSender
from streamfuse.types import NS
from tests.notify.made import notice
from tests.notify.receivers import DEADLINE_S, HttpReceiver
from tests.ports import free_port

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/event-1.schema.json").read_text())
SECRET = "whsec_" + base64.b64encode(b"twenty-four bytes long..").decode()


def target(url: str, **fields: Any) -> WebhookTarget:
    return WebhookTarget.model_validate({"kind": "webhook", "url": url, "retry_max_s": 0.1} | fields)


@contextmanager
def courier(config: WebhookTarget, queue: int = 1000) -> Iterator[Courier]:
    sender = WebhookSender(config, SYSTEM)
    made = Courier("phone", sender, queue=queue, retry_max_s=0.1, clock=SYSTEM, rng=random.Random(0))
    try:
        yield made
    finally:
        made.close(SYSTEM.monotonic_ns())


def until(done: Callable[[], bool]) -> None:
    last_ns = SYSTEM.monotonic_ns() + round(DEADLINE_S * NS)
    while not done():
        assert SYSTEM.monotonic_ns() < last_ns, "not within the deadline"
        SYSTEM.sleep_ns(NS // 100)


def refused(config: WebhookTarget) -> NotTaken:
    sender = WebhookSender(config, SYSTEM)
    with pytest.raises(NotTaken) as caught:
        sender.send(notice())
    sender.close()
    return caught.value


def test_receiver_that_fails_half_the_time_gets_everything_once_and_in_order() -> None:
    fails = random.Random(1)
    with HttpReceiver(
        lambda _: 200 if fails.random() < 0.5 else fails.choice([500, 503, 429, None])
    ).running() as web:
        with courier(target(web.url)) as phone:
            for number in range(40):
                phone.offer(notice(number))
            got = [web.take() for _ in range(40)]
            until(lambda: phone.counts["sent"] == 40)
        assert web.requests.empty()
    assert [json.loads(one.body)["start_s"] for one in got] == [4 + number for number in range(40)]
    assert phone.counts == {"sent": 40, "failed": 0, "dropped": 0}
    assert web.seen > 40


def test_body_is_the_event_and_its_signature_holds() -> None:
    with HttpReceiver(lambda _: 204).running() as web:
        sender = WebhookSender(
            target(web.url + "/hooks/1?key=2", secret=SECRET, headers={"X-Room": "7"}), SYSTEM
        )
        sender.send(notice())
        sender.close()
        got = web.take()
    assert (got.path, got.headers["x-room"]) == ("/hooks/1?key=2", "7")
    jsonschema.validate(json.loads(got.body), SCHEMA)
    assert Webhook(SECRET).verify(got.body, got.headers)["label"] == "street"
    assert got.headers["webhook-id"] == notice().id
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(SECRET).verify(got.body + b" ", got.headers)


def test_any_other_secret_is_taken_as_it_is() -> None:
    with HttpReceiver(lambda _: 200).running() as web:
        sender = WebhookSender(target(web.url, secret="päss word"), SYSTEM)
        sender.send(notice())
        sender.close()
        got = web.take()
    assert Webhook(base64.b64encode("päss word".encode()).decode()).verify(got.body, got.headers)


@pytest.mark.parametrize("secret", ["whsec_*geheim*", "whsec_", "whsec_geheim\n"])
def test_secret_that_is_no_base64_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="what stands after `whsec_` must be base64"):
        target("http://localhost", secret=secret)


def test_name_and_password_in_the_address_go_into_the_authorization() -> None:
    with HttpReceiver(lambda _: 200).running() as web:
        sender = WebhookSender(target(f"http://me:p%40ss@127.0.0.1:{web.port}/x"), SYSTEM)
        sender.send(notice())
        sender.close()
        got = web.take()
    assert got.headers["authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert got.headers["host"] == f"127.0.0.1:{web.port}"


@pytest.mark.parametrize(
    ("status", "again"), [(500, True), (429, True), (404, False), (401, False), (302, False)]
)
def test_answer_decides_whether_it_is_tried_again(status: int, again: bool) -> None:
    with HttpReceiver(lambda _: (status, {"location": "ftp://elsewhere/"})).running() as web:
        error = refused(target(web.url + "/tok3n"))
    assert error.again is again
    assert str(error) == f"{web.url} must answer with 2xx, got {status}"


def test_redirect_is_not_followed() -> None:
    with (
        HttpReceiver(lambda _: 200).running() as elsewhere,
        HttpReceiver(lambda _: (307, {"location": elsewhere.url})).running() as web,
    ):
        assert not refused(target(web.url)).again
        assert elsewhere.seen == 0


def test_receiver_may_say_when_to_come_again() -> None:
    with HttpReceiver(lambda _: (503, {"retry-after": "17"})).running() as web:
        assert refused(target(web.url)).after_s == 17
    with HttpReceiver(lambda _: (503, {"retry-after": "99999999"})).running() as web:
        assert refused(target(web.url)).after_s == 3600
    with HttpReceiver(lambda _: (503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"})).running() as web:
        assert refused(target(web.url)).after_s is None


def test_refusal_for_good_is_counted_and_the_next_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with (
        HttpReceiver(lambda number: 410 if number == 0 else 200).running() as web,
        courier(target(web.url)) as phone,
    ):
        phone.offer(notice(0))
        phone.offer(notice(1))
        assert json.loads(web.take().body)["start_s"] == 5
        until(lambda: phone.counts["sent"] == 1)
    assert phone.counts == {"sent": 1, "failed": 1, "dropped": 0}
    assert "must answer with 2xx, got 410" in caplog.text


def test_receiver_that_says_nothing_is_left_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = refused(target(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.1))
    assert error.again
    assert error.got == "ReadTimeoutError"


def test_dead_receiver_loses_nothing_that_fits_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    caplog.set_level(logging.INFO)
    with courier(target(f"http://127.0.0.1:{port}/s3cret"), queue=5) as phone:
        phone.offer(notice(0))
        until(lambda: phone.waiting == 1 and len(caplog.records) == 1)  # it is under way
        for number in range(1, 11):
            phone.offer(notice(number))
        assert phone.counts["dropped"] == 5
        with HttpReceiver(lambda _: 200).running(port) as web:
            got = [json.loads(web.take().body)["start_s"] - 4 for _ in range(6)]
            until(lambda: phone.counts["sent"] == 6)
    assert got == [0, 6, 7, 8, 9, 10]
    assert phone.counts == {"sent": 6, "failed": 0, "dropped": 5}
    assert "its queue is full" in caplog.text
    assert "taken after" in caplog.text
    assert "s3cret" not in caplog.text


def test_what_waits_at_the_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    with courier(target(f"http://127.0.0.1:{free_port()}")) as phone:
        for number in range(3):
            phone.offer(notice(number))
    assert phone.counts == {"sent": 0, "failed": 0, "dropped": 3}
    assert "phone: 3 notices were not delivered" in caplog.text
    phone.offer(notice(9))
    assert phone.counts["dropped"] == 4


@pytest.mark.parametrize("within_ns", [0, NS // 100, NS // 5])
def test_whenever_the_run_ends_every_notice_is_counted_once(within_ns: int) -> None:
    answers = random.Random(within_ns)
    with HttpReceiver(lambda _: answers.choice([200, 503])).running() as web:
        config = target(web.url)
        sender = WebhookSender(config, SYSTEM)
        made = Courier("phone", sender, queue=1000, retry_max_s=0.02, clock=SYSTEM, rng=random.Random(0))
        for number in range(50):
            made.offer(notice(number))
        made.close(SYSTEM.monotonic_ns() + within_ns)
        made._thread.join(DEADLINE_S)
    assert made.counts.total() == 50


def test_slip_in_a_sender_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    class Slip:
        sent = 0

        def send(self, notice: Notice) -> None:
            self.sent += 1
            if self.sent == 1:
                raise ZeroDivisionError

        def close(self) -> None: ...

    made = Courier("phone", Slip(), queue=9, retry_max_s=1, clock=SYSTEM, rng=random.Random(0))
    made.offer(notice(0))
    made.offer(notice(1))
    made.close(SYSTEM.monotonic_ns() + 20 * NS)
    assert made.counts == {"sent": 1, "failed": 1, "dropped": 0}
    assert "ZeroDivisionError" in caplog.text


def test_notifier_sends_to_the_targets_of_the_rules_and_counts_by_target() -> None:
    with HttpReceiver(lambda _: 200).running() as web:
        config = {
            "targets": {
                "phone": {"kind": "webhook", "url": web.url + "/phone"},
                "desk": {"kind": "webhook", "url": web.url + "/desk"},
            },
            "rules": [{"labels": ["street"], "targets": ["phone"]}, {"labels": ["forest"]}],
        }
        notifier = Notifier(NotifyConfig.model_validate(config))
        notifier.offer(notice().event)
        notifier.offer(notice(kind="end").event)
        notifier.close(20 * NS)
        got = [web.take() for _ in range(2)]
    assert [(one.path, json.loads(one.body)["kind"]) for one in got] == [("/phone", "new"), ("/phone", "end")]
    assert notifier.counters == {
        "notify_sent:phone": 2,
        "notify_failed:phone": 0,
        "notify_dropped:phone": 0,
        "notify_sent:desk": 0,
        "notify_failed:desk": 0,
        "notify_dropped:desk": 0,
    }
    assert notifier.waiting == {"phone": 0, "desk": 0}
