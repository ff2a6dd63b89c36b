"""The one place that knows which parts of an address are secret.

Redaction works on values, not patterns: the URL is parsed, its secrets are collected in every spelling in
which a library may quote them, and each is replaced wherever it turns up. What the process says last, the
traceback of an error that nobody foresaw, goes through all the secrets it has met: `redact_known`.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TextIO, cast
from urllib.parse import SplitResult, parse_qsl, quote, unquote

MASK = "***"
# Query and path parameters that are shown; the value of any other is hidden.
_HARMLESS = frozenset({"channel", "subtype", "stream", "fps", "resolution", "width", "height", "profile"})
# Words of addresses, which would be hidden all over a message for nothing.
_WORDS = frozenset({"http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "user", "admin"})


@dataclass(frozen=True)
class Secrets:
    """Secret values, longest first, and the addresses that are replaced as a whole."""

    values: tuple[str, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return "Secrets(***)"

    def with_address(self, *spellings_then_display: str) -> Secrets:
        *spellings, display = spellings_then_display
        return Secrets(self.values, tuple((text, display) for text in dict.fromkeys(spellings)))

    def redact(self, text: str) -> str:
        """`text` with the address replaced by its display form and every secret by ***."""
        for spelling, display in self.addresses:
            text = text.replace(spelling, display)
        if not self.values:
            return text
        # One pass: a replacement must not be searched again (a secret may be "*").
        pattern = re.compile("|".join(re.escape(value) for value in self.values))
        shown = [display for _, display in self.addresses]
        pieces = re.split("|".join(f"({re.escape(d)})" for d in dict.fromkeys(shown)) or r"(?!)", text)
        return "".join(
            piece if piece in shown else pattern.sub(MASK, piece) for piece in pieces if piece is not None
        )


_known: dict[Secrets, None] = {}
"""Every secret that this process has met. It outlives its source: a crash does not know whose it is."""
KNOWN_MAX = 1024
SHORTEST = 4
"""A shorter secret is replaced within its address alone: "a" for itself would make all text unreadable."""


def remember(secrets: Secrets) -> Secrets:
    """Keep these out of whatever redact_known() is asked about from now on."""
    if secrets.values:
        _known.pop(secrets, None)
        _known[secrets] = None
        if len(_known) > KNOWN_MAX:
            del _known[next(iter(_known))]
    return secrets


def remember_unreadable(text: str) -> None:
    """The same for an address that cannot be taken apart: all of it before its last @, and its words."""
    scheme, _, rest = text.partition("://")
    userinfo, _, _ = rest.rpartition("@")
    pieces = re.split(r"[:/?#@&=]", userinfo or rest.partition("/")[2])
    values = {value for value in (userinfo, *pieces) if len(value) >= SHORTEST} - _WORDS
    display = f"{scheme}://{MASK}"
    remember(Secrets(tuple(sorted(values, key=lambda value: (-len(value), value))), ((text, display),)))


def redact_known(text: str) -> str:
    """`text` without any secret that this process has met, whole words of it."""
    for secrets in _known:
        for spelling, display in secrets.addresses:
            text = text.replace(spelling, display)
        values = [value for value in secrets.values if len(value) >= SHORTEST and value in text]
        if values:
            text = re.sub("|".join(map(_as_word, values)), MASK, text)
    return text


def _as_word(value: str) -> str:
    """A pattern for `value` where it is no part of a longer word: a key may be called "stream"."""
    before = r"(?<![A-Za-z0-9])" if value[0].isalnum() else ""
    after = r"(?![A-Za-z0-9])" if value[-1].isalnum() else ""
    return before + re.escape(value) + after


class Discreet:
    """A text stream that writes only what redact_known() leaves; stands in for sys.stderr."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact_known(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_stderr() -> None:
    """From now on nothing that Python says on stderr tells a secret of this process; twice is once."""
    if not isinstance(sys.stderr, Discreet):
        sys.stderr = cast(TextIO, Discreet(sys.stderr))


def url_secrets(url: str, parts: SplitResult) -> Secrets:
    """Everything in a URL that is or may be a credential, in the spellings libraries use."""
    found: set[str] = set()
    userinfo = parts.netloc.rpartition("@")[0]
    if userinfo:
        user, colon, password = userinfo.partition(":")
        found |= {userinfo, unquote(userinfo), password or user}
        basic = f"{unquote(user)}:{unquote(password)}" if colon else f"{unquote(user)}:"
        found.add(base64.b64encode(basic.encode()).decode())
    found.update(value for key, value in parse_qsl(parts.query) if key.lower() not in _HARMLESS)
    found.update(item.partition("=")[2] or item for item in parts.query.split("&") if _hidden(item))
    found.update(
        item.partition("=")[2] for item in re.split(r"[/&;_]", parts.path) if "=" in item and _hidden(item)
    )
    if "@" in parts.path + parts.query:
        # A password with a bare slash or question mark in it ends up here.
        found.add(url.partition("://")[2].rpartition("@")[0].partition("/")[2])
    if parts.scheme.startswith("rtmp"):
        found.add(parts.path.rpartition("/")[2])
    found |= {piece for value in found for piece in _pieces(value)}
    found |= {unquote(value) for value in found} | {quote(unquote(value), safe="") for value in found}
    return Secrets(tuple(sorted(filter(None, found), key=lambda value: (-len(value), value))))


def _pieces(value: str) -> list[str]:
    """The longer words of a secret: a library may have split it at an @ or a slash and quote one part."""
    return [piece for piece in re.split(r"[\W_]+", unquote(value)) if len(piece) >= 4 and piece not in _WORDS]


def _hidden(item: str) -> bool:
    return item.partition("=")[0].lower() not in _HARMLESS


def display_url(parts: SplitResult, *, hide_last: bool = False) -> str:
    """A URL that is safe to show: host, port and path; values of parameters and all credentials hidden.

    hide_last  the last part of the path is a key (RTMP)
    """
    userinfo, at, host = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{MASK + '@' if userinfo else at}{host}"
    path = parts.path
    if "@" in path:
        # user:12/3@host: what looks like host and port may be a name and half a password.
        shown = f"{parts.scheme}://{MASK}" if ":" in host else shown
        path = ("" if ":" in host else "/" + MASK) + "@" + path.rpartition("@")[2]
    path = re.sub(r"[^/&;_]+", lambda m: _masked(m[0]), path)
    if hide_last and path.strip("/"):
        path = path.rpartition("/")[0] + "/" + MASK
    shown += path
    if parts.query:
        shown += "?" + "&".join(_masked(item) if "=" in item else MASK for item in parts.query.split("&"))
    return shown


def _masked(item: str) -> str:
    return f"{item.partition('=')[0]}={MASK}" if "=" in item and _hidden(item) else item
