"""Three nights in a row, killed on the way: a first model, a better one that is promoted, poisoned labels refused.

Real commands in real processes over a small archive, whose days are the clock; what a night came to is held against the
same night without a kill, to the bit.
"""

import datetime
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, open_archive, write_archive
from features.grammar import Declaration, Feature, Measure, Table, encode
from plumbline.settings import Settings
from release.state import registry_of
from retrain.manifest import file_outputs, read_run, read_step
from store.engine import open_engine, transaction
from store.retrains import newest
from store.schema import migrate
from tests.release.conftest import add_people
from tests.training.small import DAY, FIRST, small_archive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SMALL = Declaration(
    tables=(
        Table("account", "account", "transactions", bound=64),
        Table("merchant_fraud", "merchant", "fraud_labels", bound=64),
    ),
    history=(
        Measure("account", "count", "7d"),
        Measure("account", "sum", "7d"),
        Measure("merchant_fraud", "count", "7d"),
    ),
    features=(
        Feature("amount_log", "log", ("amount_minor",), "the amount", "金额"),
        Feature("account_count_7d_log", "log", ("account_count_7d",), "payments", "交易数"),
        Feature(
            "amount_to_mean", "log_ratio_to_mean", ("amount_minor", "account_sum_7d", "account_count_7d"), "ratio", "比"
        ),
        Feature("merchant_fraud_count_7d_log", "log", ("merchant_fraud_count_7d",), "frauds", "欺诈数"),
        Feature("channel", "vocabulary", ("channel",), "the channel", "渠道", vocabulary_max=8),
    ),
)  # fmt: skip
LIMITS = {
    "frauds_least": 20, "rows_least": 300, "ap_drop_most": 0.3, "cp100_drop_most": 0.3, "recall_drop_most": 0.3,
    "cost_rise_most": 0.9, "ece_rise_most": 0.1, "expected_ratio_most": 3.0, "slice_drop_most": 0.5,
    "labels_changed_most": 0.03, "latency_ms_most": 60_000, "latency_ratio_most": 1000, "caught_lift_least": 0.01,
    "lift_least": 1.0, "cost_share_most": 3.0, "slice_lift_least": 1.0, "load_ratio_most": 3.0,
}  # fmt: skip
DAYS = ("--days", "3", "--delay-days", "3", "--test-days", "7", "--other-seeds", "0", "--batch-rows", "32")
"""Few days, since TFT's graph grows with them; labels come two days later, within the delay."""


NOT_COMPARED = {"days.json"}
"""It names the folder of the days."""


def cut_off(day: int) -> str:
    """The date of a day of the small archive."""
    return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=FIRST // DAY + day))


