"""The `notify` section: which events are told to whom, and what is kept of them."""

from __future__ import annotations

import base64
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from streamfuse.section import Fraction01, Section

TargetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Header = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,4096}$")]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WHSEC = "whsec_"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


class QuietHours(Section):
    """A part of the day in which no beginning is told."""

    begin: str = Field(pattern=_TIME)
    end: str = Field(pattern=_TIME)
    """Not after `begin`: on the next day."""
    time_zone: str
    """As `Europe/Berlin`: the hours are those of the clocks there, summer time included."""
    days: tuple[Day, ...] = DAYS
    """Days on which the quiet hours begin."""

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("a time zone of the IANA list, such as Europe/Berlin") from None
        return name


class EventFilter(Section):
    """Which events are meant; what is empty means all."""

    sources: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class NotifyRule(EventFilter):
    """An event that a rule chooses is told when it begins, and again when it ends."""

    name: str = Field("", max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")
    """Told with the event."""
    min_score: Fraction01 = 0.0
    """The beginning is told once the smoothed score has reached this."""
    min_duration_s: float = Field(0.0, ge=0, le=86_400)
    """The beginning is told once the label has lasted so long; a shorter event is not told at all."""
    cooldown_s: float = Field(0.0, ge=0, le=86_400 * 7)
    """After a beginning was told, no other of the same source, head and label for so long."""
    quiet: tuple[QuietHours, ...] = ()
    tell_end: bool = True
    targets: tuple[TargetName, ...] = ()
    """Empty: all."""


class _Target(Section):
    queue: int = Field(1000, ge=1, le=100_000)
    """Notices that wait while the receiver is away; when full, the oldest is dropped and counted."""
    retry_max_s: float = Field(60.0, ge=0.1, le=3600)
    """A notice that failed is sent again after 1 s, 2 s, 4 s ... at most so long, until it is taken."""
    timeout_s: float = Field(10.0, gt=0, le=300)
    """How long the receiver may take for one."""


class WebhookTarget(_Target):
    """HTTP POST of the event's JSON. Redirects are not followed."""

    kind: Literal["webhook"]
    url: str = Field(repr=False)
    secret: str | None = Field(None, repr=False, min_length=1)
    """Signs each request as the Standard Webhooks specification says; `whsec_` is followed by base64."""
    headers: dict[Header, HeaderValue] = Field(default_factory=dict, repr=False)
    """Sent with each request, such as Authorization."""
    ca_file: str | None = None
    """Trusted in place of the system's certificates."""

    @field_validator("secret")
    @classmethod
    def _secret_is_a_key(cls, secret: str | None) -> str | None:
        if secret is not None:
            webhook_key(secret)
        return secret

    @field_validator("url")
    @classmethod
    def _url_names_a_host(cls, url: str) -> str:
        return _checked_url(url, "http", "https")


class MqttTarget(_Target):
    """Events, and if asked for labels and Home Assistant's discovery, through an MQTT broker."""

    kind: Literal["mqtt"]
    url: str = Field(repr=False)
    """mqtt://host[:1883], or mqtts://host[:8883] for TLS. Without credentials: these are below."""
    username: str | None = Field(None, repr=False)
    password: str | None = Field(None, repr=False)
    ca_file: str | None = None
    """mqtts: trusted in place of the system's certificates."""
    cert_file: str | None = None
    key_file: str | None = None
    client_id: str = Field("streamfuse", pattern=r"^[\x21-\x7e]{1,64}$")
    topic: str = Field("streamfuse", pattern=r"^[^\x00-\x1f\x7f+#/]+(/[^\x00-\x1f\x7f+#/]+)*$")
    """First part of every topic."""
    labels_every_s: float | None = Field(None, ge=0, le=3600)
    """Also the labels: of each source the newest, so often; 0: every one; unset: none."""
    discovery: bool = False
    """Tell Home Assistant what there is, so that it shows every source by itself."""
    discovery_topic: str = Field("homeassistant", pattern=r"^[^\x00-\x1f\x7f+#/]+$")

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, url: str) -> str:
        parts = urlsplit(_checked_url(url, "mqtt", "mqtts"))
        if "@" in parts.netloc or parts.path not in ("", "/") or parts.query:
            raise ValueError("scheme, host and port alone; username and password have keys of their own")
        return url

    @model_validator(mode="after")
    def _credentials_belong_together(self) -> Self:
        if self.password is not None and self.username is None:
            raise ValueError("a password needs a username")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        if self.url.startswith("mqtt:") and (self.ca_file or self.cert_file):
            raise ValueError("certificates need mqtts://")
        return self


class CommandTarget(_Target):
    """A program that is started for each event, with its JSON on standard input. Never a shell."""

    kind: Literal["command"]
    run: tuple[str, ...] = Field(min_length=1, repr=False)
    """The program and its arguments, as they are: nothing in them is expanded."""

    @field_validator("run")
    @classmethod
    def _arguments_are_whole(cls, run: tuple[str, ...]) -> tuple[str, ...]:
        if not run[0] or any("\0" in word for word in run):
            raise ValueError("a program, and arguments without a NUL")
        return run


Target = Annotated[WebhookTarget | MqttTarget | CommandTarget, Field(discriminator="kind")]


class EventFiles(EventFilter):
    """Pictures and clips of events. `folder` alone writes snapshots."""

    folder: str | None = None
    """Unset: nothing is kept."""
    snapshots: bool = True
    """A JPEG of the picture with which the event began."""
    clips: bool = False
    """The seconds around the beginning, cut from the stream without encoding them again."""
    before_s: float = Field(5.0, ge=0, le=60)
    """And back to the key frame before that."""
    after_s: float = Field(5.0, ge=0, le=60)
    ring_bytes: int = Field(64_000_000, ge=1_000_000, le=4_000_000_000)
    """Memory for the packets of one source that a clip may need."""
    max_bytes: int = Field(1_000_000_000, ge=1_000_000)
    """Of the whole folder; the oldest files are removed."""

    @property
    def takes_snapshots(self) -> bool:
        return self.folder is not None and self.snapshots

    @property
    def cuts_clips(self) -> bool:
        return self.folder is not None and self.clips


class NotifyConfig(Section):
    """Who is told of events, and what is kept of them."""

    targets: dict[TargetName, Target] = Field(default_factory=dict)
    rules: tuple[NotifyRule, ...] = ()
    """Each that chooses an event tells it; none at all: every event to every target."""
    files: EventFiles = Field(default_factory=EventFiles)

    @property
    def wanted(self) -> bool:
        """Somebody is told, or something is kept."""
        return bool(self.targets) or self.files.folder is not None

    @model_validator(mode="after")
    def _targets_are_there(self) -> Self:
        for rule in self.rules:
            for name in rule.targets:
                if name not in self.targets:
                    known = ", ".join(sorted(self.targets)) or "none"
                    raise ValueError(f"rules name targets that are there ({known}), got {name}")
        return self


def webhook_key(secret: str) -> bytes:
    """The bytes of a shared secret: base64 after `whsec_`, any other text as it is. Raises ValueError."""
    if not secret.startswith(WHSEC):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(WHSEC), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"what stands after `{WHSEC}` must be base64")
    return key


def _checked_url(url: str, *schemes: str) -> str:
    # The value may hold secrets: it is never quoted here. (No pattern of the schema either: in an editor it
    # may be a ${VARIABLE} still.)
    if url.partition("://")[0] not in schemes:
        raise ValueError(f"an address begins with {':// or '.join(schemes)}://")
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("an address has no blanks or control characters")
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        named = False
    if not named:
        raise ValueError("an address names a host, and a port in 1..65535")
    return url
