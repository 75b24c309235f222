"""Starting on a PostgreSQL database: schema, epoch, and what cannot be used."""

import threading
from contextlib import nullcontext

import psycopg
import pytest
import trio
from store_kit import ANN, add, claim, listed

from jobctl.errors import ConfigError, NotADatabase, StartupError, StoreUnavailable
from jobctl.model import NewJob
from jobctl.store import postgres_migrate
from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_epoch import new_epoch
from jobctl.store.postgres_link import connect, without_password
from jobctl.store.postgres_migrate import migrate
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.workers import NewWorker
from tests.kit import until
from tests.postgres_kit import Cluster

WITHOUT_NOTIFY = PostgresOptions(pool_size=2, notify=False)


async def test_stores_that_start_at_once_on_an_empty_database_agree(cluster: Cluster) -> None:
    url = cluster.create("fresh")
    stores: list[PostgresStore] = []
    over = trio.Event()

    async def start() -> None:
        async with open_postgres(url, options=WITHOUT_NOTIFY) as store:
            stores.append(store)
            await over.wait()

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(start)
        await until(lambda: len(stores) == 3, 20)
        assert len({store.epoch for store in stores}) == 1
        await add(stores[0])
        assert len(await listed(stores[2])) == 1
        over.set()


async def test_a_user_who_may_make_no_tables_is_told_what_he_needs(cluster: Cluster) -> None:
    url = cluster.create("foreign")
    cluster.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
                    database="foreign")  # fmt: skip
    guest = url.replace("//jobctl@", "//guest@")
    assert guest != url
    with pytest.raises(StartupError, match=r"permission denied for schema public; .* let this user own the database"):
        async with open_postgres(guest, options=WITHOUT_NOTIFY):
            pass


async def test_a_database_that_can_only_be_read_is_called_that(postgres_url: str) -> None:
    async with open_postgres(postgres_url, options=WITHOUT_NOTIFY):
        pass
    replica = f"{postgres_url}?options=-c%20default_transaction_read_only%3Don"
    async with open_postgres(replica, options=WITHOUT_NOTIFY) as store:
        worker = NewWorker(id="w", kind="serve", host="h", pid=1, version="1", slots=1)
        with pytest.raises(StoreUnavailable, match=r"the database can only be read; .* takes writes"):
            await store.workers.join(worker)


async def test_migrating_at_once_is_done_once(cluster: Cluster) -> None:
    url = cluster.create("migrated")
    answers: list[postgres_migrate.Migrated] = []

    async def migrate() -> None:
        answers.append(await trio.to_thread.run_sync(postgres_migrate.migrate, url))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(migrate)
    assert {each.now for each in answers} == {postgres_migrate.newest()}
    assert cluster.execute("SELECT count(*) FROM jobctl_schema", database="migrated") == [(postgres_migrate.newest(),)]


async def test_a_newer_schema_is_used_for_as_long_as_it_allows_and_then_refused(cluster: Cluster) -> None:
    url = cluster.create("newer")
    async with open_postgres(url, options=WITHOUT_NOTIFY) as old:
        newer = postgres_migrate.newest() + 1
        cluster.execute(
            f"ALTER TABLE job ADD COLUMN colour text; INSERT INTO jobctl_schema VALUES ({newer}, {newer - 1})",
            database="newer",
        )
        await add(old)
        assert (await claim(old)).job.status == "running"
    async with open_postgres(url, options=WITHOUT_NOTIFY) as again:
        assert len(await listed(again)) == 1
    cluster.execute(f"UPDATE jobctl_schema SET works_with = {newer} WHERE version = {newer}", database="newer")
    with pytest.raises(NotADatabase, match="newer jobctl"):
        async with open_postgres(url, options=WITHOUT_NOTIFY):
            pass


async def test_what_cannot_be_used_is_refused_with_a_reason(cluster: Cluster, postgres_url: str) -> None:
    with pytest.raises(ConfigError, match="synced"):
        async with open_postgres(postgres_url, durability="normal"):
            pass
    with pytest.raises(StartupError, match=r"cannot reach the database postgresql://me@127\.0\.0\.1:1/x") as refused:
        async with open_postgres("postgresql://me:secret@127.0.0.1:1/x"):
            pass
    assert "secret" not in str(refused.value)
    with pytest.raises(StartupError, match="nowhere"):
        async with open_postgres(cluster.url("nowhere")):
            pass


@pytest.mark.parametrize(("version", "taken"), [(130_022, False), (140_000, True)])
def test_a_database_before_14_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, version: int, taken: bool
) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "server_version", version)
    with nullcontext() if taken else pytest.raises(StartupError, match="PostgreSQL 13 is too old; 14 or later"):
        migrate(postgres_url)


def test_a_password_is_not_shown() -> None:
    assert (
        without_password("postgresql://ann:se%20cret@db:5433/jobs?sslmode=require") == "postgresql://ann@db:5433/jobs"
    )
    assert "secret" not in without_password("postgresql://ann:secret@[db")


# --- epoch ---------------------------------------------------------------------------------------------------------


async def test_an_epoch_outlives_a_restart_and_changes_where_the_log_may_not_go_on(cluster: Cluster) -> None:
    url = cluster.create("epoch")

    async def epoch(url: str = url) -> str:
        async with open_postgres(url, options=WITHOUT_NOTIFY) as store:
            return store.epoch

    first = await epoch()
    assert await epoch() == first
    cluster.execute('DROP DATABASE IF EXISTS "copy"')
    cluster.execute('CREATE DATABASE "copy" TEMPLATE "epoch"')  # as a dump that was restored
    assert await epoch(cluster.url("copy")) != first
    link = connect(url, WITHOUT_NOTIFY, "test")
    second = new_epoch(link)
    link.close()
    assert second != first
    assert await epoch() == second


async def test_a_server_that_runs_does_not_go_on_with_another_epoch(cluster: Cluster) -> None:
    url = cluster.create("changed")
    async with open_postgres(url, options=WITHOUT_NOTIFY) as store:
        await add(store)
        link = connect(url, WITHOUT_NOTIFY, "test")
        new_epoch(link)
        link.close()
        cluster.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'changed'")
        with pytest.raises(Exception, match="another one now"):
            await store.enqueue([NewJob(name="x")], owner=ANN)
        assert "another one now" in (store.trouble or "")


async def test_a_read_passes_over_every_connection_that_the_database_has_ended(cluster: Cluster) -> None:
    """As after its restart: those that wait in the pool look whole."""
    url = cluster.create("ended")
    readers = "FROM pg_stat_activity WHERE datname = 'ended' AND application_name = 'jobctl reader'"
    options = PostgresOptions(pool_size=6, notify=False)
    async with open_postgres(url, options=options) as store:
        meet = threading.Barrier(options.pool_size)  # each has a connection of its own

        async def read() -> None:
            await store._read(lambda _: meet.wait(20))

        async with trio.open_nursery() as nursery:
            for _ in range(options.pool_size):
                nursery.start_soon(read)
        assert cluster.execute(f"SELECT count(*) {readers}") == [(options.pool_size,)]
        cluster.execute(f"SELECT pg_terminate_backend(pid, 20000) {readers}")
        assert await listed(store) == []
