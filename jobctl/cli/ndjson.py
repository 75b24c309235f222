"""Jobs from a file, one JSON object a line: all checked before the first is sent, then sent in batches."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, NamedTuple, cast

import msgspec

from jobctl.errors import ConfigError, InvalidInput
from jobctl.model import EnqueueRequest

BATCH_JOBS: Final = 1000
BATCH_BYTES: Final = 4 * 1024 * 1024
"""A quarter of what the server takes: one commit of it stays short, and progress is seen."""
MAX_LINE: Final = 256 * 1024
"""Four times the largest ``data``, as the server allows for a single job."""
SPOOL_BYTES: Final = 16 * 1024 * 1024

_request = msgspec.json.Decoder(EnqueueRequest)


class Batch(NamedTuple):
    """Lines to send together. ``numbers`` are their line numbers in the file."""

    lines: list[bytes]
    numbers: list[int]


@contextmanager
def opened(path: Path, stdin: BinaryIO) -> Iterator[BinaryIO]:
    """The file, or what stdin brings (``-``), as something that can be read twice.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if str(path) != "-":
            with path.open("rb") as file:
                yield file
            return
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            while chunk := stdin.read(64 * 1024):
                spool.write(chunk)
            spool.seek(0)
            yield cast("BinaryIO", cast("IO[bytes]", spool))
    except OSError as error:
        place = "standard input" if str(path) == "-" else path
        raise ConfigError(f"cannot read {place}: {error.strerror}") from None


def jobs(lines: Iterable[bytes], defaults: Mapping[str, Any]) -> Iterator[tuple[int, bytes]]:
    """Each job with its line number, checked; what a line leaves out is taken from ``defaults``.

    Empty lines are skipped.

    Raises:
        InvalidInput: a line is not a job; the message starts with ``line N:``.
    """
    for number, raw in enumerate(lines, 1):
        line = raw.strip()
        if not line:
            continue
        if len(line) > MAX_LINE:
            raise InvalidInput(f"line {number}: longer than {MAX_LINE} bytes")
        try:
            if defaults:
                fields = msgspec.json.decode(line, type=dict[str, Any])
                line = msgspec.json.encode({**defaults, **fields})
            _request.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise InvalidInput(f"line {number}: {_plain(str(error))}") from None
        yield number, line


def batches(
    items: Iterable[tuple[int, bytes]], *, size: int = BATCH_JOBS, weight: int = BATCH_BYTES
) -> Iterator[Batch]:
    """Batches of at most ``size`` jobs and ``weight`` bytes (but at least one job)."""
    lines: list[bytes] = []
    numbers: list[int] = []
    total = 0
    for number, line in items:
        if lines and (len(lines) == size or total + len(line) + 1 > weight):
            yield Batch(lines, numbers)
            lines, numbers, total = [], [], 0
        lines.append(line)
        numbers.append(number)
        total += len(line) + 1
    if lines:
        yield Batch(lines, numbers)


def _plain(message: str) -> str:
    """What msgspec says, without its JSON path syntax at the end."""
    text, _, place = message.partition(" - at `")
    if text == "Object missing required field `name`":
        return 'no "name" (in the line, or as NAME on the command line)'
    place = place.rstrip("`").removeprefix("$").removeprefix(".")
    return f"{place}: {text}" if place else text
