"""32 ways in which people and cameras put a credential into an address; each has a secret of its own."""

from __future__ import annotations

SHAPES = {
    "plain": "rtsp://user:{}@{host}/stream",
    "dotted user": "rtsp://my.user:{}@{host}/stream",
    "encoded user": "rtsp://user%40home:{}@{host}/stream",
    "no user": "rtsp://:{}@{host}/stream",
    "user alone": "rtsp://{}@{host}/stream",
    "empty password": "rtsp://{}:@{host}/stream",
    "tls": "rtsps://user:{}@{host}/stream",
    "datagrams": "rtsp+udp://user:{}@{host}/stream",
    "capitals": "RTSP://user:{}@{host}/stream",
    "bare at": "rtsp://user:a@{}@{host}/stream",
    "encoded at": "rtsp://user:{}%40x@{host}/stream",
    "encoded slash": "rtsp://user:%23{}%2F@{host}/stream",
    "punctuation": "rtsp://user:pw!$&'()*+,;={}@{host}/stream",
    "percent": "rtsp://user:100%{}@{host}/stream",
    "onvif channel": "rtsp://user:{}@{host}/cam/realmonitor?channel=1&subtype=0",
    "in the path, ampersands": "rtsp://{host}/user=admin&password={}&channel=1&stream=0.sdp",
    "in the path, underscores": "rtsp://{host}/user=admin_password={}_channel=1_stream=0.sdp",
    "bare slashes": "rtsp://user:1/2/{}@{host}/stream",
    "bare hash": "rtsp://user:pw#{}@{host}/stream",
    "bare question mark": "rtsp://user:pw?{}@{host}/stream",
    "token": "http://{host}/video?token={}",
    "second parameter": "http://{host}/video?a=1&auth={}&fps=10",
    "query alone": "http://{host}/video?{}",
    "fragment behind": "http://{host}/video?user=admin&pwd={}#top",
    "basic over https": "https://user:{}@{host}/clip.mp4?x=1",
    "signature": "https://{host}/clip.mp4?X-Amz-Signature={}&X-Amz-Expires=3600",
    "address in an address": "http://{host}/video?next=http://u:{}@other/",
    "session in the path": "http://{host}/video;sessionid={}",
    "stream key": "rtmp://{host}/live/{}",
    "key as a parameter": "rtmp://{host}/live/stream?key={}",
    "unknown scheme": "gopher://admin:{}@{host}/x",
    "port that is none": "rtsp://user:{}@{host}x/stream",
}


def secret_of(shape: str) -> str:
    """A word that stands nowhere else."""
    return f"Zq{sum(map(ord, shape)):04d}vX{len(shape):02d}k"


def address(shape: str, host: str) -> str:
    return SHAPES[shape].replace("{host}", host).replace("{}", secret_of(shape))


def leaks(text: str) -> list[str]:
    """The shapes whose secret stands in `text`, in any spelling."""
    return [shape for shape in SHAPES if secret_of(shape).lower() in text.lower()]
