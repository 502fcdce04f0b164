"""Write under a temporary name, then rename: a result is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputError

# in the name of what is not complete; a kill leaves it behind
PART = ".part"


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Raises
    ------
    OutputError
        If the folder is missing or read-only, the disk is full, or `path` is a folder. An older file at `path` is then untouched.
    """
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: a folder has this name; choose another file name")
    if not target.parent.is_dir():
        raise OutputError(f"cannot write {target}: the folder {target.parent} does not exist; make it or choose another one")
    part: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=PART + target.suffix, dir=target.parent)
        os.close(handle)
        part = Path(name)
        yield part
        # mkstemp and some writers make files private; a result has the rights of any new file
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {_reason(error)}; nothing was changed") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another disk"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder or file is read-only; choose a folder that you may write to"
    # the system's words without its number
    return error.strerror or str(error)
