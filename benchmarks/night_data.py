"""How fast a night's data steps are where the newest days come from the journal: the first night, and the next one.

    python -m benchmarks.night_data --json
    python -m benchmarks.night_data --until 2018-06-15 --journal-days 20 --json      (a smaller range)

The handbook's transactions are an archive; its last `--journal-days` days are decided by the scorer's own fold, with a
model that answers at once, and kept as `plumbline keep` keeps them, a block a day. Then two nights, a day apart, run
the steps archive, labels, history, rows and analysis. `first_STEP_seconds` and `first_STEP_per_second` are of the first
night, per transaction that it sees; `second_STEP_seconds` of the next, for which one day of training and one of the
test are new. `equal` is 1 when the second night's rows and statistics have the bits of one that finds no cache.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from plumbline.errors import NotFound

DEFAULT_HANDBOOK: Final = Path("../shared/data/handbook")
BATCH_ROWS: Final = 512
DELAY_DAYS: Final = 7
STEPS: Final = ("archive", "labels", "history", "rows", "analysis")


def main() -> int:
    """Run it; exit code 1 when a cache changes a bit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.night_data", description=__doc__)
    parser.add_argument("--handbook", type=Path, default=DEFAULT_HANDBOOK, help="folder of transactions-*.parquet")
    parser.add_argument("--until", default="2018-09-30", help="day of the second night's cut-off")
    parser.add_argument("--journal-days", type=int, default=30, help="days that come from the journal")
    parser.add_argument("--train-days", type=int, default=60)
    parser.add_argument("--test-days", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    asked = parser.parse_args()
    if not sorted(asked.handbook.glob("transactions-*.parquet")):
        raise NotFound(f"{asked.handbook} holds no transactions-*.parquet: give the data set's folder with --handbook")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    with tempfile.TemporaryDirectory(prefix="plumbline-night-data-") as folder:
        found = nights(Path(folder), asked)
    print(json.dumps(found, indent=None if asked.json else 2))
    return int(found["equal"] != 1)


def nights(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Import, journal, and run three nights: the first, the next, and the next once more without any cache."""
    from plumbline.cli.main import run as command
    from plumbline.cli.quiet import import_tensorflow_quietly
    from plumbline.transaction import DAY_US
    from training.windows import Days, Windows, parse_days

    import_tensorflow_quietly()
    if command(["import", "handbook", str(asked.handbook), "--to", str(folder / "prehistory"), "--json"]):
        raise NotFound(f"{asked.handbook} could not be imported")
    last = parse_days(asked.until).last
    journaled = journal(folder, (last - asked.journal_days) * DAY_US, last * DAY_US)
    figures: dict[str, Any] = {"journaled": journaled}
    for number, (name, shared) in enumerate((("first", "shared"), ("second", "shared"), ("again", "none"))):
        cut_off = last - 1 + min(number, 1)
        test = Days(cut_off - DELAY_DAYS - asked.test_days, cut_off - DELAY_DAYS - 1)
        train = Days(max(test.first - DELAY_DAYS - asked.train_days, 17_622), test.first - DELAY_DAYS - 1)
        windows = Windows(train, DELAY_DAYS, test)
        figures |= night(folder / name, folder, folder / shared, windows, cut_off * DAY_US, name)
    figures["equal"] = int(_bits(folder / "second") == _bits(folder / "again"))
    return figures


def journal(folder: Path, since_us: int, until_us: int) -> int:
    """Decide the archive's arrivals of a range as a scorer would, and keep the journal; returns the entries."""
    from archive.kept import append, nothing_kept, write_manifest
    from archive.layout import open_archive
    from archive.record import Record
    from plumbline import journal as entries
    from plumbline.decision import Decision
    from plumbline.policy import Policy
    from plumbline.transaction import DAY_US
    from streaming.backfill import fold_archive
    from streaming.batch import process
    from streaming.known import Known
    from streaming.state import State
    from tests.fakes import FakeClient, fake_model

    opened = open_archive(folder / "prehistory")
    state, model = State(Known(4_000_000)), fake_model(FakeClient())
    fold_archive(state, opened, since_us, lambda _rows: None)
    state.policy = Policy(version="benchmark", review_at=0.99, decline_at=1.0)
    kept = nothing_kept("", opened.manifest.digest, since_us)
    (folder / "journal").mkdir()
    write_manifest(folder / "journal", kept)
    place = 0
    for day in range(since_us // DAY_US, until_us // DAY_US):
        records: list[Record] = []
        for now_us, kind, messages in _messages(opened, day * DAY_US, (day + 1) * DAY_US):
            paid, told = (messages, []) if kind == "transactions" else ([], messages)
            for entry in process(state, model, now_us=now_us, label=told, transaction=paid).entries:
                moment = entry.decided_at if isinstance(entry, Decision) else entry.journaled_at
                records.append(Record(place, moment // 1000, entries.encode(entry)))
                place += 1
        kept = append(folder / "journal", kept, kept.stop, place, [records])
    return place


def night(
    folder: Path, whole: Path, shared: Path, windows: Any, cut_off_us: int, name: str
) -> dict[str, Any]:  # fmt: skip
    """A night's data steps; returns seconds and rows a second by step."""
    from features.declaration import DECLARATION
    from retrain.analysis import analysis
    from retrain.history import history
    from retrain.labels import LabelRules, labels
    from retrain.rows import rows
    from retrain.sources import archive

    at = {step: folder / step for step in STEPS}
    for each in at.values():
        each.mkdir(parents=True)
    days, sources = shared / "days", at["archive"]
    rules = LabelRules(maturity_days=DELAY_DAYS)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "archive": lambda: archive(
            sources, archive=whole / "prehistory", journal=whole / "journal", cut_off_us=cut_off_us,
            cache=shared / "blocks",
        ),
        "labels": lambda: labels(at["labels"], sources=sources, windows=windows, rules=rules),
        "history": lambda: history(
            at["history"], sources=sources, days=days, windows=windows, declaration=DECLARATION
        ),
        "rows": lambda: rows(
            at["rows"], sources=sources, truth=at["labels"], history=at["history"], days=days, windows=windows,
            declaration=DECLARATION,
        ),
        "analysis": lambda: analysis(
            at["analysis"], rows=at["rows"], cache=shared / "analyzed", declaration=DECLARATION
        ),
    }  # fmt: skip
    figures: dict[str, Any] = {}
    facts: dict[str, dict[str, Any]] = {}
    for step, run in steps.items():
        began = time.perf_counter()
        facts[step] = run()
        seconds = time.perf_counter() - began
        figures[f"{name}_{step}_seconds"] = round(seconds, 2)
        figures[f"{name}_{step}_per_second"] = round(facts["archive"]["rows"] / seconds)
        print(f"night_data: {name} {step} {seconds:.1f} s {facts[step]}", file=sys.stderr, flush=True)
    figures[f"{name}_transactions"] = facts["archive"]["rows"]
    figures[f"{name}_days_made"] = facts["rows"]["days_made"]
    figures[f"{name}_days_analyzed"] = facts["analysis"]["days_analyzed"]
    figures[f"{name}_days_cached"] = facts["analysis"]["days_cached"]
    return figures


def _messages(opened: Any, since_us: int, until_us: int) -> Iterator[tuple[int, str, list[Any]]]:
    """A range of an archive's arrivals as messages of a topic, some at a time, each with the moment of the last."""
    import msgspec

    from archive.rows import labels_of, transactions_of
    from plumbline.decision import Source
    from streaming.batch import Message

    for part, batch in opened.arrivals(since_us, until_us):
        values: list[Any] = list(transactions_of(batch) if part == "transactions" else labels_of(batch))
        offsets = batch.column("sequence").to_pylist()
        for begin in range(0, len(values), BATCH_ROWS):
            chosen = values[begin : begin + BATCH_ROWS]
            last = chosen[-1]
            messages = [
                Message(Source(part, 0, offset + 2**40, 0), msgspec.json.encode(each))
                for offset, each in zip(offsets[begin:], chosen, strict=False)
            ]
            yield last.occurred_at if part == "transactions" else last.known_at, part, messages


def _bits(night: Path) -> dict[str, bytes]:
    """Rows, and the features that the statistics make of some of them."""
    import tensorflow as tf

    from features.declaration import DECLARATION
    from training.dataset import row_batches
    from training.export import Transform

    transform = Transform(night / "analysis" / "transform", DECLARATION)
    columns, _ = next(row_batches(night / "rows" / "test.parquet", DECLARATION))
    features = transform.features({name: tf.constant(column) for name, column in columns.items()})
    found = {name: each.numpy().tobytes() for name, each in features.items()}
    return found | {name: (night / "rows" / f"{name}.parquet").read_bytes() for name in ("train", "test")}


if __name__ == "__main__":
    sys.exit(main())
