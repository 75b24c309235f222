"""The processes that share a store, as every implementation keeps them."""

from typing import Any

from store_kit import Clock

from jobctl.store.base import Store
from jobctl.store.workers import NewWorker


def worker(name: str, **fields: Any) -> NewWorker:
    return NewWorker(**{"id": name, "kind": "work", "host": "host", "pid": 7, "version": "1", "slots": 4} | fields)


async def test_who_has_joined_is_listed_as_it_said(store: Store) -> None:
    await store.workers.join(worker("a", kind="serve", handlers=("mail", "report")))
    (told,) = await store.workers.all()
    assert (told.id, told.kind, told.host, told.pid, told.version) == ("a", "serve", "host", 7, "1")
    assert (told.slots, told.running, told.handlers, told.state) == (4, 0, ("mail", "report"), "live")
    assert told.started_at == told.seen_at


async def test_a_heartbeat_notes_what_runs_and_tells_who_is_there(store: Store, clock: Clock) -> None:
    await store.workers.join(worker("a"))
    clock.forward(1)
    beat = await store.workers.beat("a", running=3, lead=True)
    assert (beat.alive, beat.leader) == (True, True)
    (told,) = await store.workers.all()
    assert told.running == 3
    assert told.seen_at > told.started_at
    assert [each.id for each in beat.workers] == ["a"]


async def test_who_has_left_is_not_listed_and_may_leave_again(store: Store) -> None:
    await store.workers.join(worker("a"))
    await store.workers.leave("a")
    await store.workers.leave("a")
    assert await store.workers.all() == ()


async def test_the_heartbeat_of_somebody_unknown_says_so(store: Store) -> None:
    beat = await store.workers.beat("nobody", running=0, lead=True)
    assert (beat.alive, beat.leader, beat.workers) == (False, False, ())
