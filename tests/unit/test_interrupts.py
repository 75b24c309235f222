"""Signals that are noted, and raised where it suits."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from jobctl.cli.interrupts import IMPATIENT_S, Interrupted, Noted, exit_of_interrupt, heeded


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_a_signal_is_raised_by_the_next_check_and_only_once() -> None:
    with Noted(Clock()) as signals:
        signals.check()
        send(signal.SIGTERM)
        send(signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            signals.check()
        signals.check()
        send(signal.SIGINT)  # the clean-up goes on
    assert exit_of_interrupt(caught.value) == 143


def test_a_second_signal_is_raised_at_once_where_nobody_has_looked_at_the_first_for_a_while() -> None:
    clock = Clock()
    with Noted(clock) as signals:
        send(signal.SIGHUP)
        clock.now += IMPATIENT_S
        send(signal.SIGHUP)
        clock.now += 0.1
        with pytest.raises(Interrupted) as caught:
            send(signal.SIGINT)
        signals.check()
    assert exit_of_interrupt(caught.value) == 129


def test_a_signal_that_is_ignored_stays_ignored_and_the_handlers_come_back() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    assert heeded() == [signal.SIGINT, signal.SIGTERM]
    with Noted(Clock()) as signals:
        send(signal.SIGHUP)
        signals.check()
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_exit_code_is_found_in_a_group() -> None:
    group = BaseExceptionGroup("", [BaseExceptionGroup("", [Interrupted(signal.SIGTERM)])])
    assert (exit_of_interrupt(group), exit_of_interrupt(KeyboardInterrupt())) == (143, 130)
