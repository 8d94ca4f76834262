"""The demo as a user runs it: whole runs on a tiny bank with a small model, its log-ins, and what it says at an end."""

import contextlib
import datetime
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

import msgspec
import psutil
import pytest

from archive.simulation.run import Plan as Simulated
from archive.simulation.run import simulate
from demo.prepare import FIRST_DAYS, LOG_INS, Plan, keep, log_ins, plan_of, secret_files
from plumbline.errors import Unready
from plumbline.policy import Policy
from streaming.broker.java import find_java
from streaming.parts import start, step
from tests.declared_model import declared_models
from training.files import CARD, file_digests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TODAY = datetime.date(2026, 3, 1)
KEYS = [
    "transactions",
    "decisions",
    "approve",
    "review",
    "decline",
    "p50_ms",
    "p99_ms",
    "audit_compared",
    "audit_different",
    "model_average_precision",
    "open_alerts",
    "standing_warnings",
]
END_SECONDS = 500.0


def test_log_ins_are_made_once_kept_private_and_can_be_told_again(tmp_path):
    environ = {**os.environ, "PLUMBLINE_DATA_DIR": str(tmp_path), **secret_files(tmp_path)}
    step(environ, "migrate")
    people = log_ins(tmp_path, environ)
    assert [(each.email, each.role) for each in people] == [(email, role) for email, _, role in LOG_INS]
    assert log_ins(tmp_path, environ) == people
    assert (tmp_path / "secrets" / "log-ins.json").stat().st_mode & 0o777 == 0o600
    for each in people:
        assert each.email in step(environ, "users", "list")


def test_a_step_that_fails_is_named(tmp_path):
    with pytest.raises(Unready, match="`plumbline migrate` failed with exit code 2"):
        step({**os.environ, "PLUMBLINE_NO_SUCH_SETTING": "1"}, "migrate")


def test_a_part_reads_only_what_was_said_since_it_began(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "settings.log").write_text('{"state": "serving"}\n')
    part = start("settings", dict(os.environ), tmp_path / "logs", ["settings"])
    with pytest.raises(Unready, match="settings ended with exit code 0"):
        part.wait_for(state="serving")
    assert part.said() == []


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """A data folder as an earlier, cut-off start may have left it: a tiny bank's archive, and a model."""
    if find_java() is None:
        pytest.skip("no Java 17 or newer, which Apache Kafka needs")
    folder = tmp_path_factory.mktemp("demo")
    today = datetime.datetime.now(datetime.UTC).date()
    plan = Plan(today - datetime.timedelta(days=FIRST_DAYS + 1))
    start_day = plan.live - datetime.timedelta(days=30)
    simulated = Simulated(accounts=200, days=30, start=start_day, seed=1, fraud_rate=0.02, names=True)
    keep(folder, plan, simulated)
    simulate(simulated, folder / "archive")
    models = folder / "models" / "plumbline"
    shutil.copytree(declared_models(tmp_path_factory), models)
    policy = Policy(version="demo", review_at=0.8, decline_at=0.95)
    (models / "1" / "assets.extra" / "policy.json").write_bytes(msgspec.json.encode(policy))
    card = json.loads((models / "1" / CARD).read_bytes())
    (models / "1" / CARD).write_text(json.dumps(card | {"files": file_digests(models / "1")}))
    return folder


class Demo:
    """`plumbline demo` as a process, and what it tells."""

    def __init__(self, folder, *arguments, port=0):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLUMBLINE_", "DEMO_"))}
        environ = kept | {"PLUMBLINE_DATA_DIR": str(folder), "PLUMBLINE_HTTP_PORT": str(port)}
        self.folder = folder
        self.told = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "plumbline.cli.main", "demo", *arguments], env=environ,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self):
        for line in self.process.stderr:
            with self._changed:
                self.told.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self.told.append("(ended)")
            self._changed.notify_all()

    def wait_for(self, beginning):
        """The first line that begins so; fails when the demo ends before it."""

        def found():
            return next((each for each in self.told if each.startswith((beginning, "(ended)"))), None)

        with self._changed:
            self._changed.wait_for(found, END_SECONDS)
        assert found() not in (None, "(ended)"), self.told
        return found()

    def ended(self):
        """Exit code and the lines of its standard output, when it has ended by itself."""
        printed = self.process.stdout.read()
        code = self.process.wait(END_SECONDS)
        self._listening.join()
        return code, printed.splitlines()

    def processes(self):
        """Every living process but the demo itself whose command or environment names the data folder."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                names = [*each.cmdline(), *each.environ().values()]
                mine = each.pid in (self.process.pid, os.getpid()) or each.status() == psutil.STATUS_ZOMBIE
                if not mine and any(str(self.folder) in name for name in names):
                    found.append(each)
        return found


@contextlib.contextmanager
def running(folder, *arguments, **options):
    demo = Demo(folder, *arguments, **options)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()


def told_by_sql(folder, statement):
    """Rows of the demo's database."""
    with contextlib.closing(sqlite3.connect(folder / "plumbline.db")) as connection:
        return connection.execute(statement).fetchall()


