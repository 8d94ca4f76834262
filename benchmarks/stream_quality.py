"""That the stream's scores are as good as the training's, to the last bit: both under the Handbook's protocol A.

    python -m benchmarks.quality --through-kafka --json

The simulated transactions of the Fraud Detection Handbook are imported, a model is trained on 2018-07-25 to 07-31,
labels get seven days, and 2018-08-08 to 08-14 is scored: offline, with history by Beam and the model in this process;
and through Kafka, scorer and model server, from whose journal the same metrics are taken. `stream_equal` is 1 when
every metric and every score agree to the last bit. How good they are beside other models, `benchmarks.quality` tells.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np

from plumbline.decision import Decision
from plumbline.errors import NotFound

TRAIN, TEST, DELAY_DAYS = "2018-07-25..2018-07-31", "2018-08-08..2018-08-14", 7
STREAM_SINCE, STREAM_UNTIL = "2018-08-08", "2018-08-15"
MODEL_NAME: Final = "plumbline"


def run(handbook: Path, seed: int, *, through_kafka: bool) -> dict[str, float]:
    """Import, train and measure in a folder that is thrown away; raises NotFound when the data set is not there."""
    if not sorted(handbook.glob("transactions-*.parquet")):
        raise NotFound(f"{handbook} holds no transactions-*.parquet: give the data set's folder with --handbook")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")  # before TensorFlow is imported
    with tempfile.TemporaryDirectory(prefix="plumbline-quality-") as folder:
        return _run(Path(folder), handbook, seed, through_kafka)


def _run(folder: Path, handbook: Path, seed: int, through_kafka: bool) -> dict[str, float]:
    from plumbline.cli.main import run as command
    from plumbline.cli.quiet import import_tensorflow_quietly

    import_tensorflow_quietly()
    from archive.layout import open_archive
    from training.evaluate import load_version
    from training.fit import Recipe
    from training.train import PUBLISHED, UNBLOCKED, measure_as_published, scores_of, train
    from training.windows import Windows, parse_days

    archive_folder, models = folder / "archive", folder / "models" / MODEL_NAME
    if command(["import", "handbook", str(handbook), "--to", str(archive_folder), "--json"]):
        raise NotFound(f"{handbook} could not be imported")
    archive = open_archive(archive_folder)
    windows = Windows(parse_days(TRAIN), DELAY_DAYS, parse_days(TEST))
    began = time.monotonic()
    trained = train(
        archive, windows, Recipe(seed=seed), base=models, cache=folder / "history", now_us=time.time_ns() // 1000,
        tell=_tell,
    )  # fmt: skip
    result = {"train_seconds": round(time.monotonic() - began, 1), "train_rows": float(trained.rows["train"])}
    names = tuple(f"{name}{UNBLOCKED}" for name in PUBLISHED)
    result |= {f"offline_{name}": trained.metrics[name] for name in names}
    if through_kafka:
        from benchmarks.through_kafka import decisions

        offline = scores_of(archive, windows, load_version(trained.folder), folder / "history")
        data = folder / "data"
        data.mkdir()
        journal = scored_decisions(decisions(data, archive_folder, models, STREAM_SINCE, STREAM_UNTIL), _truth(offline))
        metrics = measure_as_published(archive, windows, journal)
        result |= {f"stream_{name}": metrics[name] for name in names}
        one, other = (rows.take(np.argsort(rows.transaction_ids)) for rows in (offline, journal))
        same_rows = np.array_equal(one.transaction_ids, other.transaction_ids)
        different = int(np.sum(one.scores != other.scores)) if same_rows else len(one.scores)
        result["scores_compared"], result["scores_different"] = float(len(other.scores)), float(different)
        equal = not different and all(result[f"stream_{name}"] == result[f"offline_{name}"] for name in names)
        result["stream_equal"] = float(equal)
    return result


def scored_decisions(journal: Iterable[Decision], frauds: set[str]) -> Any:
    """The journal's decisions as a table of scored transactions; frauds: ids of those that were fraud in truth."""
    from training.metrics import ScoredRows

    rows = [(each.transaction, each.scores[0].value) for each in journal if each.scores]
    ids = [transaction.transaction_id for transaction, _ in rows]
    return ScoredRows(
        transaction_ids=np.array(ids, np.str_),
        occurred_at=np.array([transaction.occurred_at for transaction, _ in rows], np.int64),
        accounts=np.array([transaction.account_id for transaction, _ in rows], np.str_),
        scores=np.array([value for _, value in rows], np.float32),
        frauds=np.array([each in frauds for each in ids], np.bool_),
    )


def _truth(rows: Any) -> set[str]:
    return set(rows.transaction_ids[rows.frauds].tolist())


def _tell(step: str, done: int, whole: int) -> None:
    print(f"{step} {done}/{whole}" if whole else step, file=sys.stderr)
