"""Two clocks, and what their difference does to tokens. Pure."""

from typing import Final

MAX_SKEW_S: Final = 5.0
"""A token that was signed further in the server's future is refused (``auth.LEEWAY_S``)."""


def skew_of(date: str, now: float) -> float | None:
    """Seconds that ``now`` is ahead of the server's ``Date``; None where that says nothing."""
    from email.utils import parsedate_to_datetime  # of no use to the commands that are to start fast

    try:
        return now - (parsedate_to_datetime(date).timestamp() + 0.5)  # it was cut to whole seconds
    except (ValueError, TypeError):
        return None


def apart(skew: float) -> str:
    """``60 s ahead of``."""
    return f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"


def untimely(token: str, now: float, skew: float) -> str | None:
    """Whether the token's times alone are a reason to refuse it, by the server's clock."""
    from jobctl.client.token import claims_of

    claims = claims_of(token)
    issued, expires = claims.get("iat"), claims.get("exp")
    because = f" (this machine's clock is {apart(skew)} the server's)" if abs(skew) > MAX_SKEW_S else ""
    theirs = now - skew
    if isinstance(issued, int | float) and because and issued - theirs > MAX_SKEW_S - 1:  # their clock is known to 1 s
        return f"by the server's clock it is of the future{because}"
    if isinstance(expires, int | float) and expires <= theirs:
        return f"by the server's clock it has expired{because}" if because and expires > now else "it has expired"
    return None
