"""One tree of errors. Each message says the rule, what came, where, and what to do.

StreamfuseError           exit 1
|- ConfigError            exit 2   usage and configuration
|- ModelError             exit 3   a model file that is refused
|- SourceError                     the source cannot be used
|  |- SourceRefused                and never will: wrong address, scheme, password, codec
|  `- SourceLost                   but may come back: timeout, reset, end of a live stream
|- OutputError                     a result cannot be written
|- BackendError                    a device was asked for and is not there
|- WireError                       a message from outside breaks the schema
`- StageError                      a stage was used against its contract (a caller's bug)
"""

from __future__ import annotations


class StreamfuseError(Exception):
    """Base of every error that is told to the user in one line.

    rule   what has to hold, e.g. "--hop must be a multiple of 10 ms"
    got    what came instead
    where  file, key, source or position
    hint   what to type or change
    """

    exit_code = 1

    def __init__(
        self, rule: str, *, got: object = None, where: object = None, hint: str | None = None
    ) -> None:
        self.rule, self.got, self.where, self.hint = rule, got, where, hint
        text = rule
        if got is not None:
            text += f", got {got}"
        if where is not None:
            text += f" [{where}]"
        if hint is not None:
            text += f"; {hint}"
        # One line whatever came: the parts may quote a file's metadata or a library's text.
        super().__init__(" ".join(text.split()))


class ConfigError(StreamfuseError):
    """The command line or the configuration is wrong."""

    exit_code = 2


class ModelError(StreamfuseError):
    """A model file is refused."""

    exit_code = 3


class SourceError(StreamfuseError):
    """The source cannot be used."""


class SourceRefused(SourceError):
    """And never will: wrong address, scheme, password, codec."""


class SourceLost(SourceError):
    """But it may come back: timeout, reset, end of a live stream."""


class OutputError(StreamfuseError):
    """A result cannot be written."""


class BackendError(StreamfuseError):
    """A device was asked for and is not there."""


class WireError(StreamfuseError):
    """A message from outside breaks the schema."""


class StageError(StreamfuseError):
    """A stage was used against its contract: a caller's bug."""
