"""Files that the pipeline writes whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from elfatt_deploy.errors import ExportError


def write_whole(
    path: Path, content: bytes, *, hint: str = "make room, or name another place with -o"
) -> None:
    """Write a file that is never seen half done, and the folder it is in.

    Args:
        path: the file.
        content: all of it.
        hint: what to do where that fails.

    Raises:
        ExportError: it cannot be written.
    """
    work: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        work = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        work.chmod(0o644)  # mkstemp makes it for the owner alone
        os.replace(work, path)
    except OSError as error:
        if work is not None:
            work.unlink(missing_ok=True)
        raise ExportError(
            f"cannot write {path}: {error.strerror or error}",
            hint=hint,
        ) from error
