"""A server that means ill: it answers everything in the right shape, with text that would take a terminal over.

``jobctl`` of somebody who was given a wrong URL, or whose server was taken over, must not hand it his terminal.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

EVIL = (
    "\x1b]0;owned\x07"  # the window's title, and with it, on some terminals, the command line
    "\x1b]52;c;b3duZWQ=\x07"  # the clipboard
    "\x1b[66;6Hup\x1b[2J"  # the cursor, the screen
    "\x1b[6n"  # an answer that arrives as if it were typed
    "\x1bP+q544e\x1b\\"
    "\x9b31m\x9d0;c1\x9c"  # the same in C1
    "\x08\x7f\x0b\x0c\x0e"
    "\rover\r\nnew line"
    "\u202eesrever\u2066\u200b\u2028\ufeff\U000e0041"  # text that reads otherwise, or not at all
)
MARKS = (
    b"\x1b]", b"\x1bP", b"\x1b\\", b"\x07", b"\x1b[66;6H", b"\x1b[2J", b"\x1b[6n", b"\xc2\x9b", b"\xc2\x9d",
    b"\xc2\x9c",
    b"\x08", b"\x7f", b"\x0b", b"\x0c", b"\x0e", b"\rover", "\u202e".encode(), "\u2066".encode(), "\u200b".encode(),
    "\u2028".encode(), "\ufeff".encode(), "\U000e0041".encode(),
)  # fmt: skip
"""What of it must not reach a terminal. Own colours and a live table need other sequences than these."""


def found_in(output: bytes) -> list[bytes]:
    return [mark for mark in MARKS if mark in output]


TIME = "2026-01-31T12:00:00.000Z"
JOB: dict[str, Any] = {
    "id": EVIL, "name": EVIL, "queue": EVIL, "data": {EVIL: EVIL}, "status": "failed", "priority": 0, "attempts": 1,
    "maxAttempts": 3, "error": EVIL, "result": [EVIL], "progress": {"value": 0.5, "message": EVIL}, "createdAt": TIME,
    "startedAt": TIME, "completedAt": TIME, "scheduledFor": None, "processingBy": EVIL, "createdBy": EVIL,
    "uniqueKey": EVIL, "timeout": 1.0, "tags": [EVIL], "version": 3, "cancelRequested": True, "omitted": [EVIL],
}  # fmt: skip
COUNTS = {"pending": 1, "running": 0, "retrying": 0, "completed": 0, "failed": 1, "cancelled": 0, "total": 2}
QUEUE = {"name": EVIL, "paused": True, "concurrency": 1, "counts": COUNTS}
TOKEN = {
    "jti": EVIL, "name": EVIL, "subject": EVIL, "role": EVIL, "createdBy": EVIL, "createdAt": TIME, "expiresAt": TIME,
    "lastUsedAt": TIME, "revokedAt": None, "secretChanged": False, "token": EVIL,
}  # fmt: skip
SCHEDULE = {
    "name": EVIL, "cron": EVIL, "timezone": EVIL, "jobName": EVIL, "data": {EVIL: EVIL}, "queue": EVIL, "priority": 0,
    "maxAttempts": 3, "timeout": 1.0, "tags": [EVIL], "missed": "skip", "enabled": True, "nextRun": TIME,
    "lastRun": TIME, "lastJob": EVIL, "runCount": 3, "createdBy": EVIL, "createdAt": TIME, "updatedAt": TIME,
    "error": EVIL, "source": EVIL, "omitted": [EVIL], "configured": False, "lastJobId": EVIL, "owner": EVIL,
}  # fmt: skip
WORKER = {
    "id": EVIL, "kind": "work", "host": EVIL, "pid": 7, "version": EVIL, "startedAt": TIME, "seenAt": TIME,
    "state": "live", "slots": 4, "running": 1, "leader": True, "handlers": [EVIL],
}  # fmt: skip
PROBLEM = {
    "type": "about:blank", "title": EVIL, "status": 422, "detail": EVIL, "code": EVIL, "field": f"data.{EVIL}",
    "known": [EVIL], "reasons": [EVIL], "requestId": EVIL,
}  # fmt: skip
BULK = {"matched": 2, "changed": 1, "skipped": 1, "byStatus": {EVIL: 2}, "cursor": None}


def answer_of(method: str, path: str) -> Any:  # noqa: PLR0911 - a table
    """The ``data`` for a request, by the end of its path."""
    parts = [part for part in path.partition("?")[0].split("/") if part][1:]
    match parts:
        case ["jobs"]:
            return JOB if method == "POST" else {"jobs": [JOB, JOB], "cursor": EVIL, "hasMore": True}
        case ["jobs", "batch"]:
            return {"ids": [EVIL], "created": 1, "existing": 0}
        case ["jobs", "bulk"]:
            return BULK
        case ["jobs", "stats"]:
            return COUNTS | {"byQueue": {EVIL: COUNTS | {"paused": True}}}
        case ["jobs", "schedules"]:
            return SCHEDULE if method == "POST" else {"schedules": [SCHEDULE]}
        case ["jobs", "schedules", _, "trigger"]:
            return JOB
        case ["jobs", "schedules", *_]:
            return SCHEDULE
        case ["jobs", _, "logs"]:
            return {"lines": [{"n": 1, "at": TIME, "stream": "stderr", "text": EVIL}], "hasMore": False}
        case ["jobs", _, *_]:
            return {"id": EVIL} if method == "DELETE" else JOB
        case ["queues"]:
            return {"queues": [QUEUE]}
        case ["queues", *_]:
            return QUEUE
        case ["workers"]:
            return {"workers": [WORKER]}
        case ["tokens"]:
            return TOKEN if method == "POST" else {"tokens": [TOKEN]}
        case ["tokens", _]:
            return TOKEN
        case ["auth", "codes"]:
            return {"code": EVIL, "expiresAt": TIME, "subject": EVIL, "role": EVIL}
        case ["handlers"]:
            return {"handlers": [{"name": EVIL, "kind": EVIL, "fields": []}]}
        case ["server"]:
            return {"version": EVIL, "startedAt": TIME, "epoch": EVIL, "subject": EVIL, "role": EVIL}
        case ["admin", "prune"]:
            return {"count": 1, "byStatus": {EVIL: 1}, "finishedBefore": EVIL, "dryRun": True, "more": True}
        case ["admin", "backup"]:
            return {"path": EVIL, "size": 1, "epoch": EVIL, "seq": 1}
    return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    refuse: bool = False

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        told = PROBLEM if self.refuse else {"data": answer_of(self.command, self.path)}
        status = 422 if self.refuse else 201 if self.command == "POST" and self.path == "/api/jobs" else 200
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if self.refuse else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Jobctl-Position", "epoch:7")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - names of the library

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def hostile(*, refuse: bool = False) -> Iterator[str]:
    """The URL of one; with ``refuse`` it answers nothing but problems."""
    handler = type("Refusing", (Handler,), {"refuse": refuse})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
