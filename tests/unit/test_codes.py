"""One-time codes by themselves."""

from jobctl.access import codes
from jobctl.access.codes import Codes


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_stands_for_what_it_was_made_for_until_it_is_taken() -> None:
    made = Codes(Clock())
    text, code = made.make("ann", "user", "t1")
    assert (code.subject, code.role, code.origin, code.expires_at) == ("ann", "user", "t1", 1300.0)
    assert made.take(text) == code
    assert made.take(text) is None


def test_a_code_ends_at_the_second() -> None:
    clock = Clock()
    made = Codes(clock)
    early, late = made.make("ann", "user")[0], made.make("ann", "user")[0]
    clock.now += codes.CODE_TTL_S - 0.001
    assert made.take(early) is not None
    clock.now += 0.001
    assert made.take(late) is None


def test_what_was_never_a_code_is_none() -> None:
    made = Codes(Clock())
    for text in ("", "x", "\ud800", "\x00", "a" * 100_000):
        assert made.take(text) is None


def test_one_that_was_given_back_is_good_once_more() -> None:
    made = Codes(Clock())
    text, _ = made.make("ann", "user")
    code = made.take(text)
    assert code is not None
    made.put(text, code)
    assert made.take(text) == code
    assert made.take(text) is None
