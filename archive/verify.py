"""Whether an archive's files are those that its `SHA256SUMS` lists, and its rows those that its manifest counts.

Three depths, each part of the next: the files' names (whenever an archive is opened), a file's digest (before a row of
it is read), and everything, with every sequence number (before a run that depends on all of it).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from archive.manifest import PARTS, SUMS_NAME, Manifest, data_files, digest_of, file_sha256
from plumbline.errors import InvalidArchive

_REMEDY = "bring the archive back whole, or import it again"


def listed_files(path: Path, manifest: Manifest) -> dict[str, str]:
    """Digest by file, as `SHA256SUMS` lists them, once the folder holds these files and no others.

    Raises InvalidArchive, which names the first file that is missing, unexpected, or not what the manifest names.
    """
    try:
        sums = (path / SUMS_NAME).read_bytes()
    except OSError as error:
        raise _invalid(path, SUMS_NAME, None, f"a readable file ({error.strerror})") from error
    if digest_of(sums) != manifest.digest:
        raise _invalid(path, SUMS_NAME, digest_of(sums), f"the manifest's digest {manifest.digest}")
    listed = {name: sha256 for sha256, name in (line.split("  ", 1) for line in sums.decode().splitlines())}
    present = {file.relative_to(path).as_posix() for file in data_files(path)}
    for name in sorted(listed.keys() ^ present):
        found = "missing" if name in listed else "present"
        raise _invalid(path, name, found, f"the files that {SUMS_NAME} lists: {_REMEDY}")
    return listed


class FileDigests:
    """Compares each file of an archive with its listed digest, once for as long as the file stays the same on disk."""

    def __init__(self, path: Path, listed: Mapping[str, str]) -> None:
        self.listed = dict(listed)
        self._path = path
        self._seen: dict[str, tuple[int, int, int]] = {}

    def check(self, name: str) -> None:
        """Raise InvalidArchive unless a file, by its path within the archive, has the digest that is listed of it."""
        file = self._path / name
        try:
            before = file.stat()
            identity = before.st_ino, before.st_size, before.st_mtime_ns
            if self._seen.get(name) == identity:
                return
            found = file_sha256(file)
        except OSError as error:
            raise _invalid(self._path, name, error.strerror, f"a readable file: {_REMEDY}") from error
        expected = self.listed.get(name)
        if found != expected:
            allowed = f"sha256 {expected}: the file was changed or damaged; {_REMEDY}"
            raise _invalid(self._path, name, f"sha256 {found}", allowed)
        self._seen[name] = identity

    def check_all(self) -> None:
        """Check every file."""
        for name in self.listed:
            self.check(name)


def check_sequence(path: Path, manifest: Manifest, numbers: Mapping[str, Iterable[np.ndarray]]) -> None:
    """Raise InvalidArchive unless the parts have as many rows as the manifest says, with each sequence number once."""
    expected = {"transactions": manifest.rows, "labels": manifest.labels}
    found = {part: np.concatenate([np.zeros(0, np.int64), *numbers[part]]) for part in PARTS}
    for part in PARTS:
        if len(found[part]) != expected[part]:
            raise _invalid(path, part, f"{len(found[part])} rows", f"{expected[part]} rows, as the manifest says")
    total = sum(expected.values())
    every = np.sort(np.concatenate(list(found.values())))
    if not np.array_equal(every, np.arange(-total, 0)):
        raise _invalid(path, "sequence", f"{len(every)} numbers", f"each of -{total} to -1 once")


def _invalid(path: Path, field: str, value: object, allowed: str) -> InvalidArchive:
    return InvalidArchive(f"archive {path}", field, value, allowed)
