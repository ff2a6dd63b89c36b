"""Whether decoded pictures stay on the GPU: where one process decodes and analyses, and both on it."""

from __future__ import annotations

from functools import partial

from streamfuse.config import DecodeConfig
from streamfuse.errors import ConfigError
from streamfuse.kernels.backend import primary_context
from streamfuse.media.device_frames import Gpu


def stays_on(decode: DecodeConfig, device: object) -> Gpu | None:
    """The GPU on which pictures stay; None where they are decoded by the CPU, or analysed by it.

    device  the model's, as text "cpu" or "cuda:N"
    raises  ConfigError: two GPUs
    """
    decoder, _, asked = decode.hwaccel.partition(":")
    kind, _, index = str(device).partition(":")
    if decoder == "none" or kind == "cpu":
        return None
    if asked not in ("", index):
        rule = "decode.hwaccel must name the GPU of the model where one process decodes and analyses"
        hint = "decode.hwaccel: cuda is the model's own"
        raise ConfigError(rule, got=decode.hwaccel, where=f"model on {device}", hint=hint)
    return Gpu(int(index), partial(primary_context, int(index)))
