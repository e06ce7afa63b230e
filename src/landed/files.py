"""Files that are there as a whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

# Modes: for us alone, and for all to read.
PRIVATE, PUBLIC = 0o600, 0o644


def put(file: Path, content: bytes, mode: int) -> None:
    """Write a file as a whole or not at all; it is on the disk when this returns. OSError if it cannot be."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as written:
            written.write(content)
            written.flush()
            os.fsync(descriptor)
        Path(name).chmod(mode)
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
