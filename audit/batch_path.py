"""History once more, by the batch path: the Beam pipeline, key by key, over files of arrivals.

The arrivals are an archive's, for what came before the journal, and those that the audit's own intake let in; these are
numbered from 0 on, so that they follow the archive's negative numbers.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.layout import open_archive
from features.declaration import DECLARATION
from features.grammar import ABSENT, Declaration
from features.history import Flags, Integers
from features.pieces import blocks
from features.pipeline import Part, passes_for, write_history
from features.runner import EMBEDDED, Runner
from features.sweep import Arrivals, places
from plumbline.journal import LabelApplied
from plumbline.transaction import DAY_US, Transaction

DAYS_A_PART: Final = 30
_ARCHIVE_COLUMNS: Final = (
    "sequence", "account_id", "merchant_id", "device_id", "occurred_at", "amount_minor", "latitude_e6", "longitude_e6",
)  # fmt: skip
TRANSACTION_FILES: Final = pa.schema(
    [("sequence", pa.int64()), ("account_id", pa.string()), ("merchant_id", pa.string()), ("device_id", pa.string()),
     ("occurred_at", pa.int64()), ("amount_minor", pa.int64()), ("latitude_e6", pa.int32()),
     ("longitude_e6", pa.int32())]
)  # fmt: skip
LABEL_FILES: Final = pa.schema(
    [("sequence", pa.int64()), ("account_id", pa.string()), ("merchant_id", pa.string()), ("known_at", pa.int64()),
     ("occurred_at", pa.int64())]
)  # fmt: skip


def write_arrivals(folder: Path, number: int, first: int, rows: Sequence[Transaction | LabelApplied]) -> None:
    """Put transactions and counted labels into a folder, as Parquet files of that number; first: the first's place."""
    numbered = list(enumerate(rows, first))
    paid = [(place, each) for place, each in numbered if isinstance(each, Transaction)]
    told = [(place, each) for place, each in numbered if isinstance(each, LabelApplied)]
    columns: list[list[object]] = [[place for place, _ in paid]]
    columns += [[getattr(each, name) for _, each in paid] for name in TRANSACTION_FILES.names[1:]]
    _write(folder / f"transactions-{number:06d}.parquet", columns, TRANSACTION_FILES)
    columns = [[place for place, _ in told], [each.account_id for _, each in told]]
    columns += [[each.merchant_id for _, each in told], [each.label.known_at for _, each in told]]
    columns += [[each.occurred_at for _, each in told]]
    _write(folder / f"labels-{number:06d}.parquet", columns, LABEL_FILES)


def read_arrivals(folder: Path) -> Iterator[Arrivals]:
    """What `write_arrivals` put into a folder, in order of arrival, a file's rows at a time."""
    for file in sorted(folder.glob("transactions-*.parquet")):
        paid = pq.read_table(file)
        told = pq.read_table(file.with_name(file.name.replace("transactions", "labels")))
        order = np.argsort(np.concatenate([paid["sequence"].to_numpy(), told["sequence"].to_numpy()]), kind="stable")
        rows, labels = paid.num_rows, told.num_rows

        def merged(of_paid: Any, of_told: Any, order: Any = order) -> Any:
            return np.concatenate([np.asarray(of_paid), np.asarray(of_told)])[order]

        absent = np.full(labels, ABSENT, np.int64)
        no_device = np.full(labels, "", object)
        yield Arrivals(
            account_ids=merged(paid["account_id"], told["account_id"]).tolist(),
            merchant_ids=merged(paid["merchant_id"], told["merchant_id"]).tolist(),
            device_ids=merged(paid["device_id"], no_device).tolist(),
            times=merged(paid["occurred_at"], told["known_at"]).astype(np.int64),
            amounts=merged(paid["amount_minor"], np.zeros(labels, np.int64)),
            latitudes=merged(places(paid["latitude_e6"].to_pylist()), absent),
            longitudes=merged(places(paid["longitude_e6"].to_pylist()), absent),
            is_label=merged(np.zeros(rows, np.bool_), np.ones(labels, np.bool_)),
            occurred_at=merged(paid["occurred_at"], told["occurred_at"]).astype(np.int64),
        )


