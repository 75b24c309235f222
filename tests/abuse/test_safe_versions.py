"""What is installed, and what may be, is at or above the lowest safe version of each package; without a network."""

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import apsw
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LIST: dict[str, Any] = tomllib.loads(Path(__file__).with_name("safe_versions.toml").read_text())
NONE: list[str] = LIST.pop("none")
FLOORS = {name: Version(row["version"]) for name, row in LIST.items()}
DIRECT = {
    canonicalize_name(each.name): each
    for each in map(Requirement, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
}


def installed(extra: str = "") -> set[str]:
    """What comes with the package, and what comes with that."""
    found: set[tuple[str, str]] = set()
    waiting = [("jobctl", extra)]
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in found:
            continue
        found.add((name, wanted))
        for text in metadata.requires(name) or ():
            each = Requirement(text)
            if each.marker is not None and not each.marker.evaluate({"extra": wanted}):
                continue
            waiting += [(canonicalize_name(each.name), one) for one in ("", *each.extras)]
    return {name for name, _ in found}


def test_every_direct_dependency_has_been_looked_at() -> None:
    assert not {*NONE} & {*FLOORS}
    assert {*DIRECT} - {*NONE} - {*FLOORS} == set()
    assert {*NONE} <= {*DIRECT}, "what is not a dependency needs no row"


def test_every_row_names_its_advisory_and_a_package_that_comes_with_the_server() -> None:
    here = installed() | installed("jwks")
    for name, row in LIST.items():
        assert set(row) == {"version", "advisory", "about"}
        assert row["advisory"].startswith(("CVE-", "GHSA-")), name
        assert name in here, name


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_what_is_installed_is_not_below(name: str) -> None:
    assert Version(metadata.version(name)) >= FLOORS[name]


@pytest.mark.parametrize("name", sorted(FLOORS.keys() & DIRECT.keys()))
def test_what_may_be_installed_is_not_below(name: str) -> None:
    """The lowest version that pyproject.toml lets in."""
    bounds = [each for each in DIRECT[name].specifier if each.operator in (">=", "==")]
    lowest = [Version(each.version.removesuffix(".*")) for each in bounds]
    assert lowest
    assert max(lowest) >= FLOORS[name]


def test_the_database_that_runs_is_the_one_that_comes_with_its_package() -> None:
    """Not the system's, whatever that is."""
    assert Version(apsw.sqlite_lib_version()) >= FLOORS["apsw"]
    assert apsw.apsw_version().startswith(apsw.sqlite_lib_version())
