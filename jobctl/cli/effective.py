"""The settings as they are in force, each with where it comes from. Pure but for the file and the environment."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr

from jobctl.database_url import DatabaseUrl
from jobctl.origins import Given, everything_given
from jobctl.settings import Settings

MASK: Final = "********"
_FREE_TABLES: Final = frozenset({"env", "headers"})
"""Tables whose keys the operator chose; what stands in them may well be a password."""


class Effective(NamedTuple):
    """One setting: its dotted name, its value as JSON can show it, and its origin."""

    name: str
    value: Any
    origin: str


def effective(settings: Settings, config: Path | None, flags: Mapping[str, Any]) -> list[Effective]:
    """Every setting.

    Args:
        settings: What ``settings.load`` made of the same.
        config: The file that was read.
        flags: Options of the command line by their setting's name; None: not given.
    """
    values = tomllib.loads(config.read_text("utf-8")) if config is not None else {}
    given = everything_given(config, values, flags, type(settings).model_fields)
    return [Effective(name, value, _origin(given, name)) for name, value in _leaves(settings)]


def _origin(given: Sequence[Given], name: str) -> str:
    found = next((each for each in given if each.says(name.split("."))), None)
    return "default" if found is None else f"{found.kind} {found.name}"


def _leaves(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, dict) and value and all(isinstance(each, BaseModel) for each in value.values()):
            for key, each in sorted(value.items()):
                yield from _leaves(each, f"{prefix}{name}.{key}.")
        else:
            yield prefix + name, _shown(value, hide=name in _FREE_TABLES)


def _shown(value: Any, *, hide: bool = False) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return {key: MASK if hide else _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(each) for each in value]
    return str(value) if isinstance(value, Path | DatabaseUrl) else value
