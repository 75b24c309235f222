"""Every setting of the server: command line over environment over TOML over these defaults.

``configs/jobctl.toml`` shows them all. An environment variable is ``JOBCTL_`` and the name, with ``__`` for a dot:
``JOBCTL_PORT=8001``, ``JOBCTL_STREAM__MAX_CONNECTIONS=500``; ``JOBCTL_SECRET`` is ``auth.secret``,
``JOBCTL_PREVIOUS_SECRET`` what it was before.
"""

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from jobctl.errors import ConfigError
from jobctl.upkeep_settings import Retention, ScheduleSettings
from jobctl.upkeep_settings import Section as _Section

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_CLIENT_ENV: Final = frozenset({"JOBCTL_URL", "JOBCTL_TOKEN", "JOBCTL_DEBUG"})
"""Variables of the command-line client, not settings of the server."""
_OWN_ENV: Final = frozenset({"JOBCTL_JOB_ID", "JOBCTL_RUN", "JOBCTL_ATTEMPT"})
"""What commands find in their environment; one may well start a server."""

_SECRETS_ENV: Final = frozenset({"JOBCTL_SECRET", "JOBCTL_PREVIOUS_SECRET"})
"""``auth.secret``, and one of ``auth.previous_secrets``."""
_TABLES: Final = frozenset(
    {"auth", "stream", "log", "health", "retention", "queues", "commands", "webhooks", "schedules"}
)
"""Settings with a dot in their name, ``__`` in the environment."""

Seconds = Annotated[float, Field(gt=0, le=31 * 86400)]


Asymmetric = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""What an external issuer may sign with. Never HS*: a public key would then be the secret."""


def check_key_url(url: str) -> None:
    """Where keys may be fetched from: https, or this machine.

    Raises:
        ValueError: anything else.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or not url.isprintable():
        raise ValueError("keys are fetched from a URL like https://login.example/keys")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("keys are fetched over https: whoever changes them on their way can sign in as anybody")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Auth(_Section):
    """Who may sign in."""

    secret: SecretStr | None = None
    """HS256 secret, at least 32 bytes; else the file ``secret`` in the state folder, made by the first start."""
    previous_secrets: tuple[SecretStr, ...] = Field((), max_length=5)
    """Secrets that signed before this one: their tokens are still taken, nothing more is signed with them."""
    jwks_url: str | None = None
    """Public keys of an external issuer (RFC 7517). With it ``issuer``, ``audience`` and ``roles`` must be set."""
    issuer: str | None = Field(None, min_length=1)
    audience: str | None = Field(None, min_length=1)
    algorithms: tuple[Asymmetric, ...] = Field(("RS256", "ES256", "EdDSA"), min_length=1)
    subject_claim: str = Field("sub", min_length=1)
    role_claim: str = Field("role", min_length=1)
    """Its values (one, or a list) are looked up in ``roles``; ``a.b`` is ``b`` in ``a``."""
    roles: dict[str, Literal["admin", "user"]] = {}
    """What a claim's value may do here. Who has none that is named here is refused."""
    max_lifetime: float = Field(3600.0, ge=60, le=7 * 86400)
    """Seconds after its ``iat`` at which an external token ends here, whatever its ``exp`` says."""

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError("a secret has at least 32 bytes (RFC 7518 section 3.2)")
        return value

    @field_validator("previous_secrets")
    @classmethod
    def _each_long_enough(cls, values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if any(len(value.get_secret_value().encode()) < 32 for value in values):
            raise ValueError("a secret has at least 32 bytes (RFC 7518 section 3.2)")
        return values

    @field_validator("jwks_url")
    @classmethod
    def _safe_url(cls, value: str | None) -> str | None:
        if value is not None:
            check_key_url(value)
        return value

    @model_validator(mode="after")
    def _whole_issuer(self) -> "Auth":
        if self.jwks_url is not None:
            missing = [name for name in ("issuer", "audience", "roles") if not getattr(self, name)]
            if missing:
                raise ValueError(f"jwks_url needs {' and '.join(missing)} as well")
        return self


class Stream(_Section):
    """Limits of the WebSocket stream."""

    max_connections: int = Field(10_000, ge=1)
    max_per_subject: int = Field(2_000, ge=1)
    outbox_bytes: int = Field(256 * 1024, ge=4096)
    auth_timeout: Seconds = 10.0
    ping_interval: Seconds = 30.0
    dead_after: Seconds = 75.0


class QueueSettings(_Section):
    """One queue."""

    concurrency: int | None = Field(None, ge=1)


class CommandSettings(_Section):
    """A handler that runs a program; ``{field}`` in ``argv`` becomes exactly one argument (or part of one)."""

    argv: tuple[str, ...] = Field(min_length=1)
    cwd: Path | None = None
    env: dict[str, str] = {}
    timeout: Seconds | None = None
    allow_dash: bool = False


class WebhookSettings(_Section):
    """A handler that is an HTTP server elsewhere: jobs are POSTed to ``url``, signed with ``secret``."""

    url: str = Field(min_length=1, max_length=2000)
    secret: SecretStr
    """At least 16 bytes; the receiver knows it too."""
    timeout: Seconds = 30.0
    allow_private: bool = False
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
    min_free_bytes: int = Field(64 * 1024 * 1024, ge=0)
    """With less free space where the database is, ``/readyz`` says so."""


class Settings(BaseSettings):
    """All settings. Frozen: nothing changes them after the start."""

    model_config = SettingsConfigDict(
        env_prefix="JOBCTL_", env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    db: Path = Path("jobctl.db")
    app: str | None = None
    """Module with ``@job`` handlers; several separated by commas. The current folder is importable."""
    concurrency: int = Field(10, ge=1, le=10_000)
    accept_unknown: bool = False
    durability: Literal["full", "normal"] = "full"
    state_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_state_dir("jobctl")))
    grace: float = Field(25.0, ge=0)
    """Seconds that running jobs get to finish when the server stops."""
    cancel_grace: float = Field(10.0, ge=0)
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
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r}: a name is 1 to 100 of A-Z a-z 0-9 . _ : -")
        return value

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, value: str) -> str:
        parse_rate(value)
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
        return (init_settings, env_settings, _Toml(settings_cls, _toml_values))


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


