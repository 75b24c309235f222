"""Handlers that are somebody else's HTTP server, against a real one on the loopback interface."""
# ruff: noqa: F811  (fixtures are imported by name)

import hashlib
import hmac
import json
import socket
from dataclasses import replace
from typing import Any

import pytest
import trio
import trustme
from engine_kit import wait_for
from webhook_kit import SECRET, Receiver, Start, hook, receiver, start  # noqa: F401

from jobctl.engine.webhooks import Answer, outcome_of, retry_after
from jobctl.errors import HandlersFailed
from jobctl.store.base import Completed, Failed


async def test_a_job_is_posted_signed_and_its_answer_is_the_result(start: Start, receiver: Receiver) -> None:
    receiver.says(200, '{"total": 7, "big": 12345678901234567890}', Content_Type="application/json")
    running = await start()
    job = await running.run("hook", {"order": 7, "text": "ä"}, tags=("t",), queue="q", max_attempts=3)
    assert job.status == "completed"
    assert json.loads(bytes(job.result)) == {"total": 7, "big": 12345678901234567890}
    [(line, headers, body)] = receiver.requests
    assert line == "POST /jobs?a=1 HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    sent = json.loads(body)
    assert sent == {
        "id": job.id, "name": "hook", "queue": "q", "attempt": 1, "maxAttempts": 3, "createdAt": job.created_at,
        "tags": ["t"], "data": {"order": 7, "text": "ä"},
    }  # fmt: skip
    timestamp = headers["jobctl-timestamp"]
    expected = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["jobctl-signature"] == f"v1={expected}"
    assert await running.log(job.id) == [f"127.0.0.1:{receiver.port} answered 200 (41 bytes)"]


async def test_an_answer_that_only_says_that_it_is_json_is_told_in_the_log(start: Start, receiver: Receiver) -> None:
    running = await start()
    receiver.says(200, '{"mean": NaN}', Content_Type="application/json; charset=utf-8")
    job = await running.run("hook")
    assert (job.status, bytes(job.result)) == ("completed", b"null")
    _, told = await running.log(job.id)
    assert told.startswith("the answer says that it is JSON, and is not, so the job has no result: ")
    receiver.says(200, "OK", Content_Type="text/plain")
    job = await running.run("hook")
    assert await running.log(job.id) == [f"127.0.0.1:{receiver.port} answered 200 (2 bytes)"]


async def test_headers_of_the_operator_are_sent_and_the_secret_is_not(start: Start, receiver: Receiver) -> None:
    running = await start(hook(f"http://127.0.0.1:{receiver.port}", headers={"Authorization": "Bearer x"}))
    await running.run("hook")
    [(line, headers, _)] = receiver.requests
    assert line == "POST / HTTP/1.1"
    assert headers["authorization"] == "Bearer x"
    assert headers["connection"] == "close"
    assert SECRET not in repr(headers)


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (200, b"", {}, Completed(b"null")),
        (204, b"", {}, Completed(b"null")),
        (200, b"OK", {}, Completed(b"null")),
        (201, b'{ "a" : [1, 2] }', {}, Completed(b'{"a":[1,2]}')),
        (200, b'"\xff"', {}, Completed(b"null")),
        (200, b"[" * 100_000, {}, Completed(b"null")),
        (
            200,
            b"[" + b",".join([b"1e9"] * 60_000) + b"]",  # 240,001 bytes; written out, as a result is kept, 780,001
            {},
            Failed("the answer has more than 262,144 bytes, which no result may have", retry=False),
        ),
        (
            301,
            b"",
            {"location": "http://x"},
            Failed("answered 301 (to http://x); redirects are not followed", retry=False),
        ),
        (308, b"", {}, Failed("answered 308; redirects are not followed", retry=False)),
        (304, b"", {}, Failed("answered 304; redirects are not followed", retry=False)),
        (400, b"no width\n", {}, Failed("answered 400\nno width", retry=False)),
        (404, b"", {"retry-after": "5"}, Failed("answered 404", retry=False)),
        (410, b"", {}, Failed("answered 410", retry=False)),
        (408, b"", {}, Failed("answered 408", delay=0.5)),
        (425, b"", {}, Failed("answered 425", delay=0.5)),
        (429, b"", {}, Failed("answered 429", delay=0.5)),
        (429, b"", {"retry-after": "120"}, Failed("answered 429", delay=120.0)),
        (429, b"", {"retry-after": "0"}, Failed("answered 429", delay=0.0)),
        (503, b"", {"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, Failed("answered 503", delay=60.0)),
        (503, b"", {"retry-after": "Sun, 06 Nov 1994 08:00:00 GMT"}, Failed("answered 503", delay=0.0)),
        (503, b"", {"retry-after": "soon"}, Failed("answered 503", delay=0.5)),
        (503, b"", {"retry-after": "9" * 300}, Failed("answered 503", delay=7 * 86400.0)),
        (500, b"", {"retry-after": "120"}, Failed("answered 500", delay=0.5)),
        (502, b"<html>", {}, Failed("answered 502\n<html>", delay=0.5)),
        (599, b"", {}, Failed("answered 599", delay=0.5)),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, headers: dict[str, str], expected: object) -> None:
    now = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
    assert outcome_of(Answer(status, headers, body), delay=0.5, now=now) == expected


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "nan", "١٢", "Mon, 99 Nov 1994 08:49:37 GMT"])
def test_a_retry_after_that_says_nothing(text: str | None) -> None:
    assert retry_after(text, 0.0) is None


