"""What two servers lock, they lock in one order: neither waits for the other until the database ends one of them."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psycopg
import pytest
from store_kit import ANN, START_MS, new

from jobctl.store import token_writes, writes
from jobctl.store.base import Claim, Completed, End, Enqueued, Idempotency
from jobctl.store.committer import Again
from jobctl.store.enqueue import enqueue
from jobctl.store.postgres_claims import claim
from jobctl.store.postgres_link import WRITER, connect
from jobctl.store.postgres_migrate import migrate
from jobctl.store.postgres_settings import PostgresOptions
from jobctl.store.postgres_tail import Tail
from jobctl.store.postgres_transaction import PostgresTx
from jobctl.store.postgres_writer import PostgresWriter
from jobctl.store.tokens import NewSession, NewToken, Rotation

DAY_MS: Final = 86_400_000
Two = tuple[PostgresWriter, PostgresWriter]


@pytest.fixture
def two(postgres_url: str) -> Iterator[Two]:
    """The writers of two servers, whose transactions a test drives a step at a time."""
    migrate(postgres_url)
    links = [connect(postgres_url, PostgresOptions(), WRITER) for _ in "ab"]
    one, other = [
        PostgresWriter(lambda link=link: link, lock=1, tail=Tail(), clock=lambda: START_MS) for link in links
    ]
    yield one, other
    for writer, link in zip((one, other), links, strict=True):
        writer.roll_back()
        link.close()


class Beside(threading.Thread):
    """Runs something until it is done, or waits for what somebody else has locked."""

    def __init__(self, url: str, does: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._does, self._url = does, url
        self.error: BaseException | None = None
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._does()
        except (Again, psycopg.Error) as error:
            self.error = error

    def settled(self) -> None:
        """Return once it is done, or waits."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            while self.is_alive():
                waiting = connection.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                ).fetchone()
                if waiting:
                    return
                time.sleep(0.002)

    def done(self) -> Any:
        """Its answer, or its error."""
        self.join(20)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error
        return self.answer


def add(tx: PostgresTx, key: str) -> Enqueued:
    return enqueue(tx, [new()], ANN, Idempotency(key, b"the same"))


def test_the_same_idempotency_keys_may_come_to_two_servers_in_opposite_order(two: Two) -> None:
    """Two steps of each in turn, in one thread: if one had to wait for the other, it would not come to an end."""
    one, other = two
    tx, late = one.begin(guarded=False), other.begin(guarded=False)
    ids = [add(tx, "k1").ids]
    add(late, "k2")
    ids.append(add(tx, "k2").ids)
    assert add(tx, "k1").replayed, "its own are known before they are written"
    add(late, "k1")
    one.commit()
    with pytest.raises(Again, match="idempotency key"):
        other.commit()
    other.roll_back()
    again = other.begin(guarded=False)
    assert [add(again, key).ids for key in ("k1", "k2")] == ids
    other.commit()


def test_idempotency_keys_are_taken_in_their_order(two: Two, postgres_url: str) -> None:
    one, _ = two
    mine = (
        "INSERT INTO idempotency (owner, key, fingerprint, answer, at) "
        f"VALUES ('{ANN}', %s, 'the same', '{{\"ids\":[],\"created\":0,\"existing\":0,\"job\":null}}', {START_MS})"
    )
    with psycopg.connect(postgres_url) as first:
        first.execute(mine, ("k1",))
        tx = one.begin(guarded=False)
        for key in ("k3", "k2", "k1"):
            add(tx, key)
        commit = Beside(postgres_url, one.commit)
        commit.settled()
        assert commit.is_alive(), "it waits for k1"
        first.execute("SET LOCAL lock_timeout = 500")
        first.execute(mine, ("k2",))  # and has not taken this one before
        first.execute(mine, ("k3",))
        first.rollback()
        commit.done()


def test_an_undone_request_leaves_its_idempotency_key_free(two: Two) -> None:
    one, _ = two
    tx = one.begin(guarded=True)
    add(tx, "kept")
    mark = tx.mark()
    one.savepoint()
    add(tx, "undone")
    one.undo()
    tx.back_to(mark)
    one.commit()
    again = one.begin(guarded=False)
    assert add(again, "kept").replayed
    assert not add(again, "undone").replayed


# --- who may come in -----------------------------------------------------------------------------------------------


def a_session(sid: str, origin: str | None) -> NewSession:
    return NewSession(
        id=sid, handle=sid.encode(), current=b"1", subject=ANN, role="user", origin=origin, idle_ms=DAY_MS,
        life_ms=DAY_MS,
    )  # fmt: skip


