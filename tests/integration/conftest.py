"""Real servers for real clients."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.meter import write_meter

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("gst_rtsp_server.py")
NEEDS = (
    "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst; Gst.init(None);"
    "import sys; sys.exit(any(Gst.ElementFactory.find(e) is None for e in "
    "('x264enc', 'avenc_aac', 'rtph264pay', 'rtpmp4gpay')))"
)

StartCamera = Callable[..., "Camera"]


class Camera:
    """A running RTSP server; `url` is its stream, `kill()` pulls its plug."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER), *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("PORT "), f"the RTSP server did not start: {line!r}"
        self.port = int(line.split()[1])
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="session")
def gstreamer() -> None:
    """Skip, by name, where the system packages of tests/system-packages.sh are not installed."""
    try:
        found = subprocess.run([SYSTEM_PYTHON, "-c", NEEDS], capture_output=True, timeout=60)
    except OSError as error:
        pytest.skip(f"{SYSTEM_PYTHON}: {error}")
    if found.returncode != 0:
        pytest.skip("GStreamer's RTSP server or a plugin is missing (bash tests/system-packages.sh)")


@pytest.fixture(scope="session")
def meter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that measures (see meter.py)."""
    return write_meter(tmp_path_factory.mktemp("meter") / "meter.ts")


@pytest.fixture(scope="module")
def start_camera(gstreamer: None) -> Iterator[StartCamera]:
    cameras: list[Camera] = []

    def start(*arguments: str) -> Camera:
        cameras.append(Camera(arguments))
        return cameras[-1]

    yield start
    for camera in cameras:
        camera.kill()
