"""Whom a source over TLS is believed to be: FFmpeg checks no certificate unless it is told to.

The system's authorities are trusted, or in their place those of decode.ca_file: a camera that signed its own
certificate is trusted by naming that.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from streamfuse.config import DecodeConfig
from streamfuse.errors import SourceRefused
from streamfuse.media.source import Source, UrlSource

PORTS = {"https": 443, "rtsps": 322, "rtmps": 443}
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Of Debian, Fedora, SUSE, Alpine: the FFmpeg inside PyAV looks where it was built."""


def tls_options(source: Source, decode: DecodeConfig) -> dict[str, str]:
    """FFmpeg's options for a source over TLS; none for another."""
    return {"tls_verify": "1", "ca_file": _trusted(decode)} if _scheme(source) in PORTS else {}


def distrust(error: Exception, source: Source, decode: DecodeConfig) -> SourceRefused | None:
    """What is wrong with the certificate of a server that could not be opened; None: it is not that.

    FFmpeg says "Input/output error", so the server is asked once more.
    """
    if _scheme(source) not in PORTS or getattr(error, "errno", None) != errno.EIO:
        return None
    assert isinstance(source, UrlSource)
    file = _trusted(decode)
    try:
        context = ssl.create_default_context(cafile=file)
    except OSError as wrong:  # ssl.SSLError too
        return SourceRefused("decode.ca_file must be a file of certificates", got=wrong, where=file)
    try:
        _shake_hands(context, source.url, decode.open_timeout_s)
    except ssl.SSLCertVerificationError as wrong:
        hint = "name its certificate, or that of who signed it, in decode.ca_file"
        rule = "a server's certificate must be its own, and signed by somebody we trust"
        return SourceRefused(rule, got=wrong.verify_message, where=source, hint=hint)
    except OSError:
        return None
    return None


def _shake_hands(context: ssl.SSLContext, url: str, timeout_s: float) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme.lower()]
    with (
        socket.create_connection((host, port), timeout_s) as raw,
        context.wrap_socket(raw, server_hostname=host),
    ):
        return


def _scheme(source: Source) -> str:
    return urlsplit(source.url).scheme.lower() if isinstance(source, UrlSource) else ""


def _trusted(decode: DecodeConfig) -> str:
    named = decode.ca_file or os.environ.get("SSL_CERT_FILE")
    return named or next((file for file in _BUNDLES if Path(file).is_file()), _BUNDLES[0])
