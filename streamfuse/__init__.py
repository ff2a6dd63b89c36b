"""streamfuse: looks and listens at once, and says ten times a second what scene and emotion it sees.

    import streamfuse

    for label in streamfuse.analyze("clip.mp4"):
        print(label.start_s, label.scene.label, label.emotion.label)

The names below are imported when they are first used, so that `import streamfuse` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamfuse.config import DecodeConfig as DecodeConfig
    from streamfuse.config import HeadConfig as HeadConfig
    from streamfuse.config import LabelConfig as LabelConfig
    from streamfuse.config import TickConfig as TickConfig
    from streamfuse.errors import BackendError as BackendError
    from streamfuse.errors import ConfigError as ConfigError
    from streamfuse.errors import ModelError as ModelError
    from streamfuse.errors import OutputError as OutputError
    from streamfuse.errors import SourceError as SourceError
    from streamfuse.errors import StreamfuseError as StreamfuseError
    from streamfuse.kernels.spec import FrameSpec as FrameSpec
    from streamfuse.kernels.spec import MfccSpec as MfccSpec
    from streamfuse.model.inspect import inspect_model as inspect_model
    from streamfuse.model.runtime import Model as Model
    from streamfuse.model.runtime import load_model as load_model
    from streamfuse.model.spec import ModelSpec as ModelSpec
    from streamfuse.pipeline.analyze import analyze as analyze
    from streamfuse.pipeline.capture import Analyzer as Analyzer
    from streamfuse.pipeline.features import mfcc as mfcc
    from streamfuse.types import Event as Event
    from streamfuse.types import HeadLabel as HeadLabel
    from streamfuse.types import Label as Label
    from streamfuse.types import Picture as Picture

    __version__: str

# Name -> the module it lives in; the imports above say the same to type checkers.
_HOMES = {
    "Analyzer": "pipeline.capture",
    "BackendError": "errors",
    "ConfigError": "errors",
    "DecodeConfig": "config",
    "Event": "types",
    "FrameSpec": "kernels.spec",
    "HeadConfig": "config",
    "HeadLabel": "types",
    "Label": "types",
    "LabelConfig": "config",
    "MfccSpec": "kernels.spec",
    "Model": "model.runtime",
    "ModelError": "errors",
    "ModelSpec": "model.spec",
    "OutputError": "errors",
    "Picture": "types",
    "SourceError": "errors",
    "StreamfuseError": "errors",
    "TickConfig": "config",
    "analyze": "pipeline.analyze",
    "inspect_model": "model.inspect",
    "load_model": "model.runtime",
    "mfcc": "pipeline.features",
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("streamfuse")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"streamfuse.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'streamfuse' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
