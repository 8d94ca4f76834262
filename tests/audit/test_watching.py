"""The watching process: each decision of its sample is counted once, whatever kills it, and replays are answered."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest
from sqlalchemy.orm import Session

from audit.past import Journal, Sources
from audit.selection import Sample
from audit.watching import Watching, begin_anew, run
from observe.metrics import Metrics
from plumbline import journal
from plumbline.decision import Decision, Score
from plumbline.errors import Refused
from plumbline.policy import Policy
from plumbline.policy import encode as encode_policy
from store.audits import standing_audits
from store.engine import transaction
from store.imbalances import standing_imbalances
from store.watch import ask_recomputation, balance, continuous_audit, newest_recomputation
from tests.declared_model import declared_models
from tests.fakes import NOW, payment, raw, told
from tests.journaled_bank import Bank, model_in_process

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The declared model in this process."""
    return model_in_process(declared_models(tmp_path_factory) / "1")


@pytest.fixture
def bank(kafka, topic_prefix, served, tmp_path, tmp_path_factory):
    """An installation with messages of every fate; its models may be taken away and brought back."""
    shutil.copytree(declared_models(tmp_path_factory), tmp_path / "models" / "plumbline")
    made = Bank(kafka.bootstrap, topic_prefix, tmp_path, served)
    made.send("control", [encode_policy(Policy(version="first", review_at=0.3, decline_at=0.6))])
    yield made
    made.close()


def flow(bank, first, count):
    """So many payments with labels, duplicates and bad messages among them: their entries, not yet written."""
    bank.send("transactions", [raw(payment(n, account_id=f"a{n % 7}")) for n in range(first, first + count)])
    bank.send("transactions", [raw(payment(first, account_id=f"a{first % 7}")), b"no payment"])
    bank.send("labels", [raw(told(first + n, first + n * 3)) for n in range(3)])
    return bank.entries()


def watching(bank, one_in=1, save_every=1, lasting_seconds=10.0):
    sources = Sources(Journal(bank.bootstrap, bank.prefix), None, None, bank.folder / "models" / "plumbline")
    return Watching(sources, bank.engine, bank.folder / "watch", one_in, save_every, 60_000, lasting_seconds)


def watch(bank, **changes):
    """One run up to the journal's end; returns the audit's row and the balance's."""
    metrics = Metrics()
    run(watching(bank, **changes), metrics, lambda: NOW, threading.Event(), once=True)
    with Session(bank.engine) as session:
        return continuous_audit(session), balance(session), metrics


def decisions_of(entries):
    return [each for each in entries if isinstance(each, Decision)]


def test_every_decision_is_compared_once_over_many_runs(bank):
    seen = 0
    for first in (0, 100, 200):
        entries, letters = flow(bank, first, 60)
        bank.write(entries, letters)
        bank.store()
        seen += len(decisions_of(entries))
        row, balanced, metrics = watch(bank)
        assert (row.compared, row.different, row.unverified) == (seen, 0, 0)
        assert row.sequence == balanced.body["sequence"] > 0
        assert row.behind_ms == 0
        assert (balanced.imbalance, balanced.oldest_waiting_ms) == (0, None)
        text = metrics.text().decode()
        assert f"plumbline_audit_continuous_compared {seen}.0" in text
        assert f'plumbline_conservation_messages{{step="decision"}} {seen}.0' in text
        assert "plumbline_conservation_imbalance 0.0" in text
    assert len(list((bank.folder / "watch").glob("counts-*.json"))) == 2


def test_a_changed_record_is_found_counted_and_shown(bank):
    entries, letters = flow(bank, 0, 60)
    at = [n for n, each in enumerate(entries) if isinstance(each, Decision)][30]
    up = float(np.nextafter(np.float32(entries[at].scores[0].value), np.float32(2)))
    entries[at] = msgspec.structs.replace(entries[at], scores=(Score(1, up),))
    bank.write(entries, letters)
    row, _, _ = watch(bank)
    assert row.different == 1
    assert [(each["layer"], each["transaction_id"]) for each in row.detail] == [
        ("score", entries[at].transaction.transaction_id)
    ]
    again, _, _ = watch(bank)
    assert (again.compared, again.different, len(again.detail)) == (row.compared, 1, 1)


def test_a_difference_stands_when_another_sample_or_a_new_beginning_forgets_it(bank):
    entries, letters = flow(bank, 0, 30)
    at = next(n for n, each in enumerate(entries) if isinstance(each, Decision))
    entries[at] = msgspec.structs.replace(entries[at], policy_version="never")
    bank.write(entries, letters)
    watch(bank)
    begin_anew(watching(bank), NOW)
    with Session(bank.engine) as session:
        assert [(each.origin, each.different) for each in standing_audits(session)] == [("watch", 1)]
        assert continuous_audit(session).different == 0


def test_an_imbalance_is_an_incident_once_it_has_lasted_and_stays_one(bank):
    entries, letters = flow(bank, 0, 20)
    bank.write([*entries, decisions_of(entries)[0]], letters)
    bank.store()
    _, balanced, _ = watch(bank, lasting_seconds=0.2)
    assert balanced.imbalance == 1
    with Session(bank.engine) as session:
        (found,) = standing_imbalances(session)
        assert (found.count, found.cleared_at) == (1, None)
        assert [each["name"] for each in found.equations] == ["once"]


