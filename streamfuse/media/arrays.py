"""Sound that somebody else captured, as arrays: to 16 kHz mono, as decoded sound is."""

from __future__ import annotations

import av
import numpy as np
import numpy.typing as npt

from streamfuse.errors import StageError
from streamfuse.media.resample import Resampler
from streamfuse.types import F32, AudioChunk

# FFmpeg's own layout for a number of channels, which is what a file without a layout gets.
LAYOUTS = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1")
RATES = (8_000, 192_000)


class ArrayResampler:
    """(n,) or (n, channels) at one rate -> AudioChunks, the same for any cut into pushes."""

    def __init__(self, rate: int) -> None:
        if not RATES[0] <= rate <= RATES[1]:
            raise StageError(f"a sample rate must be in {RATES[0]}..{RATES[1]} Hz", got=rate)
        self.rate = rate
        self._resampler = Resampler()

    def push(self, samples: npt.NDArray[np.generic], pts_ns: int, arrival_ns: int = 0) -> list[AudioChunk]:
        """samples float in [-1, 1] or int16; the first one at pts_ns. StageError for anything else."""
        packed = _checked(samples)
        if not len(packed):
            return []
        layout = LAYOUTS[packed.shape[1] - 1]
        frame = av.AudioFrame.from_ndarray(packed.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate = self.rate
        return [AudioChunk(pts, mono, arrival_ns) for pts, mono in self._resampler.push(frame, pts_ns)]

    def flush(self) -> list[AudioChunk]:
        """What the filter still holds."""
        return [AudioChunk(pts, mono) for pts, mono in self._resampler.flush()]


def _checked(samples: npt.NDArray[np.generic]) -> F32:
    """(n, channels) float32, contiguous."""
    table = samples[:, None] if samples.ndim == 1 else samples
    kind = "int16" if table.dtype == np.int16 else table.dtype.kind
    if table.ndim != 2 or not 1 <= table.shape[1] <= len(LAYOUTS) or kind not in ("f", "int16"):
        rule = f"samples must be (n,) or (n, channels up to {len(LAYOUTS)}), float in [-1, 1] or int16"
        raise StageError(rule, got=f"{samples.dtype} {samples.shape}")
    scaled = np.ascontiguousarray(table, np.float32)
    if kind == "int16":
        return scaled / np.float32(32768)
    if not np.isfinite(scaled).all():
        raise StageError("samples must be finite", got="nan or inf")
    return scaled
