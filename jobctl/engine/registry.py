"""Which handlers this server has, and whether a job's data fits one of them.

``@job("send-email")`` puts a function into the default registry; ``load`` imports the operator's modules, adds the
commands of the configuration and returns the registry that the server works with.
"""

import importlib
import inspect
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from msgspec import UNSET, UnsetType

from jobctl.engine.commands import Command
from jobctl.engine.fields import Field, Shape, shape_of
from jobctl.engine.webhooks import Webhook
from jobctl.errors import HandlersFailed, InvalidInput, UnknownHandler
from jobctl.model import NAME, Wire

if TYPE_CHECKING:
    from jobctl.settings import CommandSettings, Settings

Kind = Literal["async", "thread", "command", "webhook"]
F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("jobctl.engine")


class HandlerInfo(Wire, frozen=True):
    """A handler as ``GET /api/handlers`` shows it. ``timeout`` (s) and ``maxAttempts`` only where it names its own."""

    name: str
    kind: Kind
    fields: tuple[Field, ...]
    timeout: float | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Handler:
    """A named piece of work: a function (``fn``), a command or a webhook.

    ``reserved`` is a function's first parameter, the context.
    """

    name: str
    kind: Kind
    fields: tuple[Field, ...]
    timeout: float | None = None
    max_attempts: int | None = None
    fn: Callable[..., Any] | None = None
    command: Command | None = None
    webhook: Webhook | None = None
    shape: Shape | None = None
    """What a function takes, and of which types."""
    reserved: str | None = None
    required: frozenset[str] = frozenset()
    allowed: frozenset[str] | None = None
    """Names that ``data`` may have; None: any, the function takes ``**kwargs``."""

    def check(self, data: Mapping[str, Any]) -> None:
        """Whether a run with ``data`` can start.

        Raises:
            InvalidInput: a field is missing, unknown or has a value that a command cannot take; ``field`` names it.
        """
        if missing := self.required - data.keys():
            name = min(missing)
            raise InvalidInput(f"{self.name} needs data.{name}", field=f"data.{name}")
        extra = data.keys() - self.allowed if self.allowed is not None else data.keys() & {self.reserved}
        if extra:
            name = min(extra)
            takes = ", ".join(field.name for field in self.fields) or "nothing"
            raise InvalidInput(f"{self.name} has no field {name!r}; it takes: {takes}", field=f"data.{name}")
        if self.command is not None:
            self.command.check(data)
        if self.shape is not None:
            self.shape.convert(data)

    def arguments(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """``data`` as a function gets it: typed fields converted.

        Raises:
            InvalidInput: a value does not fit its type.
        """
        return data if self.shape is None else self.shape.convert(data)

    def describe(self) -> HandlerInfo:
        """The handler on the wire."""
        return HandlerInfo(
            name=self.name,
            kind=self.kind,
            fields=self.fields,
            timeout=UNSET if self.timeout is None else self.timeout,
            max_attempts=UNSET if self.max_attempts is None else self.max_attempts,
        )


class Registry:
    """Handlers by name. ``accept_unknown``: jobs of other names are let in, and wait for a server that knows them."""

    def __init__(self, handlers: Iterable[Handler] = (), *, accept_unknown: bool = False) -> None:
        self._handlers: dict[str, Handler] = {}
        self.accept_unknown = accept_unknown
        for handler in handlers:
            self.add(handler)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, handler: Handler) -> None:
        """Register one more.

        Raises:
            ValueError: the name is taken.
        """
        if handler.name in self._handlers:
            raise ValueError(f"there are two handlers named {handler.name!r}")
        self._handlers[handler.name] = handler

    def job(self, name: str, *, timeout: float | None = None, max_attempts: int | None = None) -> Callable[[F], F]:
        """Register the decorated function; see the module-level ``job``."""
        if not isinstance(name, str):
            raise TypeError('write @job("some-name"): a job is registered under a name')
        if not re.fullmatch(NAME, name):
            raise ValueError(f"{name!r}: a name is 1 to 100 of A-Z a-z 0-9 . _ : -")
        if timeout is not None and not 0 < timeout < float("inf"):
            raise ValueError(f"{name}: a time-out is a number of seconds above 0")
        if max_attempts is not None and max_attempts < 1:
            raise ValueError(f"{name}: there is at least one attempt")

        def register(fn: F) -> F:
            self.add(_from_function(name, fn, timeout=timeout, max_attempts=max_attempts))
            return fn

        return register

    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._handlers)

    def get(self, name: str) -> Handler | None:
        """The handler of that name."""
        return self._handlers.get(name)

    def check(self, name: str, data: Mapping[str, Any]) -> Handler | None:
        """The handler for a job about to be enqueued; None only for an unknown name that is accepted.

        Raises:
            UnknownHandler: there is none, and ``accept_unknown`` is off.
            InvalidInput: ``data`` does not fit it.
        """
        handler = self._handlers.get(name)
        if handler is None:
            if self.accept_unknown:
                return None
            raise UnknownHandler(name, self.names())
        handler.check(data)
        return handler

    def describe(self) -> list[HandlerInfo]:
        """All handlers by name, for ``GET /api/handlers``."""
        return [self._handlers[name].describe() for name in self.names()]


