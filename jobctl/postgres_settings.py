"""The settings of ``[postgres]``: how the database is used, where ``db`` is the address of one."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from jobctl.database_url import DatabaseUrl, is_url
from jobctl.scalars import Number, Switch, Whole
from jobctl.upkeep_settings import Section


def _database(value: Any) -> Any:
    if isinstance(value, DatabaseUrl | Path):
        return value
    if not isinstance(value, str):
        raise ValueError("the path of a file, or postgresql://...")  # noqa: TRY004 - pydantic tells ValueErrors only
    if is_url(value):
        return DatabaseUrl(str(value))
    scheme, found, _ = value.partition("://")
    if found:
        raise ValueError(f"a database is a file, or postgresql://...; {scheme}:// is neither")
    return Path(value)


Database = Annotated[
    InstanceOf[Path] | InstanceOf[DatabaseUrl], BeforeValidator(_database), PlainSerializer(str, return_type=str)
]
"""A path, or the address of a PostgreSQL database."""


class Postgres(Section):
    """How it is used. Times are seconds."""

    pool_size: Whole = Field(4, ge=1, le=100)
    """Connections for reading. Beside them a process has one each for writing, listening, following and its lease."""
    statement_timeout: Number = Field(30.0, gt=0, le=3600)
    lock_timeout: Number = Field(10.0, gt=0, le=3600)
    connect_timeout: Number = Field(5.0, ge=1, le=300)
    notify: Literal["on", "off"] = "on"
    """``off``: nobody is woken, each process asks now and then, more often while something happens."""
    transaction_pooling: Switch = False
    """Connections go through PgBouncer, or its like, in transaction mode."""
    lease: Number = Field(15.0, ge=8, le=600)
    """How long a process may be out of touch before its jobs are tried again elsewhere."""
