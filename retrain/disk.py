"""A full disk by whatever name it comes: libraries wrap it in errors of their own, and a person needs one sentence."""

import errno
from pathlib import Path
from typing import Final

from plumbline.errors import Unready

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
WORDS: Final = ("No space left on device", "Disk quota exceeded", "File too large")


def full(error: BaseException, folder: Path) -> Unready | None:
    """What to say of an error that a full disk is behind; None of any other one.

    folder: where it was written. TensorFlow and Beam pass on the words alone, so these count as well as the number.
    """
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        known = isinstance(each, OSError) and each.errno in FULL
        if known or any(words in str(each) for words in WORDS):
            return Unready(
                f"the disk of {folder} takes no more, or no larger file ({_line(each)}): make room; the champion "
                "stays, and the same command goes on where it was"
            )
        each = each.__cause__ or each.__context__
    return None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:117] + "..."
