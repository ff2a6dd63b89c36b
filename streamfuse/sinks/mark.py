"""What a checkpoint remembers of one output."""

from __future__ import annotations

import msgspec

from streamfuse.sinks.seal import Seal


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an output is; given to its constructor, it goes on from there.

    seal  what its file holds
    held  what it has taken in and not written yet, in its own encoding
    """

    seal: Seal
    held: bytes = b""
