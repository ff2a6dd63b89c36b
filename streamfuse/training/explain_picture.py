"""An explanation as one picture: shares of the modalities, the moments, the regions, the sounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from streamfuse.training.explain import Explanation

WIDE, EDGE = 1000, 24
PAPER, INK, FAINT = (255, 255, 255), (32, 33, 36), (120, 124, 130)
FOR, AGAINST = (214, 69, 48), (52, 104, 192)
"""What speaks for the label, and against it."""
THUMB, LARGE = 86, 300
NAMES = {"frame": "picture", "audio": "sound"}
"""What people call a modality."""


def explanation_picture(what: Explanation, source: str) -> Image.Image:
    """Draw it, RGB."""
    page = Image.new("RGB", (WIDE, 790), PAPER)
    draw = ImageDraw.Draw(page)
    _text(draw, (EDGE, 18), f"{what.head}: {what.label}", 28)
    _text(draw, (EDGE, 56), f"{source} at {what.at_s:g} s, probability {what.score:.2f}", 16, FAINT)
    _shares(draw, what, 92)
    _text(draw, (EDGE, 172), "Moments: what the label loses without the pictures of that time", 16)
    _moments(page, draw, what, 198)
    left = EDGE
    scale = max(map(_scale, what.regions.values()), default=1.0)
    for view, values in what.regions.items():
        _text(draw, (left, 352), f"Regions of the {NAMES.get(view, view)}", 16)
        base = _grey(what.views[view]).resize((LARGE, LARGE)).convert("RGB")
        page.paste(_heated(base, values, scale), (left, 378))
        left += LARGE + 32
    _text(draw, (left, 352), "Sounds: high above low", 16)
    _sounds(page, draw, what, (left, 378), (WIDE - EDGE - left, LARGE))
    _legend(draw, 738)
    return page


def _text(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: tuple[int, ...] = INK
) -> None:
    draw.text(at, text, fill=colour, font=ImageFont.load_default(size))


def _shares(draw: ImageDraw.ImageDraw, what: Explanation, top: int) -> None:
    full = WIDE - 2 * EDGE - 190
    for row, (name, share) in enumerate(what.share.items()):
        y = top + 24 * row
        _text(draw, (EDGE, y), NAMES.get(name, name), 16)
        draw.rectangle((EDGE + 90, y + 3, EDGE + 90 + full, y + 17), fill=(238, 239, 241))
        draw.rectangle((EDGE + 90, y + 3, EDGE + 90 + round(full * share), y + 17), fill=FOR)
        _text(draw, (EDGE + 100 + full, y), f"{100 * share:.0f} %", 16)


def _moments(page: Image.Image, draw: ImageDraw.ImageDraw, what: Explanation, top: int) -> None:
    shown = min(len(what.moments), 10)
    scale = _scale(what.moments)
    for n in range(shown):
        one = len(what.moments) - shown + n
        x = EDGE + n * (THUMB + 10)
        page.paste(_grey(what.pictures[one]).resize((THUMB, THUMB)), (x, top))
        value = float(what.moments[one]) / scale
        draw.rectangle((x, top + THUMB + 6, x + THUMB, top + THUMB + 14), fill=(238, 239, 241))
        wide = round(THUMB * abs(value))
        draw.rectangle((x, top + THUMB + 6, x + wide, top + THUMB + 14), fill=FOR if value > 0 else AGAINST)
        _text(draw, (x, top + THUMB + 18), f"{what.times[one]:.1f} s", 13, FAINT)


def _sounds(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    what: Explanation,
    at: tuple[int, int],
    size: tuple[int, int],
) -> None:
    heard = what.spectrum.T[::-1]
    low, high = np.quantile(heard, (0.02, 0.995))
    base = _grey((heard - low) / max(float(high - low), 1e-6)).resize(size).convert("RGB")
    page.paste(_heated(base, what.sounds[::-1], _scale(what.sounds)), at)
    for share in (0.0, 0.5, 1.0):
        seconds = what.times[0] + share * (what.times[-1] - what.times[0])
        x = at[0] + share * size[0] - (40 if share == 1.0 else 0)
        _text(draw, (x, at[1] + size[1] + 4), f"{seconds:.1f} s", 13, FAINT)


def _legend(draw: ImageDraw.ImageDraw, top: int) -> None:
    for x, colour, text in (
        (EDGE, FOR, "speaks for the label: hiding it lowers the probability"),
        (EDGE + 480, AGAINST, "speaks against it: hiding it raises the probability"),
    ):
        draw.rectangle((x, top, x + 16, top + 16), fill=colour)
        _text(draw, (x + 24, top), text, 14, FAINT)


def _grey(values: npt.NDArray[np.floating]) -> Image.Image:
    return Image.fromarray((np.clip(values, 0.0, 1.0) * 255).astype(np.uint8))


def _scale(values: npt.NDArray[np.floating]) -> float:
    return max(float(np.abs(values).max(initial=0.0)), 0.05)


def _heated(base: Image.Image, values: npt.NDArray[np.floating], scale: float) -> Image.Image:
    """The picture with colour where hiding changes something, full where it changes as much as `scale`."""
    strength = np.clip(np.abs(values) / scale, 0.0, 1.0)
    red, green, blue = (np.where(values > 0, a, b) for a, b in zip(FOR, AGAINST, strict=True))
    colours = np.stack([red, green, blue], -1).astype(np.uint8)
    alpha = Image.fromarray((170 * strength).astype(np.uint8)).resize(base.size, Image.Resampling.BICUBIC)
    layer = Image.fromarray(colours).resize(base.size, Image.Resampling.NEAREST)
    return Image.composite(layer, base, alpha)
