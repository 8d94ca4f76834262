"""How a journal began: its first entry names the archive that came before it, which a fold needs beside the journal.

So whoever folds the journal (scorer, prepare, audit, watch, verify) asks the journal itself what came before, and
snapshots are never the only place that knows. Journals of older releases do not say; their snapshots do.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from archive.layout import Archive, require_archive
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.sweep import History
from plumbline import journal
from plumbline.errors import Refused, StateDiverged
from plumbline.journal import Entry, JournalBegun
from plumbline.names import Topic
from streaming.backfill import fold_archive
from streaming.batch import Batch
from streaming.journaling import TRANSACTION_MS, Journaling, begin_term, transactional_id
from streaming.kafka import close_producer, end_offsets, reader, transactional_producer
from streaming.known import Known
from streaming.snapshot import freeze, prehistory, sequences, write
from streaming.state import State

POLL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Beginning:
    """A journal's first entry, and what is known from it of the journal.

    entry: None where the journal has none yet; identity: see `plumbline.journal.identity`, empty where there is no
    entry; archive_digest, archive_until_us: of the archive that came before the journal, "" for none; remembered: how
    many transactions are remembered at first.
    """

    entry: Entry | None
    identity: str
    archive_digest: str
    archive_until_us: int | None
    remembered: int

    @property
    def archive(self) -> tuple[str, int | None]:
        """Digest of the archive that came before, and how far it was taken."""
        return self.archive_digest, self.archive_until_us

    def state(self, archive: Path | None, declaration: Declaration = DECLARATION, *, only: bool = False) -> State:
        """The state before the journal's first entry, from the archive in the given folder, if one came before.

        only: the state is to prepare this declaration, whatever the journal says of others.
        Raises InvalidArchive where no archive lies there, Refused where another one does.
        """
        made = State(
            Known(self.remembered),
            {declaration.fingerprint: History(declaration)},
            only=declaration.fingerprint if only else "",
            journal=self.identity,
        )
        if self.archive_digest:
            opened = require_archive(archive, self.archive_digest)
            fold_archive(made, opened, self.archive_until_us, lambda _rows: None)
        return made


def beginning(bootstrap: str, partition: TopicPartition, snapshots: Path, remembered: int) -> Beginning:
    """How the journal began; partition: the journal's.

    snapshots, remembered: what a journal that does not say it began with is taken to have begun with. Raises
    BrokerUnavailable, NotFound, and StateDiverged where the first entries are gone.
    """
    raw = first_record(bootstrap, partition)
    entry = None if raw is None else journal.decode(raw)
    identity = "" if raw is None else journal.identity(raw)
    if isinstance(entry, JournalBegun):
        return Beginning(entry, identity, entry.archive_digest, entry.archive_until_us, entry.remembered)
    return Beginning(entry, identity, *prehistory(snapshots), remembered)


def first_record(bootstrap: str, partition: TopicPartition) -> bytes | None:
    """The bytes of the journal's first committed record; None where it has none. Raises as `beginning`."""
    end = end_offsets(bootstrap, [partition.topic])[partition]
    with closing(reader(bootstrap, {partition: 0}, most_records=1)) as entries:
        try:
            while entries.position(partition) < end:
                for records in entries.poll(timeout_ms=POLL_MS).values():
                    raw: bytes = records[0].value
                    return raw
        except OffsetOutOfRangeError as error:
            raise StateDiverged(
                f"the first entries of the journal {partition.topic} are gone ({error}): it is kept for good and all "
                "else is made from it; restore the topic"
            ) from error
    return None


def backfill(
    archive: Archive,
    snapshots: Path,
    bootstrap: str,
    prefix: str,
    *,
    until_us: int | None,
    remembered: int,
    now_us: int,
    tell: Callable[[int], None],
) -> State:
    """Begin a journal with an archive: fold it into a first snapshot, and name it in the journal's first entry.

    until_us: only arrivals before this time, microseconds; remembered: transactions whose ids are remembered; now_us:
    our clock; tell: called with the number of rows taken after each chunk. Where the journal names this very archive
    already, only the snapshot is made again. Returns the state in it. Raises Refused when the journal has begun without
    this archive, InvalidArchive when a transaction id comes twice, BrokerUnavailable, NotFound.
    """
    partition = TopicPartition(prefix + Topic.DECISIONS.value, 0)
    wanted = archive.manifest.digest, until_us
    begun = beginning(bootstrap, partition, snapshots, remembered)
    _require_begun_with(begun, wanted, partition.topic)
    if begun.entry is None and any(each >= 0 for each in sequences(snapshots)):
        raise Refused(
            f"the journal {partition.topic} has no entry, but {snapshots} holds snapshots of one that had: they are "
            "not of one installation; restore the journal, or remove the snapshots where it is given up"
        )
    state = State(Known(begun.remembered))
    caught_up = fold_archive(state, archive, until_us, tell)
    if begun.entry is None:
        begun = _begin(bootstrap, prefix, partition, wanted, snapshots, state.known.limit, now_us)
    state.journal = begun.identity
    write(snapshots, freeze(caught_up))
    return state


def _begin(
    bootstrap: str,
    prefix: str,
    partition: TopicPartition,
    wanted: tuple[str, int | None],
    snapshots: Path,
    remembered: int,
    now_us: int,
) -> Beginning:
    """Journal the first entry, unless somebody else did meanwhile; a scorer that leads is fenced, and starts over."""
    producer = transactional_producer(bootstrap, transactional_id(prefix), TRANSACTION_MS)
    try:
        dead_letters = TopicPartition(prefix + Topic.DEAD_LETTER.value, 0)
        begin_term(bootstrap, producer, partition, dead_letters)
        begun = beginning(bootstrap, partition, snapshots, remembered)
        if begun.entry is None:
            entry = JournalBegun(
                archive_digest=wanted[0], archive_until_us=wanted[1], remembered=remembered, journaled_at=now_us
            )
            with Journaling(producer, partition, dead_letters.topic) as journaling:
                journaling.begin(Batch(entries=[entry]))
                journaling.settle()
            begun = beginning(bootstrap, partition, snapshots, remembered)
    finally:
        close_producer(producer, 1.0)
    _require_begun_with(begun, wanted, partition.topic)
    return begun


def _require_begun_with(begun: Beginning, wanted: tuple[str, int | None], topic: str) -> None:
    if begun.entry is not None and begun.archive != wanted:
        named = (
            f"archive {begun.archive_digest} up to {begun.archive_until_us}" if begun.archive_digest else "no archive"
        )
        raise Refused(
            f"the journal {topic} has begun with {named}, and {wanted[0]} up to {wanted[1]} cannot come before it any "
            "more: backfill before the scorer is started for the first time, or begin a new installation"
        )
