"""Replay: an honest decision comes out the same in every field, a changed record in all but the changed ones."""

import datetime
import json
import uuid

import msgspec
import numpy as np
import pytest
from kafka import TopicPartition

from archive.rows import labels_of, transactions_of
from archive.simulation.run import Plan, simulate
from features.declaration import FEATURE_NAMES, HISTORY_NAMES
from plumbline import journal
from plumbline import transaction as transactions
from plumbline.cli import main as cli
from plumbline.decision import MODEL_UNAVAILABLE, Decision, Outcome, Score, Source
from plumbline.policy import Policy
from plumbline.policy import encode as encode_policy
from plumbline.transaction import DAY_US, Transaction
from streaming.kafka import administrator
from tests.archived import backfilled
from tests.declared_model import declared_models
from tests.fakes import NOW
from tests.journaled_bank import Bank, model_in_process

pytestmark = pytest.mark.slow

FIELDS = len(Transaction.__struct_fields__) + len(HISTORY_NAMES) + len(FEATURE_NAMES) + 1 + 2


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models, with the declared one under its usual name."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "plumbline").symlink_to(declared_models(tmp_path_factory))
    return folder


@pytest.fixture(scope="module")
def served(models):
    """The declared model in this process."""
    return model_in_process(models / "plumbline" / "1")


