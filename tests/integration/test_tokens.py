"""API tokens: used, and shut out at once, in the REST API and in the middle of a stream."""
# ruff: noqa: F811  (fixtures are imported by name)

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio_websocket
from rest_kit import ADMIN, SECRET, token
from sign_in_kit import DAY, Browser, SignInApi, api, build, store  # noqa: F401
from tokens_kit import issue, listed

from jobctl import auth
from jobctl.access.access import Access
from jobctl.auth_settings import Auth
from jobctl.errors import Unauthorized
from jobctl.events import AccessEnded, Commit
from jobctl.model import NewJob
from jobctl.protocol.messages import SubscribeJobs
from jobctl.store import enqueue, token_writes
from jobctl.store.sqlite import SqliteStore
from jobctl.store.tokens import NewToken
from tests.kit import ClosedError, Peer, RawPeer, Running, StartServer

# --- what stands ---------------------------------------------------------------------------------------------------


async def test_a_long_token_that_is_not_registered_is_refused_however_well_it_is_signed(api: SignInApi) -> None:
    for ttl, status in ((899, 200), (900, 200), (902, 401), (3600, 401), (90 * DAY, 401)):
        assert (await api.get("/api/jobs", bearer=token(ttl=ttl))).status == status, ttl


async def test_the_entry_of_one_token_lets_no_other_in(api: SignInApi) -> None:
    made = await issue(api, days=2)
    jti = made["jti"]
    expires = api.access.identify(made["token"]).expires_at

    def forged(**changed: Any) -> str:
        fields: dict[str, Any] = {"subject": "ci", "role": "user", "ttl": expires - api.clock() - 1, "token_id": jti}
        return auth.mint(SECRET, **fields | changed)

    assert (await api.get("/api/jobs", bearer=forged())).status == 200
    for changed in ({"role": "admin"}, {"subject": ADMIN}, {"ttl": 3 * DAY}, {"token_id": jti[:-1]}):
        (await api.get("/api/jobs", bearer=forged(**changed))).problem(401, "unauthorized")


async def test_a_revoked_token_is_refused_at_once_though_it_was_remembered(api: SignInApi) -> None:
    made = await issue(api, role="admin")
    for _ in range(3):
        assert (await api.get("/api/jobs", bearer=made["token"])).status == 200
    answer = await api.call("DELETE", f"/api/tokens/{made['jti']}")
    assert answer.data["revokedAt"] is not None
    told = (await api.get("/api/jobs", bearer=made["token"])).problem(401, "unauthorized")
    assert told["detail"] == "Invalid or expired token"
    assert (await listed(api))[0]["revokedAt"] == answer.data["revokedAt"]
    again = await api.call("DELETE", f"/api/tokens/{made['jti']}")
    assert again.data["revokedAt"] == answer.data["revokedAt"], "by its id it may be revoked again"
    (await api.call("DELETE", "/api/tokens/ci")).problem(404, "not_found")


async def test_a_token_may_revoke_itself(api: SignInApi) -> None:
    made = await issue(api, role="admin")
    assert (await api.call("DELETE", "/api/tokens/ci", bearer=made["token"])).status == 200
    assert (await api.get("/api/jobs", bearer=made["token"])).status == 401


@pytest.mark.parametrize("which", ["nobody", "%00", "a%20b", "x" * 101, "..", "f" * 32])
async def test_there_is_nothing_to_revoke(api: SignInApi, which: str) -> None:
    (await api.call("DELETE", f"/api/tokens/{which}")).problem(404, "not_found")


