"""The audit: 0 different on an honest journal; one changed bit in a record shows in its layer, and nowhere else."""

import contextlib
import datetime
import json
import sqlite3

import msgspec
import numpy as np
import pytest

from archive.rows import labels_of, transactions_of
from archive.simulation.run import Plan, simulate
from features.declaration import DECLARATION, fingerprint
from features.grammar import encode
from plumbline import label as labels
from plumbline import transaction as transactions
from plumbline.cli import main as cli
from plumbline.decision import Decision, Outcome, Score
from plumbline.journal import ControlApplied
from plumbline.policy import Policy
from plumbline.transaction import DAY_US
from serving.columns import NAMES, TEXTS
from streaming.backfill import backfill
from streaming.batch import process
from streaming.known import Known
from streaming.model import Model
from streaming.state import State
from tests.declared_model import declared_models
from tests.fakes import NOW, Clock, FakeClient, Numbered, fake_model, payment, raw, told
from tests.journal_writer import JournalWriter, read_topic

pytestmark = pytest.mark.slow

POLICY = Policy(version="audited", review_at=0.3, decline_at=0.6)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models, with the declared one under its usual name."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "plumbline").symlink_to(declared_models(tmp_path_factory))
    return folder


@pytest.fixture(scope="module")
def served(models):
    """The model, loaded in this process, as a scorer's client."""
    from serving.client import About, Scored
    from training.evaluate import load_version

    loaded = load_version(models / "plumbline" / "1")

    def inputs(columns):
        return {name: np.asarray(getattr(columns, name), object if name in TEXTS else None) for name in NAMES}

    class InProcess:
        def score(self, columns, version=None):
            return Scored(loaded.score(inputs(columns)), 1)

        def explain(self, columns, version=None):
            return loaded.call("explain", inputs(columns))["effects"]

        def about(self, version=None):
            return About(fingerprint(), encode(DECLARATION), 1)

    return Model(InProcess(), Clock())


def decided(state, served, batches):
    """The journal that a scorer would write for batches of (transactions, labels), each a list of raw messages."""
    topics = {name: Numbered(name) for name in ("transactions", "labels")}
    state.policy = POLICY
    found = [ControlApplied(policy=POLICY, source=None, journaled_at=NOW)]
    for paid, said in batches:
        found += process(
            state,
            served,
            transaction=[topics["transactions"].message(each) for each in paid],
            label=[topics["labels"].message(each) for each in said],
            now_us=NOW,
        ).entries
    return found


def written(kafka, prefix, entries):
    with contextlib.closing(JournalWriter(kafka.bootstrap, prefix)) as writer:
        writer.write(entries)


