"""What the tests of operations share: requests, and samples of ``/metrics``. Import the fixture by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.kit import LOOPBACK, Running

ROOT = Path(__file__).parents[2]
Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def http(server: Running) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://{LOOPBACK}:{server.port}") as client:
        yield client


def bearer(server: Running, role: str = "admin") -> dict[str, str]:
    return {"Authorization": f"Bearer {server.token('ann', role)}"}


async def scrape(port: int) -> Callable[..., float]:
    """The value of a sample, by its name and labels."""
    async with httpx2.AsyncClient() as client:
        answer = await client.get(f"http://{LOOPBACK}:{port}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: Values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }

    def value(sample: str, /, **labels: str) -> float:
        return found[sample, frozenset(labels.items())]

    return value
