"""What became of each recording, for whoever runs the job: RUN/results/<source>.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamfuse.errors import StreamfuseError
from streamfuse.sinks.durable import write_whole


class Results:
    """Each is replaced as a whole. Raises OutputError.

    status  done; failed: not read to its end, and it may be gone on with; unwritten: its outputs cannot be
            kept
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "results"
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def known(self, name: str) -> bool:
        return self._path(name).exists()

    def done(self, name: str, result: bytes, outputs: Sequence[str]) -> None:
        """result: as checkpoint.outputs.RecordedOutputs tells it; outputs: names of the files."""
        self._write(name, "done", outputs=list(outputs), result=json.loads(result))

    def failed(self, name: str, reason: str) -> None:
        self._write(name, "failed", error=reason)

    def unwritten(self, name: str, error: StreamfuseError) -> None:
        self._write(name, "unwritten", error=str(error))

    def _write(self, name: str, status: str, **said: Any) -> None:
        record = {"source": name, "status": status, **said}
        write_whole(self._path(name), json.dumps(record, allow_nan=False) + "\n")

    def _path(self, name: str) -> Path:
        return self._folder / f"{quote(name, safe='')}.json"
