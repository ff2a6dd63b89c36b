"""What one open page is told: rows, bounds, the newest of everything, pictures at a rate it can show."""

from __future__ import annotations

import struct
from itertools import pairwise

import msgspec
import pytest
from starlette.websockets import WebSocketDisconnect

from streamfuse.config import ViewConfig
from streamfuse.types import MS, NS, SessionStart
from streamfuse.view.history import Report, Roster, quantile
from streamfuse.view.page import LABELS, Page, Wish, picture_message
from streamfuse.view.rows import Rows, wall_ms
from tests.view.made import (
    HEADS,
    JPEG,
    WALL_NS,
    ViewClock,
    a_hub,
    a_label,
    a_still,
    an_event,
    asking,
    news_of,
    with_face,
)

WALL_MS = WALL_NS // MS


def test_label_becomes_a_row_of_values() -> None:
    row = Rows(HEADS).label(3, a_label(7, session=2, age_ms=55))
    presence = {"video": "ok", "audio": "missing"}
    heads = [[[1], [1, 750, 0, 200, 2, 50]], [[], [1, 300, 2, 250]], [[1], [1, 900, 0, 123]]]
    assert row == [3, 2, 7, WALL_MS + 700, 55_000, 0, presence, heads, None]
    assert Rows(HEADS).label(0, with_face(a_label(0)))[8] == [100, 200, 250, 500]


def test_label_of_another_model_has_no_place_and_breaks_nothing() -> None:
    rows = Rows(HEADS)
    assert rows.event(0, an_event(label="volcano")) is None
    assert rows.event(0, an_event(head="weather")) is None
    assert rows.label(0, a_label(0, scene="volcano"))[7][0][0] == []


def test_event_becomes_a_row_of_values() -> None:
    rows = Rows(HEADS)
    assert rows.event(2, an_event()) == [2, 0, 0, 1, "new", 1000, None, WALL_MS + 2000, 875]
    assert rows.event(2, an_event("end")) == [2, 0, 0, 1, "end", 1000, 2000, WALL_MS + 2000, 875]


def test_time_of_the_wall_is_that_of_iso() -> None:
    assert wall_ms("2026-01-02T03:04:05.678Z") == 1_767_323_045_678
    assert wall_ms(None) is None


# -- one page --------------------------------------------------------------------


def test_page_that_does_not_read_keeps_the_newest_and_says_what_it_missed() -> None:
    page, rows = Page(), Rows(HEADS)
    for index in range(100):
        page.label(0, rows.label(0, a_label(index)))
    for index in range(5):
        page.label(1, rows.label(1, a_label(index)))
    message = page.take(WALL_MS)
    assert message is not None
    assert [row[2] for row in message["labels"]] == [*range(100 - LABELS, 100), *range(5)]
    assert message["missed"] == 100 - LABELS
    assert page.take(WALL_MS) is None, "nothing is told twice"


def test_page_keeps_one_picture_of_each_source() -> None:
    page = Page()
    for at in range(50):
        page.still(0, a_still(at))
    assert page.take_still(0) == (0, a_still(49))
    assert page.take_still(0) is None


def shown(page: Page, sources: int, seconds: int) -> list[int]:
    """Which sources' pictures a page takes of two a second of each."""
    taken: list[int] = []
    for turn in range(seconds * 12):
        now_ns = NS + turn * NS // 12
        if turn % 6 == 0:
            for source in range(sources):
                page.still(source, a_still(turn / 12))
        while (due := page.take_still(now_ns)) is not None:
            taken.append(due[0])
    return taken


def test_many_pictures_share_what_a_page_can_show() -> None:
    taken = shown(Page(), sources=32, seconds=10)
    assert len(taken) <= 32 + 16 * 10 * 10 / 9, "the first of each, then its share"
    counts = [taken.count(source) for source in range(32)]
    assert min(counts) >= 4, "none is forgotten"


def test_few_pictures_all_come() -> None:
    assert len(shown(Page(), sources=3, seconds=5)) == 3 * 2 * 5


def test_large_picture_comes_at_its_own_rate_and_first() -> None:
    page = Page()
    page.ask(Wish(large=7))
    taken = shown(page, sources=32, seconds=10)
    assert taken.count(7) == 20
    page.still(3, a_still())
    page.still(7, a_still())
    due = page.take_still(10**15)
    assert due is not None
    assert due[0] == 7


def test_pictures_out_of_sight_are_not_kept() -> None:
    page = Page()
    page.still(1, a_still())
    page.ask(Wish(visible=[2], large=3))
    for source in range(5):
        page.still(source, a_still())
    assert {page.take_still(0)[0], page.take_still(0)[0]} == {2, 3}  # type: ignore[index]
    assert page.take_still(0) is None


