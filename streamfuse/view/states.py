"""What a source's own report means for whoever watches it: the page and the live table say the same."""

from __future__ import annotations

from typing import Literal

Phase = Literal["starting", "live", "reconnecting", "failed", "ended"]

_PHASES: dict[str, Phase] = {
    "starting": "starting",
    "standby": "starting",
    "running": "live",
    "waiting": "reconnecting",
    "draining": "ended",
    "done": "ended",
    "failed": "failed",
    "refused": "failed",
}


def phase_of(state: str, *, begun: bool, error: str, reconnects: int) -> Phase:
    """The state of a decode process (wire.headers.Progress) as its source's.

    begun  it has been connected: whoever waits to be for the first time, and has met no error, is starting
    """
    phase = _PHASES.get(state, "starting")
    if phase == "reconnecting" and not (begun or error or reconnects):
        return "starting"
    return phase
