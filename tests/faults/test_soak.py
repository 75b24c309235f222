"""The soak in its short form: a few seconds show a leak a connection or a job; ten minutes show a slow one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.soak import soak
from tests.faults.storm import storm

pytestmark = [pytest.mark.slow, pytest.mark.faults]


async def test_everything_returns_to_where_it_was(tmp_path: Path, long_form: bool) -> None:
    seconds, connections = (600.0, 200) if long_form else (8.0, 60)
    figures = await soak(seconds, connections, rate=40.0, folder=tmp_path)
    assert figures["broken"] == []
    assert figures["updates_per_s"] > connections
    assert figures["resumed"] >= connections // 10
    before, after = figures["before"], figures["after"]
    assert after["tasks"] == before["tasks"]
    assert after["descriptors"] <= before["descriptors"] + 2  # a reader of the database more or less
    assert after["threads"] <= before["threads"] + 4  # trio keeps those that may be wanted again
    assert after["memory_mib"] < before["memory_mib"] + 16


async def test_many_that_are_cut_off_at_once_come_back_and_have_missed_nothing(
    tmp_path: Path, long_form: bool
) -> None:
    """What that does to requests is measured by ``python -m tests.faults.storm``, not here."""
    figures = await storm(500 if long_form else 150, tmp_path, rounds=3)
    assert figures["broken"] == []
    assert figures["gets"]["calm"] > 20
    assert figures["gets"]["here"] > 3
