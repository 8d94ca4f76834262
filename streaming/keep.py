"""`plumbline keep`: the journal and the messages behind it, from Kafka into files, from where the last run ended."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from kafka import TopicPartition

from archive.kept import MANIFEST, Kept, KeptJournal, append, held, nothing_kept, read_kept, write_manifest
from archive.record import Record
from plumbline.errors import Refused
from plumbline.names import Topic
from streaming.beginning import first_record
from streaming.records import present_end, records

BLOCK_SEQUENCES: Final = 200_000
"""Sequence numbers of a block: so many records at most are read again after a kill."""


def keep(
    folder: Path,
    bootstrap: str,
    prefix: str,
    archive: tuple[str, int | None],
    *,
    tell: Callable[[int], None],
    block_sequences: int = BLOCK_SEQUENCES,
) -> Kept:
    """Keep what the journal holds by now and the folder does not; returns the manifest.

    archive: digest of what came before the journal ("" for none) and how far it was taken; tell: called with the
    number of records as they are written. A message is kept if the broker still has it. Raises BrokerUnavailable,
    Refused when the folder is of another installation, Unready when the disk is full.
    """
    with held(folder):
        for left in folder.glob(".*.partial"):
            left.unlink()  # of a run that was killed
        kept = _manifest(folder, prefix, *archive)
        end = present_end(bootstrap, prefix)
        if kept.stop > end:
            raise Refused(
                f"{folder} holds the journal up to {kept.stop}, but it ends before {end}: they are not of one "
                "installation; give another folder"
            )
        _require_same_first(folder, kept, bootstrap, prefix)
        write_manifest(folder, kept)
        while kept.stop < end:
            first, stop = kept.stop, min(kept.stop + block_sequences, end)
            positions = {(topic, number): offset for topic, number, offset in kept.positions}
            with closing(records(bootstrap, prefix, first, stop, positions)) as found:
                kept = append(folder, kept, first, stop, _told(found, tell))
    return kept


def _require_same_first(folder: Path, kept: Kept, bootstrap: str, prefix: str) -> None:
    """Raises Refused when the journal begins otherwise than the kept one: its topic was created again."""
    if not kept.blocks:
        return
    first = next((each.value for chunk in KeptJournal(folder).chunks() for each in chunk if each.value), None)
    if first != first_record(bootstrap, TopicPartition(prefix + Topic.DECISIONS.value, 0)):
        raise Refused(
            f"{folder} holds a journal that begins with another entry than {prefix}{Topic.DECISIONS.value} does: the "
            "topic was created again, or is another installation's; give another folder"
        )


def _manifest(folder: Path, prefix: str, archive_digest: str, archive_until_us: int | None) -> Kept:
    ours = nothing_kept(prefix, archive_digest, archive_until_us)
    if not (folder / MANIFEST).exists():
        return ours
    kept = read_kept(folder)
    for name in ("prefix", "archive_digest", "archive_until_us"):
        if (theirs := getattr(kept, name)) != (wanted := getattr(ours, name)):
            raise Refused(f"{folder} was begun with {name} {theirs!r}, and this is {wanted!r}: give another folder")
    return kept


def _told(chunks: Iterator[list[Record]], tell: Callable[[int], None]) -> Iterator[list[Record]]:
    for chunk in chunks:
        yield chunk
        tell(len(chunk))