async def test_retry_after_is_when_the_job_runs_again(start: Start, receiver: Receiver) -> None:
    receiver.says(429, Retry_After="3600")
    running = await start()
    job = await running.until(await running.enqueue("hook", max_attempts=2), "retrying")
    assert job.error == "answered 429"
    assert "T" in (job.scheduled_for or "")
    assert len(receiver.requests) == 1


async def test_a_redirect_is_not_followed(start: Start, receiver: Receiver) -> None:
    receiver.says(302, Location=f"http://127.0.0.1:{receiver.port}/elsewhere")
    running = await start()
    job = await running.run("hook", max_attempts=5)
    assert (job.status, job.attempts) == ("failed", 1)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123",
        b"HTTP/1.1 200 OK\r\n" + b"A" * 100_000,
    ],
)
async def test_what_is_no_whole_answer_is_tried_again(start: Start, receiver: Receiver, answer: bytes) -> None:
    receiver.answer = answer
    running = await start()
    job = await running.until(await running.enqueue("hook", max_attempts=2), "retrying")
    assert job.error is not None
    assert job.error.startswith(f"no answer from 127.0.0.1:{receiver.port}: ")


async def test_an_answer_without_a_length_is_read_to_its_end_and_one_in_chunks_too(
    start: Start, receiver: Receiver
) -> None:
    running = await start()
    for answer in (
        b"HTTP/1.1 200 OK\r\n\r\n[1]",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1]\r\n0\r\n\r\n",
        b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]",
    ):
        receiver.answer = answer
        job = await running.run("hook")
        assert (job.status, bytes(job.result)) == ("completed", b"[1]"), answer


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(start: Start, receiver: Receiver) -> None:
    running = await start()
    receiver.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"1" * 300_000
    job = await running.run("hook", max_attempts=3)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == "the answer has more than 262,144 bytes, which no result may have"
    receiver.answer = b"HTTP/1.1 500 X\r\nContent-Length: 100000000\r\n\r\n" + b"1" * 300_000
    job = await running.until(await running.enqueue("hook", max_attempts=2), "retrying")
    assert job.error is not None
    assert job.error.startswith("answered 500\n111")
    assert len(job.error) < 1000
    await wait_for(lambda: receiver.open == 0)


async def test_no_server_is_tried_again(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        running = await start(hook(f"http://127.0.0.1:{taken.getsockname()[1]}"))
        job = await running.until(await running.enqueue("hook", max_attempts=2), "retrying")
        assert job.error is not None
        assert "connection refused" in job.error


async def test_a_cancelled_job_drops_its_request_at_once(start: Start, receiver: Receiver) -> None:
    receiver.hang = True
    running = await start()
    job_id = await running.enqueue("hook")
    await wait_for(lambda: receiver.requests)
    await running.store.cancel(job_id, owner=None)
    job = await running.until(job_id)
    assert job.status == "cancelled"
    await wait_for(lambda: receiver.open == 0)


async def test_a_request_that_takes_too_long_is_dropped_and_tried_again(start: Start, receiver: Receiver) -> None:
    receiver.hang = True
    running = await start()
    job = await running.until(await running.enqueue("hook", timeout=0.1, max_attempts=2), "retrying")
    assert job.error == "timed out after 0.1 s"
    await wait_for(lambda: receiver.open == 0)


# --- where it goes -------------------------------------------------------------------------------------------------


def resolves_to(port: int, *answers: str) -> Any:
    """A resolver that gives one answer after the other, and says ``localhost`` is what it was asked for."""
    left = list(answers)

    async def resolve(host: str, asked: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (left.pop(0), port))]

    return resolve


