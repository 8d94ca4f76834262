"""Imports: somebody's files become an archive, whole or not at all, or a list of the rows that stand in the way."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from archive.columns import (
    Converted,
    as_text,
    converted_place,
    converted_text,
    converted_time,
    words_in,
)
from archive.damage import ID_FIELDS
from archive.layout import Archive, write_archive
from archive.manifest import LABEL_SCHEMA, TRANSACTION_SCHEMA
from archive.mapping import AmountField, LabelMapping, Mapping, PlaceField, TextField, TimeField
from archive.money import converted_amount
from archive.rules import broken_rows, why_broken
from archive.sources import Problem, Rows, read_rows
from plumbline.errors import InvalidArchive
from plumbline.transaction import DAY_US

PROBLEMS_SHOWN: Final = 20


class RowsRefused(InvalidArchive):
    """Rows that cannot be imported, the first 20 of them; nothing was written."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        first = problems[0]
        super().__init__(f"{first.file} row {first.row}", first.column, first.value, first.allowed)

    def __str__(self) -> str:
        count = len(self.problems)
        found = f"the first {count} rows" if count >= PROBLEMS_SHOWN else f"{count} row{'s' * (count > 1)}"
        return f"nothing was imported, since {found} cannot be:\n" + "\n".join(f"  {each}" for each in self.problems)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A batch as transactions (TRANSACTION_SCHEMA), the labels of its frauds (LABEL_SCHEMA), and its problems."""

    transactions: pa.RecordBatch
    labels: pa.Table
    problems: list[Problem]


def import_files(
    files: Sequence[Path],
    mapping: Mapping,
    target: Path,
    *,
    now_us: int,
    since_us: int | None = None,
    until_us: int | None = None,
    replace: bool = False,
) -> Archive:
    """Write an archive of all rows of the files.

    now_us: our clock, to refuse times in the future; since_us, until_us: half-open range of `occurred_at` to keep.
    Memory: about 40 bytes a row for the ids' uniqueness, and the whole table when the mapping is not `in_order`.
    Raises RowsRefused when any row is wrong or an id comes twice, InvalidArchive for unreadable files or columns, or
    where no transaction is left, Refused when the target exists. An archive that is replaced stays until the new one is
    there and verified.
    """
    labels: list[pa.Table] = [LABEL_SCHEMA.empty_table()]

    def kept() -> Iterator[pa.RecordBatch]:
        read = taken = 0
        for batch, fraud in _accepted(files, mapping, now_us):
            times = batch.column("occurred_at").to_numpy()
            inside = np.ones(len(times), bool)
            if since_us is not None:
                inside &= times >= since_us
            if until_us is not None:
                inside &= times < until_us
            whole = bool(inside.all())
            part = batch if whole else batch.filter(pa.array(inside))
            labels.append(
                fraud if whole else fraud.filter(pc.is_in(fraud["transaction_id"], part.column("transaction_id")))
            )
            read, taken = read + batch.num_rows, taken + part.num_rows
            yield part
        if not taken:
            names = ", ".join(file.name for file in files)
            allowed = "one or more rows of data" if not read else f"one or more of the {read} rows in the range of time"
            raise InvalidArchive(f"import of {names}", "transactions", 0, f"{allowed}; nothing was written")

    transactions = kept() if mapping.in_order else _sorted(kept())
    return write_archive(target, transactions, lambda: pa.concat_tables(labels), mapping.source, replace=replace)


def preview(files: Sequence[Path], mapping: Mapping, rows: int, now_us: int) -> Mapped:
    """The first rows as transactions and labels, and what is wrong with them; writes nothing."""
    read = next(read_rows(files, mapping.columns(), mapping.delimiter), None)
    if read is None:
        return Mapped(_transactions([], {}), LABEL_SCHEMA.empty_table(), [])
    few = Rows(
        read.file,
        read.numbers[:rows],
        read.batch.slice(0, rows),
        [problem for problem in read.problems if problem.row <= rows],
    )
    return mapped(few, mapping, now_us)


def mapped(rows: Rows, mapping: Mapping, now_us: int) -> Mapped:
    """One batch under a mapping; rows with problems are left out of its transactions and labels."""
    problems = list(rows.problems)
    refused = np.isin(rows.numbers, [problem.row for problem in problems])
    columns: dict[str, pa.Array] = {}
    for name in sorted(TRANSACTION_SCHEMA.names, key=lambda name: name == "amount_minor"):  # last: it needs currencies
        field = getattr(mapping.transaction, name)
        converted = _converted(rows, name, field, columns, now_us)
        problems += _problems(rows, name, field, converted, ~refused)
        refused |= converted.bad
        columns[name] = converted.values
    batch = _transactions(rows.numbers, columns)
    fraud, known_at, notes = np.zeros(len(rows.numbers), bool), batch.column("occurred_at").to_numpy(), None
    if mapping.label is not None:
        fraud, known_at, notes, wrong = _labelled(rows, mapping.label, known_at, ~refused, now_us)
        problems += wrong
        refused |= np.isin(rows.numbers, [problem.row for problem in wrong])
    for row in broken_rows(batch, now_us).tolist():
        if not refused[row]:
            problems.append(_broken(rows, mapping, batch, row, now_us))
            refused[row] = True
    problems.sort(key=lambda problem: problem.row)
    return Mapped(batch.filter(pa.array(~refused)), _labels(batch, fraud & ~refused, known_at, notes), problems)


def _accepted(files: Sequence[Path], mapping: Mapping, now_us: int) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    problems: list[Problem] = []
    ids: list[pa.Array] = []
    places: list[tuple[str, np.ndarray]] = []
    for rows in read_rows(files, mapping.columns(), mapping.delimiter):
        part = mapped(rows, mapping, now_us)
        problems += part.problems
        if len(problems) >= PROBLEMS_SHOWN:
            break
        ids.append(part.transactions.column("transaction_id"))
        places.append((rows.file, rows.numbers))
        if not problems:
            yield part.transactions, part.labels
    if problems:
        raise RowsRefused(problems[:PROBLEMS_SHOWN])
    problems = _repeated(pa.chunked_array(ids, pa.string()), places)
    if problems:
        raise RowsRefused(problems[:PROBLEMS_SHOWN])


def _repeated(ids: pa.ChunkedArray, places: Sequence[tuple[str, np.ndarray]]) -> list[Problem]:
    if pc.count_distinct(ids).as_py() == len(ids):
        return []
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy()
    first = np.unique(codes, return_index=True)[1]
    again = np.setdiff1d(np.arange(len(codes)), first)[:PROBLEMS_SHOWN]
    starts = np.cumsum([0, *(len(numbers) for _, numbers in places)])
    problems = []
    for index in again.tolist():
        part = int(np.searchsorted(starts, index, side="right")) - 1
        file, numbers = places[part]
        allowed = "an id that no other row has"
        row = int(numbers[index - starts[part]])
        problems.append(Problem(file, row, "transaction_id", ids[index].as_py(), allowed))
    return problems


def _sorted(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    table = pa.Table.from_batches(batches, TRANSACTION_SCHEMA)
    order = np.argsort(table["occurred_at"].to_numpy(), kind="stable")
    yield table.take(pa.array(order))


def _converted(
    rows: Rows,
    name: str,
    field: TextField | TimeField | AmountField | PlaceField | None,
    columns: dict[str, pa.Array],
    now_us: int,
) -> Converted:
    """One field of every row; columns: the fields that were converted before it."""
    count = len(rows.numbers)
    if field is None:
        return Converted(pa.nulls(count, pa.int32()), np.zeros(count, bool))
    raw = None if field.column is None else rows.batch.column(field.column)
    if isinstance(field, TextField):
        return converted_text(raw, field, rows.numbers, is_id=name in ID_FIELDS)
    if isinstance(field, TimeField):
        return converted_time(raw, field, now_us)
    if isinstance(field, AmountField):
        return converted_amount(raw, field, columns["currency"])
    return converted_place(raw, field)


def _problems(rows: Rows, name: str, field: object, converted: Converted, asked: np.ndarray) -> Iterator[Problem]:
    column = getattr(field, "column", None) or name
    for row in itertools.islice(np.flatnonzero(converted.bad & asked).tolist(), PROBLEMS_SHOWN):
        expected = f"{converted.expected(row)} (for {name})"
        yield Problem(rows.file, int(rows.numbers[row]), column, _cell(rows, column, row), expected)


def _cell(rows: Rows, column: str, row: int) -> object:
    """A cell as the mapping's words are compared with it."""
    values = rows.batch.column(column)
    return as_text(values)[row].as_py() if pa.types.is_boolean(values.type) else values[row].as_py()


