"""Handlers of the acceptance run: real work on real files."""

import hashlib
import zlib
from pathlib import Path

from jobctl import job


@job("digest")
def digest(ctx, path):
    """Checksum and compress one file."""
    content = Path(path).read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "packed": len(zlib.compress(content))}
