"""Which events a subscriber gets: owner scope and filter as one predicate, one per distinct pair."""

from collections.abc import Callable
from typing import NamedTuple

from jobctl.events import JOBS_PRUNED, Event, may_see
from jobctl.model import Identity, JobFilter

Predicate = Callable[[Event], bool]


class FilterKey(NamedTuple):
    """What makes two subscriptions alike: they share one evaluation per event."""

    owner: str | None
    ids: frozenset[str] | None
    names: frozenset[str] | None
    queues: frozenset[str] | None
    statuses: frozenset[str] | None
    tags: frozenset[str] | None


def key_of(wanted: JobFilter | None, identity: Identity) -> FilterKey:
    """The key of a subscription; ``mine`` becomes the owner."""
    wanted = wanted or JobFilter()
    owner = identity.subject if wanted.mine else identity.scope
    return FilterKey(
        owner,
        _set(wanted.ids),
        _set(wanted.names),
        _set(wanted.queues),
        None if wanted.statuses is None else frozenset(status.value for status in wanted.statuses),
        _set(wanted.tags),
    )


def _set(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def predicate(key: FilterKey) -> Predicate | None:
    """A test for one event; None when everything matches.

    A pruning concerns many jobs: it reaches everybody who has lost some, whatever else the filter asks, and its count
    is made per owner when it is encoded.
    """
    if all(part is None for part in key):
        return None
    owner, ids, names, queues, statuses, tags = key

    def matches(event: Event) -> bool:
        if event.kind == JOBS_PRUNED:
            return may_see(event, owner)
        return (
            (owner is None or event.owner == owner)
            and (ids is None or event.job_id in ids)
            and (names is None or event.name in names)
            and (queues is None or event.queue in queues)
            and (statuses is None or event.status in statuses or event.status_before in statuses)
            and (tags is None or not tags.isdisjoint(event.tags))
        )

    return matches
