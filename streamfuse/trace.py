"""Where a label's time went, from the stamps that every stage put on it.

    arrival      enqueue  start   end      enqueue  start   end = published
    of the last    |--wait--|-work-|--transit--|--wait--|-work-|
    sample         decode                      analyze ...

The parts follow each other without a gap, so they sum exactly to the label's age.
"""

from __future__ import annotations

from dataclasses import replace

from streamfuse.types import Stamp, TickHead, Trace


def stamped(head: TickHead, stage: str, enqueue_ns: int, start_ns: int, end_ns: int) -> TickHead:
    """The head with one more stage's stamp (monotonic ns on one host)."""
    stamp = Stamp(stage, enqueue_ns, start_ns, end_ns)
    return replace(head, trace=replace(head.trace, stamps=(*head.trace.stamps, stamp)))


def last_arrival_ns(trace: Trace) -> int:
    """Arrival of the last sample of either track; 0 where none has one."""
    return max(trace.video_arrival_ns, trace.audio_arrival_ns)


def latency(trace: Trace) -> dict[str, int]:
    """Nanoseconds by name: the age at the last stage's end, its parts, and each track's own age.

    edge_age             of the newest sample the label used; the sum of all *_transit, *_wait and *_work
    video_age, audio_age of each track's newest sample, where it has one
    sync_wait            how long the earlier track waited for the other
    """
    if not trace.stamps:
        return {}
    arrival_ns = last_arrival_ns(trace)
    published_ns = trace.stamps[-1].end_ns
    ages = {
        f"{track}_age": published_ns - at_ns
        for track, at_ns in (("video", trace.video_arrival_ns), ("audio", trace.audio_arrival_ns))
        if at_ns
    }
    result = {"edge_age": published_ns - arrival_ns, **ages}
    if len(ages) == 2:
        result["sync_wait"] = abs(trace.video_arrival_ns - trace.audio_arrival_ns)
    before_ns = arrival_ns
    for stamp in trace.stamps:
        result[f"{stamp.stage}_transit"] = stamp.enqueue_ns - before_ns
        result[f"{stamp.stage}_wait"] = stamp.start_ns - stamp.enqueue_ns
        result[f"{stamp.stage}_work"] = stamp.end_ns - stamp.start_ns
        before_ns = stamp.end_ns
    return result
