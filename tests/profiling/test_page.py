from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from streamfuse.profiling.charts import Chart, round_ticks, short
from streamfuse.profiling.chrome import trace_text
from streamfuse.profiling.page import render_page
from streamfuse.profiling.plots import MARKS, composition, over_time, ranked, waterfall
from streamfuse.profiling.recording import Answered, Recording
from streamfuse.profiling.schema import Report
from streamfuse.profiling.sweep import SCHEMA, Cell, Sweep, render_sweep
from streamfuse.trace import latency, latency_parts
from streamfuse.types import MS, NS, Label, Stamp, TickHead, Trace
from tests.profiling.made import BEGIN_NS, HOP_NS, made_label, made_recording, made_report, progress

AGES = [10 * MS + (i % 7) * MS for i in range(200)]
HOSTILE = '"><script>alert(1)</script>'


class Tags(HTMLParser):
    """Counts tags, keeps the addresses that a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "data", "action")]


def page_of(recording: Recording, report: Report | None = None) -> str:
    return render_page(report or made_report(recording), recording)


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


@pytest.mark.parametrize("count", [20, 99, 100, 4000])
def test_page_loads_nothing_and_has_its_pictures(count: int) -> None:
    page = page_of(made_recording([AGES[i % 200] for i in range(count)]))
    tags = parsed(page)
    assert tags.loads == []
    assert tags.tags.count("script") == 2
    assert "default-src 'none'" in page
    assert tags.tags.count("svg") >= 8
    assert not re.search(r"\b(nan|inf)\b", page)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_what_comes_from_outside_stays_text() -> None:
    made = made_recording(AGES, sources=(HOSTILE,))
    made.on_label(made_label(210, MS, source=HOSTILE, session=1, scene=HOSTILE))
    made.on_trouble(BEGIN_NS + NS, "trouble", HOSTILE, HOSTILE)
    page = page_of(made)
    assert HOSTILE not in page
    assert parsed(page).tags.count("script") == 2


def test_page_says_that_warm_up_is_left_out_and_what_was_dropped() -> None:
    made = made_recording(AGES)
    made.on_label(made_label(205, 300 * MS, dropped=4))
    page = page_of(made)
    assert "3.0 s of starting and warm-up, which are left out" in page
    assert "4 ticks dropped in 1 places" in page


def test_saturated_page_tells_speed_and_no_deadline() -> None:
    made = made_recording(AGES)
    page = page_of(made, made_report(made, "saturated"))
    assert "× real time" in page
    assert "missed deadlines" not in page and "one hop" not in page


def test_waterfall_has_a_row_for_each_part_of_its_answer() -> None:
    made = made_recording(AGES)
    answer: Answered = ranked(made.measured("door"), 50)
    assert answer.edge_age_ns == 13 * MS
    svg = ElementTree.fromstring(waterfall(answer))
    bars = list(svg.iter("rect"))
    parts = latency_parts(answer.head.trace, answer.publish_ns)
    assert len(bars) == sum(value > 0 for value in parts.values())
    assert "kernels and network: 6.500 ms" in "".join(bar.get("data-tip", "") for bar in bars)


def test_line_of_medians_stops_where_there_were_no_answers() -> None:
    made = made_recording(AGES)
    whole = ElementTree.fromstring(over_time(made, None))
    kept = made.answers["door"]
    made.answers["door"] = kept[:60] + kept[140:]
    holed = ElementTree.fromstring(over_time(made, None))

    def lines(svg: ElementTree.Element) -> list[str]:
        return [path.get("d", "") for path in svg.iter("path") if path.get("d", "").startswith("M")]

    assert (len(lines(whole)), len(lines(holed))) == (1, 2)


def test_trouble_and_restart_look_different() -> None:
    looks = [css for css, _ in MARKS.values()]
    assert len(set(looks)) == len(looks)
    page = page_of(made_recording(AGES))
    assert all(f".{css} {{" in page for css in looks)


def test_composition_is_as_long_as_the_mean_age() -> None:
    svg, legend = composition(made_recording([20 * MS] * 40).measured("door"))
    values = [node.text for node in ElementTree.fromstring(svg).iter("text") if node.get("class") == "value"]
    assert values == ["20.0 ms"] * 3
    assert [text for _, text in legend] == ["decoding", "way to the analyzer", "kernels and network"]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 0.3, [0, 0.1, 0.2, 0.3]), (-4, 13, [-5, 0, 5, 10, 15]), (3, 3, None)],
)
def test_ticks_are_round_and_hold_the_values(low: float, high: float, ticks: list | None) -> None:
    made = round_ticks(low, high)
    assert made[0] <= low and made[-1] >= high - 1e-9 and len(made) >= 2
    if ticks is not None:
        assert made == ticks


def test_chart_puts_values_where_its_axes_say() -> None:
    chart = Chart(600, 250, (0, 10), (0, 100))
    assert (chart.at_x(0), chart.at_x(10)) == (56, 586)
    assert (chart.at_y(100), chart.at_y(0), chart.at_y(50)) == (12, 210, 111)
    assert [short(v) for v in (0, 0.05, 12.5, 1234, -3)] == ["0", "0.05", "12.5", "1,234", "−3"]


def fused_label(tick: int, *, wait_ns: int = 5 * MS, work_ns: int = 20 * MS) -> Label:
    """Picture and sound, a wait for the other track and one for the analyzer, which then works."""
    arrival = BEGIN_NS + (tick + 1) * HOP_NS
    decoded, began = arrival + 4 * MS, arrival + 4 * MS + wait_ns
    done = began + work_ns
    stamps = (
        Stamp("decode_video", arrival, arrival, decoded),
        Stamp("decode_audio", arrival - 3 * MS, arrival - 3 * MS, arrival - MS),
        Stamp("decode", arrival, arrival, decoded),
        Stamp("sync", arrival - MS, decoded, decoded),
        Stamp("analyze", decoded, began, done),
        Stamp("publish", done, done, done + MS),
    )
    head = TickHead("door", 0, tick, 0, HOP_NS, "ok", "ok", trace=Trace(arrival, arrival - 3 * MS, stamps))
    return Label(head, {}, {"video": "ok", "audio": "ok"}, True, None, latency(head))


def fused(count: int = 30, **times: int) -> Recording:
    made = made_recording(AGES[:30])
    made.answers.clear()
    for tick in range(count):
        made.on_label(fused_label(tick, **times))
    return made


def traced(recording: Recording) -> dict[str, list[dict]]:
    events = json.loads(trace_text(recording))["traceEvents"]
    return {phase: [e for e in events if e["ph"] == phase] for phase in "MXsftbeCi"}


def overlapping(slices: list[dict]) -> list[tuple[dict, dict]]:
    """Pairs of slices of one thread that neither follow nor hold one another: viewers drop one of them."""
    threads: dict[tuple[int, int], list[dict]] = {}
    for one in slices:
        threads.setdefault((one["pid"], one["tid"]), []).append(one)

    def ends(one: dict) -> tuple[int, int]:
        return round(one["ts"] * 1000), round((one["ts"] + one["dur"]) * 1000)

    return [
        (one, other)
        for rows in threads.values()
        for one, other in combinations(rows, 2)
        for (a, b), (c, d) in [sorted((ends(one), ends(other)), key=lambda x: (x[0], -x[1]))]
        if c < b < d
    ]


def test_trace_has_processes_slices_flows_and_counters() -> None:
    made = fused()
    made.on_label(made_label(31, 20 * MS, dropped=1))
    by_phase = traced(made)
    names = {e["args"]["name"] for e in by_phase["M"] if e["name"] == "process_name"}
    assert names == {"analyze 0", "publish", "decode door"}
    assert {e["name"] for e in by_phase["C"]} == {"queue", "memory"}
    assert [e["name"] for e in by_phase["i"]] == ["drop: 1 dropped before tick 31"]


def test_flows_lead_from_picture_and_sound_to_the_label() -> None:
    by_phase = traced(fused(30))
    assert len(by_phase["s"]) == len(by_phase["f"]) == 60
    places = {e["args"]["name"]: (e["pid"], e["tid"]) for e in by_phase["M"] if e["name"] == "thread_name"}
    begun = [(e["pid"], e["tid"]) for e in by_phase["s"]]
    assert begun.count(places["picture"]) == begun.count(places["sound"]) == 30
    assert {(e["pid"], e["tid"]) for e in by_phase["f"]} == {places["publish"]}
    assert {e["pid"] for e in by_phase["t"]} == {11}, "over the analyzer"
    for flow in [
        *by_phase["s"],
        *by_phase["t"],
        *by_phase["f"],
    ]:  # a flow binds to the slice that encloses it
        assert any(
            (s["pid"], s["tid"]) == (flow["pid"], flow["tid"]) and s["ts"] <= flow["ts"] <= s["ts"] + s["dur"]
            for s in by_phase["X"]
        )


def test_flow_of_a_tick_without_tracks_of_its_own_leads_from_its_decoding() -> None:
    """Saturated: a recording's tick is stamped as a whole."""
    made = fused(0)
    label = fused_label(0)
    kept = tuple(s for s in label.head.trace.stamps if s.stage in ("decode", "analyze", "publish"))
    head = replace(label.head, trace=replace(label.head.trace, stamps=kept))
    made.on_label(replace(label, head=head))
    by_phase = traced(made)
    (start,), (slice_,) = by_phase["s"], [e for e in by_phase["X"] if e["name"].startswith("decode ")]
    assert (start["pid"], start["tid"], start["ts"]) == (slice_["pid"], slice_["tid"], slice_["ts"])


