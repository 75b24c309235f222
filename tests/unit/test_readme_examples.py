"""The README's Python does what it says."""

import datetime as dt
import hashlib
import hmac
import re
import sys
import textwrap
import time
import types
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

import bench
from bench import thresholds
from jobctl.cli.bill import ENDPOINTS, WINDOW_S, Bill, bill_lines
from jobctl.engine import registry as registry_module
from jobctl.engine.registry import Registry, job
from jobctl.engine.webhooks import sign
from jobctl.errors import InvalidInput

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def snippet(part: str) -> str:
    """The Python block that holds ``part``."""
    [found] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if part in block]
    return found


def run(source: str, **names: Any) -> dict[str, Any]:
    exec(compile(source, "README.md", "exec", dont_inherit=True), names)
    return names


@pytest.fixture(autouse=True)
def fresh_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "default", Registry())


def test_a_receiver_tells_genuine_requests_from_forged_and_old_ones() -> None:
    source = snippet("def is_genuine")
    assert len(source.strip().splitlines()) == 5
    is_genuine = run(source, hmac=hmac, hashlib=hashlib, time=time)["is_genuine"]
    body, now = b'{"id":"1"}', int(time.time())

    def headers(at: int, signed: bytes = body, secret: bytes = b"s" * 16) -> dict[str, str]:
        return {"Jobctl-Timestamp": str(at), "Jobctl-Signature": f"v1={sign(secret, str(at), signed)}"}

    assert is_genuine(b"s" * 16, headers(now), body)
    assert not is_genuine(b"s" * 16, headers(now), body + b" ")
    assert not is_genuine(b"s" * 16, headers(now, secret=b"t" * 16), body)
    assert not is_genuine(b"s" * 16, headers(now - 1000), body)
    assert not is_genuine(b"s" * 16, headers(now) | {"Jobctl-Timestamp": str(now + 1)}, body)


def test_the_first_handler_passes_the_test_that_is_shown_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = types.ModuleType("tasks")
    run(snippet('@job("thumbnail")'), __name__="tasks")
    tasks.thumbnail = registry_module.default.get("thumbnail").fn  # type: ignore[attr-defined, union-attr]
    monkeypatch.setitem(sys.modules, "tasks", tasks)
    run(snippet("testing.run("))["test_a_thumbnail_keeps_its_path"]()


def test_the_typed_fields_are_refused_in_the_words_that_are_shown() -> None:
    names = {"job": job, "datetime": dt, "msgspec": msgspec, "Annotated": Annotated, "Literal": Literal}
    run(snippet('@job("report")'), **names)
    with pytest.raises(InvalidInput) as caught:
        registry_module.default.check("report", {"day": "2026-01-31", "pages": 99})
    assert f"jobctl: {caught.value}\n" in README
    assert registry_module.default.check("report", {"day": "2026-01-31"}) is not None


def test_the_recording_of_the_demo_has_the_words_and_the_sums_of_the_demo() -> None:
    recording = README.split("$ jobctl demo\n")[1].split("```")[0]
    updates, requests, in_window = (
        int(re.search(pattern, recording)[1].replace(",", ""))  # type: ignore[index]
        for pattern in (r"brought ([\d,]+) updates", r"pushed +(\d+) HTTP", r"this pace: ([\d,]+) requests")
    )
    seconds = ENDPOINTS * WINDOW_S / in_window * (updates - 1)
    for line in bill_lines(Bill(seconds, updates, requests, connections=1)):
        assert f"  {line}\n" in recording


def test_the_scenario_and_the_gate_that_are_shown_are_of_the_kind_that_bench_takes() -> None:
    shown = snippet("class Mine(BenchUser)")
    source = (Path(bench.__file__).parent / "locustfiles" / "scenario.py").read_text("utf-8")
    assert textwrap.indent(shown.strip(), "    ") in source  # which cannot be imported here: it patches the interpreter
    for name in ("class BenchUser(User):", "def ask_each_interval(client: Client, routes:", "def behave(self)"):
        assert name in source
    [gate] = [each for each in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if "[[threshold]]" in each]
    [threshold] = thresholds.parse(gate, "README.md")
    assert (threshold.metric, threshold.max_ratio, threshold.decide) == ("requests_per_client", 0.1, "value")
