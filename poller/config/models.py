"""Every setting of the contract (§2), typed, judged and frozen; nothing is read from anywhere here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from poller.deliver.filters import compile_filter
from poller.deliver.formats import FORMATS, RATES, UNSIGNED
from poller.deliver.retry import SCHEDULE_S
from poller.deliver.signing import decode_secret
from poller.errors import SettingsError
from poller.store.cluster import judge_url
from poller.watch.sources import SOURCES

from . import values
from .origins import SECRETS, Origin, Path_
from .values import Allowance

RETRY_SCHEDULE: Final = tuple(timedelta(seconds=each) for each in SCHEDULE_S)
"""Contract §7: 12 attempts over 75.7 h."""

MOST = 100
"""Items in one list."""

_RESERVED_HEADERS = {
    "connection": "it belongs to the connection",
    "content-length": "it is counted",
    "content-type": "use content_type",
    "host": "it comes from the URL",
    "transfer-encoding": "it belongs to the connection",
    "user-agent": "it is poller/<version>",
    "webhook-id": "it is the event's id",
    "webhook-signature": "it is made from the secrets",
    "webhook-timestamp": "it is the attempt's time",
}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_GLOB = re.compile(r"[a-z0-9_.*?\[\]!-]+")
_NAME_GLOB = re.compile(r"[a-z0-9*?\[\]!-]+")
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_HOST_NAME = re.compile(r"[a-z0-9_.-]+|\[?[0-9a-f:.]+\]?")


_Item = TypeVar("_Item")


def _matching(pattern: re.Pattern[str], message: str, value: str) -> str:
    if pattern.fullmatch(value):
        return value
    raise ValueError(message)


def _matches(pattern: re.Pattern[str], message: str) -> AfterValidator:
    return AfterValidator(partial(_matching, pattern, message))


def _one_of(words: Mapping[str, Any]) -> AfterValidator:
    def known(word: str) -> str:
        if word in words:
            return word
        raise PydanticCustomError("literal_error", "not known", {"expected": either(words)})

    return AfterValidator(known)


def either(words: Iterable[str]) -> str:
    """What a value may be, as a list in words."""
    *most, last = (f'"{word}"' for word in words)
    return f"{', '.join(most)} or {last}"


def _none_if_empty(value: Any) -> Any:
    return None if values.plain(value) == "" else value


def _proxy(value: Any) -> SecretStr:
    text = values.plain(value)
    values.split_url(text)
    return SecretStr(text)


def _redis_url(value: Any) -> SecretStr:
    text = values.plain(value)
    if not (isinstance(text, str) and text.startswith("unix:///")):
        values.split_url(text, schemes=("redis", "rediss", "unix"))
    judge_url(text)
    return SecretStr(text)


def _level(value: Any) -> Any:
    """Accept the other names that LOG_LEVEL has elsewhere."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    return {"warn": "warning", "critical": "error", "fatal": "error", "trace": "debug"}.get(text, text)


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text:
        msg = "is empty"
        raise ValueError(msg)
    # It goes into a header: a line break there would be another header.
    if not text.isascii() or not text.isprintable() or " " in text:
        msg = "holds a space, a control character or a letter beyond ASCII; copy it again"
        raise ValueError(msg)
    return SecretStr(text)