@pytest.mark.parametrize(("wait_ns", "work_ns"), [(5 * MS, 20 * MS), (250 * MS, 130 * MS), (0, 350 * MS)])
def test_slices_nest_and_no_time_is_before_the_first(wait_ns: int, work_ns: int) -> None:
    made = fused(wait_ns=wait_ns, work_ns=work_ns)
    made.begin_ns += 3 * NS // 10 + 150 * MS  # the first answers began before the measured part
    by_phase = traced(made)
    assert overlapping(by_phase["X"]) == []
    timed = [e for rows in by_phase.values() for e in rows if "ts" in e]
    assert min(e["ts"] for e in timed) == 0
    named = {(e["pid"], e["tid"]) for e in by_phase["M"] if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in by_phase["X"]} <= named


def test_each_wait_begins_and_ends_under_a_number_of_its_own() -> None:
    by_phase = traced(fused(30, wait_ns=250 * MS))
    begun, ended = ({e["id"]: e for e in by_phase[phase]} for phase in "be")
    assert (
        len(begun) == len(by_phase["b"]) == len(by_phase["e"]) == 60
    )  # for the other track, for the analyzer
    assert begun.keys() == ended.keys()
    took = {ended[key]["ts"] - begun[key]["ts"] for key in begun if "analyze" in begun[key]["name"]}
    assert took == {250_000}


