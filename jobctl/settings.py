"""Every setting of the server: command line over environment over TOML over these defaults.

``configs/jobctl.toml`` shows them all. An environment variable is ``JOBCTL_`` and the name, with ``__`` for a dot:
``JOBCTL_PORT=8001``, ``JOBCTL_STREAM__MAX_CONNECTIONS=500``; ``JOBCTL_SECRET`` is ``auth.secret``,
``JOBCTL_PREVIOUS_SECRET`` what it was before.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from jobctl import origins
from jobctl.auth_settings import Auth
from jobctl.errors import ConfigError
from jobctl.model import NAME
from jobctl.postgres_settings import Database, Postgres
from jobctl.scalars import Number, Switch, Whole, from_environment
from jobctl.upkeep_settings import Retention, ScheduleSettings
from jobctl.upkeep_settings import Section as _Section

_CLIENT_ENV: Final = frozenset({"JOBCTL_URL", "JOBCTL_TOKEN", "JOBCTL_DEBUG"})
"""Variables of the command-line client, not settings of the server."""
_OWN_ENV: Final = frozenset({"JOBCTL_JOB_ID", "JOBCTL_RUN", "JOBCTL_ATTEMPT", "JOBCTL_WORKER"})
"""What commands find in their environment; one may well start a server."""
_TABLES: Final = frozenset(
    {"auth", "stream", "log", "health", "retention", "postgres", "queues", "commands", "webhooks", "schedules"}
)
"""Settings with a dot in their name, ``__`` in the environment."""

Seconds = Annotated[Number, Field(gt=0, le=31 * 86400)]


class Stream(_Section):
    """Limits of the WebSocket stream."""

    max_connections: Whole = Field(10_000, ge=1)
    max_per_subject: Whole = Field(2_000, ge=1)
    max_waiting_per_address: Whole = Field(2_000, ge=1)
    """Connections of one address that have not signed in: no machine may take every place without a token."""
    outbox_bytes: Whole = Field(256 * 1024, ge=4096)
    auth_timeout: Seconds = 10.0
    ping_interval: Seconds = 30.0
    dead_after: Seconds = 75.0


class QueueSettings(_Section):
    """One queue."""

    concurrency: Whole | None = Field(None, ge=1)


class CommandSettings(_Section):
    """A handler that runs a program; ``{field}`` in ``argv`` becomes exactly one argument (or part of one)."""

    argv: tuple[str, ...] = Field(min_length=1)
    cwd: Path | None = None
    env: dict[str, str] = {}
    timeout: Seconds | None = None
    allow_dash: Switch = False


class WebhookSettings(_Section):
    """A handler that is an HTTP server elsewhere: jobs are POSTed to ``url``, signed with ``secret``."""

    url: str = Field(min_length=1, max_length=2000)
    secret: SecretStr
    """At least 16 bytes; the receiver knows it too."""
    timeout: Seconds = 30.0
    allow_private: Switch = False
    """Let it go to addresses that are not of the public Internet: this machine, the local network."""
    headers: dict[str, SecretStr] = {}
    """More request headers; what proves who we are goes here."""

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value().encode()) < 16:
            raise ValueError("a webhook's secret has at least 16 bytes")
        return value


class Logging(_Section):
    """What the server says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """``auto``: console on a terminal, JSON otherwise."""
    access: Literal["off", "debug", "info"] = "info"
    """The level at which each request to the API is told; those to health checks are always ``debug``."""


class Health(_Section):
    """When the server says that it is not well."""

    max_lag: Seconds = 1.0
    """Without a turn of the event loop for so long, the log names the job that blocks it."""
    min_free_bytes: Whole = Field(64 * 1024 * 1024, ge=0)
    """With less free space where the database is, ``/readyz`` says so."""


