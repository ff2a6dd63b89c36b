"""Whether a GPU's decoder decodes: FFmpeg says so only with the packets, and falls back without a word."""

from __future__ import annotations

import logging
from typing import Any

from streamfuse.config import DecodeConfig
from streamfuse.media.opening import no_gpu_decoder
from streamfuse.media.source import Source

log = logging.getLogger(__name__)

MOST_REFUSED = 2
"""Key frames without a picture before them: one may be damaged, and what comes before one is none's fault."""


class GpuTrack:
    """Told of every picture and of every key frame that was refused.

    raises  BackendError: the GPU does not decode this profile of the codec, and the CPU must not
    """

    def __init__(self, source: Source, decode: DecodeConfig) -> None:
        self._source, self._fallback = source, decode.hwaccel_fallback
        self._shown, self._refused = False, 0

    def shows(self, frame: Any) -> None:
        if not self._shown and frame.sw_format is None:
            told = no_gpu_decoder(RuntimeError("a profile that it does not decode"), self._source)
            log.warning("decoded on the CPU: %s", told)
        self._shown = True

    def refuses(self, error: Exception) -> None:
        self._refused += 1
        if self._refused >= MOST_REFUSED and not (self._shown or self._fallback):
            raise no_gpu_decoder(error, self._source)

    def ends(self) -> None:
        if self._refused and not (self._shown or self._fallback):
            raise no_gpu_decoder(RuntimeError("no picture of any packet"), self._source)
