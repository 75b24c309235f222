"""Whether the event log continues the one that clients have seen.

A position is ``EPOCH:SEQ``. The epoch must change when numbers may have been given out that the log no longer has:
a restored backup, a file copied back, or (with ``durability = "normal"``) a crash. The database alone cannot tell,
for a copy is true to itself; so a high-water mark stands beside the secret, outside the database: the epoch, the
start ("boot") that wrote last, and the last ``seq``. A copy made in an earlier boot has another boot; one of the same
boot has a lower ``seq``. The mark is at most a second behind, and exact after a clean stop. A start names its boot in
the mark before it writes it into the database: killed between the two, it has disowned neither.
"""

import contextlib
import hashlib
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobctl.errors import ConfigError


class Mark(msgspec.Struct, frozen=True):
    """What the last owner of the file left behind. ``coming``: the boot that is about to be written into it."""

    epoch: str
    boot: str
    seq: int
    coming: str | None = None


def mark_path(state_dir: Path, database: Path) -> Path:
    """Where the mark of ``database`` is kept."""
    name = hashlib.sha256(str(database.resolve()).encode()).hexdigest()[:24]
    return state_dir / "marks" / f"{name}.json"


def read_mark(path: Path) -> Mark | None:
    """The mark, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except (OSError, msgspec.MsgspecError):
        return None


def write_mark(path: Path, mark: Mark) -> None:
    """Replace the mark; a reader sees the old or the new one.

    Raises:
        ConfigError: the state folder cannot be written.
    """
    temporary = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(msgspec.json.encode(mark))
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ConfigError(f"cannot write {path}: {error.strerror}; set state_dir to a folder of your own") from None


def continues(meta: Mapping[str, str], mark: Mark | None, seq: int) -> bool:
    """Whether the database whose ``meta`` and last ``seq`` these are is the one that wrote ``mark``, whole."""
    if mark is None or "epoch" not in meta:
        return False
    clean = meta.get("clean") == "1"
    if not clean and meta.get("durability") != "full":
        return False
    return mark.epoch == meta["epoch"] and meta.get("boot") in (mark.boot, mark.coming) and mark.seq <= seq


def fresh() -> str:
    """A new epoch or boot."""
    return str(uuid.uuid4())
