"""NVDEC into the kernel on a real GPU: nothing of a picture comes to the host, and the answers are the CPU's.

H.264 and HEVC say what every decoder has to give, to the bit, so the CPU's decoder is the judge of NVDEC, and
the float64 reference over its pictures that of the kernel.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from streamfuse.config import DecodeConfig
from streamfuse.errors import BackendError, ConfigError
from streamfuse.kernels.frame_window import frame_window_reference
from streamfuse.kernels.spec import FrameSpec, MfccSpec
from streamfuse.media.frames import Renderer
from streamfuse.model.runtime import load_model
from streamfuse.pipeline.analyze import analyze
from streamfuse.pipeline.on_gpu import stays_on
from streamfuse.types import DevicePicture, Label, Picture
from tests.clips import Clip, index_picture
from tests.kernels.signals import frames as decoded_frames
from tests.kernels.signals import picture_of
from tests.media.played import Played

pytestmark = pytest.mark.needs_cuda

NVDEC = DecodeConfig(hwaccel="cuda")
CLOSE = 2e-3
"""Of a square's values in [0, 1]: half a step of a byte, as in bench_cuda."""
CLOSE_PROBABILITIES = 5e-3
"""As in test_batch_cuda; that the CPU shrinks pictures to whole bytes first moves them by less."""