def poisoned(source: Path, to: Path, day: int) -> None:
    """The same archive, in whose last week somebody has called four hundred genuine payments fraud."""
    opened = open_archive(source)
    payments = pa.Table.from_batches(opened.transactions(None, None, TRANSACTION_SCHEMA.names))
    labels = opened.labels(None, None, LABEL_SCHEMA.names)
    since = FIRST + (day - 12) * DAY
    frauds = set(labels["transaction_id"].to_pylist())
    genuine = [
        at
        for at, (name, time_us) in enumerate(
            zip(payments["transaction_id"].to_pylist(), payments["occurred_at"].to_pylist(), strict=True)
        )
        if since <= time_us < FIRST + (day - 1) * DAY and name not in frauds
    ]
    chosen = payments.take(pa.array(np.random.default_rng(3).choice(genuine, 400, replace=False)))
    more = pa.table(
        {
            "label_id": [f"poison-{n}" for n in range(chosen.num_rows)],
            "transaction_id": chosen["transaction_id"],
            "account_id": chosen["account_id"],
            "merchant_id": chosen["merchant_id"],
            "verdict": ["fraud"] * chosen.num_rows,
            "source": ["analyst"] * chosen.num_rows,
            "known_at": pa.array(np.asarray(chosen["occurred_at"]) + DAY // 2),
            "note": [""] * chosen.num_rows,
        },
        schema=LABEL_SCHEMA,
    )
    labels = pa.concat_tables([labels, more]).sort_by("known_at")
    write_archive(to, [payments], labels, "poisoned")


class Bank:
    """One installation, and a process that runs commands on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        (folder / "declaration.json").write_bytes(encode(SMALL))
        (folder / "limits.json").write_text(json.dumps(LIMITS))
        small_archive(folder / "archive")
        self.environ = {"PLUMBLINE_GATE_LIMITS_FILE": str(folder / "limits.json")}
        self.engine = open_engine(Settings(data_dir=str(self.data)))
        migrate(self.engine)
        add_people(self.engine)
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.retrain.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._answer()
        self.ran = 0

    def _answer(self) -> dict:
        assert self._zygote.stdout is not None
        return json.loads(self._zygote.stdout.readline())

    def begin(self, *words: str, data: Path | None = None) -> int:
        """Begin a command; its process."""
        self.ran += 1
        where = data or self.data
        environ = {
            **self.environ,
            "PLUMBLINE_DATA_DIR": str(where),
            "PLUMBLINE_NOTIFY_FILE": str(where / "notices.jsonl"),
        }
        out, err = (str(self.folder / f"{self.ran}.{name}") for name in ("out", "err"))
        assert self._zygote.stdin is not None
        print(
            json.dumps({"words": words, "environ": environ, "out": out, "err": err}),
            file=self._zygote.stdin,
            flush=True,
        )
        return self._answer()["pid"]

    def end(self) -> tuple[int, str, str]:
        """Wait for the command; exit code, output, errors."""
        code = self._answer()["exit"]
        return code, *((self.folder / f"{self.ran}.{name}").read_text() for name in ("out", "err"))

    def run(self, *words: str, data: Path | None = None) -> tuple[int, str, str]:
        """Run a command to its end."""
        self.begin(*words, data=data)
        return self.end()

    def night(self, day: int, *more: str, archive: str = "archive") -> list[str]:
        """The words of a night."""
        words = ["retrain", "--archive", str(self.folder / archive), "--cut-off", cut_off(day), *DAYS]
        return [*words, "--declaration", str(self.folder / "declaration.json"), "--json", *more]

    def done(self, *words: str, data: Path | None = None, code: int = 0) -> dict:
        """A night's facts, of one that ends with an exit code."""
        found, out, err = self.run(*words, data=data)
        assert found == code, err
        return json.loads(out)

    def until(self, reached) -> None:
        """Wait until the newest run has come so far."""
        end = time.monotonic() + 280
        while not reached():
            assert time.monotonic() < end, "the night does not come so far"
            time.sleep(0.005)

    def killed(self, step: str, after: float, number: int, *words: str) -> int:
        """Begin a night and send it a signal so long after it came to a step; its exit code."""
        before = set((self.data / "retrain" / "runs").glob(f"*/.{step}.unfinished")) | set(
            (self.data / "retrain" / "runs").glob(f"*/{step}")
        )
        pid = self.begin(*words)

        def reached() -> bool:
            runs = self.data / "retrain" / "runs"
            return bool(({*runs.glob(f"*/.{step}.unfinished")} | {*runs.glob(f"*/{step}")}) - before)

        self.until(reached)
        time.sleep(after)
        os.kill(pid, number)
        return self.end()[0]

    def stages(self) -> dict[int, str]:
        """Stage of every version."""
        with transaction(self.engine) as session:
            return {number: each.stage for number, each in registry_of(session).placed.items()}

    def released(self, version: int, to: str, *more: str) -> None:
        """Ada asks, Bob allows."""
        for words in (("--by", "ada@bank.example"), ("--by", "bob@bank.example", "--approve", "--few")):
            code, _, err = self.run("models", "promote", str(version), "--to", to, *more, *words)
            assert code == 0, err

    def notices(self) -> list[str]:
        """Verdicts that somebody was told of."""
        return [json.loads(line)["verdict"] for line in (self.data / "notices.jsonl").read_text().splitlines()]

    def close(self) -> None:
        """End the process."""
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait()
        self.engine.dispose()


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    found = Bank(tmp_path_factory.mktemp("nights"))
    yield found
    found.close()


def same(one: Path, other: Path) -> None:
    """Two runs came to the same: rows, statistics' effect, weights and scores to the bit, and the verdict."""
    for name in ("labels", "rows", "evaluate"):
        ours, theirs = (
            {file: sha for file, sha in file_outputs(run / name).items() if Path(file).name not in NOT_COMPARED}
            for run in (one, other)
        )
        assert ours == theirs, name
    weights = [read_step(run / "fit").facts["weights_sha256"] for run in (one, other)]
    assert weights[0] == weights[1]
    judged = [read_step(run / "gate").facts["passed"] for run in (one, other)]
    assert judged[0] == judged[1]
    checks = {each["name"]: each for each in json.loads((one / "gate" / "gate.json").read_text())["checks"]}
    assert "0 values differ in" in checks["parity"]["words"], "a server of its own was asked"


def test_three_nights(bank):
    chance = random.Random(11)
    first = bank.night(26, "--epochs", "1", "--no-shadow")
    # The first night: killed in two steps at random moments, and called again until it is done.
    for step in ("history", "evaluate"):
        assert bank.killed(step, chance.random() * 0.5, signal.SIGKILL, *first) == -signal.SIGKILL
    found = bank.done(*first)
    assert (found["verdict"], found["version"], found["champion"], found["attempts"]) == ("registered", 1, None, 3)
    again = bank.done(*first)
    assert (again["again"], again["run"], bank.stages()) == (True, found["run"], {1: "candidate"})
    bank.released(1, "champion")

    # The second: a better model, with more days behind it; pre-empted in the fit, killed, held against itself unharmed.
    twin = bank.folder / "twin"
    bank.engine.dispose()  # to copy a database of SQLite that is open here would let go of its locks
    shutil.copytree(bank.data, twin)
    second = bank.night(36, "--epochs", "6")
    assert bank.killed("fit", 2.0, signal.SIGTERM, *second) == 75
    run = bank.data / "retrain" / "runs" / max(each.name for each in (bank.data / "retrain" / "runs").iterdir())
    assert read_run(run).verdict in {"stopped", "running"}, "the latter where the grace was over first"
    assert bank.killed("gate", 0.0, signal.SIGKILL, *second) == -signal.SIGKILL
    found = bank.done(*second)
    assert (found["verdict"], found["version"], found["champion"]) == ("shadowed", 2, 1)
    assert bank.stages() == {1: "champion", 2: "shadow"}
    unharmed = bank.done(*bank.night(36, "--epochs", "6", "--no-shadow"), data=twin)
    assert (unharmed["run"], unharmed["attempts"]) == (found["run"], 1)
    same(run, twin / "retrain" / "runs" / run.name)
    bank.released(2, "canary", "--share", "10%", "--accept-declines")
    bank.released(2, "champion", "--accept-declines")
    assert bank.stages() == {1: "retired", 2: "champion"}

    # The third: somebody poisoned the labels; the gate refuses, and nothing changes, however often it is asked.
    poisoned(bank.folder / "archive", bank.folder / "poisoned", 44)
    third = bank.night(44, "--epochs", "1", archive="poisoned")
    assert bank.killed("rows", chance.random() * 0.2, signal.SIGKILL, *third) == -signal.SIGKILL
    found = bank.done(*third, code=1)
    assert (found["verdict"], found["version"], found["champion"]) == ("refused", None, 2)
    assert any(word in found["reasons"] for word in ("truths that changed", "share of frauds"))
    assert bank.done(*third, code=1)["again"]
    assert bank.stages() == {1: "retired", 2: "champion"}
    assert sorted(each.name for each in (bank.data / "models" / "plumbline").iterdir()) == ["1", "2"]

    assert bank.notices() == ["registered", "shadowed", "refused"], "each once: a stop is no news by default"
    with transaction(bank.engine) as session:
        rows = newest(session)
        assert [(each.verdict, each.version, each.champion) for each in rows] == [
            ("refused", None, 2), ("shadowed", 2, 1), ("registered", 1, None),
        ]  # fmt: skip
        assert rows[0].error == found["reasons"]
        assert all(each["state"] == "done" for each in rows[1].steps)
