"""The one protocol of everything that takes items in and gives items out."""

from __future__ import annotations

from typing import Protocol, TypeVar

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out")


class Stage(Protocol[In, Out]):
    """Built from its configuration; no threads, sockets, clocks, prints or globals.

    Any chunking of the input gives the same outputs as one push of it all.
    """

    def push(self, item: In) -> list[Out]:
        """Take one item; return what it completes, oldest first. After flush() it raises StageError."""
        ...

    def flush(self) -> list[Out]:
        """End the input and return the tail."""
        ...

    def reset(self) -> None:
        """Be as new."""
        ...
