"""Two processes' stores on one PostgreSQL database. Import the fixture by name."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from store_kit import check_invariants

from jobctl.store.postgres import PostgresStore, open_postgres
from jobctl.store.postgres_settings import PostgresOptions

WITHOUT_NOTIFY = PostgresOptions(pool_size=2, notify=False)
POOLED = PostgresOptions(pool_size=2, transaction_pooling=True)
WITH_NOTIFY = PostgresOptions(pool_size=2)


@pytest.fixture(params=[WITH_NOTIFY, WITHOUT_NOTIFY, POOLED], ids=["notify", "poll", "pooled"])
async def two(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    """Two processes' stores on one database."""
    async with (
        open_postgres(postgres_url, options=request.param) as one,
        open_postgres(postgres_url, options=request.param) as other,
    ):
        yield one, other
        await check_invariants(one)
        await check_invariants(other)


Two = tuple[PostgresStore, PostgresStore]


async def until(true: Any) -> None:
    """Wait until something that was heard makes it so."""
    with trio.fail_after(10):
        while not true():
            await trio.sleep(0.005)
