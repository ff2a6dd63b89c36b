"""The sound of the camera on a connection of its own, for the peers whose library reads pictures only."""

from __future__ import annotations

import av
import numpy as np
from window import Media

OPTIONS = {"probesize": "200000", "analyzeduration": "500000"}
"""FFmpeg's advice for low delay also names fflags=nobuffer: it saves no time once the stream runs (measured),
and throws away what was read while probing, half a second of the camera's beginning."""


def read_sound(url: str, media: Media) -> None:
    """16 kHz mono, its time counted from the stream's first picture."""
    with av.open(url, options=OPTIONS) as container:
        resampler = av.AudioResampler("flt", "mono", 16_000)
        first_s: float | None = None
        waiting = []
        for packet in container.demux(container.streams.video[0], container.streams.audio[0]):
            if packet.stream.type == "video":
                if first_s is None and packet.pts is not None:
                    first_s = float(packet.pts * packet.time_base)
                continue
            waiting += packet.decode()
            if first_s is None:
                continue
            for frame in waiting:
                end_s = float(frame.pts * frame.time_base) + frame.samples / frame.sample_rate - first_s
                for made in resampler.resample(frame):
                    media.add_sound(end_s, made.to_ndarray()[0].astype(np.float32))
            waiting = []
