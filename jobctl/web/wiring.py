"""What the app needs from the rest of the server; ``service`` gives it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jobctl.access.access import Access
from jobctl.metrics import Metrics
from jobctl.settings import Settings
from jobctl.store.backup import Backup
from jobctl.store.base import Store


class Limits(Protocol):
    """What a handler wants for its jobs where the request says nothing; None: the server's default."""

    @property
    def timeout(self) -> float | None:
        """Seconds."""

    @property
    def max_attempts(self) -> int | None:
        """Runs in all."""


class Registry(Protocol):
    """The handlers of this server, as far as the API needs to know them. Called from worker threads too."""

    def names(self) -> Iterable[str]:
        """Their names."""

    def check(self, name: str, data: dict[str, Any]) -> Limits | None:
        """The handler's limits, if it takes ``data``; None where unknown names are let in and this is one.

        Raises:
            UnknownHandler: there is none of that name.
            InvalidInput: it does not take this data.
        """

    def describe(self) -> Sequence[object]:
        """What ``GET /api/handlers`` shows, each something that msgspec encodes: ``{name, kind, fields, ...}``."""


@dataclass(frozen=True, slots=True)
class Web:
    """The parts that the routes work with. ``ready`` gives the reasons why not; none: ready.

    ``exposition`` gives the page of ``/metrics`` and ``backup`` writes a copy of the database; None: not here.
    """

    store: Store
    registry: Registry
    access: Access
    settings: Settings
    ready: Callable[[], list[str]]
    metrics: Metrics = field(default_factory=Metrics)
    exposition: Callable[[], bytes] | None = None
    backup: Callable[[Path], Awaitable[Backup]] | None = None
