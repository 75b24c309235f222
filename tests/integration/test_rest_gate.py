"""The way in and the way out: tokens, origins, rates, paths, headers and the shape of errors."""
# ruff: noqa: F811  (fixtures are imported by name)

import logging
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from rest_kit import MISSING, SECRET, Api, api, make_api, token, user  # noqa: F401

from jobctl import auth
from jobctl.errors import StoreUnavailable
from jobctl.web import identity

BEARER = "authorization"


def bad_tokens() -> dict[str, list[str]]:
    good = token()
    other = auth.mint(b"x" * 40, subject="root", role="admin")
    return {
        "none": [],
        "empty": [""],
        "no scheme": [good],
        "another scheme": [f"Basic {good}"],
        "a look-alike scheme": [f"Bearerx {good}"],
        "no token": ["Bearer"],
        "a blank token": ["Bearer  "],
        "two headers": [f"Bearer {good}", f"Bearer {good}"],
        "two tokens": [f"Bearer {good} {good}"],
        "a list": [f"Bearer {good}, Bearer {good}"],
        "rubbish": ["Bearer abc"],
        "not ASCII": ["Bearer caf\xe9"],
        "another secret's": [f"Bearer {other}"],
        "cut": [f"Bearer {good[:-2]}"],
        "expired": [f"Bearer {token(ttl=10, now=time.time() - 11)}"],
        "of the future": [f"Bearer {token(now=time.time() + 60)}"],
    }


@pytest.mark.parametrize("case", bad_tokens())
async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same_401(api: Api, case: str) -> None:
    headers = [(BEARER, line) for line in bad_tokens()[case]]
    answer = await api.get("/api/jobs", bearer=None, headers=headers)
    told = answer.problem(401, "unauthorized")
    assert told["detail"] == "Invalid or expired token"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["cache-control"] == "no-store"


async def test_the_scheme_is_written_in_any_case(api: Api) -> None:
    assert (await api.get("/api/jobs", bearer=None, headers=[(BEARER, f"bEARER   {token()}")])).status == 200


