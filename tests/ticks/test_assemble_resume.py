from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from streamfuse.types import MS, AudioChunk
from tests.ticks.media import (
    CONTEXT,
    HOP,
    HOP_NS,
    Camera,
    assembler,
    chunk,
    film,
    number_of,
    ramp,
    run,
    start,
)


@pytest.mark.parametrize("index", [0, 1, 17, 44])
def test_resume_makes_the_same_ticks_from_there_on(index: int) -> None:
    whole = run([*film(0), *film(1), *film(2)])
    part = assembler(resume=(1, index))
    ticks = run([*film(0), *film(1), *film(2)], part)
    wanted = [t for t in whole if (t.head.session, t.head.index) >= (1, index)]
    assert [t.head for t in ticks] == [t.head for t in wanted]
    assert [number_of(t) for t in ticks] == [number_of(t) for t in wanted]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(ticks, wanted, strict=True))
    assert part.counters["late_frames"] == part.counters["late_audio_samples"] == 0


def test_resume_with_video_from_later_on_still_waits_for_the_sound() -> None:
    made = assembler(resume=(0, 9_000))
    camera, zero = Camera(), 8_980 * HOP_NS
    made.push(start())
    frames = [made.push(camera.frame(i, zero + i * 40 * MS)) for i in range(100)]
    assert not any(frames)
    assert made.counters["ahead_items"] == 0
    sound = [t for i in range(9_002) for t in made.push(chunk(i * HOP, HOP))]
    assert [t.head.index for t in sound] == [9_000, 9_001]
    assert np.array_equal(sound[0].samples, ramp(9_000 * HOP - CONTEXT, CONTEXT + HOP))
    assert [number_of(t) for t in sound] == [52, 54]


def test_sound_of_ticks_that_another_run_made_is_let_go() -> None:
    made, alive = assembler(resume=(1, 0)), []
    made.push(start())
    for i in range(50):
        samples = ramp(i * HOP, HOP)
        alive.append(weakref.ref(samples))
        made.push(AudioChunk(i * HOP_NS, samples))
        del samples
    gc.collect()
    assert sum(ref() is not None for ref in alive) <= 1
