"""How PostgreSQL is used."""

import msgspec


class PostgresOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What ``[postgres]`` sets; times are seconds.

    ``transaction_pooling``: connections go through PgBouncer (or its like) in transaction mode: nothing is kept on a
    connection beyond a transaction, prepared statements neither, and ``notify`` is off.
    """

    pool_size: int = 4
    statement_timeout: float = 30.0
    lock_timeout: float = 10.0
    connect_timeout: float = 5.0
    notify: bool = True
    transaction_pooling: bool = False
    lease: float = 15.0
