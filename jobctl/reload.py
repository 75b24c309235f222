"""SIGHUP: which settings can be taken over while the server runs, and which only by a start.

The parts that are named here read their settings anew; everything else (the database, sockets, handlers) is bound
too deep. A file that is wrong changes nothing.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr

from jobctl.database_url import DatabaseUrl
from jobctl.settings import Settings

LIVE: Final = (
    "log",
    "rate_limit",
    "allowed_origins",
    "trusted_proxies",
    "stream",
    "health",
    "retention",
    "schedules",
    "grace",
    "cancel_grace",
    "auth.previous_secrets",
)
"""Settings and tables that a running server takes over. The contents of ``certfile`` and ``keyfile`` are read again as
well, so that a renewed certificate needs no restart."""


class Changes(NamedTuple):
    """Dotted names of what differs."""

    taken: tuple[str, ...]
    """In force now."""
    later: tuple[str, ...]
    """In force after a restart."""


def compare(old: Settings, new: Settings) -> Changes:
    """What is different in ``new``."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    differing = sorted(name for name in before | after if before.get(name) != after.get(name))
    taken = tuple(name for name in differing if _is_live(name))
    return Changes(taken, tuple(name for name in differing if not _is_live(name)))


def merged(old: Settings, new: Settings) -> Settings:
    """``old`` with everything of ``new`` that a running server takes over."""
    update: dict[str, Any] = {}
    for name in LIVE:
        table, _, field = name.partition(".")
        value = getattr(new, table)
        update[table] = getattr(old, table).model_copy(update={field: getattr(value, field)}) if field else value
    return old.model_copy(update=update)


def _is_live(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in LIVE)


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def secrets_of(settings: Settings) -> list[str]:
    """Every secret that the settings hold: what must never be logged."""
    found: list[str] = []

    def walk(value: object) -> None:
        if isinstance(value, SecretStr):
            found.append(value.get_secret_value())
        elif isinstance(value, DatabaseUrl):
            found.extend(value.passwords)
        elif isinstance(value, BaseModel):
            for name in type(value).model_fields:
                walk(getattr(value, name))
        elif isinstance(value, dict | list | tuple):
            for each in value.values() if isinstance(value, dict) else value:
                walk(each)

    walk(settings)
    return found