async def test_a_remembered_token_ends_when_it_expires(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bearer = token(ttl=60)
    assert (await api.get("/api/jobs", bearer=bearer)).status == 200
    now = time.time()
    monkeypatch.setattr(identity.time, "time", lambda: now + 61)
    (await api.get("/api/jobs", bearer=bearer)).problem(401, "unauthorized")


async def test_remembered_tokens_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_REMEMBERED", 3)
    for number in range(6):
        assert (await api.get("/api/jobs", bearer=user(f"u{number}"))).status == 200
    assert len(api.app.gate._known) == 3


PATHS = [
    ("POST", "/api/jobs"),
    ("POST", "/api/jobs/batch"),
    ("GET", "/api/jobs"),
    ("HEAD", "/api/jobs"),
    ("GET", "/api/jobs/stats"),
    ("GET", f"/api/jobs/{MISSING}"),
    ("DELETE", f"/api/jobs/{MISSING}"),
    ("POST", f"/api/jobs/{MISSING}/retry"),
    ("POST", f"/api/jobs/{MISSING}/cancel"),
    ("GET", f"/api/jobs/{MISSING}/logs"),
    ("GET", f"/api/jobs/{MISSING}/events"),
    ("POST", "/api/jobs/bulk"),
    ("GET", "/api/jobs/schedules"),
    ("POST", "/api/jobs/schedules"),
    ("GET", "/api/jobs/schedules/default"),
    ("PUT", "/api/jobs/schedules/default"),
    ("DELETE", "/api/jobs/schedules/default"),
    ("POST", "/api/jobs/schedules/default/trigger"),
    ("POST", "/api/jobs/schedules/default/enable"),
    ("POST", "/api/jobs/schedules/default/disable"),
    ("GET", "/api/queues"),
    ("GET", "/api/workers"),
    ("POST", "/api/queues/default/pause"),
    ("POST", "/api/queues/default/resume"),
    ("GET", "/api/handlers"),
    ("GET", "/api/server"),
    ("POST", "/api/admin/backup"),
    ("POST", "/api/admin/prune"),
    ("GET", "/api/events"),
    ("POST", "/api/auth/codes"),
    ("GET", "/api/tokens"),
    ("POST", "/api/tokens"),
    ("DELETE", "/api/tokens/ci"),
    ("GET", "/api/anything"),
]


@pytest.mark.parametrize(("method", "target"), PATHS)
async def test_nothing_under_api_is_answered_without_a_token(api: Api, method: str, target: str) -> None:
    assert (await api.call(method, target, bearer=None)).status == 401


@pytest.mark.parametrize("target", ["//api/handlers", "///api/jobs", "//api/events"])
async def test_more_slashes_do_not_lead_around_the_gate(api: Api, target: str) -> None:
    (await api.get(target, bearer=None)).problem(401, "unauthorized")


async def test_every_route_is_known_to_the_test_above(api: Api) -> None:
    public = {"/healthz", "/readyz", "/metrics", "/api/openapi.json", "/", "/static/<name>"}
    public |= {f"/api/auth/{step}" for step in ("login", "refresh", "logout")}
    words = {"<queue_name:name>": "default", "<job_id:job_id>": MISSING, "<token_id:jti>": "ci"}
    rules = {
        (method, re.sub("<.*?>", lambda found: words[found[0]], rule.rule))
        for rule in api.app.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.rule not in public and method != "HEAD"
    }
    assert rules == {(method, target) for method, target in PATHS if method != "HEAD"} - {("GET", "/api/anything")}


# --- paths and methods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/nope",
        "/api",
        "/api/",
        "/api/nope",
        "/api/jobs/",
        "/api//jobs",
        "/healthz/",
        "/api/jobs/not-an-id",
        f"/api/jobs/{MISSING.upper().replace('0', 'A')}",
        f"/api/jobs/{MISSING}/nope",
        "/api/jobs/%00",
        "/api/jobs/%ff",
        "/api/jobs/%2e%2e",
        "/api/jobs/%ED%A0%80",
        "/api/jobs%2Fstats%0a",
        "/api/jobs/" + "a" * 8000,
        "/api/jobs/\N{PILE OF POO}",
        "/api/queues/a b/pause",
        "/api/jobs/schedules/",
        "/api/auth/nope",
        "/api/tokens/",
        "/api/admin/nope",
        "/docs",
        "/static/x",
        "/static/",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/index.html/",
    ],
)
async def test_what_there_is_not_is_a_404_problem(api: Api, target: str) -> None:
    (await api.get(target)).problem(404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_a_method_that_a_path_does_not_take_is_405_with_those_it_does(api: Api, method: str) -> None:
    answer = await api.call(method, "/api/jobs")
    answer.problem(405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_options_says_what_a_path_takes(api: Api) -> None:
    answer = await api.call("OPTIONS", f"/api/jobs/{MISSING}", bearer=None)
    assert (answer.status, answer.body, answer.headers["allow"]) == (204, b"", "DELETE, GET, HEAD, OPTIONS")
    assert "content-type" not in answer.headers
    (await api.call("OPTIONS", "/api/nope", bearer=None)).problem(404, "not_found")


@pytest.mark.parametrize("target", ["/api/jobs", "/api/jobs/stats", "/healthz", "/api/openapi.json", "/api/nope"])
async def test_head_is_get_without_the_body(api: Api, target: str) -> None:
    get, head = await api.get(target), await api.call("HEAD", target)
    assert (head.status, head.body) == (get.status, b"")
    for name in ("content-length", "content-type", "etag", "x-jobctl-position"):
        assert head.headers.get(name) == get.headers.get(name)


@pytest.mark.parametrize("host", ["", "a b", "x" * 5000, "\xff", "127.0.0.1:99999999", "[::1", "..", "a@b", "%00"])
async def test_a_strange_host_is_answered_cleanly(api: Api, host: str) -> None:
    answer = await api.get("/api/jobs", host=host)
    if answer.status != 200:
        answer.problem(answer.status, "bad_request" if answer.status == 400 else "not_found")
    api_without = await api.get("/api/nope", host=host)
    assert api_without.status in {400, 404}


# --- origins ---------------------------------------------------------------------------------------------------------

HOME = "http://127.0.0.1:8000"
FRIEND = "https://dash.example"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        (HOME, True),
        ("HTTP://127.0.0.1:8000", True),
        (FRIEND, True),
        ("https://127.0.0.1:8000", False),
        ("http://127.0.0.1", False),
        ("http://127.0.0.1:8001", False),
        ("http://localhost:8000", False),
        ("https://evil.example", False),
        ("https://dash.example.evil.example", False),
        ("http://dash.example", False),
        ("null", False),
        ("", False),
        ("http://127.0.0.1:8000/", False),
        ("http://127.0.0.1:8000?x", False),
        ("http://[", False),
        ("127.0.0.1:8000", False),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_only_pages_of_this_origin_or_of_an_allowed_one_may_ask(
    make_api: Callable[..., Api], method: str, origin: str | None, allowed: bool
) -> None:
    api = make_api(allowed_origins=(FRIEND,))
    headers = [] if origin is None else [("Origin", origin)]
    answer = await api.call(method, "/api/jobs", b'{"name":"noop"}' if method == "POST" else b"", headers=headers)
    if allowed:
        assert answer.status in {200, 201}
    else:
        answer.problem(403, "forbidden")
        assert (await api.get("/api/jobs/stats")).data["total"] == 0
    assert ("access-control-allow-origin" in answer.headers) == (origin == FRIEND)
    assert "Origin" in answer.headers["vary"]


async def test_two_origins_are_refused(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_origins=(FRIEND,))
    (await api.get("/api/jobs", headers=[("Origin", FRIEND), ("Origin", HOME)])).problem(403, "forbidden")


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", "h.example:443", "https://h.example"),
        ("https", "h.example", "https://h.example:443"),
        ("http", "H.example:80", "http://h.example"),
        ("http", "[::1]:8000", "http://[::1]:8000"),
    ],
)
async def test_a_default_port_may_be_written_or_not(api: Api, scheme: str, host: str, origin: str) -> None:
    assert (await api.get("/api/jobs", host=host, headers=[("Origin", origin)], scheme=scheme)).status == 200


