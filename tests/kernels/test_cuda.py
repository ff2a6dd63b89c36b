"""The CUDA twins on a real GPU: the cases of the simulator at full size, and what only a GPU can show."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

pytestmark = pytest.mark.needs_cuda

with contextlib.suppress(ImportError):  # numba-cuda is an extra; without it every test here is skipped
    from tests.kernels.cuda_twins import *  # noqa: F403
    from tests.kernels.kept_twins import *  # noqa: F403


@pytest.mark.parametrize("streams", [1, 7, 256, 4096])
def test_mfcc_of_many_streams_matches_the_cpu(streams: int) -> None:
    from streamfuse.kernels.mfcc import mfcc_with_context
    from tests.kernels.signals import noise

    ticks = noise(streams * 1952).reshape(streams, 1952)
    np.testing.assert_allclose(mfcc_with_context(ticks, backend="cuda"), mfcc_with_context(ticks), atol=1e-3)


def test_results_do_not_change_from_run_to_run() -> None:
    """A race shows as an error that moves."""
    from streamfuse.kernels.frame_window import frame_window
    from streamfuse.kernels.mfcc import mfcc
    from tests.kernels.signals import noise, random_picture

    samples, pictures = noise(160_000), [random_picture(640, 360, "nv12", seed=s) for s in range(32)]
    first = mfcc(samples, backend="cuda"), frame_window(pictures, backend="cuda")
    for _ in range(20):
        np.testing.assert_array_equal(mfcc(samples, backend="cuda"), first[0])
        np.testing.assert_array_equal(frame_window(pictures, backend="cuda"), first[1])