def test_page_that_nobody_looks_at_gets_events_and_state_alone() -> None:
    page, rows = Page(), Rows(HEADS)
    page.label(0, rows.label(0, a_label(0)))
    page.ask(Wish(paused=True))
    page.label(0, rows.label(0, a_label(1)))
    page.still(0, a_still())
    page.event(rows.event(0, an_event()) or [])
    message = page.take(WALL_MS)
    assert message is not None
    assert "labels" not in message
    assert len(message["events"]) == 1
    assert page.take_still(0) is None


def test_page_that_is_looked_at_again_is_told_everything() -> None:
    page = Page()
    page.stale = False
    page.ask(Wish(paused=True))
    assert not page.stale
    page.ask(Wish())
    assert page.stale
    page.stale = False
    page.ask(Wish(large=1))
    assert not page.stale, "it has heard of everything"


def test_picture_message_is_a_head_and_the_jpeg() -> None:
    message = picture_message(5, a_still(1.5))
    assert struct.unpack("<HHHHd", message[:16]) == (5, 320, 240, 0, WALL_MS + 1500)
    assert message[16:] == JPEG


# -- the hub ---------------------------------------------------------------------


def test_new_page_is_told_the_last_minutes_thinned_out() -> None:
    hub = a_hub("door", "yard", config=ViewConfig(minutes=0.5))
    for index in range(600):
        hub.offer(a_label(index))
    hub.offer(an_event())
    hub.offer(an_event("end"))
    hub._drain()
    hello = hub.hello()
    assert hello["sources"] == ["door", "yard"]
    assert [head["labels"] for head in hello["heads"]] == [head.labels for head in HEADS]
    times = [row[3] for row in hello["labels"][0]]
    assert len(times) == 60, "half a minute, two a second"
    assert {b - a for a, b in pairwise(times)} == {500}
    assert times[-1] == WALL_MS + 59_500
    assert [row[4] for row in hello["events"]] == ["new", "end"]
    assert hello["labels"][1] == []


def test_new_page_is_told_of_labels_after_the_clock_was_set_back() -> None:
    hub = a_hub("door", config=ViewConfig(minutes=0.5))
    for index in (100, 110, 20, 30, 40):
        hub.offer(a_label(index))
    hub._drain()
    assert [row[2] for row in hub.hello()["labels"][0]] == [20, 30, 40]


def test_hub_takes_in_without_bound_on_time_but_on_memory() -> None:
    hub = a_hub()
    for index in range(5000):  # nobody drains it: the view's thread hangs
        hub.offer(a_label(index))
    assert hub.skipped == 5000 - 4096
    assert len(hub._offered) == 4096


def test_source_that_comes_later_gets_the_next_place() -> None:
    hub = a_hub("door")
    hub.offer(a_label(0, "shed"))
    hub.offer(("attic", SessionStart(4, 0, 0, frozenset({"video"}), "start")))
    hub._drain()
    assert hub.hello()["sources"] == ["door", "shed", "attic"]
    assert hub.hello()["status"][2]["session"] == 4


def test_source_that_was_removed_leaves_the_page_and_those_behind_it_move_up() -> None:
    hub = a_hub("door", "yard")
    for name in ("door", "yard"):
        hub.offer(a_label(0, name))
        hub.offer(an_event(source=name))
        hub.offer(a_still(source=name))
    hub._drain()
    with asking(hub) as client, news_of(client) as news:
        assert news.receive_json()["sources"] == ["door", "yard"]
        assert {news.receive_bytes()[0] for _ in range(2)} == {0, 1}
        client.portal.call(hub.offer, Roster(("yard", "shed")))  # type: ignore[union-attr]
        client.portal.call(hub._drain)  # type: ignore[union-attr]
        again = news.receive_json()
        assert (again["type"], again["sources"]) == ("hello", ["yard", "shed"])
        assert [row[0] for row in again["events"]] == [0], "events name the new place"
        assert [row[0] for row in again["labels"][0]] == [0]
        assert again["labels"][1] == [], "what was never reached is shown, too"
        assert news.receive_bytes()[0] == 0
        page = next(iter(hub.pages))
        client.portal.call(hub.offer, Roster(("yard", "shed")))  # type: ignore[union-attr]
        client.portal.call(hub._drain)  # type: ignore[union-attr]
        assert not page.stale, "nothing has changed"


def report(state: str = "running", frames: int = 0, error: str = "", **counters: int) -> Report:
    return Report("door", state, {"video_frames": frames, **counters}, error)


