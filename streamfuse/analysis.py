"""A tick in, the model's answer out: kernels, one step of the network, and the state between ticks.

Two stages that may run in two threads: Preparer (pictures and sound -> the network's inputs) and
Stepper (the network and its state). TickAnalyzer is the one after the other. On CUDA the stages are those
of batch.py: there the kernels and the step belong together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.kernels.frame_window import frame_window
from streamfuse.kernels.mfcc import mfcc_with_context
from streamfuse.model.runtime import Model, State
from streamfuse.model.spec import ModelSpec
from streamfuse.types import F32, MS, Answer, AnyPicture, Face, Picture, Presence, Tick, TickHead

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

    pictures: list[AnyPicture | None]
    views: dict[str, Presence]
    present: list[bool]
    face: Face | None


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A tick, and what there is to see in it."""

    tick: Tick
    seen: Seen

    @property
    def head(self) -> TickHead:
        return self.tick.head


class Looker:
    """Stage[Tick, Sight]: the views of a tick, before any kernel.

    faces  for a model with a face view: follows the stream's face, and has the only state here
    """

    def __init__(self, spec: ModelSpec, *, max_gap_ms: int = MAX_GAP_MS) -> None:
        self._views = spec.views
        self._flushed = False
        self.faces: FaceView | None = None
        if "face" in spec.views:
            # Here, because OpenCV takes a tenth of a second to import, and few models read faces.
            from streamfuse.faces.view import FaceView

            self.faces = FaceView(max_gap_ms)

    def push(self, tick: Tick) -> list[Sight]:
        refuse_after_flush(self._flushed)
        return [Sight(tick, self._look(tick))]

    def flush(self) -> list[Sight]:
        self._flushed = True
        return []

    def reset(self) -> None:
        self._flushed = False
        if self.faces is not None:
            self.faces.reset()

    def _look(self, tick: Tick) -> Seen:
        head = tick.head
        whole = None if head.video == "missing" else tick.picture
        crop, face = self._face(head, whole) or (None, None)
        pictures = [whole if view == "frame" else crop for view in self._views]
        views: dict[str, Presence] = {
            view: "missing" if picture is None else head.video
            for view, picture in zip(self._views, pictures, strict=True)
        }
        views["audio"] = head.audio
        return Seen(pictures, views, [presence != "missing" for presence in views.values()], face)

    def _face(self, head: TickHead, whole: AnyPicture | None) -> tuple[Picture, Face] | None:
        """Finding a face is the CPU's work: for it alone a picture on the GPU is copied to the host."""
        if self.faces is None:
            return None
        return self.faces.see(head, None if whole is None else whole.on_host())


class Preparer:
    """Stage[Tick, Inputs]: the pictures of the views and the MFCC of the sound, by the CPU's kernels."""

    def __init__(self, spec: ModelSpec, *, max_gap_ms: int = MAX_GAP_MS) -> None:
        self._spec = spec
        self._shape = spec.video_shape()[1:2] + spec.video_shape()[3:]
        self._looker = Looker(spec, max_gap_ms=max_gap_ms)

    @property
    def faces(self) -> FaceView | None:
        return self._looker.faces

    def push(self, tick: Tick) -> list[Inputs]:
        return [self._inputs(sight) for sight in self._looker.push(tick)]

    def flush(self) -> list[Inputs]:
        return [self._inputs(sight) for sight in self._looker.flush()]

    def reset(self) -> None:
        self._looker.reset()

    def _inputs(self, sight: Sight) -> Inputs:
        tick, seen = sight.tick, sight.seen
        video = np.zeros(self._shape, np.float32)
        for row, picture in enumerate(seen.pictures):
            if picture is not None:
                frame_window([picture.on_host()], self._spec.video.picture, video[row : row + 1])
        audio = mfcc_with_context(tick.samples[None], self._spec.audio)[0]
        return Inputs(tick.head, video, audio, np.array(seen.present), seen.views, seen.face)


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


class Preparing(Protocol):
    """The first of a pair of stages; what it gives is for the second alone, in whatever thread."""

    @property
    def faces(self) -> FaceView | None: ...
    def push(self, tick: Tick) -> Sequence[Any]: ...
    def flush(self) -> Sequence[Any]: ...
    def reset(self) -> None: ...


class Stepping(Protocol):
    """The second: Stage[what the first gives, Answer].

    course  how far the stream is
    state   what goes on from tick to tick; a checkpoint takes it, and sets it before the first push
    close   give back what is held on the device
    """

    model: Model

    @property
    def course(self) -> Course: ...
    @property
    def state(self) -> StepState: ...
    @state.setter
    def state(self, state: StepState) -> None: ...
    @property
    def counters(self) -> dict[str, int]: ...
    def push(self, prepared: Any, /) -> list[Answer]: ...
    def flush(self) -> list[Answer]: ...
    def reset(self) -> None: ...
    def close(self) -> None: ...


class Stepper:
    """Stage[Inputs, Answer]: one step of the network at batch 1, so that results never depend on company.

    Ticks of a session come in order, each once; another order is a StageError. The state begins anew
    with each session, after a run of ticks that never came longer than max_gap_ms, and after an answer
    that is not finite. Such an answer is given as zero probabilities (no label has a
    score, hence `unknown`), not warm, and counted in `counters["bad_answers"]`.
    """

    def __init__(self, model: Model, max_gap_ms: int = MAX_GAP_MS) -> None:
        self.model, self.max_gap_ms = model, max_gap_ms
        self.counters = {"bad_answers": 0}
        self._flushed = False
        self.state = self._new_state()

    @property
    def course(self) -> Course:
        return self.state

    def push(self, inputs: Inputs) -> list[Answer]:
        refuse_after_flush(self._flushed)
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

    def close(self) -> None:
        """Nothing is held."""

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
    """Stage[Tick, Answer]: Preparer, then Stepper; or another pair (batch.stages)."""

    def __init__(
        self,
        model: Model,
        *,
        max_gap_ms: int = MAX_GAP_MS,
        stages: tuple[Preparing, Stepping] | None = None,
    ) -> None:
        pair = stages or (Preparer(model.spec, max_gap_ms=max_gap_ms), Stepper(model, max_gap_ms))
        self._preparer: Preparing = pair[0]
        self.stepper: Stepping = pair[1]

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


def refuse_after_flush(flushed: bool) -> None:
    if flushed:
        raise StageError("a stage takes nothing after flush()", hint="reset() begins anew")
