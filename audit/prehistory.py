"""Which archive came before the journal: the one whose digest stands in the scorer's snapshots, and no other."""

from pathlib import Path

from archive.layout import open_archive
from plumbline.errors import InvalidSetting, Refused
from streaming.snapshot import prehistory


def archive_before(data: Path, named: Path | None) -> tuple[Path | None, int | None]:
    """The archive that the journal began with (None: none), and the arrival time up to which it was taken.

    data: the data folder, with the snapshots; named: where the archive lies, when not in the data folder.
    Raises Refused when it is another archive than the snapshots name, InvalidSetting when they began without one.
    """
    digest, until_us = prehistory(data / "snapshots")
    return archive_of(digest, data, named), until_us if digest else None


def archive_of(digest: str, data: Path, named: Path | None) -> Path | None:
    """The archive of this digest ("" for none), in the data folder when not named; raises as `archive_before`."""
    if not digest:
        if named is not None:
            raise InvalidSetting("options", "--archive", str(named), "no archive: the snapshots here began without one")
        return None
    archive = data / "archive" if named is None else named
    if (found := open_archive(archive).manifest.digest) != digest:
        raise Refused(
            f"archive {archive} has digest {found}, but the snapshots began with {digest}: "
            "name that archive with --archive"
        )
    return archive
