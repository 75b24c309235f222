"""Several statements in one message to PostgreSQL, and their results.

psycopg sends what goes into its pipelines a statement at a time, and takes 150 us of the interpreter's time for each.
Here all of it is one write to the socket: half the processor time of a small transaction, and no moment at which the
server has the statement that takes a lock and still waits for the one that lets go of it.

Statements that come again are prepared on the connection, unless a pooler may give the next one to another.
"""

import select
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

Result = tuple[list[tuple[Any, ...]], int]
"""Rows, and how many rows a statement wrote or found."""
Statement = tuple[str, Sequence[Any]]
_Key = tuple[str, tuple[int, ...]]
"""What a prepared statement is known by: its text, and its parameters' types."""
_Adapted = tuple[str, Sequence[Any], tuple[int, ...], Any]
"""A statement's text, and its parameters with their types and formats."""

PREPARE_AFTER: Final = 2
"""Uses of a statement after which a connection keeps its plan."""
_GOOD: Final = {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}
_OUTDATED: Final = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)
"""What a prepared statement fails with when a column has another type by now, or somebody has deallocated it."""
_numbers: Final = count(1)


class Pipeline:
    """Of one connection, which nobody else uses meanwhile.

    Args:
        connection: In autocommit mode; its adapters are used.
        prepares: Whether statements are prepared.
    """

    def __init__(self, connection: psycopg.Connection[Any], *, prepares: bool) -> None:
        self._connection, self._prepares = connection, prepares
        self._uses: dict[_Key, int] = {}
        self._names: dict[_Key, bytes] = {}
        self._ready = select.poll()

    def run(self, statements: Sequence[Statement]) -> list[Result]:
        """Their results, in order.

        Raises:
            psycopg.Error: of the first that failed; those after it were not executed.
        """
        adapted = [self._adapted(*statement) for statement in statements]  # first: whoever fails here has sent nothing
        server = self._connection.pgconn
        server.enter_pipeline_mode()
        made: dict[_Key, bytes] = {}
        try:
            preparing = [each for one in adapted for each in self._send(server, one, made)]
            server.pipeline_sync()
            self._flush(server)
            results = self._results(server, preparing, made)
        finally:
            if server.status == pq.ConnStatus.OK and server.transaction_status != pq.TransactionStatus.ACTIVE:
                server.exit_pipeline_mode()
        return results

    def _adapted(self, sql: str, values: Sequence[Any]) -> _Adapted:
        adapt = Transformer(self._connection)
        given = adapt.dump_sequence(values, [PyFormat.AUTO] * len(values)) if values else []
        return sql, given, adapt.types or (), adapt.formats

    def _send(self, server: Any, adapted: _Adapted, made: dict[_Key, bytes]) -> list[_Key | None]:
        """Put it into the message; of each result that it will have, what it prepares, None for the statement's own."""
        sql, given, types, formats = adapted
        key = sql, types
        name = self._names.get(key) or made.get(key)
        preparing: list[_Key | None] = [None]
        if name is None and self._prepares:
            self._uses[key] = self._uses.get(key, 0) + 1
            if self._uses[key] > PREPARE_AFTER:
                name = made[key] = b"jobctl_%d" % next(_numbers)
                server.send_prepare(name, sql.encode(), types)
                preparing = [key, None]
        if name is None:
            server.send_query_params(sql.encode(), given, types, formats, pq.Format.BINARY)
        else:
            server.send_query_prepared(name, given, formats, pq.Format.BINARY)
        return preparing

    def _flush(self, server: Any) -> None:
        while server.flush():
            if self._wait(server, select.POLLIN | select.POLLOUT) & ~select.POLLOUT:
                server.consume_input()

    def _wait(self, server: Any, events: int) -> int:
        self._ready.register(server.socket, events)
        try:
            return self._ready.poll()[0][1]
        finally:
            self._ready.unregister(server.socket)

    def _next(self, server: Any) -> Any:
        while server.is_busy():
            self._wait(server, select.POLLIN)
            server.consume_input()
        return server.get_result()

    def _results(self, server: Any, preparing: Sequence[_Key | None], made: dict[_Key, bytes]) -> list[Result]:
        found: list[Result] = []
        failed: psycopg.Error | None = None
        for key in preparing:
            result = self._next(server)
            if result is None:
                raise psycopg.OperationalError("the connection was lost")
            if result.status in _GOOD:
                if key is None:
                    found.append(self._loaded(result))
                else:
                    self._names[key] = made[key]  # it stays prepared, whatever becomes of the rest
            elif failed is None:
                failed = error_from_result(result, encoding="utf-8")
                if isinstance(failed, _OUTDATED):
                    self._names.clear()  # prepared anew, under other names, it works again
                if failed.diag.severity_nonlocalized in {"FATAL", "PANIC"}:
                    self._connection.close()
                    raise failed
            self._next(server)  # the end of its results
        self._next(server)  # the end of the pipeline
        if failed is not None:
            raise failed
        return found

    def _loaded(self, result: Any) -> Result:
        rows: list[Any] = []
        if result.status == pq.ExecStatus.TUPLES_OK:
            adapt = Transformer(self._connection)
            adapt.set_pgresult(result, format=pq.Format.BINARY)
            rows = adapt.load_rows(0, result.ntuples, tuple)
        written = result.command_tuples
        return rows, -1 if written is None else written
