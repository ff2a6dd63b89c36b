"""(d) GStreamer decodes and shrinks (appsink), torchaudio and frozen TorchScript do the rest.

    python benchmarks/peers/gstreamer_torchscript.py URL MODEL

Debian's packages (tests/system-packages.sh). Tuned as GStreamer advises for live analysis: sync=false,
bounded queues, picture and sound made small in the pipeline, appsinks that emit.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.append("/usr/lib/python3/dist-packages")  # Debian's gi; behind our own packages

import gi

gi.require_version("Gst", "1.0")
import numpy as np
import torch
from gi.repository import Gst
from network import SIZE, frozen
from window import Media, answer_all, torchaudio_mfcc

PIPELINE = (
    "souphttpsrc location={url} is-live=true do-timestamp=false ! tsdemux name=ts latency=0 "
    "ts. ! queue max-size-buffers=60 ! h264parse ! avdec_h264 max-threads=1 ! videocrop left=140 right=140 "
    "! videoscale method=bilinear2 ! videoconvert ! video/x-raw,format=GRAY8,width=96,height=96 "
    "! appsink name=pictures emit-signals=true sync=false max-buffers=8 "
    "ts. ! queue max-size-buffers=200 ! aacparse ! avdec_aac ! audioconvert ! audioresample "
    "! audio/x-raw,format=F32LE,rate=16000,channels=1 "
    "! appsink name=sound emit-signals=true sync=false max-buffers=50"
)


class Reader:
    """Takes buffers from the two appsinks into Media."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._first_ns: int | None = None
        self._early: list[tuple[int, np.ndarray]] = []

    def on_picture(self, sink: Gst.Element) -> Gst.FlowReturn:
        buffer = sink.emit("pull-sample").get_buffer()
        if self._first_ns is None:
            self._first_ns = buffer.pts
            for end_ns, samples in self._early:
                self._media.add_sound((end_ns - buffer.pts) / 1e9, samples)
        luma = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8).reshape(SIZE, SIZE)
        self._media.add_picture((buffer.pts - self._first_ns) / 1e9, 1 / 30, luma)
        return Gst.FlowReturn.OK

    def on_sound(self, sink: Gst.Element) -> Gst.FlowReturn:
        buffer = sink.emit("pull-sample").get_buffer()
        samples = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.float32)
        end_ns = buffer.pts + len(samples) * 62_500
        if self._first_ns is None:
            self._early.append((end_ns, samples))
        else:
            self._media.add_sound((end_ns - self._first_ns) / 1e9, samples)
        return Gst.FlowReturn.OK


def main() -> None:
    torch.set_num_threads(1)
    Gst.init(None)
    media, network, mfcc_of = Media(), frozen(), torchaudio_mfcc()
    reader = Reader(media)
    pipeline = Gst.parse_launch(PIPELINE.format(url=sys.argv[1]))
    pipeline.get_by_name("pictures").connect("new-sample", reader.on_picture)
    pipeline.get_by_name("sound").connect("new-sample", reader.on_sound)
    pipeline.set_state(Gst.State.PLAYING)
    try:
        answer_all(media, mfcc_of, network)
    finally:
        pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()