@pytest.fixture
def asked(kafka, topic_prefix, models, tmp_path, monkeypatch, capsys):
    """Runs the command on the test's own journal and data folder; returns exit code, JSON and error text."""
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))

    def ask(*arguments, models_dir=models):
        code = cli.run(["audit", "--json", "--models-dir", str(models_dir), *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return ask


def small_stream(count):
    """Batches of payments, some of them bad or repeated, with a fraud label now and then."""
    for begin in range(0, count, 50):
        paid = [raw(payment(n)) for n in range(begin, begin + 50)]
        yield [*paid, paid[3], b"not a payment"], [raw(told(begin, begin - 20))] if begin else []


def altered(decision, **changes):
    return msgspec.structs.replace(decision, **changes)


def test_each_changed_record_shows_in_its_layer_alone(kafka, topic_prefix, served, asked):
    entries = decided(State(Known(10_000)), served, small_stream(300))
    honest = entries[:]
    at = [n for n, each in enumerate(entries) if isinstance(each, Decision)]
    scored = entries[at[40]].scores[0].value
    ulp = float(np.nextafter(np.float32(scored), np.float32(1)))
    entries[at[10]] = altered(entries[at[10]], history=(entries[at[10]].history[0] + 1, *entries[at[10]].history[1:]))
    entries[at[40]] = altered(entries[at[40]], scores=(Score(1, ulp),))
    other = {Outcome.APPROVE: Outcome.DECLINE}.get(entries[at[70]].outcome, Outcome.APPROVE)
    entries[at[70]] = altered(entries[at[70]], outcome=other)
    entries[at[100]] = altered(entries[at[100]], policy_version="ghost")
    written(kafka, topic_prefix, entries)

    code, found, _ = asked("--no-record")
    assert code == cli.FAILED
    assert found["compared"] == len(at) == 300
    shown = {}
    for each in found["differences"]:
        shown.setdefault(each["transaction_id"], set()).add((each["layer"], each["name"]))
    changed = [honest[at[n]].transaction.transaction_id for n in (10, 40, 70, 100)]
    assert set(shown) == set(changed)
    assert ("history", "account_count_10m") in shown[changed[0]]
    assert {layer for layer, _ in shown[changed[0]]} <= {"history", "features"}
    assert shown[changed[1]] == {("score", "version 1")}
    assert shown[changed[2]] == {("outcome", "outcome")}
    assert shown[changed[3]] == {("outcome", "policy_version")}
    assert (found["history_different"], found["score_different"], found["outcome_different"]) == (1, 1, 2)
    bits = next(each for each in found["differences"] if each["layer"] == "score")
    assert bits["journaled"].startswith("0x")
    assert bits["journaled"] != bits["recomputed"]

    first_clean = at[101]
    offsets = offsets_of(kafka, topic_prefix)
    code, found, _ = asked("--no-record", "--sequence", f"{offsets[first_clean]}:{offsets[first_clean + 60]}")
    assert (code, found["different"]) == (cli.DONE, 0)
    assert 0 < found["compared"] <= 61
    assert offsets[first_clean] <= found["first_sequence"] <= found["last_sequence"] <= offsets[first_clean + 60]


def offsets_of(kafka, prefix):
    return [each.offset for each in read_topic(kafka.bootstrap, f"{prefix}decisions")]


def test_an_honest_journal_after_an_archive_has_no_difference_and_the_light_is_green(
    kafka, topic_prefix, served, asked, tmp_path, capsys
):
    start = datetime.datetime.fromtimestamp(NOW // 10**6, datetime.UTC).date() - datetime.timedelta(days=40)
    plan = Plan(accounts=40, days=36, start=start, seed=9, transactions_per_account_day=0.6, fraud_rate=0.05)
    archive = simulate(plan, tmp_path / "archive")
    live = archive.manifest.first_occurred_at // DAY_US * DAY_US + 25 * DAY_US
    state = backfill(archive, tmp_path / "snapshots", until_us=live, remembered=100_000, tell=lambda _: None)
    paid, said = [], []
    for part, batch in archive.arrivals(since_us=live):
        if part == "transactions":
            paid += [transactions.encode(each) for each in transactions_of(batch)]
        else:
            said += [msgspec.json.encode(each) for each in labels_of(batch)]
    assert len(said) > 3
    assert labels.parse(said[0], NOW).verdict == "fraud"
    edges = range(0, len(paid) + 1, 40)
    batches = [(paid[at : at + 40], said if at == 80 else []) for at in edges]
    entries = decided(state, served, batches)
    written(kafka, topic_prefix, entries)
    assert cli.run(["migrate"]) == cli.DONE
    capsys.readouterr()

    code, found, error = asked()
    assert (code, found["different"], found["differences"]) == (cli.DONE, 0, []), error
    assert found["compared"] == found["score_compared"] == len(paid)
    with contextlib.closing(sqlite3.connect(tmp_path / "plumbline.db")) as store:
        assert store.execute("SELECT compared, different FROM audits").fetchall() == [(len(paid), 0)]

    plan = Plan(accounts=40, days=36, start=start, seed=10, transactions_per_account_day=0.6, fraud_rate=0.05)
    other = simulate(plan, tmp_path / "other")
    code, _, error = asked("--archive", str(other.path))
    assert code == cli.FAILED
    assert f"has digest {other.manifest.digest}, but the snapshots began with {archive.manifest.digest}" in error

    code, _, error = asked(models_dir=tmp_path / "nowhere")
    assert code == cli.FAILED
    assert f"{tmp_path / 'nowhere' / 'plumbline' / '1'} is not there: bring its files" in error


def test_a_journal_that_grows_meanwhile_is_audited_up_to_where_it_ended(kafka, topic_prefix, models, served):
    from audit.run import Audited, audit

    entries = decided(State(Known(10_000)), served, small_stream(200))
    half = next(n for n in range(100, 200) if isinstance(entries[n], Decision))
    with contextlib.closing(JournalWriter(kafka.bootstrap, topic_prefix)) as writer:
        writer.write(entries[:half])
        report = audit(
            Audited(kafka.bootstrap, topic_prefix, models / "plumbline", None, None),
            lambda step: writer.write(entries[half:]) if step == "comparing" else None,
        )
    assert report.differences == []
    assert report.decisions == sum(isinstance(each, Decision) for each in entries[:half])


def test_decisions_without_a_model_are_counted_and_an_empty_journal_is_fine(kafka, topic_prefix, asked):
    written(kafka, topic_prefix, [])
    code, found, _ = asked("--no-record")
    assert (code, found["compared"], found["first_sequence"]) == (cli.DONE, 0, None)
    client = FakeClient()
    client.down = True
    written(kafka, topic_prefix, decided(State(Known(100)), fake_model(client), [([raw(payment(1))], [])]))
    code, found, _ = asked("--no-record")
    assert (code, found["different"], found["unscored"], found["score_compared"]) == (cli.DONE, 0, 1, 0)


@pytest.mark.parametrize("text", ["5", "a:b", "-3:4", "1:2:3"])
def test_a_range_that_is_none_is_told_before_anything_is_loaded(asked, text):
    code, _, error = asked("--sequence", text)
    assert code == cli.USAGE
    assert "A:B with whole numbers" in error


def test_an_archive_where_none_was_backfilled_is_refused(asked, tmp_path):
    code, _, error = asked("--archive", str(tmp_path / "archive"))
    assert code == cli.USAGE
    assert "no archive: the snapshots here began without one" in error
