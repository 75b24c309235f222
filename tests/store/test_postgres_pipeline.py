"""Several statements in one message: what becomes of the connection when one of them cannot be sent, or fails."""

from collections.abc import Iterator

import psycopg
import pytest

from jobctl.store.postgres_link import Link, connect
from jobctl.store.postgres_settings import PostgresOptions


@pytest.fixture
def link(postgres_url: str) -> Iterator[Link]:
    made = connect(postgres_url, PostgresOptions(), "test")
    yield made
    made.close()


def test_a_value_that_cannot_be_sent_leaves_no_answer_behind_that_the_next_would_take_for_its_own(link: Link) -> None:
    with pytest.raises(UnicodeEncodeError):
        link.execute_all([("BEGIN", ()), ("SELECT $1::text", ("first",)), ("SELECT $1::text", ("\ud800",))])
    assert not link.in_transaction
    assert link.execute_all([("SELECT $1::text", ("second",))]) == [([("second",)], 1)]


def test_a_statement_is_prepared_once_though_what_follows_it_fails_each_time(link: Link) -> None:
    for _ in range(10):
        with pytest.raises(psycopg.errors.DivisionByZero):
            link.execute_all([("SELECT 'kept'", ()), ("SELECT 1 / (count(*) - count(*)) FROM pg_class", ())])
    prepared = link.raw.execute("SELECT statement FROM pg_prepared_statements WHERE name LIKE 'jobctl%'").fetchall()
    assert sorted(text for (text,) in prepared) == ["SELECT 'kept'", "SELECT 1 / (count(*) - count(*)) FROM pg_class"]


@pytest.mark.parametrize("change", ["ALTER TABLE thing ALTER COLUMN n TYPE bigint", "DEALLOCATE ALL"])
def test_a_prepared_statement_that_the_server_refuses_is_prepared_anew(link: Link, change: str) -> None:
    link.raw.execute("CREATE TEMPORARY TABLE thing (n integer)")
    for _ in range(10):
        link.execute_all([("SELECT n FROM thing", ())])
    link.raw.execute(change)
    with pytest.raises((psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)):
        link.execute_all([("SELECT n FROM thing", ())])
    assert link.execute_all([("SELECT n FROM thing", ())]) == [([], 0)]


def test_a_statement_that_fails_leaves_no_answer_behind_either(link: Link) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        link.execute_all([("SELECT $1::text", ("first",)), ("SELECT 1 / 0", ()), ("SELECT $1::text", ("not run",))])
    assert link.execute_all([("SELECT $1::text", ("second",))]) == [([("second",)], 1)]
