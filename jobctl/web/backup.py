"""Backups of a running server, for admins."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio
from msgspec import Meta
from quart import Quart, Response
from quart_schema import document_request, document_response, operation_id, tag

from jobctl.errors import Conflict, Forbidden, NotFound
from jobctl.model import Wire
from jobctl.store.backup import Backup, target
from jobctl.web.answers import data
from jobctl.web.body import decode, media_type
from jobctl.web.openapi import fails
from jobctl.web.request import signed_in
from jobctl.web.wiring import Web


class BackupRequest(Wire, frozen=True, forbid_unknown_fields=True):
    """Where to: an absolute path on the server's machine, of a file that is not there yet and ends in `.db`."""

    path: Annotated[str, Meta(min_length=1, max_length=4096)]


class BackupAnswer(Wire, frozen=True):
    """The backup."""

    data: Backup


_asked: Final = msgspec.json.Decoder(BackupRequest)


class BackupRoutes:
    """Writes backups, one at a time."""

    def __init__(self, web: Web) -> None:
        self._backup = web.backup
        self._folder = web.settings.backup_dir
        self._turn = trio.Semaphore(1)

    def register(self, app: Quart) -> None:
        """Add the route."""
        app.add_url_rule("/api/admin/backup", "backup", self.backup, methods=["POST"])

    @fails(400, 404, 409, 413, 415, 422, 500)
    @document_request(BackupRequest)
    @document_response(BackupAnswer, 201)
    @operation_id("backup")
    @tag(["server"])
    async def backup(self) -> Response:
        """Write a consistent copy of the database to a new file on the server's machine; the queue goes on meanwhile.

        The file has mode 0600, and only below `backup_dir`, where that is set, may it be. Whoever restores it begins a
        new epoch. Answered when it is written and its pages are found sound; a client that hangs up ends it.
        """
        request = signed_in()
        if not request.who.is_admin:
            raise Forbidden("backups are for admins")
        media_type(request)
        asked = decode(_asked, await request.body.read())
        if self._backup is None:
            raise NotFound("this server makes no backups")
        path = await trio.to_thread.run_sync(target, asked.path, self._folder)
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            raise Conflict("another backup is under way") from None
        try:
            return data(await self._backup(Path(path)), 201)
        finally:
            self._turn.release()
