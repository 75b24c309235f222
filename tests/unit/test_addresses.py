"""Where a webhook may be sent."""

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobctl.engine.addresses import Forbidden, resolve, why_not

FORBIDDEN = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("10.0.0.1", "private"),
    ("100.64.0.1", "private"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("169.254.169.254", "link-local"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "reserved"),
    ("192.0.2.1", "documentation"),
    ("192.88.99.1", "6to4"),
    ("192.168.1.1", "private"),
    ("198.18.0.1", "benchmarks"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::ffff:127.0.0.1", "IPv4-mapped"),
    ("::ffff:8.8.8.8", "IPv4-mapped"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("64:ff9b::7f00:1", "NAT64"),
    ("64:ff9b:1::a00:1", "NAT64"),
    ("2002:7f00:1::", "6to4"),
    ("2002:0a00:0001::1", "6to4"),
    ("2001:0:7f00:1::", "Teredo"),
    ("2001:db8::1", "documentation"),
    ("2001:10::1", "reserved"),
    ("3fff::1", "documentation"),
    ("fc00::1", "private"),
    ("fd12:3456::1", "private"),
    ("fe80::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("5f00::1", "reserved"),
    ("100::1", "reserved"),
    ("2a00::5efe:127.0.0.1", "ISATAP"),
    ("2a00::200:5efe:10.0.0.1", "ISATAP"),
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00::1",
]


@pytest.mark.parametrize(("address", "why"), FORBIDDEN)
def test_an_address_that_is_not_of_the_public_internet_is_barred(address: str, why: str) -> None:
    assert why in (why_not(ipaddress.ip_address(address)) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_public_internet_is_not(address: str) -> None:
    assert why_not(ipaddress.ip_address(address)) is None


@given(st.ip_addresses())
def test_nothing_is_let_through_that_python_does_not_call_global(address: Any) -> None:
    if why_not(address) is None:
        assert address.is_global
        assert not address.is_multicast


def resolver(*addresses: str) -> Any:
    async def resolve_to(host: str, port: int) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, 1, 6, "", (each, port, 0, 0)) if ":" in each else (socket.AF_INET, 1, 6, "", (each, port))
            for each in addresses
        ]

    return resolve_to


@pytest.mark.parametrize("address", [each for each, _ in FORBIDDEN])
async def test_a_name_that_has_one_barred_address_among_others_is_barred(address: str) -> None:
    with pytest.raises(Forbidden, match=r"hooks\.example is "):
        await resolve("hooks.example", 443, allow_private=False, resolver=resolver("8.8.8.8", address))
    allowed = await resolve("hooks.example", 443, allow_private=True, resolver=resolver(address))
    assert [place[0] for _, place in allowed] == [address]


async def test_a_zone_does_not_hide_an_address() -> None:
    with pytest.raises(Forbidden, match="link-local"):
        await resolve("hooks.example", 443, allow_private=False, resolver=resolver("fe80::1%eth0"))


async def test_the_addresses_come_in_the_resolvers_order_each_once() -> None:
    found = await resolve("h", 443, allow_private=False, resolver=resolver("2a00::1", "8.8.8.8", "8.8.8.8"))
    assert [(family, place[0]) for family, place in found] == [
        (socket.AF_INET6, "2a00::1"),
        (socket.AF_INET, "8.8.8.8"),
    ]


async def test_a_name_without_an_address_is_an_error() -> None:
    with pytest.raises(OSError, match="has no address"):
        await resolve("h", 443, allow_private=False, resolver=resolver())
