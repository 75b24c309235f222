"""What the steps of a history are made of."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from jobctl.store.base import Cancelled, Completed, Failed, Released
from tests.model.world import NAMES

OWNERS: Final = ("ann", "ben")
QUEUES: Final = ("default", "bulk", "mail")
KEYS: Final = (None, None, None, "k1", "k2")
MOST_JOBS: Final = 40
"""Of one run: each is looked at after every step."""

new_jobs = st.builds(
    dict,
    name=st.sampled_from(NAMES),
    queue=st.sampled_from(QUEUES),
    priority=st.integers(-1, 1),
    unique_key=st.sampled_from(KEYS),
    max_attempts=st.integers(1, 4),
    delay=st.sampled_from([None, None, None, None, 0, 1, 30, 3600]),
    large=st.booleans(),
)
OUTCOMES: Final = {
    "nothing": Completed(),
    "large": Completed(b'"' + b"x" * 5000 + b'"'),
    "again": Failed("no"),
    "soon": Failed("no", delay=0.5),
    "later": Failed("no", delay=60.0),
    "never": Failed("no", retry=False),
    "cancelled": Cancelled(),
    "given back": Released(),
}
outcomes = st.sampled_from(sorted(OUTCOMES))
