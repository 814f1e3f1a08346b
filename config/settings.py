"""The settings of one Monofil process: environment variables MONOFIL_… with defaults, meaning and units.

`load(environ)` reads them; an unknown MONOFIL_… variable, a bad value and an unreadable secret file are each
one sentence of `SettingsError`. A secret may be given as a file: MONOFIL_DATABASE_URL_FILE=/run/secrets/db.
Everything about the hotline itself (queues, advisors, trees …) is in the site, not here.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)

PREFIX = "MONOFIL_"
FILE_SUFFIX = "_FILE"


class SettingsError(Exception):
    """The environment can't be used; `sentences` name each variable and its cure."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True, slots=True)
class PortRange:
    """An inclusive range of UDP ports, written `20000-29999`."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


def _words(value: object) -> object:
    """A list from the environment: words between commas or blanks."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _port_range(value: object) -> object:
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    if not (dash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError("two ports with a dash between them, like 20000-29999")
    ports = PortRange(int(first), int(last))
    if not 1024 <= ports.first < ports.last <= 65535:
        raise ValueError("a rising range inside 1024-65535, like 20000-29999")
    return ports


def _default_data_dir() -> Path:
    if systemd := os.environ.get("STATE_DIRECTORY"):
        return Path(systemd.split(":")[0])
    if os.geteuid() == 0:
        return Path("/var/lib/monofil")
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "monofil"


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Ports = Annotated[PortRange, BeforeValidator(_port_range)]


def _of(
    default: Any,
    group: str,
    meaning: str,
    unit: str = "",
    *,
    ge: float | None = None,
    le: float | None = None,
    shown: str | None = None,
) -> Any:
    """A field with what `monofil settings` prints of it; `shown` describes a default that is worked out."""
    return Field(
        default,
        description=meaning,
        ge=ge,
        le=le,
        json_schema_extra={"group": group, "unit": unit, "shown": shown},
    )


class Settings(BaseModel):
    """Every setting; the field's name in capitals behind MONOFIL_ is its variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    # places
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of everything that is kept: the embedded database, recordings, spoken prompts.",
        json_schema_extra={
            "group": "places",
            "unit": "folder",
            "shown": "~/.local/share/monofil, or /var/lib/monofil for root",
        },
    )
    database_url: SecretStr | None = _of(
        None,
        "places",
        "PostgreSQL 15 or newer to use, as postgresql://user:password@host/database. "
        "Without it Monofil starts its own below the data folder.",
        "URL",
        shown="own PostgreSQL",
    )
    pg_bin: Path | None = _of(
        None,
        "places",
        "Folder of the PostgreSQL programs for the embedded database.",
        "folder",
        shown="found",
    )

    # web
    http_host: str = _of("127.0.0.1", "web", "Address on which the console and the API listen.", "IP address")
    http_port: int = _of(
        8080, "web", "TCP port of the console and the API; 0 takes a free one.", "port", ge=0, le=65535
    )
    public_url: str | None = _of(
        None,
        "web",
        "Address under which browsers reach the console, like https://desk.example.org. "
        "https makes cookies Secure; the Origin of every change is held against it.",
        "URL",
        shown="what the browser says",
    )
    trusted_proxies: Words = _of(
        (), "web", "Addresses or networks whose X-Forwarded-For and -Proto are believed.", "list of networks"
    )
    session_hours: float = _of(
        12.0, "web", "Life of a sign-in, from its last use.", "hours", ge=0.1, le=24 * 30
    )
    login_failures: int = _of(
        3,
        "web",
        "Failed sign-ins of one login from one address before each further one must wait, longer each time.",
        "count",
        ge=1,
    )
    pop_wait_ms: int = _of(
        250,
        "web",
        "Longest wait for the page to show the screen pop before the phone rings.",
        "ms",
        ge=0,
        le=5000,
    )

    # SIP
    sip_host: str = _of("127.0.0.1", "sip", "Address on which SIP listens, UDP and TCP.", "IP address")
    sip_port: int = _of(5060, "sip", "Port of SIP, UDP and TCP; 0 takes a free one.", "port", ge=0, le=65535)
    advertised_ip: str | None = _of(
        None,
        "sip",
        "Address that phones and carriers are told for SIP and audio; needed behind NAT and with 0.0.0.0.",
        "IP address",
        shown="the SIP address",
    )
    sip_realm: str = _of(
        "monofil", "sip", "Digest realm of the phone accounts; to change it voids their passwords.", "name"
    )
    sip_t1_ms: int = _of(500, "sip", "Round-trip estimate T1 (RFC 3261 17.1.1.1).", "ms", ge=50, le=5000)
    sip_t2_ms: int = _of(4000, "sip", "Longest gap between retransmissions, T2.", "ms", ge=500, le=30000)
    sip_session_expires_s: int = _of(
        180, "sip", "Session timer (RFC 4028): a vanished phone is noticed after it.", "s", ge=90, le=7200
    )
    sip_register_min_s: int = _of(
        60, "sip", "Shortest registration a phone may ask for.", "s", ge=10, le=3600
    )
    sip_register_max_s: int = _of(3600, "sip", "Longest registration that is granted.", "s", ge=60, le=86400)
    sip_failures: int = _of(
        10,
        "sip",
        "Wrong passwords for one phone account from one address before more are not even looked at for a while.",
        "count",
        ge=1,
    )
    sip_rate: int = _of(
        200,
        "sip",
        "New requests a second from one address that is no trunk before they are refused.",
        "1/s",
        ge=1,
    )
    max_calls: int = _of(1000, "sip", "Calls at once before new ones get 503.", "calls", ge=1, le=100_000)
    drain_s: float = _of(
        120.0, "sip", "Longest time that running calls may go on after SIGTERM.", "s", ge=0, le=86_400
    )

    # media
    rtp_ports: Ports = _of(
        PortRange(20000, 29999), "media", "UDP ports of the audio; two a leg.", "range of ports"
    )
    media_workers: int = _of(
        0,
        "media",
        "Media worker processes.",
        "processes",
        ge=0,
        le=256,
        shown="one a core, less one for the server",
    )
    no_rtp_end_s: float = _of(
        30.0, "media", "Time without an audio packet, not on hold, before a leg counts as lost.", "s", ge=5
    )

    # mail
    mail_host: str = _of(
        "127.0.0.1", "mail", "Address on which mail is taken, by SMTP or LMTP.", "IP address"
    )
    mail_port: int | None = _of(
        None,
        "mail",
        "TCP port of the mail listener, behind the site's own mail server; 0 takes a free one.",
        "port",
        ge=0,
        le=65535,
        shown="no listener",
    )
    mail_certificate: Path | None = _of(
        None,
        "mail",
        "Certificate and its chain (PEM) with which the mail listener offers STARTTLS.",
        "file",
        shown="no STARTTLS",
    )
    mail_key: Path | None = _of(
        None, "mail", "Its private key (PEM).", "file", shown="in the certificate's file"
    )
    mail_authority: Path | None = _of(
        None,
        "mail",
        "Authority (PEM) of a company's own mail servers, trusted beside those that the system trusts.",
        "file",
        shown="the system's only",
    )
    mail_max_mb: int = _of(30, "mail", "Largest mail that is taken.", "MB", ge=1, le=200)

    # outside
    request_days: float = _of(
        30.0,
        "outside",
        "How long the raw bodies of webhooks and mails are kept to be replayed.",
        "days",
        ge=1,
    )
    fetch_allow: Words = _of(
        (),
        "outside",
        "Hosts (name, name:port or network) whose attachments are fetched although their addresses are not public.",
        "list of hosts",
    )
    clock_file: Path | None = _of(
        None,
        "outside",
        "For tests and the demo: a file with the seconds that the clock runs ahead; read again when it changes.",
        "file",
        shown="the true time",
    )
    lookup_allow: Words = _of(
        (),
        "outside",
        "Hosts (name, name:port or network) that trees may look up although their addresses are not public.",
        "list of hosts",
    )

    # logs
    log_level: Literal["debug", "info", "warning", "error"] = _of(
        "info", "logs", "Least level that is written.", "level"
    )
    log_format: Literal["auto", "json", "text"] = _of(
        "auto", "logs", "Form of the log on standard error; auto is text on a terminal, else JSON.", "form"
    )
    log_personal: bool = _of(
        True, "logs", "Whether names and numbers (keys that begin with pii_) are written.", "true or false"
    )

    @field_validator("http_host", "sip_host", "advertised_ip", "mail_host")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError("an IP address, like 127.0.0.1 or 0.0.0.0") from None

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, value: str | None) -> str | None:
        if value is None:
            return None
        scheme, _, rest = value.rstrip("/").partition("://")
        if scheme not in ("http", "https") or not rest or "/" in rest or " " in rest:
            raise ValueError("scheme and host only, like https://desk.example.org")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("a URL that begins with postgresql://")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            try:
                ipaddress.ip_network(word, strict=False)
            except ValueError:
                raise ValueError("addresses or networks with commas between them, like 10.0.0.0/8") from None
        return value

    @property
    def speech_cache(self) -> Path:
        return self.data_dir / "speech"

    @property
    def dsn(self) -> str | None:
        return self.database_url.get_secret_value() if self.database_url else None

    @property
    def told_ip(self) -> str:
        """The address for Contact, Via and SDP."""
        return self.advertised_ip or self.sip_host

    @property
    def workers(self) -> int:
        return self.media_workers or max(1, (os.cpu_count() or 2) - 1)

    @property
    def secure_cookies(self) -> bool:
        return bool(self.public_url and self.public_url.startswith("https://"))


SECRET = frozenset({"database_url"})
CHANNEL_SECRET = PREFIX + "SECRET_"  # MONOFIL_SECRET_<ACCOUNT>_<NAME>
_NAMES = {PREFIX + name.upper(): name for name in Settings.model_fields}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of `environ` (the process's own if None). Raises SettingsError with every mistake."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    wrong: list[str] = []
    for variable in sorted(v for v in environ if v.startswith(PREFIX)):
        text = environ[variable]
        if variable in _NAMES:
            if text != "":
                values[_NAMES[variable]] = text
            continue
        if variable.startswith(CHANNEL_SECRET):
            continue  # read by whoever needs it (routing.store.ChannelSecrets)
        secret = variable.removesuffix(FILE_SUFFIX)
        if variable.endswith(FILE_SUFFIX) and _NAMES.get(secret) in SECRET:
            if environ.get(secret):
                wrong.append(f"{variable} and {secret} are both set: keep one of them.")
                continue
            try:
                values[_NAMES[secret]] = Path(text).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "not text"
                wrong.append(
                    f"{variable} names {text}, which can't be read ({why}): mend its path or rights."
                )
            continue
        bare = [name.removeprefix(PREFIX) for name in _NAMES]
        near = difflib.get_close_matches(variable.removeprefix(PREFIX), bare, n=1, cutoff=0.75)
        cure = f"did you mean {PREFIX}{near[0]}?" if near else "unset it; `monofil settings` lists all."
        wrong.append(f"{variable} is not a setting: {cure}")
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors():
            name = str(detail["loc"][0]) if detail["loc"] else ""
            shown = "its value" if name in SECRET else f"{values.get(name, '')!s:.80}"
            wrong.append(f"{PREFIX}{name.upper()}={shown} can't be used: give {_expected(detail)}.")
        raise SettingsError(wrong) from None
    if settings.sip_host in ("0.0.0.0", "::") and settings.advertised_ip is None:
        wrong.append(
            f"MONOFIL_SIP_HOST={settings.sip_host} listens everywhere, but phones must be told one address: "
            "set MONOFIL_ADVERTISED_IP."
        )
    if settings.sip_register_min_s > settings.sip_register_max_s:
        wrong.append("MONOFIL_SIP_REGISTER_MIN_S is above MONOFIL_SIP_REGISTER_MAX_S: lower it.")
    if wrong:
        raise SettingsError(wrong)
    return settings


def _expected(detail: Any) -> str:
    kind: str = detail["type"]
    context = detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind == "greater_than_equal":
        return f"at least {context['ge']}"
    if kind == "less_than_equal":
        return f"at most {context['le']}"
    if kind.startswith("bool"):
        return "true or false"
    if kind.startswith("int"):
        return "a whole number"
    if kind.startswith("float"):
        return "a number"
    return str(detail["msg"])


@dataclass(frozen=True, slots=True)
class Described:
    """One line of `monofil settings`; `value` of a secret is never its text."""

    variable: str
    group: str
    meaning: str
    unit: str
    default: str
    value: str
    is_set: bool


def describe(settings: Settings) -> Iterator[Described]:
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        value = getattr(settings, name)
        is_set = name in settings.model_fields_set
        shown = extra["shown"]
        default = str(shown) if shown else _written(field.default)
        written = "(set, hidden)" if name in SECRET and value is not None else _written(value)
        if not is_set and name != "data_dir" and shown:
            written = str(shown)
        yield Described(
            variable=PREFIX + name.upper(),
            group=str(extra["group"]),
            meaning=str(field.description),
            unit=str(extra["unit"]),
            default=default,
            value=written,
            is_set=is_set,
        )


def _written(value: object) -> str:
    if value is None or value == ():
        return ""
    return ",".join(value) if isinstance(value, tuple) else str(value)