def noisy(index: int, width: int, height: int) -> np.ndarray:
    """Detail everywhere: a row that is one off shows."""
    picture = index_picture(index, width, height).astype(int)
    rough = np.random.default_rng(index % 4).integers(-40, 40, (height // 4 + 1, width // 4 + 1, 1))
    rough = np.kron(rough, np.ones((4, 4, 1), int))[:height, :width]
    return np.clip(picture + rough, 0, 255).astype(np.uint8)


def made(path: Path, width: int = 640, height: int = 360, **more) -> Path:
    seconds = more.pop("seconds", 1.0)
    return Clip(
        seconds=seconds, width=width, height=height, picture=lambda i: noisy(i, width, height), **more
    ).write(path)


def kept(path: Path) -> list[DevicePicture]:
    played = Played(path, decode=NVDEC, keep_on=stays_on(NVDEC, "cuda:0"))
    pictures = [frame.render() for frame in played.frames]
    assert pictures and all(isinstance(picture, DevicePicture) for picture in pictures)
    return pictures


def squares(pictures: list[DevicePicture], spec: FrameSpec) -> np.ndarray:
    """Ours, through the batch that a run uses."""
    from numba import cuda

    from streamfuse.kernels.backend import Device
    from streamfuse.kernels.tick_batch_cuda import DeviceTickBatch

    batch = DeviceTickBatch(spec, MfccSpec(), Device("cuda"))
    rows = len(pictures)
    shapes = [(rows, 3, spec.size, spec.size), (rows, 10, MfccSpec().n_mfcc)]
    into = [cuda.to_device(np.full(shape, np.nan, np.float32)) for shape in shapes]
    into.append(cuda.to_device(np.zeros((rows, 2), np.int32)))
    for picture in pictures:
        batch.check(picture)
    batch.fill(list(enumerate(pictures)), [], np.zeros((rows, 2), np.int32), tuple(into))
    cuda.synchronize()
    return into[0].copy_to_host()


@pytest.fixture
def no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one way of a picture to the host is closed."""
    monkeypatch.setattr(Renderer, "render", lambda *_: pytest.fail("a picture was copied to the host"))


@pytest.mark.parametrize(("width", "height"), [(640, 360), (360, 640), (1920, 1080), (350, 274)])
def test_squares_of_h264_match_the_reference_over_the_cpus_pictures(
    tmp_path: Path, no_copy: None, width: int, height: int
) -> None:
    path = made(tmp_path / "a.mp4", width, height, b_frames=2)
    spec = FrameSpec()
    got = squares(kept(path)[::12], spec)
    for one, frame in zip(got, decoded_frames(path, every=12), strict=False):
        matrix = "bt709" if height >= 720 else "bt601"
        expected = frame_window_reference(picture_of(frame, matrix, False), spec)
        np.testing.assert_allclose(one, expected, atol=CLOSE / min(spec.std), rtol=0)


def test_ten_bits_of_hevc_match_the_reference_over_their_upper_eight(tmp_path: Path, no_copy: None) -> None:
    path = made(tmp_path / "a.mp4", video="libx265", pix_fmt="yuv420p10le")
    (first, *_) = pictures = kept(path)
    assert (first.chroma, first.sample_bytes) == ("nv12", 2)
    spec = FrameSpec()
    got = squares(pictures[:1], spec)[0]
    (frame, *_) = decoded_frames(path, every=1, most=1)
    deep = [np.from_dlpack(plane).astype(float) for plane in frame.planes]
    planes = tuple(np.minimum(np.floor(plane / 4 + 0.5), 255).astype(np.uint8) for plane in deep)
    np.testing.assert_allclose(
        got, frame_window_reference(Picture(planes), spec), atol=CLOSE / min(spec.std), rtol=0
    )


def test_planes_are_the_memory_that_dlpack_hands_to_torch(tmp_path: Path) -> None:
    import torch

    (picture, *_) = kept(made(tmp_path / "a.mp4", seconds=0.3))
    frame = picture.owner
    # The capsule: given the plane, torch asks for a stream, which PyAV refuses.
    shared = [torch.from_dlpack(plane.__dlpack__()) for plane in frame.planes]
    assert [plane.data_ptr() for plane in shared] == [plane.address for plane in picture.planes]
    assert [plane.stride(0) for plane in shared] == [plane.pitch_bytes for plane in picture.planes]
    assert {plane.device.index for plane in shared} == {picture.gpu} == {0}
    torch.cuda.synchronize()
    copied = frame.to_ndarray(format="nv12")
    np.testing.assert_array_equal(shared[0].cpu().numpy(), copied[: picture.height])


def test_turned_recording_gives_the_upright_square(tmp_path: Path, no_copy: None) -> None:
    lying = squares(kept(made(tmp_path / "a.mp4", seconds=0.2)), FrameSpec())
    turned = squares(kept(made(tmp_path / "b.mp4", seconds=0.2, rotation=90)), FrameSpec())
    np.testing.assert_allclose(turned, np.rot90(lying, axes=(2, 3)), atol=1e-4)


def test_copy_to_the_host_is_what_it_was_before_pictures_stayed(tmp_path: Path) -> None:
    """The face finder and the checkpoint see the picture that `process` without --inline would send them."""
    path = made(tmp_path / "a.mp4")
    for there, frame in zip(kept(path), Played(path, decode=NVDEC).frames, strict=True):
        for one, other in zip(there.on_host().planes, frame.render().planes, strict=True):
            np.testing.assert_array_equal(one, other)


def labels(path: Path, model: Path, decode: DecodeConfig, device: str = "cuda") -> list[Label]:
    return list(analyze(path, model=load_model(model, device=device), decode=decode))


def test_recording_gives_the_cpus_answers_with_no_copy_to_the_host(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "a.mp4", 1280, 720, seconds=3.0)
    expected = labels(path, tiny_model, DecodeConfig(), "cpu")
    monkeypatch.setattr(Renderer, "render", lambda *_: pytest.fail("a picture was copied to the host"))
    got = labels(path, tiny_model, NVDEC)
    assert len(got) == len(expected) >= 30
    for one, other in zip(got, expected, strict=True):
        for name, head in other.heads.items():
            ours, theirs = dict(one.heads[name].top), dict(head.top)
            for label in ours.keys() & theirs.keys():
                assert ours[label] == pytest.approx(theirs[label], abs=CLOSE_PROBABILITIES)


def test_recording_gives_the_same_labels_each_time(tiny_model: Path, tmp_path: Path) -> None:
    """A copy that began before the decoder had written, or after it wrote on, shows as another answer."""
    path = made(tmp_path / "a.mp4", 1920, 1080, seconds=3.0)
    first = [label.heads for label in labels(path, tiny_model, NVDEC)]
    for _ in range(4):
        assert [label.heads for label in labels(path, tiny_model, NVDEC)] == first


def test_model_with_a_face_view_runs_too(tmp_path: Path) -> None:
    """The default one: its faces are found on the host, its frames stay."""
    path = made(tmp_path / "a.mp4", seconds=1.5)
    assert len(list(analyze(path, device="cuda", decode=NVDEC))) >= 15


def test_live_source_is_analysed_where_it_is_decoded(tiny_model: Path, tmp_path: Path, no_copy: None) -> None:
    path = made(tmp_path / "a.mp4", seconds=2.0)
    model = load_model(tiny_model, device="cuda")
    got = list(analyze(path, model=model, mode="live", decode=NVDEC))
    assert sum(1 + label.head.dropped for label in got) >= 18


@pytest.mark.parametrize("video", [{"pix_fmt": "yuv444p"}, {"video": "ffv1"}], ids=["profile", "codec"])
def test_what_it_does_not_decode_is_an_error_unless_the_cpu_may(
    tmp_path: Path, video: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """No NVDEC takes H.264 in 4:4:4; FFV1 is no codec of any."""
    path = made(tmp_path / "a.mkv", **video)
    gpu, more = stays_on(NVDEC, "cuda:0"), {"allow_codecs": ("ffv1",)}
    with pytest.raises(BackendError, match="needs an NVIDIA GPU that decodes this codec"):
        Played(path, decode=DecodeConfig(hwaccel="cuda", **more), keep_on=gpu)
    played = Played(path, decode=DecodeConfig(hwaccel="cuda", hwaccel_fallback=True, **more), keep_on=gpu)
    assert played.indices == list(range(30))
    assert all(isinstance(frame.render(), Picture) for frame in played.frames)
    assert [line[:20] for line in caplog.messages] == ["decoded on the CPU: "]


def test_another_gpu_than_the_models_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", seconds=0.2)
    with pytest.raises(ConfigError, match=r"decode\.hwaccel must name the GPU of the model"):
        labels(path, tiny_model, DecodeConfig(hwaccel="cuda:7"))


def test_closing_the_decoder_leaves_the_context_to_others(tiny_model: Path, tmp_path: Path) -> None:
    """FFmpeg shares our primary context, and must not take it with it when it goes."""
    import torch

    before = torch.arange(1000, device="cuda")
    for _ in range(3):
        kept(made(tmp_path / "a.mp4", seconds=0.2))
    assert int(before.sum()) == 499_500
    assert av.open(str(tmp_path / "a.mp4")).streams.video
