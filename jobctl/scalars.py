"""Numbers and switches of the settings: taken as the file has them, and converted where they come as text.

A variable of the environment is text by nature; TOML has types of its own, so ``port = "8000"`` and ``port = true`` are
mistakes there, and are told instead of guessed at.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator


class FromEnvironment(str):
    """Text of an environment variable; numbers and switches are read from it."""

    __slots__ = ()


def from_environment(value: Any) -> Any:
    """``value`` with every text in it marked as one of the environment."""
    if isinstance(value, dict):
        return {name: from_environment(each) for name, each in value.items()}
    if isinstance(value, list):
        return [from_environment(each) for each in value]
    return FromEnvironment(value) if isinstance(value, str) else value


def as_written(value: Any) -> Any:
    """The same without the marks, for what is handed on as it is."""
    if isinstance(value, dict):
        return {name: as_written(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_written(each) for each in value]
    return str(value) if isinstance(value, FromEnvironment) else value


def number(value: Any) -> Any:
    """What may become a ``float``."""
    return _typed(value, (int, float), "a number")


def _whole(value: Any) -> Any:
    return _typed(value, (int,), "a whole number")


def _switch(value: Any) -> Any:
    return _typed(value, (bool,), "true or false")


def _typed(value: Any, kinds: tuple[type, ...], wanted: str) -> Any:
    if isinstance(value, FromEnvironment):
        return str(value)
    if type(value) in kinds:  # exactly: to Python, True is an int
        return value
    if isinstance(value, str):
        raise ValueError(f"{wanted} stands here without quotes")  # noqa: TRY004 - pydantic tells ValueErrors only
    told = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    raise ValueError(f"{wanted} belongs here" + (f", not {told}" if told else ""))


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(number)]
Switch = Annotated[bool, BeforeValidator(_switch)]