def test_work_stays_with_the_analyzer_that_did_it() -> None:
    made = fused(10)
    end_ns = BEGIN_NS + 10 * HOP_NS + 50 * MS
    made.on_progress(progress("analyze", "0", 15, 0.0, state="starting"), BEGIN_NS)
    made.on_progress(progress("analyze", "0", 15, 0.0, state="standby"), BEGIN_NS + MS)
    made.on_progress(progress("analyze", "0", 15, 0.1), end_ns)  # it takes over
    for tick in range(10, 20):
        made.on_label(fused_label(tick))
    work = [e for e in traced(made)["X"] if e["name"].startswith("analyze")]
    assert [e["pid"] for e in work] == [11] * 10 + [15] * 10


def test_slices_of_a_tick_are_as_long_as_its_stamps() -> None:
    first = [e for e in traced(made_recording([20 * MS] * 20))["X"] if e["args"]["tick"] == 0]
    assert {e["name"]: e["dur"] for e in first} == {
        "decode_video door 0": 5000, "decode door 0": 5000, "analyze door 0": 10_000
    }  # fmt: skip


def test_sweep_page_shows_every_cell_and_the_choice(tmp_path: Path) -> None:
    cells = [
        Cell(settings={"hop": "50"}, hop_ms=50, streams=1, age_p50_ms=9, age_p99_ms=20, late_ms=70,
             p99_is_max=True,
             dropped_share=0, missed_share=0, cpu_s_per_s=0.4, cores=0.4, rss_bytes=10**9),
        Cell(settings={"hop": HOSTILE}, error=HOSTILE),
    ]  # fmt: skip
    made = Sweep(
        schema=SCHEMA, created="now", source="x", duration_s=5, target_ms=100.0, chosen=0, cells=cells
    )
    page = render_sweep(made)
    assert HOSTILE not in page and parsed(page).tags.count("script") == 0
    assert "Choose <b>hop=50</b>" in page
    assert "20.0 ms (max)" in page
    assert parsed(page).tags.count("circle") == 1
