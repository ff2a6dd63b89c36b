"""HTTP POST of the event's JSON, signed as the Standard Webhooks specification says.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from importlib.metadata import version
from urllib.parse import unquote, urlsplit

import urllib3

from streamfuse.clock import Clock
from streamfuse.config_notify import WebhookTarget, webhook_key
from streamfuse.notify.courier import NotTaken
from streamfuse.notify.rules import Notice
from streamfuse.types import NS

TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 508, 509, 520, 521, 522, 523, 524, 530})
"""Answers after which the same request may be taken; any other from 300 on is for good."""
MAX_ANSWER = 65_536
"""Bytes of an answer that are read so that its connection can be used again."""
MAX_WISH_S = 3600.0


class WebhookSender:
    """Posts to one address. Redirects are not followed, and no proxy is taken from the environment."""

    def __init__(self, config: WebhookTarget, clock: Clock) -> None:
        self._clock = clock
        self._key = None if config.secret is None else webhook_key(config.secret)
        parts = urlsplit(config.url)
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        # Paths and queries of such addresses are often secret: only this is ever shown.
        self._display = f"{parts.scheme}://{host}{port}"
        self._url = parts._replace(netloc=f"{host}{port}", fragment="").geturl()
        self._headers = {
            "content-type": "application/json",
            "user-agent": f"streamfuse/{version('streamfuse')}",
        }
        if "@" in parts.netloc:
            userinfo = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._headers["authorization"] = urllib3.make_headers(basic_auth=userinfo)["authorization"]
        self._headers |= {name.lower(): value for name, value in config.headers.items()}
        self._pool = urllib3.PoolManager(
            num_pools=1,
            retries=False,
            timeout=urllib3.Timeout(total=config.timeout_s),
            ca_certs=config.ca_file,
        )

    def send(self, notice: Notice) -> None:
        body = notice.body
        try:
            answer = self._pool.request(
                "POST",
                self._url,
                body=body,
                headers={**self._headers, **self._signed(notice.id, body)},
                redirect=False,
                preload_content=False,
            )
            status, wish = answer.status, answer.headers.get("retry-after")
            answer.read(MAX_ANSWER)
            answer.release_conn() if answer.length_remaining in (0, None) else answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Their texts quote the whole address.
            raise NotTaken(f"{self._display} must answer", got=type(error).__name__, again=True) from None
        if status >= 300:
            again = status in TRY_AGAIN
            rule = f"{self._display} must answer with 2xx"
            raise NotTaken(rule, got=status, again=again, after_s=_wish_s(wish) if again else None)

    def close(self) -> None:
        self._pool.clear()

    def _signed(self, identity: str, body: bytes) -> dict[str, str]:
        at = str(self._clock.wall_ns() // NS)
        headers = {"webhook-id": identity, "webhook-timestamp": at}
        if self._key is not None:
            mac = hmac.digest(self._key, f"{identity}.{at}.".encode() + body, hashlib.sha256)
            headers["webhook-signature"] = f"v1,{base64.b64encode(mac).decode()}"
        return headers


def _wish_s(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, is left to the back-off."""
    if retry_after is None or not retry_after.strip().isdecimal():
        return None
    return min(float(retry_after), MAX_WISH_S)
