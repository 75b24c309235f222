"""The benchmark of the page: a run of one round, and what it says where it cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import msgspec
import pytest

from bench import paint
from bench.processes import Failed
from bench.side_by_side import Report

ONE_ROUND = [sys.executable, "-m", "bench.paint", "--rounds", "1", "--json"]


def test_without_a_browser_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Failed, match="apt-get install chromium"), paint._browser():
        pass


@pytest.mark.slow
def test_one_round_measures_a_cold_and_a_warm_load() -> None:
    if not any(map(shutil.which, paint.BROWSERS)):
        assert "CI" not in os.environ
        pytest.skip("needs Chromium: apt-get install chromium")
    done = subprocess.run(ONE_ROUND, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    told = {(each.quantity, each.contestant): each.value.median for each in report.figures}
    assert set(told) == {(what, which) for what in paint.COUNTED for which in (paint.COLD, paint.WARM)}
    assert [each.value for each in report.judged] == [told["painted", paint.COLD], told["painted", paint.WARM]]
    for which in (paint.COLD, paint.WARM):
        assert 0 < told["list asked for", which] < told["painted", which]
    assert 0 < told["KB on the wire", paint.WARM] < told["KB on the wire", paint.COLD] / 2
