"""Commands whose values are converted here, not by pydantic.

typer 0.29 takes every parameter, also an absent one, through a pydantic adapter: 110 ms of import, and more than
``enqueue`` may take in all. What it would do for the few types that options have here is below. A typer without that
step ignores this, and one that has moved it is slower, not broken; a test sees that ``enqueue`` imports no pydantic.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from jobctl.cli.interrupts import exit_of_interrupt


class QuickCommand(TyperCommand):
    """A typer command; use as ``app.command(cls=QuickCommand)``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Every parameter, ``--help`` among them."""
        return _quickened(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the exit code. Signals of a ``KeyboardInterrupt`` are told apart, as typer does not."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            return exit_of_interrupt(error)
        except BaseExceptionGroup as group:  # of trio's nurseries
            interrupt = group.subgroup(KeyboardInterrupt)
            if interrupt is None:
                raise
            return exit_of_interrupt(interrupt)


class QuickGroup(TyperGroup):
    """The same for a group; use as ``typer.Typer(cls=QuickGroup)``."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Every parameter, ``--help`` among them."""
        return _quickened(super().get_params(ctx))


def _quickened(params: list[Any]) -> list[Any]:
    for param in params:
        described = getattr(param, "type_descriptor", None)
        plain = described and _Plain.of(described.annotation, described.parameter_info)
        if plain:
            param._runtime_param = plain  # noqa: SLF001 - there is no public place for it
    return params


class _Plain:
    """What typer calls a runtime parameter."""

    def __init__(self, kind: type, info: Any, *, many: bool) -> None:
        self._convert = _CONVERT[kind]
        self._info = info
        self._many = many

    @classmethod
    def of(cls, annotation: Any, info: Any) -> "_Plain | None":
        many = getattr(annotation, "__origin__", None) is list
        kind = get_args(annotation)[0] if many else annotation
        return cls(kind, info, many=many) if kind in _CONVERT else None

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if self._many else None
        try:
            return [self._one(each) for each in value] if self._many else self._one(value)
        except ValueError as error:
            unit = " (in seconds)" if self._info.metavar == "S" else ""
            raise typer.BadParameter(f"{error}{unit}", ctx=ctx, param=param) from None

    def _one(self, value: Any) -> Any:
        found = self._convert(value)
        low, high = getattr(self._info, "min", None), getattr(self._info, "max", None)
        if low is not None and found < low:
            raise ValueError(f"{value} is less than {low}")
        if high is not None and found > high:
            raise ValueError(f"{value} is more than {high}")
        return found


def _whole(value: Any) -> int:
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number") from None


def _number(value: Any) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is not a number")
    return found


_CONVERT: Final[dict[type, Callable[[Any], Any]]] = {bool: bool, str: str, int: _whole, float: _number, Path: Path}
