"""The server under attack is a process of its own: what an attack costs it can be seen from outside."""

from collections.abc import Iterator

import pytest

from tests.abuse.target import Target


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One server for all attacks of a session: each is made on one that has taken those before it."""
    with Target.started(tmp_path_factory.mktemp("target")) as running:
        yield running
        assert running.process.poll() is None, running.log()
        assert "Traceback" not in running.log(), running.log()


@pytest.fixture
def unharmed(target: Target) -> Iterator[Target]:
    """The target, which has to answer both doors' users after the attack as before it."""
    yield target
    target.assert_well()
