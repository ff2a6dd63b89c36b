"""Make `import torchaudio` work beside a CPU build of torch.

torchaudio's wheel carries native libraries that are linked against CUDA; without CUDA importing them
raises OSError. Its transforms, which training and the tests use, are pure Python and work once the
libraries are gone. Run as `python -m streamfuse.training.torchaudio_cpu`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def native_libraries() -> list[Path]:
    """The libraries that keep torchaudio from being imported here; empty when there is nothing to do."""
    spec = find_spec("torchaudio")
    if spec is None or spec.origin is None or torch.version.cuda is not None:
        return []
    return sorted((Path(spec.origin).parent / "lib").glob("*.so"))


def main() -> None:
    for library in native_libraries():
        library.unlink()
        print(f"removed {library.name}: it needs CUDA, which this build of torch does not have")


if __name__ == "__main__":
    main()