def test_a_timed_run_prints_its_figures_and_nothing_stays_behind(bank):
    with running(bank, "--seconds", "6", "--rate", "60") as demo:
        code, printed = demo.ended()
        assert code == 0, "\n".join(demo.told)
        figures = json.loads(printed[-1])
        assert list(figures) == KEYS
        assert figures["transactions"] > 50
        assert figures["decisions"] == figures["transactions"]
        assert sum(figures[each] for each in ("approve", "review", "decline")) == figures["decisions"]
        assert 0 <= figures["p50_ms"] <= figures["p99_ms"]
        assert figures["audit_compared"] >= figures["decisions"]
        assert figures["audit_different"] == 0
        assert figures["standing_warnings"] == 0
        assert any(each.startswith("Folding the year") for each in demo.told)
        assert not any(each.startswith(("Simulating", "Training")) for each in demo.told)
        assert demo.processes() == []
        assert told_by_sql(bank, "SELECT stage, made_by FROM model_versions") == [("champion", LOG_INS[2][0])]
        assert told_by_sql(bank, "SELECT asked_by, approved_by FROM model_changes WHERE to_stage = 'champion'") == [
            (LOG_INS[2][0], LOG_INS[1][0])
        ]
        assert told_by_sql(bank, "SELECT DISTINCT verdict FROM verdicts ORDER BY 1") == [("fraud",), ("genuine",)]
        assert told_by_sql(bank, "SELECT count(*) FROM verdicts WHERE published_at IS NULL") == [(0,)]
        assert told_by_sql(bank, "SELECT count(*) FROM conflicts") == [(0,)]
        plan = plan_of(bank, TODAY)
        assert plan.played_until_us > plan.first_days_end_us


def test_a_second_start_uses_what_is_there_and_ctrl_c_stops_every_part(bank):
    begun = time.monotonic()
    with running(bank) as demo:
        url = demo.wait_for("The console is at").split()[-1]
        print(f"up after {time.monotonic() - begun:.1f} s")
        assert not any(each.startswith(("Simulating", "Folding", "Training")) for each in demo.told)
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
        assert len(demo.processes()) >= 5
        os.killpg(demo.process.pid, signal.SIGINT)
        code, _ = demo.ended()
        assert code == 0, "\n".join(demo.told)
        assert demo.processes() == []
        assert told_by_sql(bank, "SELECT count(*) FROM conflicts") == [(0,)]


def test_a_part_that_dies_ends_the_demo_with_its_log(bank):
    with running(bank) as demo:
        demo.wait_for("The console is at")
        (scorer,) = [each for each in demo.processes() if each.cmdline()[-2:] == ["score", "--json"]]
        scorer.kill()
        code, _ = demo.ended()
        assert code == 1
        assert any("score ended with exit code -9; its log" in each for each in demo.told)
        assert demo.processes() == []


def test_a_port_in_use_is_told_in_one_sentence(bank):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running(bank, port=port) as demo:
            code, _ = demo.ended()
            assert code == 1
            assert any(str(port) in each and "use" in each for each in demo.told), demo.told
            assert demo.processes() == []


def test_a_canary_with_a_fault_that_nobody_knows_is_told_what_there_is(tmp_path):
    with running(tmp_path, "--canary", "lazy") as demo:
        code, _ = demo.ended()
        assert code == 2
        assert any("one of healthy, slow, erring, shifted, blind" in each for each in demo.told)
