"""The panel of labels that is burnt into a picture, drawn with Pillow and blended into YUV planes.

Only the panel's part of a picture is touched, and it is drawn only when its words change, so the cost of a
frame hardly depends on its size. The font is Pillow's own: nothing has to be installed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from streamfuse.types import U8, HeadLabel, Label, Matrix

LEAST_FONT = 12
"""Pixels; below this the letters of Pillow's font run together."""
FONT_SHARE = 0.042
"""Of the short side: 45 px at 1080p."""
_NOTHING = "-"
"""Where there is no label. Pillow's font has no dash that is longer."""
KEPT = 64
"""Panels kept drawn; scores have two decimals, so the same ones come back."""
BACK, INK, SOFT, TROUGH = (12, 14, 18, 178), (255, 255, 255, 255), (186, 193, 204, 255), (255, 255, 255, 46)
ACCENTS = ((91, 155, 240, 255), (240, 200, 77, 255), (76, 195, 138, 255), (242, 160, 75, 255))
# Weights of red and blue in luma: ITU-R BT.601, BT.709, BT.2020.
_WEIGHTS: dict[Matrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}

Row = tuple[str, str, float | None]
_Part = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Where a panel goes (even x, y) and for each plane its values times alpha, and 255 less alpha."""

    x: int
    y: int
    added: tuple[_Part, _Part, _Part]
    kept: tuple[_Part, _Part, _Part]


class Captions:
    """Panels for pictures of one size.

    width, height  even
    """

    def __init__(self, width: int, height: int, matrix: Matrix, full_range: bool) -> None:
        self._size = (width, height)
        self._colours = (matrix, full_range)
        pixels = max(LEAST_FONT, round(min(width, height) * FONT_SHARE))
        self._font = ImageFont.load_default(pixels)
        self._small = ImageFont.load_default(max(10, round(pixels * 0.74)))
        self._unit = pixels
        self._drawn: OrderedDict[tuple[Row, ...], Panel] = OrderedDict()

    def panel(self, label: Label) -> Panel:
        rows = tuple(_row(name, said) for name, said in label.heads.items())
        if rows not in self._drawn:
            self._drawn[rows] = self._blendable(self._draw(rows))
            if len(self._drawn) > KEPT:
                self._drawn.popitem(last=False)
        self._drawn.move_to_end(rows)
        return self._drawn[rows]

    def _draw(self, rows: tuple[Row, ...]) -> Image.Image:
        """The panel alone, RGBA: for each head its name, its label and a bar of its score."""
        unit, pad = self._unit, round(self._unit * 0.6)
        line = round(unit * 1.75)
        gap = round(unit * 0.7)
        name_wide = max(round(self._small.getlength(name)) for name, _, _ in rows)
        number_wide = round(self._small.getlength("0.00"))
        text_wide = max([unit * 7] + [round(self._font.getlength(text)) for _, text, _ in rows])
        wide = pad + name_wide + gap + text_wide + gap + number_wide + pad
        high = pad + line * len(rows) + pad // 2
        image = Image.new("RGBA", (wide, high), (0, 0, 0, 0))
        pen = ImageDraw.Draw(image)
        pen.rounded_rectangle((0, 0, wide - 1, high - 1), radius=round(unit * 0.45), fill=BACK)
        for number, (name, text, score) in enumerate(rows):
            base = pad + line * number + round(unit * 0.95)
            pen.text((pad, base), name, fill=SOFT, font=self._small, anchor="ls")
            left = pad + name_wide + gap
            pen.text((left, base), text, fill=INK, font=self._font, anchor="ls")
            if score is None:
                continue
            pen.text((wide - pad, base), f"{score:.2f}", fill=SOFT, font=self._small, anchor="rs")
            top, thick = base + round(unit * 0.36), max(2, round(unit * 0.13))
            pen.rectangle((left, top, wide - pad, top + thick), fill=TROUGH)
            full = left + round((wide - pad - left) * min(1.0, max(0.0, score)))
            pen.rectangle((left, top, full, top + thick), fill=ACCENTS[number % len(ACCENTS)])
        return image

    def _blendable(self, image: Image.Image) -> Panel:
        width, height = self._size
        margin = round(min(width, height) * 0.03) // 2 * 2
        # An even size, and never larger than the picture: what does not fit is cut off on the right.
        wide = min(image.width + image.width % 2, width - 2 * margin)
        high = min(image.height + image.height % 2, height - 2 * margin)
        canvas = Image.new("RGBA", (wide, high), (0, 0, 0, 0))
        canvas.paste(image, (0, 0))
        rgba = np.asarray(canvas, np.float64)
        alpha = rgba[..., 3]
        planes = _yuv(rgba[..., :3], *self._colours)
        weighted = [plane * alpha for plane in planes]
        added = (weighted[0], _quarter(weighted[1]), _quarter(weighted[2]))
        kept = (255 - alpha, 255 - _quarter(alpha), 255 - _quarter(alpha))
        return Panel(margin, height - margin - high, _parts(added), _parts(kept))


def blend(planes: tuple[U8, U8, U8], panel: Panel) -> None:
    """Put a panel into a picture's Y, U and V planes (4:2:0), in place."""
    for number, (plane, added, kept) in enumerate(zip(planes, panel.added, panel.kept, strict=True)):
        step = 1 if number == 0 else 2
        top, left = panel.y // step, panel.x // step
        part = plane[top : top + added.shape[0], left : left + added.shape[1]]
        part[:] = (part * kept.astype(np.uint32) + added + 127) // 255


def _row(name: str, said: HeadLabel) -> Row:
    """(head, words, score or None) as shown; several labels at once are joined."""
    if said.labels is None:
        return name, said.label or _NOTHING, None if said.score is None else round(said.score, 2)
    words = ", ".join(label for label, _ in said.labels[:3])
    return name, words or _NOTHING, round(said.labels[0][1], 2) if said.labels else None


def _yuv(rgb: npt.NDArray[np.float64], matrix: Matrix, full_range: bool) -> list[npt.NDArray[np.float64]]:
    red, blue = _WEIGHTS[matrix]
    r, g, b = (rgb[..., channel] / 255 for channel in range(3))
    luma = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - luma) / (2 * (1 - blue)), (r - luma) / (2 * (1 - red))
    if full_range:
        return [255 * luma, 128 + 255 * u, 128 + 255 * v]
    return [16 + 219 * luma, 128 + 224 * u, 128 + 224 * v]


def _quarter(plane: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean of every 2 x 2 pixels, as chroma is sampled."""
    high, wide = plane.shape
    quarter: npt.NDArray[np.float64] = plane.reshape(high // 2, 2, wide // 2, 2).mean((1, 3))
    return quarter


def _parts(planes: tuple[Any, Any, Any]) -> tuple[_Part, _Part, _Part]:
    y, u, v = (np.clip(np.rint(plane), 0, 65535).astype(np.uint16) for plane in planes)
    return y, u, v
