"""Ambiguous and broken HTTP against the listening server, as a connection's first request and as a later one."""

import pytest

from tests.abuse.http_cases import CHUNKS, FRAMING, HEADS, MARK, Cases
from tests.abuse.target import Http, Target

ALL: Cases = {
    f"{group}: {name}": case
    for group, cases in (("framing", FRAMING), ("chunks", CHUNKS), ("heads", HEADS))
    for name, case in cases.items()
}


@pytest.mark.parametrize(("sent", "statuses"), ALL.values(), ids=ALL.keys())
def test_a_request_is_read_in_one_way_or_refused(unharmed: Target, sent: bytes, statuses: tuple[int, ...]) -> None:
    for before in (0, 2):
        with Http(unharmed) as http:
            for _ in range(before):
                http.send(MARK)
                assert http.answer().status == 200
            http.send(sent.replace(b"AUTH", f"Authorization: Bearer {unharmed.token()}".encode()))
            assert tuple(http.answer().status for _ in statuses) == statuses
            if sent.endswith(MARK):
                http.send(MARK)
                assert http.answer().status == 200, "the connection goes on"
            else:
                assert http.rest() == b"", "the connection is closed"
    assert "smuggled" not in unharmed.log()
