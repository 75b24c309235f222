"""Requests made from the OpenAPI document, good ones and bad ones, sent to the listening server.

schemathesis makes them and holds each answer to what the document says of it: its status, its media type, its headers
and its shape. The document is the server's own, so that a route which it does not describe would be seen by
``tests/integration/test_rest_openapi.py``.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.abuse.target import Http, Target

if TYPE_CHECKING:  # the quick suite collects this file too, and need not wait for a library that it does not use
    from schemathesis import APIOperation, Case, GenerationMode

pytestmark = pytest.mark.slow

EACH = 34
"""Examples of an operation in a mode; many have no more than a few that differ."""
AT_LEAST = 2000
NAMES = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance",
)  # fmt: skip
FRAMING = {"transfer-encoding", "content-length"}
"""Headers by which the door finds a request's end, before any operation is chosen: ``http_cases.py`` has theirs."""
CONFIG = 'rate_limit = "1000000/1s"\nbackup_dir = "copies"\n[queues.default]\nconcurrency = 1\n'
APP = """
from jobctl import job

@job("noop")
def noop(ctx, **data): ...

@job("resize")
def resize(ctx, path: str, width: int = 640): ...
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "copies").mkdir()
    with Target.started(folder, config=CONFIG, app=APP) as target:
        yield target
        assert target.process.poll() is None, target.log()
        assert "Traceback" not in target.log()


class Fuzz:
    """Sends cases, and remembers what became of them."""

    def __init__(self, server: Target) -> None:
        import requests
        import schemathesis
        from schemathesis.checks import CHECKS

        self.server = server
        self.url = f"http://127.0.0.1:{server.port}"
        self.session = requests.Session()
        self.schema = schemathesis.openapi.from_url(f"{self.url}/api/openapi.json")
        self.checks = [CHECKS.get_one(name) for name in NAMES]
        self.statuses: Counter[int] = Counter()
        self.operations: Counter[str] = Counter()
        self._ids = itertools.cycle(self._jobs())
        self._place = itertools.count()

    def _jobs(self) -> list[str]:
        """Jobs that are there: without them every path would lead to a 404."""
        with Http(self.server) as http:
            made = [
                http.ask("POST", "/api/jobs", self.server.token(), json.dumps(job).encode()).json["data"]["id"]
                for job in ({"name": "noop"}, {"name": "noop", "delay": 3600, "tags": ["a"]}, {"name": "other"})
            ]
            schedule = b'{"name":"nightly","cron":"0 3 * * *","jobName":"noop"}'
            assert http.ask("POST", "/api/jobs/schedules", self.server.token(), schedule).status == 201
        return made

    def send(self, case: Case) -> None:
        place = next(self._place)
        if place % 2:
            known = {"job_id": next(self._ids), "name": ("nightly", "default")[place // 2 % 2]}
            case.path_parameters |= {name: known[name] for name in case.path_parameters.keys() & known.keys()}
        if isinstance(case.query, dict) and "wait" in case.query:
            case.query["wait"] = "0" if str(case.query["wait"]).replace(".", "").isdigit() else case.query["wait"]
        for name in FRAMING & {each.lower() for each in case.headers}:
            del case.headers[name]
        token = self.server.token("ann", ("user", "admin")[place % 5 > 0])
        answer = case.call(self.url, session=self.session, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        self.statuses[answer.status_code] += 1
        self.operations[case.operation.label] += 1
        case.validate_response(answer, checks=self.checks)

    def run(self, operation: APIOperation, mode: GenerationMode, examples: int, *, fixed: bool) -> None:
        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=examples, derandomize=fixed, database=None, deadline=None, print_blob=True,
            phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        def attempt(case: Any) -> None:
            self.send(case)

        attempt()


def test_whatever_the_document_lets_one_send_the_answer_is_as_it_says(
    server: Target, long_form: bool
) -> None:
    from schemathesis import GenerationMode

    fuzz = Fuzz(server)
    operations = [found.ok() for found in fuzz.schema.get_all_operations()]
    assert len(operations) > 30
    for operation, mode in itertools.product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)):
        if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
            continue
        fuzz.run(operation, mode, EACH * (20 if long_form else 1), fixed=not long_form)
    assert sum(fuzz.statuses.values()) >= AT_LEAST, fuzz.statuses
    assert {*fuzz.operations} == {each.label for each in operations}
    assert fuzz.statuses.keys() >= {200, 201, 400, 403, 404, 409, 422}, "every kind of answer has been seen"
    assert not [status for status in fuzz.statuses if status >= 500]
    server.assert_well()


def _can_be_wrong(operation: APIOperation) -> bool:
    return bool(operation.query or operation.path_parameters or operation.body or operation.headers)
