"""The history of an archive's rows, computed once by Beam and kept: a second training with the same archive, the same
declaration and the same days finds it on disk."""

import functools
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from archive.layout import Archive, open_archive
from features.declaration import DECLARATION
from features.grammar import Declaration
from features.pipeline import Part, write_history
from features.runner import EMBEDDED, Runner
from plumbline.transaction import DAY_US

_TRANSACTION_COLUMNS = (
    "sequence", "account_id", "merchant_id", "device_id", "occurred_at", "amount_minor", "latitude_e6", "longitude_e6",
)  # fmt: skip
_LABEL_COLUMNS = ("sequence", "transaction_id", "account_id", "merchant_id", "known_at", "occurred_at", "verdict")
DAYS_A_PART = 7


def history_folder(
    archive: Archive, cache: Path, keep_us: tuple[int, int], declaration: Declaration = DECLARATION
) -> Path:
    """Where the history of a range of transactions is kept; the name stands for everything that decides the numbers."""
    made_of = f"pieces {archive.manifest.digest} {declaration.fingerprint} {keep_us[0]} {keep_us[1]}"
    return cache / f"history-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"


def ensure_history(
    archive: Archive,
    cache: Path,
    keep_us: tuple[int, int],
    declaration: Declaration = DECLARATION,
    runner: Runner = EMBEDDED,
) -> Path:
    """The folder with the history of a half-open range of `occurred_at`, computed unless it is there.

    All arrivals before the end of the range are read. The folder gets its name when it is complete; every runner gives
    the same numbers, so its name says nothing of the runner.
    """
    folder = history_folder(archive, cache, keep_us, declaration)
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
    try:
        read = functools.partial(read_part, str(archive.path))
        write_history(
            read, _parts(archive, keep_us[1]), scratch, keep_us=keep_us, declaration=declaration, runner=runner
        )
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def read_part(path: str, part: Part) -> Iterator[pa.RecordBatch]:
    """The arrivals of one part, as the pipeline wants them; of labels the first that says fraud of a transaction.

    All labels must come in one part, or the second of a transaction would count again.
    """
    archive = open_archive(path)
    if part.kind == "transactions":
        yield from archive.transactions(part.since_us, part.until_us, _TRANSACTION_COLUMNS)
    else:
        labels = archive.labels(part.since_us, part.until_us, _LABEL_COLUMNS)
        frauds = labels.filter(pc.equal(labels["verdict"], "fraud"))
        first: dict[str, int] = {}
        for row, transaction_id in enumerate(frauds["transaction_id"].to_pylist()):
            first.setdefault(transaction_id, row)
        yield from frauds.take(pa.array(first.values(), pa.int64())).combine_chunks().to_batches()


def _parts(archive: Archive, until_us: int) -> Iterator[Part]:
    yield Part("labels", None, until_us)
    since = archive.manifest.first_occurred_at
    while since is not None and since < until_us:
        until = min(since // DAY_US * DAY_US + DAYS_A_PART * DAY_US, until_us)
        yield Part("transactions", since, until)
        since = until
