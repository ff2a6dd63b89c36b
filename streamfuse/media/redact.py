"""The one place that knows which parts of an address are secret.

Redaction works on values, not patterns: the URL is parsed, its secrets are collected in every spelling in
which a library may quote them, and each is replaced wherever it turns up.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
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