async def test_an_allowed_page_is_told_what_it_may_do(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_origins=(FRIEND,))
    ask = [("Origin", FRIEND), ("Access-Control-Request-Method", "POST")]
    answer = await api.call("OPTIONS", "/api/jobs", bearer=None, headers=ask)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == FRIEND
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    exposed = (await api.get("/api/jobs", headers=[("Origin", FRIEND)])).headers["access-control-expose-headers"]
    for name in ("X-Jobctl-Position", "ETag", "Retry-After", "X-RateLimit-Remaining"):
        assert name in exposed
    denied = await api.get("/api/jobs", bearer=None, headers=[("Origin", FRIEND)])
    assert (denied.status, denied.headers["access-control-allow-origin"]) == (401, FRIEND)


async def test_no_other_page_gets_an_answer_to_a_preflight(api: Api) -> None:
    ask = [("Origin", FRIEND), ("Access-Control-Request-Method", "POST")]
    answer = await api.call("OPTIONS", "/api/jobs", bearer=None, headers=ask)
    answer.problem(403, "forbidden")
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- failures and headers --------------------------------------------------------------------------------------------


async def test_readiness_tells_the_reasons_why_not(make_api: Callable[..., Api]) -> None:
    api = make_api(ready=lambda: ["starting", "the disk is full"])
    told = (await api.get("/readyz", bearer=None)).problem(503, "not_ready")
    assert told["reasons"] == ["starting", "the disk is full"]
    assert (await api.get("/healthz", bearer=None)).status == 200


async def test_a_store_that_cannot_write_is_503_with_retry_after(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("the disk is full")

    monkeypatch.setattr(api.store, "enqueue", fail)
    answer = await api.post("/api/jobs", {"name": "noop"})
    answer.problem(503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), ExceptionGroup("g", [KeyError("secret")])])
async def test_an_unexpected_failure_is_a_500_that_tells_only_the_request_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api.store, "stats", fail)
    answer = await api.get("/api/jobs/stats", headers=[("X-Request-Id", "r-1")])
    told = answer.problem(500, "internal")
    assert told["requestId"] == "r-1"
    assert b"secret" not in answer.body
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(failures) == 1
    assert failures[0].exc_info is not None
    assert failures[0].exc_info[1] is error
    assert "r-1" in failures[0].getMessage()
    assert (await api.get("/healthz")).status == 200


@pytest.mark.parametrize("asked", ["r-1", "A.b_c-9", "x" * 64])
async def test_a_clients_request_id_is_echoed(api: Api, asked: str) -> None:
    assert (await api.get("/healthz", headers=[("X-Request-Id", asked)])).headers["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 65, "a b", "a\xe9", "<script>"])
async def test_another_is_replaced(api: Api, asked: str) -> None:
    told = (await api.get("/healthz", headers=[("X-Request-Id", asked)])).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{16}", told)


@pytest.mark.parametrize("target", ["/api/jobs", "/api/nope", "/healthz", "/nope", "/api/openapi.json"])
async def test_every_answer_has_the_headers_that_keep_browsers_safe(api: Api, target: str) -> None:
    answer = await api.get(target)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == "default-src 'none'"
    assert "Authorization" in answer.headers["vary"]
    assert "cache-control" in answer.headers
    assert "set-cookie" not in answer.headers
    names = [name for name, _ in answer.pairs]
    assert len(names) == len(set(names)), "a header stands twice"


async def test_requests_are_logged_with_what_an_operator_needs(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    await api.get("/api/jobs?q=private", headers=[("X-Request-Id", "r-7")], bearer=user("ann"))
    (record,) = [each for each in caplog.records if each.name == "jobctl.web"]
    assert record.getMessage() == "GET /api/jobs 200"
    seen: dict[str, Any] = record.__dict__
    assert (seen["subject"], seen["client"], seen["request_id"], seen["status"]) == ("ann", "127.0.0.1", "r-7", 200)
    assert seen["duration_ms"] > 0
    assert "private" not in str(seen)


async def test_a_path_cannot_forge_a_line_of_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    await api.get("/api/x%0aGET%20/forged%1b[31m")
    (record,) = [each for each in caplog.records if each.name == "jobctl.web"]
    assert record.getMessage() == r"GET '/api/x\nGET /forged\x1b[31m' 404"
