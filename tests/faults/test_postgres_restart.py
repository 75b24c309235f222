"""The database dies as if its machine had, and comes back: nothing acknowledged is lost, nothing runs twice."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from jobctl.errors import StoreUnavailable
from jobctl.model import NewJob
from jobctl.store.base import Completed, End
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_settings import PostgresOptions
from tests.postgres_kit import Cluster
from tests.store.store_kit import ANN, Heard, all_events, check_invariants, listed

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server that this test may kill."""
    cluster = Cluster.make()
    cluster.start()
    yield cluster
    cluster.remove()


class Life:
    """What processes were told, to be held against what there is."""

    def __init__(self) -> None:
        self.enqueued: list[str] = []
        self.ended: list[str] = []
        self.runs: Counter[tuple[str, int]] = Counter()
        self.refused = 0
        self.over = False

    async def enqueue(self, store: PostgresStore) -> None:
        while not self.over:
            try:
                told = await store.enqueue([NewJob(name="x"), NewJob(name="x")], owner=ANN)
                self.enqueued += told.ids
            except StoreUnavailable:
                self.refused += 1
                await trio.sleep(0.05)
            await trio.sleep(0.001)

    async def run(self, store: PostgresStore, worker: str) -> None:
        ends: list[End] = []
        while not self.over or ends:
            try:
                found = await store.claim(5, worker=worker, limits={}, busy={}, ends=ends)
            except StoreUnavailable:
                self.refused += 1
                await trio.sleep(0.05)
                continue
            self.ended += [end.job_id for end in ends]
            for one in found.claims:
                self.runs[one.job.id, one.run] += 1
            ends = [End(one.job.id, one.run, Completed()) for one in found.claims]
            if not ends:
                await trio.sleep(0.01)


@pytest.mark.parametrize("notify", [True, False])
async def test_a_database_that_dies_again_and_again_loses_nothing_it_has_acknowledged(
    own_cluster: Cluster, notify: bool
) -> None:
    url = own_cluster.create("restart")
    life = Life()
    options = PostgresOptions(pool_size=2, notify=notify, connect_timeout=2.0)
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_postgres(url, options=options)) for _ in range(3)]
        heard = [Heard(store) for store in stores]
        epoch = stores[0].epoch
        async with trio.open_nursery() as nursery:
            for i, store in enumerate(stores):
                nursery.start_soon(life.enqueue, store)
                nursery.start_soon(life.run, store, f"w{i}")
            for _ in range(3):
                before = len(life.ended)
                with trio.fail_after(30):
                    while len(life.ended) < before + 50:
                        await trio.sleep(0.02)
                await trio.to_thread.run_sync(own_cluster.stop, "immediate")
                await trio.sleep(0.2)
                await trio.to_thread.run_sync(own_cluster.start)
            before = len(life.ended)
            with trio.fail_after(30):
                while len(life.ended) < before + 50:
                    await trio.sleep(0.02)
            life.over = True
        there = await all_events(stores[0])
        with trio.fail_after(20):
            for store in stores:
                await store.reached(there[-1].seq)
        assert life.refused
        for each in heard:
            assert each.events == there, "a listener missed something, or heard it twice"
        jobs = {job.id: job for job in await listed(stores[0])}
        assert set(life.enqueued) <= set(jobs)
        assert all(jobs[job_id].status == "completed" for job_id in life.ended)
        assert set(life.runs.values()) == {1}, "a run was given to two"
        assert {store.epoch for store in stores} == {epoch}
        await check_invariants(stores[0])
    async with open_postgres(url, options=options) as store:
        assert store.epoch == epoch
