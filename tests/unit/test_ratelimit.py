"""The rate limiter and the client's address, as pure rules."""

import time

import pytest

from jobctl.errors import ConfigError
from jobctl.web.ratelimit import RateLimiter, address_key, client_address, parse_proxies


def test_a_fresh_key_gets_exactly_its_capacity_at_once() -> None:
    limiter = RateLimiter(100, 900.0)
    verdicts = [limiter.hit("a", 1000.0) for _ in range(101)]
    assert [v.allowed for v in verdicts] == [True] * 100 + [False]
    assert [v.remaining for v in verdicts[:3]] == [99, 98, 97]
    assert verdicts[99].remaining == 0


@pytest.mark.parametrize(("capacity", "period"), [(1, 1.0), (3, 1.0), (7, 60.0), (6000, 60.0), (1000, 1.0)])
@pytest.mark.parametrize("now", [0.0, 12345.678, 987654.321])
def test_rounding_neither_takes_nor_gives_a_request(capacity: int, period: float, now: float) -> None:
    limiter = RateLimiter(capacity, period)
    assert sum(limiter.hit("a", now).allowed for _ in range(capacity + 5)) == capacity


def test_the_bucket_refills_evenly_and_not_in_one_go() -> None:
    limiter = RateLimiter(10, 100.0)
    for _ in range(10):
        limiter.hit("a", 0.0)
    assert not limiter.hit("a", 9.9).allowed
    assert limiter.hit("a", 10.0).allowed
    assert not limiter.hit("a", 10.1).allowed
    assert sum(limiter.hit("a", 60.0).allowed for _ in range(10)) == 5


def test_a_refusal_says_when_to_come_back_and_costs_nothing() -> None:
    limiter = RateLimiter(2, 10.0)
    limiter.hit("a", 0.0)
    limiter.hit("a", 0.0)
    for _ in range(50):
        refused = limiter.hit("a", 1.0)
        assert refused.retry_after_s == pytest.approx(4.0)
        assert refused.reset_s == pytest.approx(9.0)
    assert limiter.hit("a", 5.0).allowed


def test_reset_is_the_time_until_the_bucket_is_full() -> None:
    limiter = RateLimiter(4, 40.0)
    assert limiter.hit("a", 0.0).reset_s == pytest.approx(10.0)
    assert limiter.hit("a", 0.0).reset_s == pytest.approx(20.0)
    assert limiter.hit("a", 100.0).reset_s == pytest.approx(10.0)


def test_headers_are_whole_seconds_and_retry_after_is_at_least_one() -> None:
    limiter = RateLimiter(100, 1.0)
    assert dict(limiter.hit("a", 0.0).headers()) == {
        "X-RateLimit-Limit": "100",
        "X-RateLimit-Remaining": "99",
        "X-RateLimit-Reset": "1",
    }
    for _ in range(100):
        refused = limiter.hit("a", 0.0)
    assert dict(refused.headers())["Retry-After"] == "1"


def test_keys_do_not_share_a_bucket() -> None:
    limiter = RateLimiter(1, 60.0)
    assert limiter.hit("a", 0.0).allowed
    assert limiter.hit("b", 0.0).allowed
    assert not limiter.hit("a", 0.0).allowed


def test_memory_is_bounded_and_the_key_used_longest_ago_goes_first() -> None:
    limiter = RateLimiter(1, 60.0, max_keys=3)
    for key in "abc":
        limiter.hit(key, 0.0)
    limiter.hit("a", 0.1)  # refused, but used
    limiter.hit("d", 0.2)
    assert len(limiter) == 3
    assert not limiter.hit("a", 0.3).allowed
    assert limiter.hit("b", 0.4).allowed, "b was forgotten"


def test_a_request_costs_among_many_addresses_what_it_costs_among_few() -> None:
    """A dict's first key lies behind all that were deleted before it; a flood from everywhere must not pay for that."""

    def cost(keys: int) -> float:
        limiter = RateLimiter(100, 900.0, max_keys=keys)
        for n in range(keys):
            limiter.hit(str(n), 0.0)
        rounds = []
        for start in (0, 10_000, 20_000):
            began = time.process_time()
            for n in range(start, start + 10_000):
                limiter.hit(f"new {n}", 0.0)
            rounds.append(time.process_time() - began)
        return max(rounds)

    assert cost(60_000) < 4 * cost(100)


def test_a_key_that_comes_again_takes_nobodys_place() -> None:
    limiter = RateLimiter(10, 60.0, max_keys=2)
    limiter.hit("a", 0.0)
    for _ in range(5):
        limiter.hit("b", 0.0)
    assert limiter.hit("a", 0.0).remaining == 8


def test_full_buckets_are_forgotten_as_others_come() -> None:
    limiter = RateLimiter(1, 1.0)
    for number in range(1000):
        limiter.hit(f"k{number}", 0.0)
    assert len(limiter) == 1000
    for _ in range(600):
        limiter.hit("other", 10.0)
    assert len(limiter) <= 2


TRUSTED = ("10.0.0.0/8", "127.0.0.1", "fd00::/8")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # the peer is no proxy of ours: it may write anything
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # what the client itself wrote is not read
        ("127.0.0.1", ["6.6.6.6, 198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.1", "10.1.2.3"], "198.51.100.1"),
        ("127.0.0.1", ["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        ("127.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("fd00::1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:127.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("127.0.0.1", ["198.51.100.1, rubbish"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.1, rubbish, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["", " , "], "127.0.0.1"),
        ("local", ["198.51.100.1"], "local"),
    ],
)
def test_only_a_trusted_proxy_can_say_who_the_client_is(peer: str, forwarded: list[str], client: str) -> None:
    assert client_address(peer, forwarded, parse_proxies(TRUSTED)) == client


def test_without_trusted_proxies_the_header_is_not_read() -> None:
    assert client_address("127.0.0.1", ["198.51.100.1"], ()) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("198.51.100.1", "198.51.100.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
        ("local", "local"),
    ],
)
def test_an_ipv6_client_is_its_64(address: str, key: str) -> None:
    assert address_key(address) == key


def test_a_trusted_proxy_that_is_no_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="trusted_proxies: 'nginx'"):
        parse_proxies(["10.0.0.1", "nginx"])