@pytest.fixture(scope="module")
def live(kafka, served, tmp_path_factory):
    """A month of archive, then ten days live, with fraud labels and a policy: the data folder, and what was journaled.

    The messages lie in topics of the module; each test writes the journal under its own prefix.
    """
    folder = tmp_path_factory.mktemp("live")
    start = datetime.datetime.fromtimestamp(NOW // 10**6, datetime.UTC).date() - datetime.timedelta(days=40)
    plan = Plan(accounts=30, days=36, start=start, seed=9, transactions_per_account_day=0.7, fraud_rate=0.06)
    archive = simulate(plan, folder / "archive")
    begins = archive.manifest.first_occurred_at // DAY_US * DAY_US + 26 * DAY_US
    state = backfilled(archive, folder / "snapshots", until_us=begins, remembered=100_000)
    bank = Bank(kafka.bootstrap, f"t{uuid.uuid4().hex[:12]}.", folder, served, state)
    bank.send("control", [encode_policy(Policy(version="first", review_at=0.3, decline_at=0.6))])
    journaled, paid, said = [], [], []
    for part, batch in archive.arrivals(since_us=begins):
        if part == "transactions":
            paid += [transactions.encode(each) for each in transactions_of(batch)]
        else:
            said += [msgspec.json.encode(each) for each in labels_of(batch)]
    for begin in range(0, len(paid), 60):
        bank.send("transactions", paid[begin : begin + 60])
        bank.send("labels", said if begin == 120 else [])
        journaled += bank.entries()[0]
    bank.close()
    return folder, journaled


@pytest.fixture
def bank(kafka, topic_prefix, live, tmp_path):
    """An installation whose journal is not written yet."""
    made = Bank(kafka.bootstrap, topic_prefix, tmp_path)
    for name in ("archive", "snapshots"):
        (tmp_path / name).symlink_to(live[0] / name)
    made.journaled = list(live[1])
    yield made
    made.close()


@pytest.fixture
def asked(bank, models, tmp_path, monkeypatch, capsys):
    """Runs the command on the test's own installation; returns exit code, JSON and error text."""
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", bank.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", bank.prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))

    def ask(transaction_id, models_dir=models):
        code = cli.run(["replay", transaction_id, "--json", "--models-dir", str(models_dir)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return ask


def decisions(bank):
    return [n for n, each in enumerate(bank.journaled) if isinstance(each, Decision)]


def named(bank, n):
    """How many features a decision's reasons name."""
    return sum(each.kind == "feature" for each in bank.journaled[n].reasons)


def id_at(bank, n):
    return bank.journaled[n].transaction.transaction_id


def test_honest_decisions_come_out_the_same_in_every_field(bank, asked):
    bank.writer.write(bank.journaled)
    at = decisions(bank)
    columns = {name: HISTORY_NAMES.index(name) for name in HISTORY_NAMES}
    with_frauds = [n for n in at if bank.journaled[n].history[columns["merchant_fraud_count_30d"]] > 0]
    with_archive = [n for n in at if bank.journaled[n].history[columns["account_count_30d"]] > 10]
    assert with_frauds
    assert with_archive
    for n in (at[0], at[-1], with_frauds[-1], with_archive[0], at[len(at) // 2]):
        code, found, error = asked(id_at(bank, n))
        assert (code, found["equal"], found["different"]) == (cli.DONE, True, 0), error
        assert len(found["fields"]) == FIELDS + named(bank, n)
        assert [each for each in found["fields"] if each["journaled"] != each["recomputed"]] == []
        measured = {each["name"]: each["recomputed"] for each in found["fields"] if each["layer"] == "history"}
        assert list(measured) == list(HISTORY_NAMES)
        assert [int(each.split("(")[1][:-1]) for each in measured.values()] == list(bank.journaled[n].history)


def test_sql_says_where_a_decision_is_and_the_answer_is_the_same(bank, asked):
    bank.writer.write(bank.journaled)
    n = decisions(bank)[-3]
    _, searched, _ = asked(id_at(bank, n))
    bank.store()
    code, found, _ = asked(id_at(bank, n))
    assert (code, found) == (cli.DONE, searched)


def changed(decision, what):
    """A decision with one thing changed, and the layers and names in which a replay must see it."""
    if what == "history":
        at = HISTORY_NAMES.index("account_count_1d")
        history = [value + (n == at) for n, value in enumerate(decision.history)]
        seen = {("history", "account_count_1d"), ("features", "account_count_1d_log")}
        return msgspec.structs.replace(decision, history=tuple(history)), seen
    if what == "score":
        up = float(np.nextafter(np.float32(decision.scores[0].value), np.float32(2)))
        return msgspec.structs.replace(decision, scores=(Score(1, up),)), {("score", "version 1")}
    if what == "outcome":
        other = Outcome.DECLINE if decision.outcome is Outcome.APPROVE else Outcome.APPROVE
        return msgspec.structs.replace(decision, outcome=other), {("outcome", "outcome")}
    if what == "policy":
        return msgspec.structs.replace(decision, policy_version="never"), {("outcome", "policy_version")}
    paid = msgspec.structs.replace(
        decision.transaction, channel="atm" if decision.transaction.channel != "atm" else "pos"
    )
    return msgspec.structs.replace(decision, transaction=paid), {("transaction", "channel")}


@pytest.mark.parametrize("what", ["history", "score", "outcome", "policy", "transaction"])
def test_a_changed_record_differs_where_it_was_changed(bank, asked, what):
    n = decisions(bank)[40]
    bank.journaled[n], seen = changed(bank.journaled[n], what)
    bank.writer.write(bank.journaled)
    code, found, _ = asked(id_at(bank, n))
    assert (code, found["equal"]) == (cli.FAILED, False)
    differs = {(each["layer"], each["name"]) for each in found["fields"] if not each["equal"]}
    assert seen <= differs
    # one changed measure may reach other features, a changed channel its own, and only an alert has reasons
    assert {layer for layer, _ in differs - seen} <= ({"reasons"} if what == "outcome" else {"features"})


def test_a_decision_without_a_model_is_replayed_by_the_rules_alone(bank, asked):
    n = decisions(bank)[5]
    bank.journaled[n] = msgspec.structs.replace(
        bank.journaled[n], scores=(), outcome=Outcome.REVIEW, reasons=(MODEL_UNAVAILABLE,)
    )
    bank.writer.write(bank.journaled)
    code, found, _ = asked(id_at(bank, n))
    assert (code, found["equal"], found["model_version"]) == (cli.DONE, True, None)
    assert {each["layer"] for each in found["fields"]} == {"transaction", "history", "outcome"}


def test_a_message_that_the_broker_deleted_is_told_and_its_parsed_form_taken(bank, asked):
    n = decisions(bank)[7]
    bank.send("transactions", [b"what was decided", b"what came after"])
    topic = f"{bank.prefix}transactions"
    bank.journaled[n] = msgspec.structs.replace(bank.journaled[n], source=Source(topic, 0, 0, 0))
    bank.writer.write(bank.journaled)
    with administrator(bank.bootstrap) as admin:
        admin.delete_records({TopicPartition(topic, 0): 1})
    code, found, _ = asked(id_at(bank, n))
    assert (code, found["equal"], found["raw"]) == (cli.DONE, True, False)
    assert "transaction" not in {each["layer"] for each in found["fields"]}


def test_what_is_not_there_is_one_sentence(bank, asked, tmp_path):
    bank.writer.write(bank.journaled)
    code, found, error = asked("no-such-id")
    assert (code, found) == (cli.FAILED, None)
    assert "'no-such-id' has no decision in the journal" in error
    n = decisions(bank)[-1]
    code, found, error = asked(id_at(bank, n), models_dir=tmp_path / "nowhere")
    assert (code, found) == (cli.FAILED, None)
    assert f"{tmp_path / 'nowhere' / 'plumbline' / '1'} is not there: bring its files" in error
    other = msgspec.structs.replace(
        bank.journaled[n],
        fingerprint="0" * 16,
        transaction=msgspec.structs.replace(bank.journaled[n].transaction, transaction_id="other"),
    )
    bank.writer.write_raw(journal.encode(other))
    code, found, error = asked("other")
    assert (code, found) == (cli.FAILED, None)
    assert "was decided under declaration 0000000000000000" in error


def test_without_json_every_field_is_a_line(bank, asked, models, capsys):
    bank.writer.write(bank.journaled)
    n = decisions(bank)[-1]
    assert cli.run(["replay", id_at(bank, n), "--models-dir", str(models)]) == cli.DONE
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "equal"
    assert sum(line.startswith("= ") for line in lines) == FIELDS + named(bank, n)
