"""Two folders exchange their names in one step, so that a kill at any moment leaves one of the two in each place."""

import ctypes
import errno
import os
import sys
from pathlib import Path
from typing import Final

_AT_CWD: Final = -100
_EXCHANGE: Final = 2
_UNSUPPORTED: Final = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def exchange(new: Path, old: Path) -> None:
    """Put `new` in the place of `old`, and the other way round. Raises OSError.

    One step of the file system where Linux offers it; elsewhere three renames, which a kill in between can leave
    without a folder at `old`: it is then in the folder of `new`, under the name `replaced`.
    """
    if not _exchanged(new, old):
        aside = new.parent / "replaced"
        old.rename(aside)
        try:
            new.rename(old)
        except OSError:
            aside.rename(old)
            raise
        aside.rename(new)
    sync(old.parent)


def sync(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _exchanged(new: Path, old: Path) -> bool:
    """Whether the system could exchange them in one step."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if call is None:
        return False
    if call(_AT_CWD, os.fsencode(new), _AT_CWD, os.fsencode(old), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(old))