class Settings(BaseSettings):
    """All settings. Frozen: nothing changes them after the start."""

    model_config = SettingsConfigDict(
        env_prefix="JOBCTL_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    host: str = Field("127.0.0.1", min_length=1)
    """Never empty: that would be every interface of the machine."""
    port: Whole = Field(8000, ge=0, le=65535)
    db: Database = Path("jobctl.db")
    postgres: Postgres = Postgres()
    app: str | None = None
    """Module with ``@job`` handlers; several separated by commas. The current folder is importable."""
    concurrency: Whole = Field(10, ge=1, le=10_000)
    accept_unknown: Switch = False
    durability: Literal["full", "normal"] = "full"
    state_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_state_dir("jobctl")))
    grace: Number = Field(25.0, ge=0, le=31 * 86400)
    """Seconds that running jobs get to finish when the server stops."""
    cancel_grace: Number = Field(10.0, ge=0, le=31 * 86400)
    """Seconds that a running job gets to stop by itself when it is cancelled."""
    rate_limit: str = "6000/1m"
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    certfile: Path | None = None
    keyfile: Path | None = None
    auth: Auth = Auth()
    stream: Stream = Stream()
    log: Logging = Logging()
    health: Health = Health()
    metrics: str | None = None
    """Where `jobctl work` answers ``/healthz``, ``/readyz`` and ``/metrics``: HOST:PORT, or a port of this machine."""
    backup_dir: Path | None = None
    """Backups are written below this folder only; None: wherever the server may create a file."""
    queues: dict[str, QueueSettings] = {}
    commands: dict[str, CommandSettings] = {}
    webhooks: dict[str, WebhookSettings] = {}
    retention: Retention = Retention()
    schedules: dict[str, ScheduleSettings] = {}

    @field_validator("queues", "commands", "webhooks", "schedules")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r}: a name is 1 to 100 of A-Z a-z 0-9 . _ : -")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            check_origin(value)
        return values

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, value: str) -> str:
        parse_rate(value)
        return value

    @field_validator("metrics")
    @classmethod
    def _metrics(cls, value: str | None) -> str | None:
        if value is not None:
            parse_address(value)
        return value

    @model_validator(mode="after")
    def _tls_pair(self) -> "Settings":
        if (self.certfile is None) != (self.keyfile is None):
            raise ValueError("certfile and keyfile go together")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line first, then the environment; the TOML comes in by ``load`` below both."""
        return (init_settings, _Environment(settings_cls, env_settings), _Toml(settings_cls, _toml_values))


class _Environment(PydanticBaseSettingsSource):
    """What pydantic-settings found in the environment, marked as text of it."""

    def __init__(self, settings_cls: type[BaseSettings], found: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._found = found

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return self._found.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        marked: dict[str, Any] = from_environment(self._found())
        return marked


class _Toml(PydanticBaseSettingsSource):
    """Values of the configuration file, which ``load`` has read."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = dict(values)

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values


_toml_values: dict[str, Any] = {}


def parse_rate(text: str) -> tuple[int, float]:
    """``100/15m`` as (100, 900.0): a capacity, and the seconds over which it refills.

    Raises:
        ValueError: not of that form.
    """
    found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,4})?([smhd])", text)
    if found is None:
        raise ValueError("a rate is written like 100/15m (100 requests, refilled over 15 minutes; units s m h d)")
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[3]]
    return int(found[1]), float(int(found[2] or 1) * unit)


def parse_address(text: str) -> tuple[str, int]:
    """``10.0.0.11:9101`` as a host and a port; a port alone is one of this machine, 127.0.0.1.

    Raises:
        ValueError: not of that form.
    """
    found = re.fullmatch(r"(?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):)?(\d{1,5})", text)
    if found is None or int(found[2]) > 65535:
        raise ValueError("an address is written like 10.0.0.11:9101 or [::1]:9101; a port alone is one of 127.0.0.1")
    return (found[1] or "127.0.0.1").strip("[]"), int(found[2])


def check_origin(text: str) -> None:
    """Whether a browser may ever send ``text`` as its ``Origin`` (a slash at the end is forgiven).

    Raises:
        ValueError: it never does: RFC 6454 section 6.2.
    """
    try:
        parts = urlsplit(text.removesuffix("/"))
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    bare = f"{parts.scheme}://[{host}]" if ":" in host else f"{parts.scheme}://{host}"
    if port is not None and port == {"http": 80, "https": 443}.get(parts.scheme):
        raise ValueError(f"browsers leave the usual port out: {bare}")
    expected = bare if port is None else f"{bare}:{port}"
    sendable = text.isascii() and text.isprintable() and text.removesuffix("/").lower() == expected
    if not host or "*" in host or not sendable:
        raise ValueError(f"{text!r} can never match: an origin is like https://board.example, with no path")


