"""Which device kernels and model run on together.

    python -m streamfuse.model.device auto        prints cpu or cuda:0

As a program it answers for a process that must not start CUDA itself, as one that only supervises must not.
"""

from __future__ import annotations

import sys

import torch

from streamfuse.errors import BackendError
from streamfuse.kernels.backend import CPU, Device, choose_device


def model_device(text: str) -> Device:
    """The device for "auto", "cpu", "cuda" or "cuda:N"; `auto` is a GPU only where torch has one too.

    raises  BackendError: an unknown name, or CUDA asked for by name and not usable
    """
    chosen = choose_device(text)
    if chosen.kind == "cuda" and not torch.cuda.is_available():
        if text == "auto":
            return CPU
        raise BackendError(
            f"device {text} needs a torch with CUDA",
            got=f"torch {torch.__version__}",
            hint="pip install torch",
        )
    return chosen


def main() -> int:
    try:
        print(model_device(sys.argv[1]))
    except BackendError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
