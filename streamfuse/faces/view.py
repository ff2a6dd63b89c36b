"""The face view of one stream: find the largest face, follow it from tick to tick, cut it out steadily.

YuNet looks at the whole picture while there is no face (every SEARCH_TICKS) and, with one, into a window
around it (every FOLLOW_TICKS; every LOOK_ROUND-th time at the whole picture, for a larger one). Between
detections the face is found again by its own look: the best match of a small patch around where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from streamfuse.faces.crop import square_around
from streamfuse.faces.finder import FaceFinder, Found
from streamfuse.faces.steady import Steady
from streamfuse.types import MS, NS, U8, Face, Picture, TickHead

SEARCH_TICKS, FOLLOW_TICKS, LOOK_ROUND = 4, 3, 4
LEAST_NEW, LEAST_KEPT = 0.7, 0.5
"""Score of a face to be begun with, and of one that is followed."""
LARGER = 1.5
"""Another face takes over when its area is so many times that of the face that is followed."""
SAME = 0.3
"""Boxes that share so much of their union are the same face."""
MOST_MISSED = 3
"""Detections in a row without the face before it is gone: about a second, of turning away, say."""
WINDOW, WINDOW_SIDE = 3.0, 160
"""The window is so many faces wide and searched at so many pixels."""
PATCH, REACH = 24, 44
"""Pixels that the face is matched at, and those of the surroundings it is looked for in."""
LEAST_MATCH, SURE_MATCH = 0.35, 0.7
"""Correlation below the first: gone. Below the second: detect now."""
CROP = 1.05
"""Side of the crop, in heights (or widths, if larger) of the detector's box: as in the faces learned from."""
CALM = 8.0
"""The side follows so much more slowly: detections differ in size more than faces change theirs."""


@dataclass(slots=True)
class FaceState:
    """What goes from tick to tick: plain data, for the checkpoint. `score` 0: no face is followed.

    session, index  of the last tick
    x, y, width, height  of the face as last found, in pixels of the picture
    steady          the filtered middle and side of the crop: x, y, side
    patch           PATCH x PATCH bytes of luma: what the face looked like when it was last detected
    wait            ticks until the next detection; looks: detections with this face; missed: in vain
    """

    session: int | None = None
    index: int = -1
    size: tuple[int, int] = (0, 0)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    score: float = 0.0
    steady: tuple[Steady, Steady, Steady] | None = None
    patch: bytes = b""
    wait: int = 0
    looks: int = 0
    missed: int = 0


