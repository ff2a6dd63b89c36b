"""The whole analyzer in one process: a source, or one's own capture, goes in; labels come out."""

from streamfuse.pipeline.analyze import analyze
from streamfuse.pipeline.capture import Analyzer
from streamfuse.pipeline.interpret import Interpreter
from streamfuse.pipeline.live import LiveTicks
from streamfuse.pipeline.recorded import Processing, process_source

__all__ = ["Analyzer", "Interpreter", "LiveTicks", "Processing", "analyze", "process_source"]
