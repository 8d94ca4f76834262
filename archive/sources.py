"""Reads somebody's CSV and Parquet files, batch by batch, with the number of every row.

A CSV's cells stay text, so that no amount passes through a float; broken lines and bytes are problems with a row
number, like any other.
"""

import csv
import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from plumbline.errors import InvalidArchive, shown

BATCH_ROWS: Final = 131_072
CSV_BLOCK_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row cannot be imported; `row` counts a file's rows of data from 1, blank lines and the header apart."""

    file: str
    row: int
    column: str
    value: object
    allowed: str

    def __str__(self) -> str:
        return f"{self.file} row {self.row}, column {self.column}: {shown(self.value)}: expected {self.allowed}"


@dataclass(frozen=True, slots=True)
class Rows:
    """The next rows of a file: its name, their numbers (int64 [n]), the columns, and lines that are no rows."""

    file: str
    numbers: np.ndarray
    batch: pa.RecordBatch
    problems: Sequence[Problem] = ()


def read_rows(files: Sequence[Path], columns: Sequence[str], delimiter: str = ",") -> Iterator[Rows]:
    """The wanted columns of all files, file after file, in their own order.

    Files that end in .parquet are Parquet, all others CSV with a header line.
    Raises InvalidArchive for a file that cannot be read or lacks a column.
    """
    for file in files:
        kind = "Parquet" if file.suffix == ".parquet" else "CSV"
        try:
            if not file.stat().st_size:
                rows = "Parquet with rows" if kind == "Parquet" else "a header line and rows of data"
                raise InvalidArchive(f"file {file.name}", "size", "0 bytes", f"{rows}: export or copy it again")
            yield from _parquet(file, columns) if kind == "Parquet" else _csv(file, columns, delimiter)
        except (pa.ArrowInvalid, OSError) as error:
            if "straddling" in str(error):
                allowed = f"rows of at most {CSV_BLOCK_BYTES >> 20} MiB: most often a quotation mark is not closed"
                raise InvalidArchive(f"file {file.name}", "row", "a longer one", allowed) from error
            raise InvalidArchive("import", "file", str(file), f"readable {kind} ({error})") from error


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[Rows]:
    with pq.ParquetFile(file) as parquet:
        _check_columns(file, parquet.schema_arrow.names, columns)
        for name in columns:
            kind = parquet.schema_arrow.field(name).type
            if not _readable(kind):
                raise InvalidArchive(
                    f"file {file.name}", name, str(kind), "a column of numbers, text, times or booleans"
                )
        first_row = 1
        for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
            numbers = np.arange(first_row, first_row + batch.num_rows)
            first_row += batch.num_rows
            yield _with_text(file, numbers, batch.select(list(columns)), [])


def _readable(kind: pa.DataType) -> bool:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_text = pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain)
    is_bytes = pa.types.is_binary(plain) or pa.types.is_large_binary(plain)
    is_number = pa.types.is_integer(plain) or pa.types.is_floating(plain) or pa.types.is_decimal(plain)
    is_time = pa.types.is_timestamp(plain) or pa.types.is_date(plain)
    return bool(is_text or is_bytes or is_number or is_time or pa.types.is_boolean(plain))


def _with_text(file: Path, numbers: np.ndarray, batch: pa.RecordBatch, problems: list[Problem]) -> Rows:
    """The rows with all columns of bytes read as UTF-8; a cell that is none is a problem, and reads as empty."""
    texts = []
    for name in batch.schema.names:
        column = batch.column(name)
        wrong: list[tuple[int, bytes]] = []
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            column, wrong = _decoded(column)
        problems += [Problem(file.name, int(numbers[row]), name, raw, "text in UTF-8") for row, raw in wrong]
        texts.append(column)
    return Rows(file.name, numbers, pa.RecordBatch.from_arrays(texts, list(batch.schema.names)), problems)


def _csv(file: Path, columns: Sequence[str], delimiter: str) -> Iterator[Rows]:
    _check_columns(file, _header(file, delimiter), columns)
    broken: dict[int, Problem] = {}

    def set_aside(line: pa_csv.InvalidRow) -> str:
        number = line.number - 1  # the header is not counted
        allowed = f"{line.expected_columns} columns, got {line.actual_columns}"
        broken[number] = Problem(file.name, number, "(whole line)", line.text, allowed)
        return "skip"

    with pa_csv.open_csv(
        file,
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),  # threads lose lines' numbers
        parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
        convert_options=pa_csv.ConvertOptions(
            check_utf8=False,
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.binary()),
            strings_can_be_null=False,
        ),
    ) as reader:
        told, next_row = 0, 1
        for batch in reader:
            numbers = _numbers(next_row, batch.num_rows, broken)
            next_row = int(numbers[-1]) + 1 if len(numbers) else next_row
            problems = list(broken.values())[told:]
            told = len(broken)
            yield _with_text(file, numbers, batch.select(list(columns)), problems)
        if told < len(broken):
            nothing = pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in columns], list(columns))
            yield Rows(file.name, np.zeros(0, np.int64), nothing, list(broken.values())[told:])


def _numbers(next_row: int, count: int, broken: Collection[int]) -> np.ndarray:
    """The numbers of the next `count` rows, int64, when those of broken lines are left out."""
    numbers = np.arange(next_row, next_row + count)
    if not broken:
        return numbers
    free = (number for number in itertools.count(next_row) if number not in broken)
    return np.fromiter(itertools.islice(free, count), np.int64, count)


def _header(file: Path, delimiter: str) -> list[str]:
    with file.open("rb") as stream:
        line = stream.readline()
    try:
        return next(csv.reader([line.decode("utf-8-sig")], delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidArchive(f"file {file.name}", "header", line, f"CSV in UTF-8 ({error})") from error


def _check_columns(file: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for name in columns:
        if list(names).count(name) != 1:
            allowed = "one of its columns" if name not in names else "a name that only one column has, among"
            raise InvalidArchive(f"file {file.name}", "column", name, f"{allowed}: {', '.join(names) or '(none)'}")


def _decoded(raw: pa.Array) -> tuple[pa.Array, list[tuple[int, bytes]]]:
    """Text of bytes, and (row, bytes) of each cell that is none; such a cell reads as empty."""
    try:
        return pc.cast(raw, pa.string()), []
    except pa.ArrowInvalid:
        cells = raw.to_pylist()
        texts = [_utf8(cell) for cell in cells]
        wrong = [(row, cell) for row, (cell, text) in enumerate(zip(cells, texts, strict=True)) if text is None]
        return pa.array([text or "" for text in texts], pa.string()), wrong


def _utf8(cell: bytes | None) -> str | None:
    try:
        return (cell or b"").decode()
    except UnicodeDecodeError:
        return None
