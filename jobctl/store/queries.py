"""The named statements of a folder of ``.sql`` files, and what can be asked of a database by their names.

SQLite and PostgreSQL have a folder each with statements of the same names, which take the same values in the same order
and give the same columns. So the functions of ``reads``, ``writes`` and their like serve both.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Protocol


class Queries(Protocol):
    """A database inside a transaction. Everything is fetched whole."""

    def one(self, name: str, *values: Any) -> Any:
        """The first row of a named statement as a tuple, or None."""

    def all(self, name: str, *values: Any) -> list[Any]:
        """All its rows."""


class Snapshot(Queries, Protocol):
    """A read transaction: all that is asked is of one moment."""

    def select(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """All rows of a statement that was put together from fixed parts; ``?`` stands for each value."""

    @property
    def columns(self) -> str:
        """The columns of a ``rows.Row``."""

    @property
    def has_tag(self) -> str:
        """The condition that a job has one of some tags; ``{}`` stands for their places."""

    @property
    def finds(self) -> str:
        """The condition that name, id or a tag contains a text, which is asked for three times."""


def load(*folder: str, **places: str) -> Mapping[str, str]:
    """The statements of ``sql/FOLDER/*.sql`` by name; migrations, whose names begin with a number, are not among them.

    Args:
        folder: Below ``sql``.
        places: What stands for ``{name}`` in them.
    """
    found = {}
    for file in files("jobctl.store").joinpath("sql", *folder).iterdir():
        if file.name.endswith(".sql") and not file.name[:4].isdecimal():
            for block in file.read_text("utf-8").split("-- name: ")[1:]:
                name, _, body = block.partition("\n")
                for place, text in places.items():
                    body = body.replace(f"{{{place}}}", text)
                found[name.strip()] = body.strip()
    return found


def migrations(*folder: str) -> list[tuple[str, str]]:
    """Name and text of the migrations in ``sql/FOLDER``, in order."""
    found = [each for each in files("jobctl.store").joinpath("sql", *folder).iterdir() if each.name[:4].isdecimal()]
    return [(each.name, each.read_text("utf-8")) for each in sorted(found, key=lambda each: each.name)]
