"""A tick in, the model's answer out: kernels, one step of the network, and the state between ticks.

Two stages that may run in two threads: Preparer (pictures and sound -> the network's inputs) and
Stepper (the network and its state). TickAnalyzer is the one after the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.kernels.backend import CPU, Device
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.mfcc import mfcc_with_context
from streamfuse.model.runtime import Model, State
from streamfuse.model.spec import ModelSpec
from streamfuse.types import F32, MS, Answer, Face, Picture, Presence, Tick, TickHead

if TYPE_CHECKING:
    from streamfuse.faces.view import FaceView

MAX_GAP_MS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What the network sees of one tick.

    video    (V, C, H, W) float32, one picture per view, zeros for a view that is missing
    audio    (frames, n_mfcc) float32
    present  (V + 1,) bool: the views in the model's order, then audio
    views    the same by name, with `held`
    face     where the face view looked
    """

    head: TickHead
    video: F32
    audio: F32
    present: npt.NDArray[np.bool_]
    views: dict[str, Presence]
    face: Face | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The views of one tick in the model's order: pictures, None where there is nothing to see.

    views    by name, and "audio"
    present  the same in the model's order, then audio
    """

    pictures: list[Picture | None]
    views: dict[str, Presence]
    present: list[bool]
    face: Face | None


class Preparer:
    """Stage[Tick, Inputs]: the pictures of the views and the MFCC of the sound.

    device  where the kernels run
    faces   for a model with a face view: follows the stream's face, and has the only state here
    """

    def __init__(self, spec: ModelSpec, *, max_gap_ms: int = MAX_GAP_MS, device: str | Device = CPU) -> None:
        self._spec, self._device = spec, device
        self._shape = spec.video_shape()[1:2] + spec.video_shape()[3:]
        self._flushed = False
        self.faces: FaceView | None = None
        if "face" in spec.views:
            # Here, because OpenCV takes a tenth of a second to import, and few models read faces.
            from streamfuse.faces.view import FaceView

            self.faces = FaceView(max_gap_ms)

    def push(self, tick: Tick) -> list[Inputs]:
        _refuse_after_flush(self._flushed)
        seen = self.look(tick)
        video = np.zeros(self._shape, np.float32)
        for row, picture in enumerate(seen.pictures):
            if picture is not None:
                frame_window([picture], self._spec.video.picture, video[row : row + 1], self._device)
        audio = mfcc_with_context(tick.samples[None], self._spec.audio, self._device)[0]
        return [Inputs(tick.head, video, audio, np.array(seen.present), seen.views, seen.face)]

    def look(self, tick: Tick) -> Seen:
        """The views of the next tick, before any kernel; the ticks of a stream in order, each once."""
        head = tick.head
        whole = None if head.video == "missing" else tick.picture
        crop, face = (self.faces.see(head, whole) if self.faces is not None else None) or (None, None)
        pictures = [whole if view == "frame" else crop for view in self._spec.views]
        views: dict[str, Presence] = {
            view: "missing" if picture is None else head.video
            for view, picture in zip(self._spec.views, pictures, strict=True)
        }
        views["audio"] = head.audio
        return Seen(pictures, views, [presence != "missing" for presence in views.values()], face)

    def flush(self) -> list[Inputs]:
        self._flushed = True
        return []

    def reset(self) -> None:
        self._flushed = False
        if self.faces is not None:
            self.faces.reset()


@dataclass(eq=False)
class Course:
    """How far a stream is.

    session  of the last tick, None before the first
    index    of the last tick
    stepped  ticks since the state was new
    """

    session: int | None = None
    index: int = -1
    stepped: int = 0

    def advance(self, head: TickHead, max_gap_ms: int) -> bool:
        """Count a tick in. True: the network's state begins anew with it.

        raises  StageError: ticks of a session come in order, each once
        """
        if head.session == self.session and head.index <= self.index:
            got = f"tick {head.index} after {self.index}"
            raise StageError("ticks of a session must come in order", got=got, where=head.source)
        lost_ns = (head.index - self.index - 1) * head.hop_ns
        anew = self.session is None or head.session != self.session or lost_ns > max_gap_ms * MS
        self.session, self.index = head.session, head.index
        self.stepped = 1 if anew else self.stepped + 1
        return anew


@dataclass(eq=False, kw_only=True)
class StepState(Course):
    """Everything that goes from one tick to the next; a checkpoint holds it.

    model    the network's state for this one stream
    clips    T > 1: the last T (V, C, H, W) pictures and (frames, n_mfcc) sounds, oldest first
    """

    model: State
    clips: deque[tuple[F32, F32]]


@dataclass
class Stepper:
    """Stage[Inputs, Answer]: one step of the network at batch 1, so that results never depend on company.

    Ticks of a session come in order, each once; another order is a StageError. The state begins anew
    with each session, after a run of ticks that never came longer than max_gap_ms, and after an answer
    that is not finite. Such an answer is given as zero probabilities (no label has a
    score, hence `unknown`), not warm, and counted in `counters["bad_answers"]`.
    """

    model: Model
    max_gap_ms: int = MAX_GAP_MS
    counters: dict[str, int] = field(default_factory=lambda: {"bad_answers": 0})

    def __post_init__(self) -> None:
        self._flushed = False
        self.state = self._new_state()

    def push(self, inputs: Inputs) -> list[Answer]:
        _refuse_after_flush(self._flushed)
        head, state = inputs.head, self.state
        if state.advance(head, self.max_gap_ms):
            self._renew()
        video, audio = self._window(inputs)
        logits, state.model = self.model.step(video[None], audio[None], inputs.present[None], state.model)
        rows = {name: p[0] for name, p in self.model.probabilities(logits).items()}
        if not all(np.isfinite(row).all() for row in rows.values()):
            return [self._bad_answer(inputs, rows)]
        warm = state.stepped >= self.model.spec.warm_ticks
        return [Answer(head, rows, inputs.views, warm, inputs.face)]

    def flush(self) -> list[Answer]:
        self._flushed = True
        return []

    def reset(self) -> None:
        self._flushed = False
        self.state = self._new_state()

    def _new_state(self) -> StepState:
        clips: deque[tuple[F32, F32]] = deque(maxlen=self.model.spec.video.frames)
        return StepState(model=self.model.init_state(1), clips=clips)

    def _renew(self) -> None:
        self.state.model = self.model.init_state(1)
        self.state.clips.clear()

    def _window(self, inputs: Inputs) -> tuple[F32, F32]:
        """(V, T, C, H, W) and (Ta, n_mfcc): this tick, or with T > 1 the last T ticks.

        Before T ticks have come, the first one stands for those before it.
        """
        frames = self.model.spec.video.frames
        if frames == 1:
            return inputs.video[:, None], inputs.audio
        clips = self.state.clips
        clips.append((inputs.video, inputs.audio))
        padded = [clips[0]] * (frames - len(clips)) + list(clips)
        return np.stack([v for v, _ in padded], axis=1), np.concatenate([a for _, a in padded])

    def _bad_answer(self, inputs: Inputs, rows: dict[str, F32]) -> Answer:
        self._renew()
        self.state.stepped = 0
        self.counters["bad_answers"] += 1
        nothing = {n: np.zeros_like(r) for n, r in rows.items()}
        return Answer(inputs.head, nothing, inputs.views, warm=False, face=inputs.face)


class TickAnalyzer:
    """Stage[Tick, Answer]: Preparer, then Stepper."""

    def __init__(self, model: Model, *, max_gap_ms: int = MAX_GAP_MS) -> None:
        self._preparer = Preparer(model.spec, max_gap_ms=max_gap_ms, device=model.device)
        self.stepper = Stepper(model, max_gap_ms)

    @property
    def counters(self) -> dict[str, int]:
        return self.stepper.counters

    @property
    def faces(self) -> FaceView | None:
        return self._preparer.faces

    def push(self, tick: Tick) -> list[Answer]:
        return [answer for inputs in self._preparer.push(tick) for answer in self.stepper.push(inputs)]

    def flush(self) -> list[Answer]:
        return [a for i in self._preparer.flush() for a in self.stepper.push(i)] + self.stepper.flush()

    def reset(self) -> None:
        self._preparer.reset()
        self.stepper.reset()


def _refuse_after_flush(flushed: bool) -> None:
    if flushed:
        raise StageError("a stage takes nothing after flush()", hint="reset() begins anew")
