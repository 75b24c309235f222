"""A disk between SQLite and the real one: it remembers what was written and synced, and fails when told to.

What is asked of it after a power cut: everything that was synced, and of the rest any part, in units of a sector.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

SECTOR: Final = 512


class Op(msgspec.Struct, frozen=True):
    """One thing that was asked of the disk, or, with another kind than these four, a note of ours."""

    kind: str
    """write, truncate, sync, delete."""
    name: str = ""
    at: int = 0
    """Where, or to which size; of a delete, whether it is synced itself."""
    data: Any = b""


class Disk:
    """The record of one, and how it is to fail. ``fail(kind, name)`` may raise what SQLite is to hear."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.recording = True
        self.fail: Callable[[str, str], None] = lambda _kind, _name: None
        self._lock = threading.Lock()

    def note(self, kind: str, data: Any = None) -> None:
        """Note what happened beside the disk, at its place in the order."""
        with self._lock:
            self.ops.append(Op(kind, data=data))

    def do(self, kind: str, name: str, at: int = 0, data: bytes = b"") -> None:
        """Called before each thing is done."""
        self.fail(kind, name)
        if self.recording:
            with self._lock:
                self.ops.append(Op(kind, name, at, data))


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self._disk = disk
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "").name

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._disk.do("write", self._name, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.do("truncate", self._name, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.do("sync", self._name)
        super().xSync(flags)


class _Files(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._below = apsw.vfs_names()[0]
        super().__init__("faulty", self._below, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self._disk, self._below, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._disk.do("delete", Path(filename).name, int(syncdir))
        super().xDelete(filename, syncdir)


@contextlib.contextmanager
def between() -> Iterator[Disk]:
    """Put a disk between SQLite and the real one for all databases that are opened meanwhile."""
    disk = Disk()
    files = _Files(disk)
    try:
        yield disk
    finally:
        files.unregister()


# --- after a power cut ---------------------------------------------------------------------------------------------

Image = dict[str, bytes]
"""What the files hold; one that is not there is not in it."""


def image(ops: list[Op], draw: random.Random, start: Image, *, share: float | None = None) -> Image:
    """What a power cut after ``ops`` may leave of the files that were ``start`` before them.

    Of what was not synced: nothing, all, or any part, the later without the earlier too. ``share``: so much of it.
    """
    files: Image = dict(start)
    for name in {op.name for op in ops if op.name} | start.keys():
        mine = [op for op in ops if op.name == name]
        syncs = [n for n, op in enumerate(mine) if op.kind == "sync" or (op.kind == "delete" and op.at)]
        synced = max(syncs, default=-1)
        content = bytearray(start[name]) if name in start else None
        for op in mine[: synced + 1]:
            content = _apply(content, op, lambda: True)
        part = draw.choice([0.0, 0.2, 0.5, 0.8, 1.0]) if share is None else share
        for op in mine[synced + 1 :]:
            content = _apply(content, op, lambda part=part: draw.random() < part)  # type: ignore[misc]
        files.pop(name, None)
        if content is not None:
            files[name] = bytes(content)
    return files


def _apply(content: bytearray | None, op: Op, lasts: Callable[[], bool]) -> bytearray | None:
    """``op`` as far as it has reached the disk."""
    if op.kind == "write":
        content = bytearray() if content is None else content
        start, end = op.at, op.at + len(op.data)
        while start < end:
            upto = min(end, start - start % SECTOR + SECTOR)
            if lasts():
                content.extend(bytes(max(0, upto - len(content))))
                content[start:upto] = op.data[start - op.at : upto - op.at]
            start = upto
    elif op.kind == "truncate" and content is not None and lasts():
        del content[op.at :]
    elif op.kind == "delete" and lasts():
        return None
    return content