async def test_a_long_poll_tells_nothing_after_its_token_was_revoked(api: SignInApi) -> None:
    made = await issue(api, role="admin")
    answers: list[Any] = []

    async def poll() -> None:
        answers.append(await api.get(f"/api/events?since={api.store.epoch}:0&wait=30", bearer=made["token"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await api.call("DELETE", "/api/tokens/ci")
        await api.enqueue()
    answers[0].problem(401, "unauthorized")


@pytest.mark.parametrize(
    ("target", "rest"),
    [("/api/tokens", b'"name":"evil"}'), ("/api/auth/codes", b'"role":"admin"}'), ("/api/jobs", b'"name":"noop"}')],
)
async def test_a_token_that_is_revoked_while_its_request_comes_makes_nothing(
    api: SignInApi, target: str, rest: bytes
) -> None:
    made = await issue(api, role="admin")

    def body() -> Iterator[bytes]:
        yield b"{"
        api.access._committed(Commit(access=(AccessEnded(made["jti"]),)))
        yield rest

    (await api.call("POST", target, body(), bearer=made["token"])).problem(401, "unauthorized")
    assert [each["name"] for each in await listed(api)] == ["ci"]
    assert not api.access.codes._waiting
    assert (await api.get("/api/jobs/stats")).data["total"] == 0


async def test_tokens_survive_a_restart_and_so_do_revocations(api: SignInApi, store: SqliteStore) -> None:
    kept, gone = await issue(api, "kept"), await issue(api, "gone")
    await api.call("DELETE", "/api/tokens/gone")
    again = build(store)
    (await again.get("/api/jobs", bearer=kept["token"])).problem(401, "unauthorized")  # before the start: nobody
    await again.access.start()
    assert (await again.get("/api/jobs", bearer=kept["token"])).status == 200
    (await again.get("/api/jobs", bearer=gone["token"])).problem(401, "unauthorized")


async def test_another_listener_of_the_same_commits_shuts_it_out_too(api: SignInApi, store: SqliteStore) -> None:
    elsewhere = Access(store, SECRET)
    made = await issue(api)
    assert elsewhere.verify(made["token"]).subject == "ci"
    await api.call("DELETE", "/api/tokens/ci")
    with pytest.raises(Unauthorized):
        elsewhere.verify(made["token"])


# --- in the middle of a stream -------------------------------------------------------------------------------------


async def issued(server: Running, name: str = "ci", role: str = "admin") -> tuple[str, str]:
    who = server.service.access
    new = NewToken(jti=f"jti-{name}", name=name, subject=name, role=role, created_by="root", life_ms=86_400_000)
    row = await who.store.issue(new)
    return row.jti, who.mint(who._registered[row.jti], row.created_at)


async def sign_in(peer: Peer, token: str) -> None:
    assert (await peer.hear())["type"] == "auth_required"
    await peer.say(type="auth", token=token)
    assert (await peer.hear())["type"] == "connected"


async def test_a_revoked_token_is_cut_off_in_the_middle_of_a_stream_with_nothing_after(server: Running) -> None:
    jti, token = await issued(server)
    async with server.connect() as peer, server.peer() as other:
        await sign_in(peer, token)
        for each in (peer, other):
            await each.say(type="subscribe_jobs", stats=False)
            await each.hear_until("jobs_subscribed")
        await server.enqueue(3)
        assert [(await peer.hear())["seq"] for _ in range(3)] == [1, 2, 3]
        commits: list[Commit] = []
        server.store.listen(commits.append)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.service.access.store.revoke, jti)
            for _ in range(20):
                nursery.start_soon(server.enqueue)
        said = []
        with pytest.raises(trio_websocket.ConnectionClosed) as closed:
            while True:
                said.append(await peer.hear())
        (cut,) = (n for n, commit in enumerate(commits) if commit.access)
        before = [event.seq for commit in commits[:cut] for event in commit.events]
        assert [message.get("seq") for message in said] == [*before, None]
        assert said[-1] == {"type": "auth_failed", "message": "Invalid or expired token"}
        assert closed.value.reason is not None
        assert closed.value.reason.code == 4401
        assert [(await other.hear())["seq"] for _ in range(23)] == list(range(1, 24)), "nobody else is disturbed"


async def test_what_follows_a_revocation_in_its_own_commit_does_not_reach_who_was_revoked(server: Running) -> None:
    jti, token = await issued(server)
    async with server.connect() as peer:
        await sign_in(peer, token)
        await peer.say(type="subscribe_jobs", stats=False)
        await peer.hear_until("jobs_subscribed")

        def both(tx: Any) -> None:
            token_writes.revoke(tx, jti)
            enqueue.enqueue(tx, [NewJob(name="noop")], "root", None)

        await server.store.committer.submit(both)  # type: ignore[attr-defined]
        assert (await peer.hear())["type"] == "auth_failed"
        assert (await peer.closed())[0] == 4401


async def test_what_waits_for_a_slow_reader_is_not_written_after_its_token_was_revoked(server: Running) -> None:
    jti, token = await issued(server)
    peer = await RawPeer.open(server.port, token)
    async with peer.stream:
        await peer.say(SubscribeJobs(stats=False))
        await peer.hear()
        (connection,) = server.service.endpoint.connections
        while not connection.outbox.pending:
            await server.enqueue(200)
        seq = (await server.store.events(0, limit=1)).head
        await server.service.access.store.revoke(jti)
        assert connection.outbox.pending == 0 or connection.closing
        last = 0
        with pytest.raises((ClosedError, trio.BrokenResourceError)):
            while True:
                message = await peer.hear()
                last = message.get("seq", last)
                assert message["type"] in ("job_update", "auth_failed")
        assert last < seq


async def test_a_session_that_ends_takes_its_streams_with_it(server: Running) -> None:
    who = server.service.access
    code, _ = who.codes.make("ann", "user")
    grant = await who.sessions.login(code)
    async with server.connect() as peer, server.peer("ann", "user") as other:
        await sign_in(peer, grant.access_token)
        assert await who.sessions.logout(grant.refresh)
        assert (await peer.hear())["type"] == "auth_failed"
        assert (await peer.closed())[0] == 4401
        await other.say(type="ping")
        assert (await other.hear())["type"] == "pong"
        async with server.connect() as again:
            await again.hear()
            await again.say(type="auth", token=grant.access_token)
            assert (await again.hear())["type"] == "auth_failed"


async def test_a_stolen_refresh_token_cuts_off_the_streams_of_the_session(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobctl.access.sessions.GRACE_S", -1)
    who = server.service.access
    code, _ = who.codes.make("ann", "user")
    first = await who.sessions.login(code)
    second = await who.sessions.refresh(first.refresh)
    async with server.connect() as peer:
        await sign_in(peer, second.access_token)
        with pytest.raises(Unauthorized):
            await who.sessions.refresh(first.refresh)
        assert (await peer.hear())["type"] == "auth_failed"
        assert (await peer.closed())[0] == 4401


async def test_a_connection_that_has_renewed_its_token_is_not_tied_to_the_old_one(server: Running) -> None:
    (old, token), (_, newer) = await issued(server, "ci"), await issued(server, "ci2")
    async with server.connect() as peer:
        await sign_in(peer, token)
        await peer.say(type="auth", token=newer)
        assert (await peer.hear())["type"] == "connected"
        await server.service.access.store.revoke(old)
        await peer.say(type="ping")
        assert (await peer.hear())["type"] == "pong"


async def test_an_unregistered_long_token_does_not_open_a_stream(server: Running) -> None:
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=server.token(ttl=3600))
        assert await peer.hear() == {"type": "auth_failed", "message": "Invalid or expired token"}
        assert (await peer.closed())[0] == 4401


async def test_tokens_are_good_again_after_the_server_has_restarted(start_server: StartServer) -> None:
    first = await start_server()
    (_, kept), (gone, revoked) = await issued(first, "kept"), await issued(first, "gone")
    await first.service.access.store.revoke(gone)
    await first.stop()
    second = await start_server()
    async with second.connect() as peer:
        await sign_in(peer, kept)
    async with second.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=revoked)
        assert (await peer.hear())["type"] == "auth_failed"


@pytest.mark.parametrize("kept", [True, False])
async def test_a_token_shows_whether_the_secret_that_signed_it_is_still_accepted(
    api: SignInApi, store: SqliteStore, kept: bool
) -> None:
    made = await issue(api)
    assert [each["secretChanged"] for each in await listed(api)] == [False]
    other = b"another secret of more than 32 bytes"
    again = build(store, secret=other, previous=[SECRET] if kept else [])
    await again.access.start()
    shown = (await again.get("/api/tokens", bearer=auth.mint(other, subject=ADMIN, role="admin"))).data["tokens"]
    assert [each["secretChanged"] for each in shown] == [not kept]
    refused = await again.get("/api/jobs", bearer=made["token"])
    assert refused.status == (200 if kept else 401)
    anew = await again.post("/api/tokens", {"name": "ci"}, bearer=auth.mint(other, subject=ADMIN, role="admin"))
    assert anew.status == (409 if kept else 201)
    if not kept:
        assert (await again.get("/api/jobs", bearer=anew.data["token"])).status == 200


async def test_when_a_former_secret_is_withdrawn_its_streams_have_to_sign_in_again(start_server: StartServer) -> None:
    former = "the former secret, of more than 32 bytes"
    server = await start_server(auth={"previous_secrets": (former,)})
    token = auth.mint(former.encode(), subject="ann", role="user")
    async with server.connect() as peer:
        await sign_in(peer, token)
        server.service.read_again = lambda: server.settings.model_copy(update={"auth": Auth()})
        server.service.reload()
        assert await peer.closed() == (1001, "going_away")
    async with server.connect() as peer:
        await peer.hear()
        await peer.say(type="auth", token=token)
        assert (await peer.hear())["type"] == "auth_failed"
