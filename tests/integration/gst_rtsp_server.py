"""A real RTSP camera with picture and sound, for /usr/bin/python3 with GStreamer's RTSP server library.

Usage: gst_rtsp_server.py [--fps 30] [--size 640x360] [--user NAME --password WORD] [--no-audio]
Prints `PORT <n>` when it listens on 127.0.0.1, serves rtsp://127.0.0.1:<n>/cam, and ends with its parent.
The picture is GStreamer's moving ball, H.264 with a key frame a second and no B-frames; the
sound is a ticking tone, AAC at 16 kHz.
"""

import argparse
import ctypes
import signal
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def pipeline(fps: int, width: int, height: int, audio: bool) -> str:
    video = (
        "videotestsrc is-live=true pattern=ball"
        f" ! video/x-raw,width={width},height={height},framerate={fps}/1"
        f" ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} bitrate=800"
        " ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"
    )
    sound = (
        "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate=16000,channels=1"
        " ! avenc_aac ! aacparse ! rtpmp4gpay name=pay1 pt=97"
    )
    return f"( {video} {sound if audio else ''} )"


def require_password(server: GstRtspServer.RTSPServer, factory, user: str, password: str) -> None:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role(user, "media.factory.access", True)
    permissions.add_permission_for_role(user, "media.factory.construct", True)
    factory.set_permissions(permissions)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-audio", action="store_true")
    args = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no orphan when a test is killed
    Gst.init(None)
    width, height = map(int, args.size.split("x"))
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(args.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline(args.fps, width, height, not args.no_audio))
    factory.set_shared(True)
    if args.user:
        require_password(server, factory, args.user, args.password)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    print(f"PORT {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    sys.exit(main())
