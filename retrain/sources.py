"""What a night may see: the archive and the kept journal up to a cut-off, checked, and pinned in one small file.

    FOLDER/sources.json     archive and how far it goes, the journal's blocks by digest, where the journal is cut

Every later step reads from what is pinned there, so a night that goes on after a kill sees what it saw before, however
much was journaled meanwhile. The archive is what came before the journal's first entry; a bank may have either alone.

An entry of the journal counts when it was journaled before the cut-off, by the scorer's clock that it carries. The
first one that was not ends what is seen. Under the clock `told` the entries' own times count instead: for a past that
was played into the stream long after it had happened.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.kept import Block, Kept, KeptJournal
from archive.layout import Archive, open_archive
from plumbline.errors import InvalidArchive, Refused
from plumbline.transaction import DAY_US
from retrain.blocks import Decoded, decode_block, read_columns, read_decoded
from training.windows import day_name

SOURCES: Final = "sources.json"
FORMAT: Final = 1

Clock = Literal["journal", "told"]
Tell = Callable[[int, int], None]
"""Called with how much of a step is done, and how much it is in all."""


def silent(_done: int, _whole: int) -> None:
    """Tells nobody."""


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`sources.json`: archive_until_us is the arrival time up to which the archive counts; stop: the sequence number
    before which the journal does; days: transactions by number of day since 1970, archive and journal together.
    """

    format: int = FORMAT
    cut_off_us: int
    clock: Clock
    archive: str
    archive_digest: str
    archive_until_us: int
    journal: str
    stop: int
    blocks: tuple[Block, ...]
    cache: str
    days: dict[str, int]
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True)
class Sources:
    """The pinned sources, opened."""

    pinned: Pinned
    archive: Archive | None
    journal: KeptJournal | None
    _decoded: dict[str, Decoded] = field(default_factory=dict)

    @property
    def cut_off_us(self) -> int:
        """Nothing that became known at this moment or later is seen; microseconds since 1970 UTC."""
        return self.pinned.cut_off_us

    @property
    def span_us(self) -> tuple[int, int]:
        """First and last time of a transaction."""
        return self.pinned.first_us, self.pinned.last_us

    @property
    def cache(self) -> Path:
        """Where the journal's columns are kept."""
        return Path(self.pinned.cache)

    @property
    def days(self) -> dict[int, int]:
        """Transactions of each day, by its number since 1970, ascending."""
        return {int(day): rows for day, rows in self.pinned.days.items()}

    def archived(self, since_us: int, until_us: int, columns: Collection[str]) -> Iterator[pa.RecordBatch]:
        """The archive's transactions of a half-open range of `occurred_at`, in order of arrival."""
        if self.archive is not None:
            yield from self.archive.transactions(since_us, min(until_us, self.pinned.archive_until_us), list(columns))

    def journaled(self, since_us: int, until_us: int, columns: Collection[str]) -> Iterator[pa.Table]:
        """The journal's transactions of a half-open range of `occurred_at`, by sequence, a block's at a time."""
        for block in self.blocks_of(range(since_us // DAY_US, -(-until_us // DAY_US))):
            time = [("occurred_at", ">=", since_us), ("occurred_at", "<", until_us)]
            found = read_columns(
                self.cache, block, "transactions", self.pinned.stop, filters=time, columns=list(columns)
            )
            if found.num_rows:
                yield found

    def blocks_of(self, days: Collection[int]) -> Iterator[Block]:
        """The journal's blocks that have transactions of some days."""
        for block in self.pinned.blocks:
            if any(int(day) in days for day in self.columns_of(block).days):
                yield block

    def labels(self, known_before_us: int) -> pa.Table:
        """Every label as it was known at a moment, in order of arrival.

        Columns: sequence, transaction_id, verdict, source, by, known_at. The journal's second entry of a label is none.
        """
        parts = [_LABELS.empty_table()]
        if self.archive is not None:
            until_us = min(known_before_us, self.pinned.archive_until_us)
            found = self.archive.labels(None, until_us, [name for name in _LABELS.names if name != "by"])
            nobody = pa.array([""] * found.num_rows, pa.string())
            parts.append(found.append_column("by", nobody).select(_LABELS.names))
        for block in self.pinned.blocks:
            self.columns_of(block)
            found = read_columns(self.cache, block, "labels", self.pinned.stop)
            known = pc.and_(pc.less(found["known_at"], known_before_us), pc.invert(found["again"]))
            if self.pinned.clock == "journal":
                known = pc.and_(known, pc.less(found["at"], known_before_us))
            parts.append(found.filter(known).select(_LABELS.names))
        return pa.concat_tables([each.cast(_LABELS) for each in parts])

    def columns_of(self, block: Block) -> Decoded:
        """A block's columns, made again where somebody removed or damaged them."""
        if block.sha256 not in self._decoded:
            if self.journal is None:
                raise AssertionError("blocks come from a journal")
            found = read_decoded(self.cache, block) or decode_block(self.journal, block, self.cache)
            self._decoded[block.sha256] = found
        return self._decoded[block.sha256]


_LABELS: Final = pa.schema(
    [("sequence", pa.int64()), ("transaction_id", pa.string()), ("verdict", pa.string()), ("source", pa.string()),
     ("by", pa.string()), ("known_at", pa.int64())]
)  # fmt: skip


def archive(
    folder: Path,
    *,
    archive: Path | None,
    journal: Path | None,
    cut_off_us: int,
    cache: Path,
    clock: Clock = "journal",
    tell: Tell = silent,
) -> dict[str, Any]:
    """Check both sources, make the journal's new blocks into columns, and pin what the night may see.

    folder: empty, gets `sources.json`; archive: what came before the journal, None for none; journal: folder of a kept
    journal, None for none; cache: folder in which the journal's columns are kept from night to night.
    Raises Refused where neither has a transaction, or where the archive is not the journal's; InvalidArchive for what
    is gone or was changed, by name and days.
    """
    opened, until_us = _archive(archive, journal, cut_off_us)
    kept = KeptJournal(journal) if journal is not None else None
    days: Counter[int] = Counter()
    spans: list[int] = []
    if opened is not None:
        opened.verify()
        for batch in opened.transactions(None, until_us, ["occurred_at"]):
            _count(batch.column("occurred_at"), days, spans)
    rows_archive = days.total()
    blocks: tuple[Block, ...] = ()
    stop = new = 0
    if kept is not None:
        blocks, stop, new = _decoded(kept, cache, cut_off_us, clock, tell)
        for block in blocks:
            told = read_columns(cache, block, "transactions", stop, columns=["occurred_at"])
            _count(told["occurred_at"].filter(pc.less(told["occurred_at"], cut_off_us)), days, spans)
    if not spans:
        raise Refused(
            "neither the archive nor the kept journal has a transaction before the cut-off, "
            f"{day_name(cut_off_us // DAY_US)}: give an archive, keep the journal with `plumbline keep`, or choose a "
            "later cut-off"
        )
    pinned = Pinned(
        cut_off_us=cut_off_us,
        clock=clock,
        archive="" if opened is None else str(opened.path.absolute()),
        archive_digest="" if opened is None else opened.manifest.digest,
        archive_until_us=until_us,
        journal="" if journal is None else str(journal.absolute()),
        stop=stop,
        blocks=blocks,
        cache=str(cache.absolute()),
        days={str(day): rows for day, rows in sorted(days.items())},
        first_us=min(spans),
        last_us=max(spans),
    )
    (folder / SOURCES).write_bytes(msgspec.json.format(msgspec.json.encode(pinned)) + b"\n")
    return {
        "rows": days.total(),
        "rows_archive": rows_archive,
        "rows_journal": days.total() - rows_archive,
        "first_day": day_name(min(spans) // DAY_US),
        "last_day": day_name(max(spans) // DAY_US),
        "archive_digest": pinned.archive_digest,
        "journal_digest": "" if kept is None else kept.digest,
        "journal_stop": stop,
        "blocks": len(blocks),
        "blocks_new": new,
    }


def open_sources(folder: Path) -> Sources:
    """What `archive` pinned. Raises InvalidArchive, or Refused where an archive has become another one."""
    try:
        pinned = msgspec.json.decode((folder / SOURCES).read_bytes(), type=Pinned)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidArchive(
            "sources of a night", "file", str(folder / SOURCES), f"a readable one ({error})"
        ) from error
    opened = open_archive(pinned.archive) if pinned.archive else None
    if opened is not None and opened.manifest.digest != pinned.archive_digest:
        raise Refused(
            f"archive {opened.path} has digest {opened.manifest.digest}, but this night began with "
            f"{pinned.archive_digest}: start a new night, or bring the archive back"
        )
    return Sources(pinned, opened, KeptJournal(Path(pinned.journal)) if pinned.journal else None)


def require_days(sources: Sources, first: int, last: int, *, empty: Collection[int] = ()) -> None:
    """Raise Refused where a day has no transaction at all: then something was not kept, or not imported.

    first, last: numbers of days since 1970, both included; empty: days on which there was none, as somebody knows.
    """
    found = sources.days
    missing = [day for day in range(first, last + 1) if day not in found and day not in empty]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Refused(
            f"day {day_name(missing[0])}{more}: neither the archive nor the kept journal has a transaction of it, "
            f"between {day_name(first)} and {day_name(last)}: import or keep what is missing, or declare a day on "
            f"which nothing was paid with `plumbline retrain --empty-day {day_name(missing[0])}`"
        )


def _archive(path: Path | None, journal: Path | None, cut_off_us: int) -> tuple[Archive | None, int]:
    """The archive, and the arrival time up to which it counts: where the journal's scorer had begun, or the cut-off."""
    opened = open_archive(path) if path is not None else None
    if journal is None:
        return opened, cut_off_us
    kept: Kept = KeptJournal(journal).kept
    digest = "" if opened is None else opened.manifest.digest
    if kept.archive_digest != digest:
        began = f"archive {kept.archive_digest}" if kept.archive_digest else "no archive before it"
        given = f"{path} has digest {digest}" if opened is not None else "none is given"
        raise Refused(f"the journal in {journal} began with {began}, and {given}: give the archive that it began with")
    until_us = kept.archive_until_us
    return opened, cut_off_us if until_us is None else min(until_us, cut_off_us)


def _decoded(
    kept: KeptJournal, cache: Path, cut_off_us: int, clock: Clock, tell: Tell
) -> tuple[tuple[Block, ...], int, int]:
    """The blocks before the cut-off, the sequence number that ends it, and how many blocks were new."""
    blocks: list[Block] = []
    new = 0
    listed = list(kept.blocks())
    for number, block in enumerate(listed):
        tell(number, len(listed))
        try:
            if read_decoded(cache, block) is None:
                decode_block(kept, block, cache)
                new += 1
            else:
                kept.check(block)
        except InvalidArchive as error:
            days = (
                f"days {day_name(block.first_at_ms * 1000 // DAY_US)} to {day_name(block.last_at_ms * 1000 // DAY_US)}"
            )
            raise InvalidArchive(
                f"{error.subject}, {days}", error.field, error.value, f"{error.allowed}; copy the block back"
            ) from error
        blocks.append(block)
        if clock == "journal" and (stop := _stop(cache, block, cut_off_us)) is not None:
            return tuple(blocks), stop, new
    return tuple(blocks), kept.kept.stop, new


def _stop(cache: Path, block: Block, cut_off_us: int) -> int | None:
    """The first sequence number of a block that was journaled at the cut-off or later."""
    late: list[int] = []
    for name in ("transactions", "labels"):
        table = read_columns(cache, block, name, block.stop, filters=[("at", ">=", cut_off_us)], columns=["sequence"])
        if table.num_rows:
            late.append(pc.min(table["sequence"]).as_py())
    return min(late, default=None)


def _count(times: Any, days: Counter[int], spans: list[int]) -> None:
    numbers = np.asarray(times, dtype=np.int64)
    if len(numbers):
        found, rows = np.unique(numbers // DAY_US, return_counts=True)
        days.update(dict(zip(found.tolist(), rows.tolist(), strict=True)))
        spans += [int(numbers.min()), int(numbers.max())]