def _broken(rows: Rows, mapping: Mapping, batch: pa.RecordBatch, row: int, now_us: int) -> Problem:
    number = int(rows.numbers[row])
    error = why_broken(batch, row, now_us)
    if error is None:
        return Problem(rows.file, number, "(whole row)", batch.slice(row, 1).to_pylist()[0], "a Transaction")
    column = getattr(getattr(mapping.transaction, error.field, None), "column", None)
    value = error.value if column is None else _cell(rows, column, row)
    return Problem(rows.file, number, column or error.field, value, f"{error.allowed} (for {error.field})")


def _labelled(
    rows: Rows, mapping: LabelMapping, occurred_at: np.ndarray, asked: np.ndarray, now_us: int
) -> tuple[np.ndarray, np.ndarray, pa.Array, list[Problem]]:
    """Fraud (bool [n]), known_at (int64 [n]), notes, and the problems with them."""
    raw = rows.batch.column(mapping.column)
    text = as_text(raw)
    fraud, genuine = (_among(text, words_in(raw, words)) for words in (mapping.fraud, mapping.genuine))
    allowed = "one of " + ", ".join(words_in(raw, [*mapping.fraud, *mapping.genuine]))
    if pa.types.is_boolean(raw.type):
        allowed += ": a column of booleans holds true and false; list both in the mapping's `fraud` and `genuine`"
    wrong = Converted(text, ~(fraud | genuine), allowed)
    problems = list(_problems(rows, "label", mapping, wrong, asked))
    notes = converted_text(
        None if mapping.note.column is None else rows.batch.column(mapping.note.column), mapping.note, rows.numbers
    )
    problems += _problems(rows, "note", mapping.note, notes, asked & fraud)
    known_at = occurred_at + round(mapping.delay_days * DAY_US)
    if mapping.known_at is not None:
        given = ~_among(as_text(rows.batch.column(mapping.known_at.column)), [""])
        time = converted_time(rows.batch.column(mapping.known_at.column), mapping.known_at, now_us)
        known_at = np.where(given, time.values.to_numpy(), known_at)
        early = Converted(
            time.values, given & ~time.bad & (known_at < occurred_at), "a time not before the transaction"
        )
        problems += _problems(
            rows, "known_at", mapping.known_at, dataclasses.replace(time, bad=time.bad & given), asked & fraud
        )
        problems += _problems(rows, "known_at", mapping.known_at, early, asked & fraud)
    return fraud, known_at, notes.values, problems


