"""The run's side of `streamfuse ctl`: orders come in, are carried out one by one, and answered in a line.

The socket is on this machine and in the run directory, which is its owner's alone: whoever can reach it is
whoever started the run.
"""

from __future__ import annotations

import logging
from pathlib import Path

from streamfuse.cli.roster import Roster
from streamfuse.config import SourceConfig
from streamfuse.errors import StreamfuseError, WireError
from streamfuse.media.redact import redact_known
from streamfuse.wire.codec import PARTS, Message, decode, encode, printable
from streamfuse.wire.headers import Order, Reply
from streamfuse.wire.topics import TOPICS
from streamfuse.wire.transport import Wire, receive_parts, send_parts

log = logging.getLogger(__name__)

EVERY = "*"
"""Stands for the source of an order that is about none."""
MAX_SAID = 4000


def control_endpoint(run_dir: Path) -> str:
    return f"ipc://{run_dir.absolute()}/control.sock"


class Control:
    """Serves the orders of one run. Nothing here waits."""

    def __init__(self, wire: Wire, roster: Roster) -> None:
        endpoint = control_endpoint(Path(roster.config.run_dir))
        self.socket = wire.bind("receive", endpoint, queue=TOPICS["order"].queue)
        self._roster = roster
        self.malformed = 0

    def turn(self) -> None:
        """Carry out what has come."""
        while (parts := receive_parts(self.socket, PARTS + 1)) is not None:
            asker = bytes(parts[0])
            try:
                message = decode(parts[1:])
                if not isinstance(message.body, Order):
                    raise WireError("the control socket takes orders", got=type(message.body).__name__)
            except WireError as error:
                self.malformed += 1
                log.warning("order refused (%d so far): %s", self.malformed, error)
                continue
            reply = self._answer(message.source, message.body)
            send_parts(self.socket, [asker, *encode(Message(message.source, message.seq, reply))])

    def reload(self) -> None:
        """As if somebody had ordered it (SIGHUP)."""
        self._answer(EVERY, Order(source=EVERY, verb="reload"))

    def _answer(self, name: str, order: Order) -> Reply:
        roster = self._roster
        if order.verb == "list":
            return Reply(source=name, ok=True, said="", sources=tuple(roster.rows()))
        ok, said = True, ""
        try:
            match order.verb:
                case "add":
                    source = SourceConfig(input=order.input, loop=order.loop, allow_hls=order.allow_hls)
                    said = roster.add(name, source)
                case "remove":
                    said = roster.remove(name)
                case "pause":
                    said = roster.pause(name)
                case "resume":
                    said = roster.resume(name)
                case "restart":
                    said = roster.restart(name)
                case "reload":
                    said = roster.reload()
        except StreamfuseError as error:
            ok, said = False, str(error)
        said = printable_line(redact_known(said))
        roster.screen.say(f"ctl {order.verb}: {said}")
        return Reply(source=name, ok=ok, said=said)


def printable_line(text: str) -> str:
    """As a reply may carry it; longer ones lose their end."""
    return "".join(printable(text[at : at + 500]) for at in range(0, min(len(text), MAX_SAID), 500))