default: Final = Registry()
"""What ``@job`` fills."""


def job(name: str, *, timeout: float | None = None, max_attempts: int | None = None) -> Callable[[F], F]:
    """Make a function the handler of jobs called ``name``.

    It is called as ``fn(ctx, **data)`` with a ``Context``: an ``async`` (trio) function in the server's loop, a plain
    one in a thread of its own. What it returns (any JSON value, at most 256 KiB) is the job's result; an exception is
    a failed attempt, ``NoRetry`` the last one.

    Args:
        name: 1 to 100 of ``A-Z a-z 0-9 . _ : -``; one handler a name.
        timeout: Seconds a run may take, where the job does not say; the server's default is 3600.
        max_attempts: Runs in all, where the job does not say; the server's default is 3.

    Raises:
        ValueError: the name, the time-out or the attempts are out of bounds, or the name is taken.
        TypeError: the function cannot be called that way.
    """
    return default.job(name, timeout=timeout, max_attempts=max_attempts)


def load(settings: "Settings") -> Registry:
    """Import the modules of ``--app``, add the configured commands and webhooks, and return what this server can run.

    The current folder becomes importable, as with ``python -m``.

    Raises:
        HandlersFailed: a module cannot be imported, a command cannot work, or a name is taken; one line says which.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    for module in (settings.app or "").split(","):
        if module.strip():
            _import(module.strip())
    registry = Registry(default, accept_unknown=settings.accept_unknown)
    for name, command_settings in settings.commands.items():
        _add(registry, "commands", _from_command(name, command_settings))
    for name, webhook_settings in settings.webhooks.items():
        hook = Webhook.build(name, webhook_settings)
        _add(registry, "webhooks", Handler(name, "webhook", (), timeout=webhook_settings.timeout, webhook=hook))
    return registry


def _add(registry: Registry, section: str, handler: Handler) -> None:
    try:
        registry.add(handler)
    except ValueError as error:
        raise HandlersFailed(f"{section}.{handler.name}: {error}") from None


def _from_command(name: str, settings: "CommandSettings") -> Handler:
    command = Command.build(name, settings)
    fields = tuple(Field(name=field, required=True) for field in command.fields)
    names = frozenset(command.fields)
    return Handler(name, "command", fields, timeout=settings.timeout, command=command, required=names, allowed=names)


def _from_function(name: str, fn: Callable[..., Any], *, timeout: float | None, max_attempts: int | None) -> Handler:
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        where = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(f"{where}: a handler is a function that returns, not a generator")
    call = getattr(fn, "__call__", None)  # noqa: B004 - an object's own, to see whether that is async
    kind: Kind = "async" if inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call) else "thread"
    shape = shape_of(fn)
    return Handler(
        name,
        kind,
        shape.fields,
        timeout=timeout,
        max_attempts=max_attempts,
        fn=fn,
        shape=shape,
        reserved=shape.reserved,
        required=frozenset(field.name for field in shape.fields if field.required),
        allowed=shape.allowed,
    )


def _import(module: str) -> None:
    before = len(default)
    if module.endswith(".py") or os.sep in module:
        guess = module.removesuffix(".py").strip("./").replace(os.sep, ".")
        raise HandlersFailed(f"--app takes a module's name, not a file's: try --app {guess}")
    fresh = module not in sys.modules
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module}.".startswith(f"{error.name}."):
            raise HandlersFailed(f"there is no module {module!r} in {Path.cwd()} or on Python's path") from None
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise HandlersFailed(f"cannot import {module!r}: {what}{_place(error)}") from error
    if fresh and len(default) == before:
        log.warning("the module %s registers no handler; is @job(...) missing?", module)


def _place(error: BaseException) -> str:
    """`` (file:line)`` of the user's code that failed; empty where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_relative(error.filename)}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith("<") and f.filename not in (__file__, importlib.__file__)]
    own = [f for f in theirs if _relative(f.filename) != f.filename] or theirs
    return f" ({_relative(own[-1].filename)}:{own[-1].lineno})" if own else ""


def _relative(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