def _some(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    if not items or len(items) > MOST:
        msg = f"must hold 1 to {MOST} things"
        raise ValueError(msg)
    return items


def _filter(text: str) -> str:
    """Compile a CEL expression once, so that one that is wrong is known before the first event."""
    try:
        if text:
            compile_filter(text)
    except SettingsError as exc:
        raise ValueError(exc.problems[0].removeprefix("filter: ")) from None
    return text


def _header_name(name: str) -> str:
    name = name.lower()
    if name in _RESERVED_HEADERS:
        msg = f"this header cannot be set: {_RESERVED_HEADERS[name]}"
        raise ValueError(msg)
    return _matching(_HEADER_NAME, "not the name of a header", name)


def _header_value(value: SecretStr) -> SecretStr:
    _matching(_HEADER_VALUE, "a header's value is printable ASCII on one line", value.get_secret_value())
    return value


_AS_TEXT = PlainSerializer(str, return_type=str, when_used="json")
_AS_DURATION = PlainSerializer(values.format_duration, return_type=str, when_used="json")

Kind = Annotated[str, _one_of(SOURCES)]
Name = Annotated[str, AfterValidator(values.parse_name)]
Duration = Annotated[timedelta, BeforeValidator(values.parse_duration), _AS_DURATION]
PositiveDuration = Annotated[timedelta, BeforeValidator(values.parse_positive), _AS_DURATION]
AllowanceText = Annotated[Allowance, BeforeValidator(values.parse_allowance), _AS_TEXT]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(values.parse_network)]
TypeGlob = Annotated[
    str, _matches(_GLOB, 'an event type or a glob over it, such as "*.won" or "drum.project.*"')
]
NameGlob = Annotated[str, _matches(_NAME_GLOB, 'a source\'s name or a glob over it, such as "acme" or "*"')]
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
HostName = Annotated[
    str, _matches(_HOST_NAME, "a bare host name in small letters, without scheme, port or path")
]
_List = BeforeValidator(values.as_list)
_SOME = AfterValidator(_some)  # pydantic's min_length would also count what is wrong for another reason


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RedisSettings(_Frozen):
    """Where what is kept is kept."""

    url: Annotated[SecretStr, BeforeValidator(_redis_url)] | None = None
    """None: an embedded, durable server in data_dir."""
    prefix: Annotated[str, _matches(_PREFIX, "1 to 64 of A-Z, a-z, 0-9 and _ . : -")] = "poller"
    retention: PositiveDuration = timedelta(days=7)
    durability: Literal["default", "fsync"] = "default"
    lease: PositiveDuration = timedelta(seconds=15)


