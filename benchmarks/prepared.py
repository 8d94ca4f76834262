"""Rows of a fold as every model takes them: through Plumbline's own path, once, and kept in the benchmark's folder.

import → history by Beam → rows (Parquet) → analysis (TFT) → the exported graph's `transform` → numbers and categories
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from archive.layout import Archive, open_archive
from benchmarks.protocols import Fold, not_known
from features.analysis import write_analysis
from features.declaration import DECLARATION
from plumbline.errors import NotFound
from training.dataset import Examples, examples, frauds_known, write_rows
from training.export import Transform
from training.metrics import Array
from training.past import ensure_history

Tell = Callable[[str], None]
SPAN: dict[str, tuple[str, str]] = {
    "handbook": ("2018-06-02", "2018-09-04"), "sparkov": ("2019-01-01", "2020-12-31"),
}  # fmt: skip
"""Days of which history is kept, one time for all protocols of a data set."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A fold's rows: those that train, those that are tested, and whose and when the tested ones are.

    transaction_ids, accounts: str [n]; occurred_at: int64 [n], microseconds UTC.
    """

    train: Examples
    test: Examples
    vocabulary_sizes: list[int]
    transaction_ids: Array
    accounts: Array
    occurred_at: Array


def imported(data_set: str, source: Path, work: Path) -> Archive:
    """The archive of a data set, imported unless it is there. Raises NotFound when its files are not."""
    from plumbline.cli.main import run as command

    folder = work / f"archive-{data_set}"
    if not folder.exists():
        if not sorted(source.glob("transactions-*.parquet")):
            raise NotFound(f"{source} holds no transactions-*.parquet: give the data set's folder")
        if command(["import", data_set, str(source), "--to", str(folder), "--json"]):
            raise NotFound(f"{source} could not be imported")
    return open_archive(folder)


def prepare(archive: Archive, data_set: str, fold: Fold, work: Path, tell: Tell) -> Prepared:
    """The rows of a fold, from the folder where they were kept, or computed."""
    file = work / f"fold-{fold.name}-{DECLARATION.fingerprint}.npz"
    if not file.exists():
        tell(f"{fold.name}: history")
        history = ensure_history(archive, work / "history", _span_us(data_set), DECLARATION)
        scratch = Path(tempfile.mkdtemp(prefix="fold-", dir=work))
        try:
            _write(archive, history, fold, scratch, tell)
            (scratch / "rows.npz").rename(file)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    found = np.load(file)
    train, test = (
        Examples(*(found[f"{part}_{name}"] for name in ("numbers", "categories", "frauds")))
        for part in ("train", "test")
    )
    sizes = [int(each) for each in found["vocabulary_sizes"]]
    return Prepared(train, test, sizes, found["transaction_ids"], found["accounts"], found["occurred_at"])


def thinned(rows: pa.Table, share: float, seed: int = 0) -> pa.Table:
    """All frauds of a table and a share of its genuine rows, in order."""
    if share >= 1:
        return rows
    drawn = np.random.default_rng(seed).random(rows.num_rows) < share
    return rows.filter(pc.or_(rows["fraud"], pa.array(drawn)))


def _write(archive: Archive, history: Path, fold: Fold, scratch: Path, tell: Tell) -> None:
    train_file, test_file = scratch / "train.parquet", scratch / "test.parquet"
    tell(f"{fold.name}: rows")
    write_rows(archive, history, fold.windows.train, fold.windows.cut_off_us, train_file)
    pq.write_table(thinned(pq.read_table(train_file), fold.genuine_share), train_file, row_group_size=65_536)
    write_rows(archive, history, fold.windows.test, None, test_file)
    tell(f"{fold.name}: analysis")
    write_analysis([train_file], scratch / "analysis")
    transform = Transform(scratch / "analysis")
    tell(f"{fold.name}: transform")
    test_rows = pq.read_table(test_file, columns=["transaction_id", "account_id", "occurred_at"])
    accounts = np.array(test_rows["account_id"].to_pylist(), np.str_)
    times = np.asarray(test_rows["occurred_at"], np.int64)
    keep = not_known(fold, accounts, times, *_frauds(archive, fold))
    found: dict[str, Any] = {"vocabulary_sizes": transform.vocabulary_sizes}
    for part, rows in (
        ("train", examples(train_file, transform.features)),
        ("test", examples(test_file, transform.features)),
    ):
        chosen = keep if part == "test" else slice(None)
        for name in ("numbers", "categories", "frauds"):
            found[f"{part}_{name}"] = getattr(rows, name)[chosen]
    ids = np.array(test_rows["transaction_id"].to_pylist(), np.str_)
    np.savez(scratch / "rows.npz", transaction_ids=ids[keep], accounts=accounts[keep], occurred_at=times[keep], **found)


def _frauds(archive: Archive, fold: Fold) -> tuple[Array, Array]:
    """Account and time of every fraud up to the end of the test."""
    known = pa.array(sorted(frauds_known(archive, None)), pa.string())
    columns = ("transaction_id", "account_id", "occurred_at")
    since = fold.windows.train.since_us
    batches = archive.transactions(min(since, fold.windows.test.since_us), fold.windows.test.until_us, columns)
    tables = [pa.Table.from_batches([each]).filter(pc.is_in(each.column("transaction_id"), known)) for each in batches]
    rows = pa.concat_tables(tables)
    return np.array(rows["account_id"].to_pylist(), np.str_), np.asarray(rows["occurred_at"], np.int64)


def _span_us(data_set: str) -> tuple[int, int]:
    from training.windows import parse_days

    first, last = SPAN[data_set]
    days = parse_days(f"{first}..{last}")
    return days.since_us, days.until_us