async def test_a_private_address_is_not_sent_to_and_the_job_not_tried_again(start: Start, receiver: Receiver) -> None:
    webhook = hook("http://hooks.example/", allow_private=False)
    running = await start(replace(webhook, resolver=resolves_to(receiver.port, "127.0.0.1")))
    job = await running.run("hook", max_attempts=3)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error is not None
    assert job.error.startswith("not sent: hooks.example is 127.0.0.1, loopback; allow_private = true")
    assert receiver.requests == []


async def test_a_name_is_resolved_once_a_request_and_the_connection_goes_to_what_was_looked_at(
    start: Start, receiver: Receiver
) -> None:
    """A second resolution would get the second answer, as in DNS rebinding, and find nobody there."""
    webhook = hook(f"http://hooks.example:{receiver.port}/x")
    running = await start(replace(webhook, resolver=resolves_to(receiver.port, "127.0.0.1", "127.0.0.2")))
    assert (await running.run("hook")).status == "completed"
    [(line, headers, _)] = receiver.requests
    assert (line, headers["host"]) == ("POST /x HTTP/1.1", f"hooks.example:{receiver.port}")


async def test_the_next_address_is_tried_where_the_first_does_not_answer(start: Start, receiver: Receiver) -> None:
    async def both(host: str, port: int) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, 1, 6, "", (each, receiver.port)) for each in ("127.0.0.9", "127.0.0.1")]

    running = await start(replace(hook("http://hooks.example/"), resolver=both))
    assert (await running.run("hook")).status == "completed"


async def test_tls_is_made_with_the_name_not_the_address(
    start: Start, receiver: Receiver, nursery: trio.Nursery
) -> None:
    import ssl

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("hooks.example").configure_cert(context)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(
        trio.serve_listeners, receiver.serve, [trio.SSLListener(listener, context, https_compatible=True)]
    )
    port = listener.socket.getsockname()[1]
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    webhook = replace(hook("https://hooks.example/"), resolver=resolves_to(port, *["127.0.0.1"] * 3), tls=trusting)
    running = await start(webhook)
    assert (await running.run("hook")).status == "completed"
    assert names == ["hooks.example"]
    assert receiver.requests[0][1]["host"] == "hooks.example"

    distrusting = replace(webhook, tls=ssl.create_default_context())
    with pytest.raises(trio.BrokenResourceError):
        await distrusting.post(b"{}")
    other = replace(webhook, host="other.example")
    with pytest.raises(trio.BrokenResourceError):
        await other.post(b"{}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://x/"}, "the url is like"),
        ({"url": "hooks.example/jobs"}, "the url is like"),
        ({"url": "http://"}, "the url is like"),
        ({"url": "http://hooks..example/"}, "the url is like"),
        ({"url": f"http://{'a' * 64}.example/"}, "the url is like"),
        ({"url": "http://[fe80::1%25eth0]/"}, "the url is like"),
        ({"url": "http://hooks.example:99999/"}, "is not a URL"),
        ({"url": "http://user:pass@hooks.example/"}, "no user, password or fragment"),
        ({"url": "http://hooks.example/#x"}, "no user, password or fragment"),
        ({"url": "http://hooks.example/a b"}, "no user, password or fragment"),
        ({"url": "http://hooks.example/ä"}, "no user, password or fragment"),
        ({"url": "http://127.0.0.1/", "allow_private": False}, "127.0.0.1 is loopback; allow_private"),
        ({"url": "http://[::ffff:10.0.0.1]/", "allow_private": False}, "is an IPv4-mapped address; allow_private"),
        ({"url": "http://x/", "headers": {"Host": "y"}}, "headers cannot have 'Host'"),
        ({"url": "http://x/", "headers": {"content-length": "1"}}, "headers cannot have 'content-length'"),
        ({"url": "http://x/", "headers": {"Jobctl-Signature": "1"}}, "headers cannot have"),
        ({"url": "http://x/", "headers": {"a b": "1"}}, "headers cannot have"),
        ({"url": "http://x/", "headers": {"X": "a\r\nY: b"}}, "not printable ASCII"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_the_start(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(HandlersFailed, match=rf"webhooks\.hook: .*{message}") as caught:
        hook(**settings)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://hooks.example", "hooks.example"), ("https://hooks.example:443/", "hooks.example"),
        ("https://HOOKS.example:8443", "hooks.example:8443"), ("http://hooks.example:443", "hooks.example:443"),
        ("https://[2606:4700::1111]:444/", "[2606:4700::1111]:444"),
    ],
)  # fmt: skip
def test_the_host_header_is_the_urls_own(url: str, authority: str) -> None:
    assert hook(url, allow_private=False).authority == authority