def load(path: Path | None, **overrides: Any) -> Settings:
    """The settings from ``path`` (TOML), the environment and ``overrides`` (None: not given).

    Raises:
        ConfigError: the file cannot be read, a key does not exist, or a value is wrong; the message names it.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError(f"cannot read the configuration {path}: {reason}") from None
        except ValueError as error:  # not only tomllib's own: a number may have too many digits
            raise ConfigError(f"{path} is not TOML: {error}") from None
        except RecursionError:
            raise ConfigError(f"{path} nests too deep") from None
    _refuse_unknown_environment()
    flags = {name: value for name, value in overrides.items() if value is not None}
    given = flags
    if isinstance(values.get("auth", {}), dict) and (secrets := _secrets_of_environment()):
        given = {**flags, "auth": secrets}
    _toml_values.clear()
    try:
        if values:
            _check_file(path, values)
        _toml_values.update(values)
        return Settings(**given)
    except ValidationError as error:
        said = origins.everything_given(path, values, flags, Settings.model_fields)
        raise ConfigError(f"{_culprit(error, said)}: {_explain(error)}") from None
    except SettingsError as error:  # pydantic-settings reads lists and tables from the environment as JSON
        name = re.search(r'field "(\w+)"', str(error))
        which = f"JOBCTL_{name[1].upper()}" if name else "a variable"
        raise ConfigError(f"the environment: {which} is a list or a table and must be JSON") from None
    finally:
        _toml_values.clear()


def _check_file(path: Path | None, values: Mapping[str, Any]) -> None:
    """What the environment or the command line says instead must not hide a mistake until it is said no more."""
    try:
        Settings(**values)
    except ValidationError as error:
        said: Any = values
        for part in error.errors()[0]["loc"]:
            said = said.get(part) if isinstance(said, Mapping) else None
        if said is not None and not isinstance(said, Mapping):  # else it may be what others have said in that table
            raise ConfigError(f"{path}: {_explain(error)}") from None


def _secrets_of_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if secret := os.environ.get("JOBCTL_SECRET"):
        found["secret"] = secret
    if previous := os.environ.get("JOBCTL_PREVIOUS_SECRET"):
        found["previous_secrets"] = [previous]
    return found


def _culprit(error: ValidationError, said: Sequence[origins.Given]) -> str:
    """Who has said what is wrong."""
    if loc := error.errors()[0]["loc"]:
        found = origins.who_says(said, loc)
    else:  # certfile and keyfile, the only ones that are checked together
        found = [each for each in said if each.says(["certfile"]) or each.says(["keyfile"])]
    names = ["the command line" if each.kind == "flag" else each.name for each in found]
    return " and ".join(dict.fromkeys(names)) or "the settings"


def _refuse_unknown_environment() -> None:
    known = {f"JOBCTL_{name.upper()}" for name in Settings.model_fields} | _CLIENT_ENV | _OWN_ENV | {*origins.OWN}
    for name in os.environ:
        head, *rest = name.split("__")
        flat = bool(rest) and head.removeprefix("JOBCTL_").lower() not in _TABLES
        if name.startswith("JOBCTL_") and (head not in known or flat):
            near = _guess(name, sorted(known), origins.PREFIX)
            raise ConfigError(f"the environment variable {name} is no setting{near}")


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no setting {place!r}{_guess(place, _all_names())}"
    message = first["msg"].removeprefix("Value error, ").replace("valid tuple", 'list, like ["one", "two"]')
    return f"{place}: {message}" if place else message


def _guess(name: str, known: list[str], prefix: str = "") -> str:
    """The nearest of ``known``, if one is near. What all have in common makes none of them nearer."""
    rest = {each.removeprefix(prefix): each for each in known}
    close = difflib.get_close_matches(name.removeprefix(prefix), rest, n=1)
    return f"; did you mean {rest[close[0]]}?" if close else ""


def _all_names() -> list[str]:
    names = list(Settings.model_fields)
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            names += [f"{section}.{name}" for name in field.annotation.model_fields]
    return names