def rotate(tx: PostgresTx, sid: str, presented: bytes = b"1") -> Rotation:
    return token_writes.rotate(tx, [sid.encode()], presented, b"2", grace_ms=9, idle_ms=DAY_MS)


def signed_in(writer: PostgresWriter, *sessions: NewSession) -> None:
    """A token ``t``, and sessions."""
    tx = writer.begin(guarded=False)
    token_writes.issue(tx, NewToken("t", "ci", ANN, "user", "root", DAY_MS))
    for session in sessions:
        token_writes.begin_session(tx, session)
    writer.commit()


def test_a_sign_in_and_a_revocation_do_not_stop_each_other(
    two: Two, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes in by ``z`` is one too many, so that ``a`` is to end; and the revocation ends ``a``, and then ``z``."""
    one, other = two
    signed_in(one, a_session("a", "t"), a_session("z", "t"))
    monkeypatch.setattr(token_writes, "MAX_SESSIONS", 2)
    tx, revoking, plain = one.begin(guarded=False), other.begin(guarded=False), PostgresTx.all
    revocation: list[Beside] = []

    def meanwhile(self: PostgresTx, name: str, *values: Any) -> list[Any]:
        if name == "surplus_sessions":
            revocation.append(Beside(postgres_url, lambda: token_writes.revoke(revoking, "t")))
            revocation[0].settled()
        return plain(self, name, *values)

    monkeypatch.setattr(PostgresTx, "all", meanwhile)
    token_writes.begin_session(tx, a_session("new", "z"))
    one.commit()
    revocation[0].done()
    other.commit()
    after = one.begin(guarded=False)
    assert {rotate(after, sid).outcome for sid in ("a", "z", "new")} == {"unknown"}


def test_two_servers_renew_the_same_sessions_in_opposite_order(two: Two, postgres_url: str) -> None:
    one, other = two
    signed_in(one, a_session("a", None), a_session("b", None))
    tx, late = one.begin(guarded=False), other.begin(guarded=False)
    assert rotate(tx, "a").outcome == "rotated"
    second = Beside(postgres_url, lambda: [rotate(late, sid).outcome for sid in ("b", "a")])
    second.settled()
    assert rotate(tx, "b").outcome == "rotated"
    one.commit()
    assert second.done() == ["repeated", "repeated"]
    other.commit()


def test_what_is_told_of_the_use_of_tokens_waits_for_a_revocation(two: Two, postgres_url: str) -> None:
    one, other = two
    tx = one.begin(guarded=False)
    for jti in ("t1", "t2"):
        token_writes.issue(tx, NewToken(jti, jti, ANN, "user", "root", DAY_MS))
    one.commit()
    tx, late = one.begin(guarded=False), other.begin(guarded=False)
    token_writes.revoke(tx, "t2")
    use = Beside(postgres_url, lambda: token_writes.touch(late, {"t1": 1, "t2": 1}))
    use.settled()
    token_writes.revoke(tx, "t1")
    one.commit()
    use.done()
    other.commit()


# --- jobs ----------------------------------------------------------------------------------------------------------


def running(writer: PostgresWriter, n: int) -> list[Claim]:
    """So many runs, in the order in which their jobs were made."""
    tx = writer.begin(guarded=False)
    enqueue(tx, [new() for _ in range(n)], ANN, None)
    writer.commit()
    tx = writer.begin(guarded=False)
    found = claim(tx, n, "host:1", {}, {})
    writer.commit()
    return list(found.claims)


def finish(tx: PostgresTx, *ended: Claim) -> None:
    writes.finish(tx, *(End(each.job.id, each.run, Completed(b"1"), held=False) for each in ended))


def locked_in_order(url: str, first: str, second: str, does: Callable[[], Any]) -> Any:
    """What ``does`` answers; it must wait for the job ``first`` without having taken the other one before."""
    with psycopg.connect(url) as connection:
        lock = "SELECT 1 FROM job WHERE id = %s FOR NO KEY UPDATE"
        connection.execute(lock, (first,))
        beside = Beside(url, does)
        beside.settled()
        assert beside.is_alive(), "it waits"
        connection.execute("SET LOCAL lock_timeout = 500")
        connection.execute(lock, (second,))
        connection.rollback()
        return beside.done()


def test_runs_that_end_are_stored_in_the_order_of_their_jobs(two: Two, postgres_url: str) -> None:
    """As whoever acts on many jobs locks them."""
    one, _ = two
    first, second = running(one, 2)

    def ends() -> None:
        finish(one.begin(guarded=False), second, first)
        one.commit()

    locked_in_order(postgres_url, first.job.id, second.job.id, ends)