def load(path: Path | None, **overrides: Any) -> Settings:
    """The settings from ``path`` (TOML), the environment and ``overrides`` (None: not given).

    Raises:
        ConfigError: the file cannot be read, a key does not exist, or a value is wrong; the message names it.
    """
    where = str(path) if path else "the environment"
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
    typed = {name for name, value in overrides.items() if value is not None}
    if secrets := _secrets_of_environment():
        section = values.pop("auth", {})
        overrides["auth"] = {**section, **secrets} if isinstance(section, dict) else section
    given = {name: value for name, value in overrides.items() if value is not None}
    _toml_values.clear()
    _toml_values.update(values)
    try:
        return Settings(**given)
    except ValidationError as error:
        named = error.errors()[0]["loc"][:1]
        source = "the command line" if named and named[0] in typed else where
        raise ConfigError(f"{source}: {_explain(error)}") from None
    except SettingsError as error:  # pydantic-settings reads lists and tables from the environment as JSON
        name = re.search(r'field "(\w+)"', str(error))
        which = f"JOBCTL_{name[1].upper()}" if name else "a variable"
        raise ConfigError(f"the environment: {which} is a list or a table and must be JSON") from None
    finally:
        _toml_values.clear()


def _secrets_of_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    if secret := os.environ.get("JOBCTL_SECRET"):
        found["secret"] = secret
    if previous := os.environ.get("JOBCTL_PREVIOUS_SECRET"):
        found["previous_secrets"] = [previous]
    return found


def _refuse_unknown_environment() -> None:
    known = {f"JOBCTL_{name.upper()}" for name in Settings.model_fields} | _CLIENT_ENV | _OWN_ENV | _SECRETS_ENV
    for name in os.environ:
        head, *rest = name.split("__")
        flat = bool(rest) and head.removeprefix("JOBCTL_").lower() not in _TABLES
        if name.startswith("JOBCTL_") and (head not in known or flat):
            raise ConfigError(f"the environment variable {name} is no setting{_guess(name, sorted(known))}")


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"there is no setting {place!r}{_guess(place, _all_names())}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _all_names() -> list[str]:
    names = list(Settings.model_fields)
    for section, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, _Section):
            names += [f"{section}.{name}" for name in field.annotation.model_fields]
    return names