def test_states_of_a_source() -> None:
    clock = ViewClock()
    hub = a_hub(clock=clock)

    def state(*items: object, later_ms: int = 0) -> str:
        clock.now_ns += later_ms * MS
        for item in items:
            hub.offer(item)  # type: ignore[arg-type]
        hub._drain()
        return str(hub.hello()["status"][0]["state"])

    assert state() == "starting"
    assert state(report()) == "starting", "it reads, and has said nothing yet"
    assert state(report(), a_label(0)) == "live"
    assert state(report(), later_ms=1600) == "stalled"
    assert state(report(), a_label(1)) == "live"
    assert state(report("waiting")) == "reconnecting"
    assert state(Roster(("door",), frozenset({"door"}))) == "paused"
    assert state(report("done", error="asked to stop")) == "paused", "not ended"
    assert hub.hello()["status"][0]["trouble"] == ""
    assert state(Roster(("door",), frozenset({"door"})), later_ms=60_000) == "paused", "nor lost"
    assert state(Roster(("door",))) == "starting", "it is taken up again"
    assert state(report("waiting")) == "starting", "nothing is wrong yet"
    assert state(report("waiting", error="Connection refused")) == "reconnecting"
    assert state(report("waiting", reconnects=1)) == "reconnecting"
    assert state(report(), a_label(2)) == "live"
    assert state(a_label(3), later_ms=2600) == "lost", "its process says nothing any more"
    assert state(report("refused", error="401")) == "failed"
    assert state(later_ms=60_000) == "failed", "for good"
    assert hub.hello()["status"][0]["trouble"] == "401"
    assert state(report("done")) == "ended"


def test_status_tells_age_rate_frames_and_drops() -> None:
    clock = ViewClock()
    hub = a_hub(clock=clock)
    for index in range(50):
        clock.now_ns += 100 * MS
        hub.offer(a_label(index, age_ms=index + 1))
        if index % 5 == 4:
            hub.offer(report(frames=(index + 1) * 3, reconnects=2))
        hub._drain()
    status = hub.hello()["status"][0]
    assert status["age"] == [26_000, 50_000]
    assert status["rate"] == pytest.approx(10, abs=0.3)
    assert status["fps"] == 30
    assert status["reconnects"] == 2


def test_quantiles_are_of_the_list() -> None:
    assert quantile([5], 0.99) == 5
    assert quantile(list(range(100)), 0.5) == 50
    assert quantile(list(range(100)), 0.99) == 99


# -- over the line ---------------------------------------------------------------


def test_line_begins_with_everything_and_goes_on_with_news() -> None:
    hub = a_hub("door")
    hub.offer(a_label(0))
    hub.offer(a_still(1.0))
    hub._drain()
    with asking(hub) as client, news_of(client) as news:
        hello = news.receive_json()
        assert (hello["type"], len(hello["labels"][0])) == ("hello", 1)
        assert news.receive_bytes()[16:] == JPEG, "the last picture, at once"
        page = next(iter(hub.pages))
        client.portal.call(page.label, 0, hub.rows.label(0, a_label(5)))  # type: ignore[union-attr]
        told = news.receive_json()
        assert (told["type"], told["labels"][0][2]) == ("news", 5)
    assert not hub.pages


def test_one_page_too_many_is_turned_away() -> None:
    hub = a_hub(config=ViewConfig(max_pages=1))
    with asking(hub, max_pages=1) as client, news_of(client) as first:
        assert first.receive_json()["type"] == "hello"
        with news_of(client) as second, pytest.raises(WebSocketDisconnect) as refusal:
            second.receive_json()
        assert (refusal.value.code, refusal.value.reason) == (1013, "too many pages are open")


@pytest.mark.parametrize(
    "nonsense", ["", "null", "[]", '{"large": "x"}', '{"run": "rm"}', '{"visible": [1e9999]}']
)
def test_page_that_says_nonsense_is_sent_away(nonsense: str) -> None:
    hub = a_hub()
    with asking(hub) as client, news_of(client) as news:
        news.receive_json()
        news.send_text(nonsense)
        with pytest.raises(WebSocketDisconnect) as sent_away:
            while True:
                news.receive_text()
    assert (sent_away.value.code, sent_away.value.reason) == (1008, "a page of ours would not say that")
    assert not hub.pages


def test_names_from_a_stream_are_told_as_they_are_and_stay_text() -> None:
    evil = '<img src=x onerror="alert(1)">'
    hub = a_hub(evil)
    hub.offer(a_label(0, evil))
    hub._drain()
    assert msgspec.json.decode(msgspec.json.encode(hub.hello()))["sources"] == [evil]
