"""Other spellings of addresses that no webhook may be sent to; the system's resolver knows them all."""

import pytest

from jobctl.engine.addresses import Forbidden, resolve, system_resolver

LOCAL = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0177.0.0.1",
    "0x7F.0x0.0x0.0x1",
    "0", "0.0.0.0", "localhost", "LOCALHOST", "::1", "::", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:7f00:1",
    "::127.0.0.1", "64:ff9b::127.0.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376",
    "::ffff:169.254.169.254", "fd00:ec2::254", "10.1", "192.168.257", "3232235777",
]  # fmt: skip
"""This machine, the local network, and where clouds keep what a machine may do."""


@pytest.mark.parametrize("host", LOCAL)
async def test_no_spelling_of_a_private_address_is_let_through(host: str) -> None:
    with pytest.raises((Forbidden, OSError)):  # some systems know fewer spellings, and then there is no such host
        await resolve(host, 80, allow_private=False, resolver=system_resolver)


async def test_the_spellings_do_mean_this_machine() -> None:
    """Else the test above would show nothing."""
    found = {place[0] for host in ("127.1", "2130706433") for _, place in await resolve(
        host, 80, allow_private=True, resolver=system_resolver
    )}  # fmt: skip
    assert found == {"127.0.0.1"}
