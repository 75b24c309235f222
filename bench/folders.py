"""The folder of a block while it runs: tokens and a secret are in it, so it does not outlive its driver for long.

A driver holds a lock on a file in it, which ends with the driver however that ends; the next run takes away what
nobody holds any more. Age says nothing: a block may take hours.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PREFIX: Final = "jobctl-bench-"
LOCK: Final = "driver.lock"


@contextmanager
def held() -> Iterator[Path]:
    """A new folder, mode 0700, in the temporary folder; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        part = folder / f".{LOCK}"
        lock = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            part.rename(folder / LOCK)  # nobody ever finds it there without its lock
            yield folder
        finally:
            os.close(lock)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep() -> list[Path]:
    """Remove the folders of drivers that were killed; which those were."""
    swept = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if not folder.is_symlink() and _deserted(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


def _deserted(path: Path) -> bool:
    """Whether it is a lock of ours that nobody holds."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # no folder of a block, or another person's
        return False
    try:
        if os.fstat(lock).st_uid != os.getuid():
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(lock)