def test_the_sample_is_of_whole_accounts_and_another_one_begins_anew(bank):
    entries, letters = flow(bank, 0, 70)
    bank.write(entries, letters)
    accounts = [each.transaction.account_id for each in decisions_of(entries)]
    for one_in in (3, 2):
        row, _, _ = watch(bank, one_in=one_in)
        wanted = sum(Sample(1, one_in).takes(each) for each in accounts)
        assert 0 < wanted < len(accounts)
        assert (row.compared, row.one_in) == (wanted, one_in)


def test_versions_that_are_not_here_are_counted_and_those_that_come_are_loaded(bank):
    entries, letters = flow(bank, 0, 30)
    later = [n for n, each in enumerate(entries) if isinstance(each, Decision)][20:]
    for n in later:
        entries[n] = msgspec.structs.replace(entries[n], scores=(Score(2, entries[n].scores[0].value),))
    bank.write(entries, letters)
    row, _, _ = watch(bank)
    assert (row.compared, row.unverified) == (20, len(later))
    models = bank.folder / "models" / "plumbline"
    shutil.copytree(models / "1", models / "2")
    begin_anew(watching(bank), NOW)
    row, _, _ = watch(bank)
    assert (row.compared, row.different, row.unverified) == (20 + len(later), 0, 0)


@pytest.mark.parametrize("damage", ["state.npz", "counts", "all"])
def test_what_was_written_down_may_be_damaged_or_gone(bank, damage):
    for first in (0, 100):
        bank.write(*flow(bank, first, 40))
        watch(bank)
    folder = bank.folder / "watch"
    if damage == "all":
        shutil.rmtree(folder)
    else:
        newest = max(int(each.stem.removeprefix("counts-")) for each in folder.glob("counts-*.json"))
        file = folder / f"counts-{newest}.json" if damage == "counts" else folder / str(newest) / damage
        raw_bytes = bytearray(file.read_bytes())
        raw_bytes[len(raw_bytes) // 2] ^= 1
        file.write_bytes(raw_bytes)
    bank.write(*flow(bank, 200, 40))
    row, balanced, _ = watch(bank)
    assert (row.compared, row.different) == (120, 0)
    assert balanced.imbalance == 0
    assert balanced.body["kinds"]["decision"] == 120


def test_a_journal_that_is_not_the_counted_one_is_refused(bank):
    bank.write(*flow(bank, 0, 40))
    watch(bank)
    with transaction(bank.engine) as session:
        continuous_audit(session).sequence = 10_000
    with pytest.raises(Refused, match="SQL says it was audited up to 10000"):
        watch(bank)
    begin_anew(watching(bank), NOW)
    row, _, _ = watch(bank)
    assert row.compared == 40


def test_wishes_are_answered_equal_different_or_with_the_reason(bank):
    entries, letters = flow(bank, 0, 40)
    at = [n for n, each in enumerate(entries) if isinstance(each, Decision)]
    entries[at[9]] = msgspec.structs.replace(entries[at[9]], policy_version="never")
    bank.write(entries, letters)
    bank.store()
    ids = [entries[at[5]].transaction.transaction_id, entries[at[9]].transaction.transaction_id, "nobody"]
    with transaction(bank.engine) as session:
        for each in ids:
            ask_recomputation(session, each, "ada", NOW)
    watch(bank)
    with Session(bank.engine) as session:
        answers = [newest_recomputation(session, each) for each in ids]
        assert [each.result for each in answers] == ["equal", "different", "failed"]
        assert all(each["equal"] for each in answers[0].body["fields"])
        assert [each["name"] for each in answers[1].body["fields"] if not each["equal"]] == ["policy_version"]
        assert "has no decision in the journal" in answers[2].body["error"]


class WatchProcess:
    """`plumbline watch` as a real process."""

    def __init__(self, environ, log):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        self.log = log
        with log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "plumbline.cli.main", "watch", "--sample", "1/1", "--json"],
                env=kept | environ, stdout=subprocess.PIPE, stderr=output, text=True,
            )  # fmt: skip

    def wait(self):
        """Until it has caught up once."""
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        return json.loads(line)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        return self.process.wait(PATIENCE_SECONDS)


def test_killed_at_any_moment_it_counts_nothing_twice_and_nothing_never(bank):
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    rng = random.Random(seed)
    environ = {
        "PLUMBLINE_KAFKA_BOOTSTRAP": bank.bootstrap, "PLUMBLINE_TOPIC_PREFIX": bank.prefix,
        "PLUMBLINE_DATA_DIR": str(bank.folder), "PLUMBLINE_SNAPSHOT_EVERY_TRANSACTIONS": "1000",
    }  # fmt: skip
    total = 0
    for life in range(2):
        entries, letters = flow(bank, life * 2000, 600)
        total += len(decisions_of(entries))
        process = WatchProcess(environ, bank.folder / f"watch-{life}.log")
        half = len(entries) // 2
        bank.write(entries[:half], letters)
        process.wait()
        for begin in range(half, len(entries), 100):
            bank.write(entries[begin : begin + 100], [])
            threading.Event().wait(rng.uniform(0, 0.4))
        process.kill()
    last = WatchProcess(environ, bank.folder / "watch-last.log")
    last.wait()
    assert last.stop() == 0
    with Session(bank.engine) as session:
        row, balanced = continuous_audit(session), balance(session)
    assert (row.compared, row.different, row.unverified) == (total, 0, 0)
    assert balanced.imbalance == 0
    assert balanced.body["kinds"]["decision"] == total
    assert journal.encode(row.detail) == b"[]"
