"""How many requests one may make, and who is counted for what."""
# ruff: noqa: F811  (fixtures are imported by name)

from collections.abc import Callable

import pytest
from rest_kit import MISSING, SECRET, Api, api, make_api, token, user  # noqa: F401

from jobctl.errors import ConfigError


async def test_a_subject_over_its_rate_is_told_when_to_come_back(make_api: Callable[..., Api]) -> None:
    api = make_api(rate_limit="2/1h")
    first = await api.get("/api/jobs")
    assert first.headers["x-ratelimit-limit"] == "2"
    assert first.headers["x-ratelimit-remaining"] == "1"
    assert first.headers["x-ratelimit-reset"] == "1800"
    await api.post("/api/jobs", {"name": "noop"})
    refused = await api.post("/api/jobs", {"name": "noop"})
    refused.problem(429, "rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 1800
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert (await api.get("/api/jobs", bearer=token("other"))).status == 200
    assert (await api.get("/api/jobs", client=("10.0.0.1", 1))).status == 429, "a subject is one, wherever it is"


async def test_bad_tokens_count_for_the_address_and_harm_nobody_else_there(make_api: Callable[..., Api]) -> None:
    api = make_api(rate_limit="2/1h")
    for _ in range(2):
        (await api.get("/api/jobs", bearer="bad")).problem(401, "unauthorized")
    (await api.get("/api/jobs", bearer="bad")).problem(429, "rate_limited")
    assert (await api.get("/api/jobs")).status == 200
    (await api.get("/api/jobs", bearer="bad", client=("10.0.0.1", 1))).problem(401, "unauthorized")


async def test_behind_a_trusted_proxy_the_client_is_who_it_names(make_api: Callable[..., Api]) -> None:
    api = make_api(rate_limit="1/1h", trusted_proxies=("127.0.0.0/8",))
    one, two = [("X-Forwarded-For", "6.6.6.6, 198.51.100.1")], [("X-Forwarded-For", "6.6.6.6, 198.51.100.2")]
    assert (await api.get("/api/jobs", bearer="bad", headers=one)).status == 401
    assert (await api.get("/api/jobs", bearer="bad", headers=two)).status == 401
    assert (await api.get("/api/jobs", bearer="bad", headers=one)).status == 429
    assert (await api.get("/api/jobs", bearer="bad", headers=one, client=("9.9.9.9", 1))).status == 401
    assert (await api.get("/api/jobs", bearer="bad", headers=two, client=("9.9.9.9", 1))).status == 429


async def test_health_is_not_limited_and_needs_no_token(make_api: Callable[..., Api]) -> None:
    api = make_api(rate_limit="1/1h")
    for _ in range(3):
        answer = await api.get("/healthz", bearer=None, headers=[("Origin", "https://evil.example")])
        assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
        assert "x-ratelimit-limit" not in answer.headers
        assert (await api.get("/readyz", bearer=None)).body == b'{"status":"ready"}'


async def test_a_proxy_that_is_no_address_is_refused_at_the_start(make_api: Callable[..., Api]) -> None:
    with pytest.raises(ConfigError, match="trusted_proxies"):
        make_api(trusted_proxies=("nginx",))
