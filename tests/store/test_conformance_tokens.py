"""API tokens and sessions, whatever the store: what stands, what ends, and who is told."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from store_kit import ANN, BEN, Clock, Heard

from jobctl.errors import Conflict, NotFound
from jobctl.events import AccessEnded, TokenIssued
from jobctl.store.base import Store
from jobctl.store.tokens import NewSession, NewToken, Rotation

DAY_MS = 86_400_000
OpenStore = Callable[[], AbstractAsyncContextManager[Any]]


def a_token(name: str = "ci", jti: str | None = None, **changed: Any) -> NewToken:
    given = {"subject": ANN, "role": "user", "created_by": "root", "life_ms": DAY_MS}
    return NewToken(jti=jti or f"jti-{name}", name=name, **given | changed)


def a_session(sid: str = "s", **changed: Any) -> NewSession:
    given: dict[str, Any] = {"subject": ANN, "role": "user", "origin": None, "idle_ms": DAY_MS, "life_ms": 3 * DAY_MS}
    return NewSession(id=sid, **{"handle": sid.encode(), "current": f"{sid}1".encode()} | given | changed)


async def use(store: Store, sid: str, before: int, after: int) -> Rotation:
    """Present token number ``before`` of the session; number ``after`` is to follow."""
    return await store.access.rotate(
        [sid.encode()], f"{sid}{before}".encode(), f"{sid}{after}".encode(), grace_ms=10_000, idle_ms=DAY_MS
    )


def told(heard: Heard) -> list[Any]:
    return [change for commit in heard.commits for change in commit.access]


async def test_a_token_is_told_of_when_it_is_issued_and_when_it_ends(store: Store, heard: Heard, clock: Clock) -> None:
    row = await store.access.issue(a_token())
    assert (row.created_at, row.expires_at, row.last_used, row.revoked_at) == (clock.ms, clock.ms + DAY_MS, None, None)
    assert told(heard) == [TokenIssued("jti-ci", ANN, "user", row.expires_at)]
    heard.clear()
    clock.forward(5)
    assert (await store.access.revoke("jti-ci")).revoked_at == clock.ms
    assert told(heard) == [AccessEnded("jti-ci")]
    assert heard.events == []


async def test_the_name_of_a_token_whose_secret_is_no_longer_accepted_is_free(store: Store, heard: Heard) -> None:
    await store.access.issue(a_token(jti="old", key="k1"))
    with pytest.raises(Conflict, match="'ci' is live"):
        await store.access.issue(a_token(jti="no", key="k2", accepted=frozenset({"k2", "k1"})))
    heard.clear()
    await store.access.issue(a_token(jti="new", key="k2", accepted=frozenset({"k2"})))
    found = {row.jti: row for row in await store.access.tokens()}
    assert {jti: row.key for jti, row in found.items()} == {"old": "k1", "new": "k2"}
    assert found["old"].revoked_at is not None, "should its secret come back, there are not two of the name"
    assert [type(change) for change in told(heard)] == [AccessEnded, TokenIssued]


async def test_a_token_of_which_it_is_not_known_what_signed_it_keeps_its_name(store: Store) -> None:
    await store.access.issue(a_token(jti="old"))
    with pytest.raises(Conflict, match="'ci' is live"):
        await store.access.issue(a_token(jti="new", key="k2", accepted=frozenset({"k2"})))


async def test_a_live_name_is_taken_and_a_refusal_leaves_nothing_behind(
    store: Store, heard: Heard, clock: Clock
) -> None:
    await store.access.issue(a_token())
    with pytest.raises(Conflict, match="'ci' is live"):
        await store.access.issue(a_token(jti="other"))
    assert len(told(heard)) == len(await store.access.tokens()) == 1
    await store.access.revoke("ci")
    await store.access.issue(a_token(jti="second"))
    clock.forward(DAY_MS / 1000)
    await store.access.issue(a_token(jti="third"))
    assert [row.jti for row in await store.access.tokens()] == ["third", "jti-ci", "second"]


async def test_a_token_is_revoked_by_its_id_or_by_its_name_while_it_lives(store: Store, clock: Clock) -> None:
    await store.access.issue(a_token("a"))
    await store.access.issue(a_token("jti-a", jti="b"))
    assert (await store.access.revoke("jti-a")).name == "a", "an id comes before a name"
    at = clock.ms
    clock.forward(9)
    assert (await store.access.revoke("jti-a")).revoked_at == at
    for gone in ("a", "nobody", ""):
        with pytest.raises(NotFound):
            await store.access.revoke(gone)


async def test_the_last_use_is_kept(store: Store, clock: Clock) -> None:
    await store.access.issue(a_token("a"))
    await store.access.issue(a_token("b"))
    await store.access.touch({"jti-a": clock.ms, "unknown": 1})
    assert {row.name: row.last_used for row in await store.access.tokens()} == {"a": clock.ms, "b": None}


async def test_the_good_refresh_token_is_used_once_and_its_successor_next(
    store: Store, heard: Heard, clock: Clock
) -> None:
    session = await store.access.begin_session(a_session())
    assert session.expires_at == clock.ms + DAY_MS
    clock.forward(100)
    done = await use(store, "s", 1, 2)
    assert done.outcome == "rotated"
    assert done.session is not None
    assert (done.session.subject, done.session.expires_at) == (ANN, clock.ms + DAY_MS)
    assert (await use(store, "s", 2, 3)).outcome == "rotated"
    assert told(heard) == []


async def test_the_one_before_counts_as_repeated_for_a_moment_and_then_ends_the_session(
    store: Store, heard: Heard, clock: Clock
) -> None:
    await store.access.begin_session(a_session())
    await use(store, "s", 1, 2)
    clock.forward(10)
    assert (await use(store, "s", 1, 2)).outcome == "repeated"
    assert told(heard) == []
    clock.forward(0.001)
    assert (await use(store, "s", 1, 2)).outcome == "reused"
    assert told(heard) == [AccessEnded("s")]
    for number in (1, 2):
        assert await use(store, "s", number, 9) == Rotation("unknown")


@pytest.mark.parametrize(("presented", "successor"), [(1, 9), (7, 2), (7, 9)])
async def test_what_is_neither_the_good_one_nor_its_repetition_ends_the_session(
    store: Store, presented: int, successor: int
) -> None:
    await store.access.begin_session(a_session())
    await use(store, "s", 1, 2)
    assert (await use(store, "s", presented, successor)).outcome == "reused"
    assert (await use(store, "s", 2, 3)).outcome == "unknown"


async def test_of_many_who_present_the_same_token_at_once_all_get_the_same_successor(store: Store) -> None:
    await store.access.begin_session(a_session())
    outcomes: list[str] = []

    async def present() -> None:
        outcomes.append((await use(store, "s", 1, 2)).outcome)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(present)
    assert sorted(outcomes) == ["repeated"] * 19 + ["rotated"]


async def test_a_session_ends_when_it_is_idle_and_at_its_end_in_any_case(store: Store, clock: Clock) -> None:
    await store.access.begin_session(a_session("idle"))
    await store.access.begin_session(a_session("busy"))
    for number in range(1, 4):
        clock.forward(DAY_MS / 1000 - 1)
        done = await use(store, "busy", number, number + 1)
        assert done.outcome == "rotated"
    assert done.session is not None
    assert done.session.expires_at == clock.ms + 3000, "the end is the end"
    assert (await use(store, "idle", 1, 2)).outcome == "unknown"
    clock.forward(3)
    assert (await use(store, "busy", 4, 5)).outcome == "unknown"


async def test_signing_out_ends_one_session_once(store: Store, heard: Heard) -> None:
    await store.access.begin_session(a_session("a"))
    await store.access.begin_session(a_session("b"))
    assert await store.access.end_session([b"a"]) == "a"
    assert told(heard) == [AccessEnded("a")]
    assert await store.access.end_session([b"a"]) is None
    assert await store.access.end_session([b"nobody"]) is None
    assert (await use(store, "b", 1, 2)).outcome == "rotated"


async def test_what_a_revoked_token_or_a_stolen_session_has_begun_ends_with_it(store: Store, heard: Heard) -> None:
    await store.access.issue(a_token())
    await store.access.begin_session(a_session("child", origin="jti-ci"))
    await store.access.begin_session(a_session("grandchild", origin="child"))
    await store.access.begin_session(a_session("stranger", origin="other", subject=BEN))
    heard.clear()
    await store.access.revoke("ci")
    assert told(heard) == [AccessEnded("jti-ci"), AccessEnded("child"), AccessEnded("grandchild")]
    await store.access.begin_session(a_session("guest", origin="stranger"))
    await use(store, "stranger", 1, 2)
    heard.clear()
    assert (await use(store, "stranger", 9, 9)).outcome == "reused"
    assert told(heard) == [AccessEnded("stranger"), AccessEnded("guest")]


@pytest.mark.parametrize("by", ["revocation", "theft"])
async def test_those_below_a_session_that_has_ended_by_itself_end_as_well(store: Store, heard: Heard, by: str) -> None:
    await store.access.issue(a_token())
    for sid, origin in (("a", "jti-ci"), ("b", "a"), ("c", "b"), ("d", "c")):
        await store.access.begin_session(a_session(sid, origin=origin))
    await store.access.end_session([b"b"])
    heard.clear()
    if by == "revocation":
        await store.access.revoke("ci")
        assert told(heard) == [AccessEnded("jti-ci"), *map(AccessEnded, "acd")]
    else:
        await use(store, "a", 1, 2)
        heard.clear()
        assert (await use(store, "a", 9, 9)).outcome == "reused"
        assert told(heard) == [*map(AccessEnded, "acd")]


async def test_signing_out_leaves_those_who_were_invited(store: Store) -> None:
    await store.access.begin_session(a_session("host"))
    await store.access.begin_session(a_session("guest", origin="host"))
    await store.access.end_session([b"host"])
    assert (await use(store, "guest", 1, 2)).outcome == "rotated"


async def test_sessions_that_were_ended_a_short_while_ago_are_known(store: Store, clock: Clock) -> None:
    for sid in ("early", "late", "live"):
        await store.access.begin_session(a_session(sid))
    await store.access.end_session([b"early"])
    clock.forward(60)
    await store.access.end_session([b"late"])
    assert set(await store.access.ended_since(clock.ms - 61_000)) == {"early", "late"}
    assert await store.access.ended_since(clock.ms - 30_000) == ("late",)


async def test_sessions_that_are_long_over_are_forgotten(store: Store, clock: Clock) -> None:
    await store.access.begin_session(a_session("old"))
    clock.forward(3 * DAY_MS / 1000)
    await store.access.begin_session(a_session("new"))
    assert (await use(store, "old", 1, 2)).outcome == "unknown"
    await store.access.begin_session(a_session("old"))  # its number is free again


async def test_tokens_and_sessions_are_there_after_a_restart(open_store: OpenStore) -> None:
    async with open_store() as store:
        await store.access.issue(a_token("a"))
        await store.access.issue(a_token("b"))
        await store.access.revoke("b")
        await store.access.begin_session(a_session("s"))
        await store.access.begin_session(a_session("t"))
        await store.access.end_session([b"t"])
    async with open_store() as store:
        assert {row.name: row.revoked_at is None for row in await store.access.tokens()} == {"a": True, "b": False}
        assert (await use(store, "s", 1, 2)).outcome == "rotated"
        assert (await use(store, "t", 1, 2)).outcome == "unknown"
        assert await store.access.ended_since(0) == ("t",)


async def test_a_session_that_is_known_by_an_older_digest_is_known_by_the_new_one_from_then_on(store: Store) -> None:
    await store.access.begin_session(a_session("s"))
    for handles, before, outcome in (
        ([b"new", b"s"], 1, "rotated"),
        ([b"new", b"s"], 1, "repeated"),
        ([b"s"], 2, "unknown"),
        ([b"new"], 2, "rotated"),
    ):
        done = await store.access.rotate(
            handles, f"s{before}".encode(), f"s{before + 1}".encode(), grace_ms=10_000, idle_ms=DAY_MS
        )
        assert done.outcome == outcome
    assert await store.access.end_session([b"nobody", b"new"]) == "s"
