"""Live connections that asked for the same, and which of them an event is for.

With hundreds of different filters, nearly all have nothing to do with a given event. So each group stands under what
an event must have to match it: ids, owner, names, tags or queues, whichever lets through least. An event looks there
under what it has, and only who is found is asked; that follows the deliveries, not the number of filters.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from jobctl.events import JOBS_PRUNED, Event
from jobctl.stream.filters import FilterKey, Predicate, predicate

PLACES: Final = 64
"""Values of one filter that it stands under. One with more is asked about every event (0.3 us): places take memory."""


class Member(Protocol):
    """A live connection, as the hub sees it."""

    def deliver(self, chunk: bytes, before: int) -> bool:
        """Take ``chunk``; False when it does not fit: the member was at ``before`` and has left its group."""

    def fall_behind(self, position: int) -> None:
        """Leave the group: what follows ``position`` is to be had from the log, if it is there."""

    def send_stats(self, frame: bytes) -> None:
        """Take a snapshot of the counts, or drop it when behind."""

    def send_snapshot(self, kind: str, frame: bytes) -> None:
        """Take a snapshot; a newer one of the same kind replaces one that still waits."""

    def log_grew(self, job_id: str) -> None:
        """A followed log has new lines."""

    def cut_off(self) -> None:
        """End: a flush failed, and who has what is not known. Whoever comes back resumes from what it has."""


class Group:
    """All live connections with the same filter and scope."""

    __slots__ = ("key", "matches", "members")

    def __init__(self, key: FilterKey) -> None:
        self.key = key
        self.matches: Predicate | None = predicate(key)
        self.members: dict[Member, None] = {}


class About(Protocol):
    """An entry of the hub: an event with more to it."""

    @property
    def event(self) -> Event: ...


E = TypeVar("E", bound=About)
_Place = dict[str, dict[Group, None]]


class Index:
    """Finds the groups that an event is for. A group is asked at most once about an event."""

    __slots__ = ("_ids", "_names", "_others", "_owners", "_placed", "_queues", "_tags")

    def __init__(self) -> None:
        self._others: dict[Group, None] = {}  # without a filter, or one that has no place
        self._placed: dict[Group, None] = {}
        self._ids: _Place = {}
        self._owners: _Place = {}
        self._names: _Place = {}
        self._tags: _Place = {}
        self._queues: _Place = {}

    def add(self, group: Group) -> None:
        """Take a group in."""
        found = self._place_of(group.key)
        if found is None:
            self._others[group] = None
            return
        self._placed[group] = None
        place, values = found
        for value in values:
            place.setdefault(value, {})[group] = None

    def remove(self, group: Group) -> None:
        """Take it out; harmless if it is not in."""
        self._others.pop(group, None)
        if group not in self._placed:
            return
        del self._placed[group]
        place, values = self._place_of(group.key) or ({}, ())
        for value in values:
            place[value].pop(group)
            if not place[value]:
                del place[value]

    def _place_of(self, key: FilterKey) -> tuple[_Place, Collection[str]] | None:
        owner = None if key.owner is None else (key.owner,)
        places = (
            (self._ids, key.ids), (self._owners, owner), (self._names, key.names), (self._tags, key.tags),
            (self._queues, key.queues),
        )  # fmt: skip
        for place, values in places:
            if values is not None and len(values) <= PLACES:
                return place, values
        return None

    def chosen(self, entries: Sequence[E]) -> Iterator[tuple[Group, Sequence[E] | Exception]]:
        """Each group that gets something, with what that is, in order; or with what went wrong with its filter."""
        for group in tuple(self._others):
            matches = group.matches
            try:
                matching = entries if matches is None else [each for each in entries if matches(each.event)]
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this filter's alone
                yield group, error
                continue
            if matching:
                yield group, matching
        if self._placed:
            yield from self._chosen_of_placed(entries)

    def _chosen_of_placed(self, entries: Sequence[E]) -> Iterable[tuple[Group, Sequence[E] | Exception]]:
        chosen: dict[Group, list[E]] = {}
        failed: dict[Group, Exception] = {}
        for entry in entries:
            event = entry.event
            for group in self._asked(event):
                try:
                    if group.matches is None or not group.matches(event):
                        continue
                except Exception as error:  # noqa: BLE001 - likewise
                    failed[group] = error
                    continue
                matching = chosen.get(group)
                if matching is None:
                    chosen[group] = [entry]
                elif matching[-1] is not entry:  # found under two of its tags
                    matching.append(entry)
        return [*((group, found) for group, found in chosen.items() if group not in failed), *failed.items()]

    def _asked(self, event: Event) -> Iterable[Group]:
        """Who may want ``event``, some of them twice."""
        if event.kind == JOBS_PRUNED:  # of many jobs
            return self._placed
        asked: list[Group] = []
        for place, value in (
            (self._ids, event.job_id), (self._owners, event.owner), (self._names, event.name),
            (self._queues, event.queue),
        ):  # fmt: skip
            if place and value in place:
                asked += place[value]
        if self._tags:
            for tag in event.tags:
                asked += self._tags.get(tag, ())
        return asked
