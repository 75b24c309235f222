"""RFC 6455 as raw frames against the listening server; the table is in ``wire_cases``."""

import contextlib
from collections.abc import Callable, Sequence

import pytest

from tests.abuse.target import BINARY, PING, TEXT, UPGRADE, Heard, Target, Wire, frame, text
from tests.abuse.wire_cases import BEFORE_SIGN_IN, GROUPS, KIB, PINGS, Case

STILL_THERE = b"still there"


def run(wire: Wire, case: Case) -> list[Heard | None]:
    """Send the case and hear the answer: to the end where there is a code, else with a pong to one more ping."""
    wire.send(case.sent, chop=case.chop)
    heard = [wire.heard() for _ in case.hears]
    if case.hears and isinstance(case.hears[-1], int):
        return [*heard, wire.heard()]
    wire.send(frame(PING, STILL_THERE))
    return [*heard, wire.heard()]


def expected(case: Case) -> list[Heard | None]:
    ends = bool(case.hears) and isinstance(case.hears[-1], int)
    return [*case.hears, None if ends else STILL_THERE]


def wrong(target: Target, cases: Sequence[Case], opened: Callable[[Target], Wire]) -> dict[str, list[Heard | None]]:
    """What was heard instead, by case. Those that end a connection, or would together, have one of their own."""
    found = {}
    kept = opened(target)
    try:
        for case in cases:
            own = case.chop or expected(case)[-1] is None or "error" in case.hears  # ten of these end it, too
            with opened(target) if own else contextlib.nullcontext(kept) as wire:
                if (heard := run(wire, case)) != expected(case):
                    found[case.name] = heard
                    if not own:
                        kept.close()
                        kept = opened(target)
            target.assert_alive()
    finally:
        kept.close()
    target.assert_well()
    return found


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())
def test_a_signed_in_peer_hears_what_the_protocol_says(target: Target, group: list[Case]) -> None:
    assert wrong(target, group, Wire.signed_in) == {}


def test_so_does_one_that_has_shown_no_token(target: Target) -> None:
    ends = [case for case in BEFORE_SIGN_IN if expected(case)[-1] is None]
    goes_on = [case._replace(chop=len(case.sent)) for case in BEFORE_SIGN_IN if case not in ends]
    assert wrong(target, [*ends, *goes_on], Wire.opened) == {}


@pytest.mark.slow
def test_a_message_in_single_bytes_is_too_big_when_it_is(target: Target) -> None:
    """65,537 frames."""
    sent = frame(TEXT, b"", fin=False) + frame(0, b" ", fin=False) * (64 * KIB + 1)
    assert wrong(target, [Case("a byte more in pieces of 1", sent, (1009,))], Wire.signed_in) == {}


def test_the_table_is_as_large_as_it_claims() -> None:
    cases = [case for group in GROUPS.values() for case in group]
    assert len(cases) + len(BEFORE_SIGN_IN) >= 600
    assert len({case.name for case in cases}) == len(cases), "each is another case"


def test_frames_that_come_with_the_handshake_are_heard(unharmed: Target) -> None:
    with Wire(unharmed) as wire:
        wire.send(UPGRADE + frame(PING, b"early") + text(PINGS))
        assert (wire.until(b"\r\n\r\n") or b"").startswith(b"HTTP/1.1 101 ")
        assert [wire.heard() for _ in range(4)] == ["auth_required", b"early", "auth_failed", 4401]


@pytest.mark.slow
@pytest.mark.parametrize("opened", [Wire.opened, Wire.signed_in], ids=["no token", "signed in"])
@pytest.mark.parametrize(
    "begun",
    [
        frame(TEXT, b" " * 60 * KIB, fin=False),
        frame(BINARY, bytes(60 * KIB), fin=False),
        frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 200,
        frame(TEXT, b" " * 60 * KIB, declared=2**30, form=64),
        b"\x81\xff\0\0\0\0\0",
    ],
    ids=["60 KiB", "60 KiB of binary", "empty pieces", "a gigabyte announced", "half a head"],
)
def test_those_who_begin_a_message_and_do_not_end_it_take_little(
    unharmed: Target, opened: Callable[[Target], Wire], begun: bytes
) -> None:
    before = unharmed.memory()
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(opened(unharmed)) for _ in range(20)]
        for peer in peers:
            peer.send(begun)
        unharmed.assert_well()
        assert unharmed.memory() - before < 20 * 160 * KIB + 8 * 1024 * KIB


@pytest.mark.slow
def test_whoever_announces_a_gigabyte_and_sends_it_is_cut_off_at_once(unharmed: Target) -> None:
    before = unharmed.memory()
    with Wire.signed_in(unharmed) as wire:
        wire.send(frame(BINARY, b"", form=64, declared=2**30))
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 2**30:
                sent += wire.sock.send(bytes(256 * KIB))
        assert sent < 64 * 1024 * KIB, "it was taken"
    assert unharmed.memory() - before < 8 * 1024 * KIB