def _among(text: pa.Array, values: Sequence[str]) -> np.ndarray:
    return np.asarray(pc.is_in(text, pa.array(values, pa.string())).to_numpy(zero_copy_only=False), bool)


def _transactions(numbers: Sequence[int] | np.ndarray, columns: dict[str, pa.Array]) -> pa.RecordBatch:
    if not columns:
        return pa.RecordBatch.from_pylist([], TRANSACTION_SCHEMA)
    arrays = [columns[name].cast(TRANSACTION_SCHEMA.field(name).type) for name in TRANSACTION_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=TRANSACTION_SCHEMA)


def _labels(batch: pa.RecordBatch, fraud: np.ndarray, known_at: np.ndarray, notes: pa.Array | None) -> pa.Table:
    chosen = pa.array(fraud)
    of = batch.filter(chosen)
    count = of.num_rows
    return pa.table(
        {
            "label_id": of.column("transaction_id"),  # one label a transaction: its id serves
            "transaction_id": of.column("transaction_id"),
            "account_id": of.column("account_id"),
            "merchant_id": of.column("merchant_id"),
            "verdict": pa.repeat("fraud", count),
            "source": pa.repeat("archive", count),
            "known_at": known_at[fraud],
            "note": pa.repeat("", count) if notes is None else notes.filter(chosen),
        },
        schema=LABEL_SCHEMA,
    )