class WebSettings(_Frozen):
    """The HTTP of the service (contract §9)."""

    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8080, ge=0, le=65535)
    token: Annotated[Token | None, BeforeValidator(_none_if_empty)] = Field(None, validate_default=True)
    hosts: Annotated[tuple[HostName, ...], _List] = ()
    metrics_token: Annotated[Token | None, BeforeValidator(_none_if_empty)] = None

    @field_validator("token")
    @classmethod
    def _guard_public(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        host = info.data.get("host")
        if token is None and host is not None and not values.is_loopback(host):
            msg = f'must be set because web.host = "{host}" can be reached from outside'
            raise ValueError(msg)
        return token


class LogSettings(_Frozen):
    """What is said on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_level)] = "info"


class SourceSettings(_Frozen):
    """One account of one API."""

    kind: Kind
    token: Token
    base_url: Annotated[str, BeforeValidator(values.parse_origin)]
    """By kind; one whose accounts have a host each must name it."""
    every: PositiveDuration = timedelta(seconds=30)
    budget: AllowanceText = Allowance(240, timedelta(minutes=5))
    """By kind: this, or what one that counts tokens has as its own."""
    egress: Name = "default"
    details: bool = True
    max_age: PositiveDuration = timedelta(hours=24)
    baseline: Literal["silent", "emit"] = "silent"
    won_statuses: Annotated[tuple[str, ...], _List] = ()
    lost_statuses: Annotated[tuple[str, ...], _List] = ()
    hook_secret: OptionalSecret = None
    recents: bool = False
    proxy: Annotated[SecretStr, BeforeValidator(_proxy)] | None = None
    noise: bool = False

    @model_validator(mode="before")
    @classmethod
    def _place(cls, given: Any) -> Any:
        """Fill in host and budget by kind, and read numbers among the statuses as ids."""
        if not isinstance(given, Mapping):
            return given
        # A kind that is wrong is told as such, and its host is not called missing as well.
        api = (SOURCES.get(str(given.get("kind"))) or SOURCES["drum"]).api
        filled = dict(given)
        if not filled.get("base_url") and api.base_url:
            filled["base_url"] = api.base_url
        filled.setdefault("budget", api.budget)
        if values.plain(filled.get("proxy")) == "":
            del filled["proxy"]
        for key in ("won_statuses", "lost_statuses"):
            if isinstance(filled.get(key), list | tuple):
                filled[key] = [str(item) if type(item) is int else item for item in filled[key]]
        return filled

    @field_validator("budget")
    @classmethod
    def _pays(cls, budget: Allowance, info: ValidationInfo) -> Allowance:
        made = SOURCES.get(str(info.data.get("kind")))
        if made and budget.count < made.api.dearest:
            most = f"one request costs up to {made.api.dearest} {made.api.unit}"
            msg = f'{most}: give it that many at least, or "{made.api.budget}"'
            raise ValueError(msg)
        return budget


class WebhookSettings(_Frozen):
    """One receiver of events over HTTP."""

    url: Annotated[SecretStr, BeforeValidator(values.parse_endpoint_url)]
    format: Annotated[str, _one_of(FORMATS)] = "cloudevents"
    secrets: Annotated[
        tuple[Annotated[SecretStr, BeforeValidator(values.parse_signing_secret)], ...], _List
    ] = Field((), validate_default=True)
    events: Annotated[tuple[TypeGlob, ...], _List, _SOME] = ("*",)
    sources: Annotated[tuple[NameGlob, ...], _List, _SOME] = ("*",)
    start: Literal["now", "oldest"] = Field("now", alias="from")
    content_type: Literal["application/json", "application/cloudevents+json"] = "application/json"
    filter: Annotated[str, AfterValidator(_filter)] = ""
    headers: Annotated[dict[HeaderName, HeaderValue], BeforeValidator(values.as_table)] = {}
    order: Literal["subject", "none"] = "subject"
    concurrency: int = Field(8, ge=1, le=1000)
    rate: AllowanceText | None = None
    schedule: Annotated[tuple[Duration, ...], _List, _SOME] = RETRY_SCHEDULE
    allow_private: Annotated[tuple[Network, ...], _List] = ()

    @model_validator(mode="before")
    @classmethod
    def _pace(cls, given: Any) -> Any:
        """Give a format its own rate, as Slack its one message a second, and read an empty one as none."""
        if not isinstance(given, Mapping) or given.get("rate"):
            return given
        return {**given, "rate": RATES.get(str(given.get("format")))}

    @field_validator("secrets")
    @classmethod
    def _signed(cls, secrets: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        if not secrets and info.data.get("format") in FORMATS.keys() - UNSIGNED:
            msg = "is missing, and every request is signed; make one with `poller webhooks secret`"
            raise ValueError(msg)
        return secrets

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The bytes to sign with, newest first as written."""
        return tuple(decode_secret(secret.get_secret_value()) for secret in self.secrets)

    @property
    def shown_url(self) -> str:
        """The URL as it may be shown: Slack's path is its secret."""
        return values.mask_url(self.url.get_secret_value(), path=self.format == "slack")


class Settings(_Frozen):
    """All settings; `load` reads them from file, environment and command line."""

    data_dir: Path = Path(".poller")
    redis: RedisSettings = RedisSettings()
    web: WebSettings = WebSettings()
    log: LogSettings = LogSettings()
    sources: dict[Name, SourceSettings] = {}
    webhooks: dict[Name, WebhookSettings] = {}

    _origins: dict[Path_, Origin] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and yet deserves a word; to be shown to whoever started the program."""
        return self._warnings

    @property
    def origins(self) -> Mapping[Path_, Origin]:
        """Where each value came from that is not a default."""
        return self._origins


_MODELS: dict[str, type[BaseModel]] = {
    "redis": RedisSettings,
    "web": WebSettings,
    "log": LogSettings,
    "sources": SourceSettings,
    "webhooks": WebhookSettings,
}


def known_keys(section: Sequence[str]) -> list[str]:
    """The keys that may stand in a section, `()` being the top; with their `_file` forms."""
    if not section:
        return list(Settings.model_fields)
    model = _MODELS.get(section[0])
    if model is None:
        return []
    keys = [field.alias or name for name, field in model.model_fields.items()]
    secret = SECRETS.get(section[0], frozenset())
    return [*keys, *sorted(secret - set(keys)), *sorted(f"{key}_file" for key in secret)]