def recompute_history(
    archive: Path | None,
    until_us: int | None,
    arrivals: Path,
    scratch: Path,
    *,
    keep_us: tuple[int, int],
    keys: Mapping[str, pa.Array] | None,
    declaration: Declaration = DECLARATION,
    runner: Runner = EMBEDDED,
) -> "ByKey":
    """History of the arrivals whose occurred_at is in keep_us.

    archive, until_us: what came before the journal, up to that arrival time; arrivals: folder of `write_arrivals`;
    scratch: a folder to be made; keys: by entity the ids that matter, where not all do.
    """
    scratch.mkdir(parents=True)
    read = functools.partial(_read, str(archive) if archive is not None else None, until_us, str(arrivals))
    files = list(arrivals.glob("*.parquet"))
    rows = sum(int(pq.read_metadata(file).num_rows) for file in files)
    rows += open_archive(archive).manifest.rows if archive is not None else 0
    write_history(
        read, list(_parts(archive, until_us)), scratch,
        keep_us=keep_us, declaration=declaration, keys=keys, passes=passes_for(rows), runner=runner,
    )  # fmt: skip
    return ByKey(scratch, declaration)


class ByKey:
    """What the pipeline wrote, read in order of arrival, a block at a time."""

    def __init__(self, folder: Path, declaration: Declaration) -> None:
        self._names = declaration.history_names
        self._blocks = blocks(folder, declaration)
        self._places: Integers = np.zeros(0, np.int64)
        self._history: Integers = np.zeros((0, len(self._names)), np.int64)

    def of(self, arrivals: Integers) -> tuple[Integers, Flags]:
        """History int64 [n, measures] of n arrivals, and bool [n], whether the pipeline has them.

        arrivals: int64 [n], ascending, and none before the last one asked for earlier.
        """
        if len(arrivals):
            self._read_to(int(arrivals[0]), int(arrivals[-1]))
        out, found = np.zeros((len(arrivals), len(self._names)), np.int64), np.zeros(len(arrivals), np.bool_)
        if len(self._places) and len(arrivals):
            at = np.minimum(np.searchsorted(self._places, arrivals), len(self._places) - 1)
            found = self._places[at] == arrivals
            out[found] = self._history[at[found]]
        return out, found

    def _read_to(self, first: int, last: int) -> None:
        keep = self._places >= first
        places, parts = [self._places[keep]], [self._history[keep]]
        newest = int(self._places[-1]) if len(self._places) else -1
        while newest < last and (block := next(self._blocks, None)) is not None:
            numbers = np.asarray(block.column("sequence"), dtype=np.int64)
            newest = int(numbers[-1])
            if newest >= first:
                places.append(numbers)
                parts.append(np.stack([np.asarray(block.column(name)) for name in self._names], axis=1))
        self._places, self._history = np.concatenate(places), np.concatenate(parts)


def _write(path: Path, columns: Sequence[Sequence[object]], schema: pa.Schema) -> None:
    arrays = [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _parts(archive: Path | None, until_us: int | None) -> Iterator[Part]:
    yield Part("transactions", None, None)
    yield Part("labels", None, None)
    if archive is None:
        return
    manifest = open_archive(archive).manifest
    if manifest.first_occurred_at is None or manifest.last_occurred_at is None:
        return
    yield Part("labels", 0, until_us)
    since = manifest.first_occurred_at
    end = min(manifest.last_occurred_at + 1, until_us if until_us is not None else manifest.last_occurred_at + 1)
    while since < end:
        until = min(since + DAYS_A_PART * DAY_US, end)
        yield Part("transactions", since, until)
        since = until


def _read(archive: str | None, until_us: int | None, arrivals: str, part: Part) -> Iterator[pa.RecordBatch]:
    """A part's arrivals; the one without bounds is the journal's."""
    if part.since_us is None or archive is None:
        for file in sorted(Path(arrivals).glob(f"{part.kind}-*.parquet")):
            yield from pq.ParquetFile(file).iter_batches()
        return
    opened = open_archive(archive)
    if part.kind == "transactions":
        yield from opened.transactions(part.since_us, part.until_us, columns=_ARCHIVE_COLUMNS)
        return
    labels = opened.labels(until_us=until_us)
    frauds = labels.filter(pc.equal(labels.column("verdict"), "fraud"))
    ids = frauds.column("transaction_id").to_pylist()
    seen: set[str] = set()
    first = [row for row, each in enumerate(ids) if not (each in seen or seen.add(each))]  # type: ignore[func-returns-value]
    yield from frauds.take(pa.array(first, pa.int64())).to_batches()