class FaceView:
    """The largest face of one stream of ticks.

    max_gap_ms  after a longer gap, and with a new session or picture size, it begins anew
    """

    def __init__(self, max_gap_ms: int = 2000) -> None:
        self._max_gap_ns = max_gap_ms * MS
        # Two, because telling the network another picture size costs as much as a detection.
        self._whole, self._window = FaceFinder(LEAST_KEPT), FaceFinder(LEAST_KEPT)
        self.state = FaceState()

    def reset(self) -> None:
        self.state = FaceState()

    def stored(self) -> bytes:
        """The state, for a checkpoint."""
        return msgspec.msgpack.encode(self.state)

    def restore(self, stored: bytes) -> None:
        """Be as stored() found it. Raises ValueError for what it never gave."""
        self.state = msgspec.msgpack.decode(stored, type=FaceState)

    def see(self, head: TickHead, picture: Picture | None) -> tuple[Picture, Face] | None:
        """The crop and the face of this tick; None where there is no face or no picture.

        A held picture gives the face where it was; one that is missing leaves everything as it is.
        """
        state = self._current(head)
        if picture is None:
            return None
        gone_ns = (head.index - state.index) * head.hop_ns
        if head.session != state.session or gone_ns > self._max_gap_ns or state.size != _size(picture):
            state = self.state = FaceState(size=_size(picture))
            gone_ns = head.hop_ns
        state.session, state.index = head.session, head.index
        luma = picture.planes[0]
        if head.video == "ok":
            self._look(luma)
        if state.score <= 0.0:
            return None
        x, y, side = self._steady(max(gone_ns, 1) / NS)
        return square_around(picture, x, y, side), _face(state, picture)

    def _current(self, head: TickHead) -> FaceState:
        """The state, new where the session is."""
        if head.session != self.state.session:
            self.state = FaceState()
        return self.state

    def _look(self, luma: U8) -> None:
        """Follow the face, and detect where that is due."""
        state = self.state
        state.wait -= 1
        match = self._match(luma) if state.score > 0.0 else 0.0
        if state.score > 0.0 and match < LEAST_MATCH:
            state.score = 0.0
        if state.wait > 0 and (state.score <= 0.0 or match >= SURE_MATCH):
            return
        if state.score <= 0.0:
            state.wait = SEARCH_TICKS
            new = [one for one in self._whole.find(luma) if one.score >= LEAST_NEW]
            if new:
                self._begin(luma, new[0])
            return
        state.wait, state.looks = FOLLOW_TICKS, state.looks + 1
        found = self._whole.find(luma) if state.looks % LOOK_ROUND == 0 else self._in_window(luma)
        self._detected(luma, found)

    def _begin(self, luma: U8, found: Found) -> None:
        state = self.state
        state.steady, state.looks = None, 0
        state.wait = FOLLOW_TICKS
        self._take(luma, found)

    def _detected(self, luma: U8, found: list[Found]) -> None:
        """Go on with the face that was followed, or with one that is clearly larger."""
        state = self.state
        same = max(found, key=self._likeness, default=None)
        if same is not None and self._likeness(same) < SAME:
            same = None
        area = LARGER * state.width * state.height
        larger = [f for f in found if f is not same and f.score >= LEAST_NEW and f.width * f.height > area]
        if larger:
            self._begin(luma, larger[0])
        elif same is not None:
            self._take(luma, same)
        else:
            state.missed += 1
            if state.missed >= MOST_MISSED:
                state.score = 0.0

    def _take(self, luma: U8, found: Found) -> None:
        state = self.state
        state.x, state.y = found.x, found.y
        state.width, state.height, state.score = found.width, found.height, found.score
        state.missed = 0
        patch = _look_at(luma, *_middle(state), _patch_side(state), PATCH)
        state.patch = patch.tobytes()

    def _likeness(self, found: Found) -> float:
        """The share of their union that a box and the followed one have in common."""
        state = self.state
        wide = min(found.x + found.width, state.x + state.width) - max(found.x, state.x)
        high = min(found.y + found.height, state.y + state.height) - max(found.y, state.y)
        both = max(wide, 0.0) * max(high, 0.0)
        return both / (found.width * found.height + state.width * state.height - both)

    def _match(self, luma: U8) -> float:
        """Move the box to where the patch fits best; returns the correlation there."""
        state = self.state
        patch = np.frombuffer(state.patch, np.uint8).reshape(PATCH, PATCH)
        x, y = _middle(state)
        scale = _patch_side(state) / PATCH
        around = _look_at(luma, x, y, scale * REACH, REACH)
        fit = cv2.matchTemplate(around, patch, cv2.TM_CCOEFF_NORMED)
        _, best, _, (column, row) = cv2.minMaxLoc(fit)
        middle = (REACH - PATCH) / 2
        state.x += (_peak(fit[row], column) - middle) * scale
        state.y += (_peak(fit[:, column], row) - middle) * scale
        # A patch without contrast correlates with nothing.
        return float(best) if np.isfinite(best) else 0.0

    def _in_window(self, luma: U8) -> list[Found]:
        """Detect around the face only."""
        state = self.state
        x, y = _middle(state)
        side = WINDOW * max(state.width, state.height)
        scale = side / WINDOW_SIDE
        left, top = x - side / 2, y - side / 2
        window = _look_at(luma, x, y, side, WINDOW_SIDE)
        return [
            Found(left + f.x * scale, top + f.y * scale, f.width * scale, f.height * scale, f.score)
            for f in self._window.find(window)
        ]

    def _steady(self, dt_s: float) -> tuple[float, float, float]:
        """Middle and side of the crop, without the jitter."""
        state = self.state
        x, y = _middle(state)
        side = CROP * max(state.width, state.height)
        if state.steady is None:
            state.steady = (Steady(x), Steady(y), Steady(side))
            return x, y, side
        at_x, at_y, at_side = state.steady
        return at_x.follow(x, dt_s, side), at_y.follow(y, dt_s, side), at_side.follow(side, dt_s, CALM * side)


def _size(picture: Picture) -> tuple[int, int]:
    return picture.width, picture.height


def _middle(state: FaceState) -> tuple[float, float]:
    return state.x + state.width / 2, state.y + state.height / 2


def _patch_side(state: FaceState) -> float:
    """Pixels of the picture that the patch covers: the middle of the face, little of what is behind it."""
    return 0.8 * max(state.width, state.height)


def _look_at(luma: U8, x: float, y: float, side: float, pixels: int) -> U8:
    """The square of `side` around (x, y) at `pixels` x `pixels`; the edge repeats."""
    scale = side / pixels
    offset = 0.5 * scale - 0.5
    matrix = np.array([[scale, 0.0, x - side / 2 + offset], [0.0, scale, y - side / 2 + offset]])
    if scale > 2.0:  # between pixels twice as far apart as needed, detail would be taken for movement
        shrink = 1.0 / scale
        luma = cv2.resize(luma, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        return _look_at(luma, x * shrink, y * shrink, side * shrink, pixels)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    looked: U8 = cv2.warpAffine(luma, matrix, (pixels, pixels), flags=flags, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return looked


def _peak(fit: np.ndarray, at: int) -> float:
    """The place of a maximum between samples, by the parabola through its neighbours."""
    if not 0 < at < len(fit) - 1:
        return float(at)
    before, here, after = (float(one) for one in fit[at - 1 : at + 2])
    bend = before - 2.0 * here + after
    return at + (0.5 * (before - after) / bend if bend < 0.0 else 0.0)


def _face(state: FaceState, picture: Picture) -> Face:
    """The face as shares of the picture, cut at its edges."""
    left, right = (min(max(v / picture.width, 0.0), 1.0) for v in (state.x, state.x + state.width))
    top, bottom = (min(max(v / picture.height, 0.0), 1.0) for v in (state.y, state.y + state.height))
    return Face((left, top, right - left, bottom - top), state.score)
