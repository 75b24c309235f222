"""``jobctl workers``: the processes that run jobs."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from jobctl.cli.connect import Json, Target, TokenFile, Url, WaitServer
from jobctl.cli.output import duration, print_json, safe

if TYPE_CHECKING:
    from jobctl.worker import Worker


def workers(
    url: Url = None, token_file: TokenFile = None, wait_server: WaitServer = None, json: Json = False
) -> int:
    """List the processes that run jobs, with their slots and when they were last heard."""
    from jobctl.client import api

    call = api.workers()
    with Target(url, token_file, wait_server).session() as session:
        answer = session.send(call)
    if json:
        print_json(answer.data)
        return 0
    now = datetime.now(UTC)
    rows: list[tuple[str, ...]] = [("ID", "KIND", "STATE", "BUSY", "HEARD", "UP", "VERSION", "HANDLERS")]
    rows += [_row(each, now) for each in api.decode(call, answer).workers]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        sys.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n")
    return 0


def _row(worker: "Worker", now: datetime) -> tuple[str, ...]:
    from jobctl.cli.lines import moment

    state = f"{worker.state}, leads" if worker.leader else worker.state
    heard = max(0.0, (now - moment(worker.seen_at)).total_seconds())
    up = (now - moment(worker.started_at)).total_seconds()
    return (
        safe(worker.id), safe(worker.kind), state, f"{worker.running}/{worker.slots}", f"{duration(heard)} ago",
        duration(up), safe(worker.version), safe(", ".join(worker.handlers)) or "-",
    )  # fmt: skip
