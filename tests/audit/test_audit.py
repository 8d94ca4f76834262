"""The audit by its command: 0 different on an honest journal, and every planted fault in its layer, with its cause."""

import contextlib
import dataclasses
import datetime
import json
import re
import shutil
import sqlite3

import msgspec
import numpy as np
import pytest

from archive.kept import KeptJournal
from archive.rows import labels_of, transactions_of
from archive.simulation.run import Plan, simulate
from audit.causes import Cause
from audit.selection import Sample
from plumbline import transaction as transactions
from plumbline.cli import main as cli
from plumbline.decision import LET_THROUGH, Decision, Outcome, Score, Source
from plumbline.journal import Conflict, ControlApplied, LabelApplied, Rejected
from plumbline.policy import DEFAULT_POLICY, Policy, VersionThresholds, digest
from plumbline.policy import encode as encode_policy
from plumbline.transaction import DAY_US
from streaming.batch import Message, process
from streaming.keep import keep
from streaming.known import Known
from streaming.model import Model
from streaming.state import State
from tests.archived import backfilled
from tests.declared_model import declared_models
from tests.fakes import NOW, Clock, FakeClient, fake_model, payment, raw, told
from tests.recorded import Recorded, account_of, decided, keep_in, records, small_stream, write_to_kafka

pytestmark = pytest.mark.slow

COUNT = 300


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models, with the declared one under its usual name."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "plumbline").symlink_to(declared_models(tmp_path_factory))
    return folder


@pytest.fixture(scope="module")
def served(models):
    """The model, loaded in this process, as a scorer's client."""
    from training.evaluate import load_version
    from training.in_process import InProcess

    return Model(InProcess(load_version(models / "plumbline" / "1")), Clock().monotonic)


@pytest.fixture(scope="module")
def honest(served):
    """An honest journal."""
    return decided(State(Known(10_000)), served, small_stream(COUNT))


@pytest.fixture
def asked(models, tmp_path, monkeypatch, capsys):
    """Runs the command on a data folder of the test's own; returns exit code, JSON and error text."""
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()

    def ask(*arguments, models_dir=models):
        capsys.readouterr()  # what was logged while the journal was made
        code = cli.run(["audit", "--json", "--models-dir", str(models_dir), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return ask


@pytest.fixture
def audited(asked, tmp_path):
    """Runs the command on a journal that is kept in files."""

    def ask(of, *arguments, **more):
        folder = tmp_path / "kept"
        shutil.rmtree(folder, ignore_errors=True)
        return asked("--no-record", "--journal", keep_in(folder, of), *arguments, **more)

    return ask


def shown(found):
    """What the differences say: (layer, name) and the cause, by transaction."""
    by_transaction = {}
    for each in found["differences"]:
        by_transaction.setdefault(each["transaction_id"], {})[each["layer"], each["name"]] = Cause(each["cause"])
    return by_transaction


def alerting(decision):
    return decision.outcome is not Outcome.APPROVE


def test_an_honest_journal_has_no_difference_in_any_layer(audited, honest):
    code, found, error = audited(honest)
    assert (code, found["different"], found["differences"]) == (cli.DONE, 0, []), error
    decisions = len(honest.at(Decision))
    assert found["compared"] == COUNT == decisions
    for layer in ("history", "sweep", "features", "score", "outcome"):
        assert found[f"{layer}_compared"] == decisions, layer
    assert found["reasons_compared"] == len([n for n in honest.at(Decision) if alerting(honest.entries[n])]) > 10
    assert found["intake_compared"] == len(honest.entries)
    assert found["transaction_compared"] == len(honest.entries) - 1, "all but the policy that no message brought"
    assert (found["first_sequence"], found["last_sequence"]) == (0, len(honest.entries) - 1)
    assert {each.effect for each in honest.entries if isinstance(each, LabelApplied)} == {
        "counted", "repeated", "not_fraud", "waiting",
    }  # fmt: skip
    assert honest.at(Conflict)
    assert honest.at(Rejected)
    assert found["versions"][0]["changed"] == []
    assert found["versions"][0]["same_host"] is True


def test_each_changed_record_shows_in_its_layer_with_its_cause_and_nowhere_else(audited, honest):
    at = honest.at(Decision)
    entries = honest.entries
    scored = entries[at[40]].scores[0].value
    ulp = float(np.nextafter(np.float32(scored), np.float32(1)))
    other = {Outcome.APPROVE: Outcome.DECLINE}.get(entries[at[70]].outcome, Outcome.APPROVE)
    counted = next(n for n in honest.at(LabelApplied) if entries[n].effect == "counted")
    conflict = next(n for n in honest.at(Conflict) if entries[n].identical)

    def changed(n, **changes):
        return msgspec.structs.replace(entries[n], **changes)

    amount = msgspec.structs.replace(entries[at[130]].transaction, amount_minor=1)
    planted = honest.with_entries(
        {
            at[10]: changed(at[10], history=(entries[at[10]].history[0] + 1, *entries[at[10]].history[1:])),
            at[40]: changed(at[40], scores=(Score(1, ulp),)),
            at[70]: changed(at[70], outcome=other),
            at[100]: changed(at[100], policy_version="ghost"),
            at[130]: changed(at[130], transaction=amount),
            at[160]: changed(at[160], fingerprint="0" * 16),
            counted: changed(counted, effect="repeated"),
            conflict: changed(conflict, identical=False),
        }
    )
    code, found, _ = audited(planted)
    assert code == cli.FAILED
    told = shown(found)
    ids = {n: entries[at[n]].transaction.transaction_id for n in (10, 40, 70, 100, 130, 160)}
    label, again = entries[counted].label.transaction_id, entries[conflict].transaction.transaction_id
    assert set(told) == {*ids.values(), label, again}
    first = told[ids[10]]
    assert first["history", "account_count_10m"] is first["sweep", "account_count_10m"] is Cause.RECORD
    assert {cause for (layer, _), cause in first.items() if layer == "features"} == {Cause.FOLLOWS}
    assert {layer for layer, _ in first} == {"history", "sweep", "features"}
    assert told[ids[40]] == {("score", "version 1"): Cause.RECORD}
    assert told[ids[70]].pop(("outcome", "outcome")) is Cause.RECORD
    assert {(layer, cause) for (layer, _), cause in told[ids[70]].items()} == {("reasons", Cause.FOLLOWS)}
    assert told[ids[100]][("outcome", "policy_version")] is Cause.POLICY
    assert told[ids[130]].pop(("transaction", "amount_minor")) is Cause.RECORD
    assert set(told[ids[130]].values()) <= {Cause.FOLLOWS}
    assert set(told[ids[160]].values()) == {Cause.DECLARATION}
    assert told[label] == {("intake", "entry"): Cause.RECORD}
    assert told[again] == {("intake", "entry"): Cause.RECORD}
    score = next(each for each in found["differences"] if each["layer"] == "score")
    assert score["distance_ulps"] == 1
    assert re.fullmatch(r"0x[0-9a-f]{8} \(.*\)", score["journaled"])
    assert score["journaled"] != score["recomputed"]


def test_a_record_taken_away_and_one_added_show_alone(audited, honest):
    at = honest.at(Decision)
    gone = honest.entries[at[50]].transaction.transaction_id
    code, found, _ = audited(honest.without_entry(at[50]))
    assert (code, shown(found)) == (cli.FAILED, {gone: {("intake", "entry"): Cause.MISSING}})
    each = found["differences"][0]
    assert (each["journaled"], each["recomputed"], each["sequence"]) == ("absent", "decision", at[50])

    label = next(n for n in honest.at(LabelApplied) if honest.entries[n].effect == "counted")
    code, found, _ = audited(honest.without_entry(label))
    assert shown(found) == {honest.entries[label].label.transaction_id: {("intake", "entry"): Cause.MISSING}}

    forged = honest.entries[at[60]]
    source = msgspec.structs.replace(forged.source, offset=10**6)
    transaction = msgspec.structs.replace(forged.transaction, transaction_id="forged")
    added = msgspec.structs.replace(forged, source=source, transaction=transaction)
    code, found, _ = audited(type(honest)(honest.prefix, [*honest.entries, added], honest.messages))
    assert set(shown(found)) == {"forged"}
    assert shown(found)["forged"]["transaction", "message"] is Cause.EXTRA
    assert shown(found)["forged"]["sweep", "row"] is Cause.FOLLOWS

    again = honest.entries[at[60]]
    code, found, _ = audited(type(honest)(honest.prefix, [*honest.entries, again], honest.messages))
    assert set(shown(found)) == {forged.transaction.transaction_id}
    assert found["intake_different"] == 1


def test_a_label_that_waited_is_judged_by_what_waited_not_by_the_journals_word(audited, served):
    early = [raw(told(n, n)) for n in (2, 5)]
    batches = [([], early), ([raw(payment(n)) for n in range(40)], []), ([raw(payment(41))], [])]
    honest = decided(State(Known(10_000)), served, batches)
    late = [n for n in honest.at(LabelApplied) if honest.entries[n].source is None]
    assert [honest.entries[n].effect for n in late] == ["counted", "counted"]
    code, found, _ = audited(honest)
    assert (code, found["different"]) == (cli.DONE, 0)

    code, found, _ = audited(honest.without_entry(late[0]))
    assert shown(found) == {"t2": {("intake", "late label"): Cause.MISSING}}

    label = msgspec.structs.replace(honest.entries[late[0]].label, transaction_id="t9")
    added = msgspec.structs.replace(honest.entries[late[0]], label=label)
    code, found, _ = audited(type(honest)(honest.prefix, [*honest.entries, added], honest.messages))
    assert set(shown(found)) == {"t9"}
    assert set(shown(found)["t9"]) == {("intake", "entry")}


def test_without_the_messages_the_journaled_form_stands_in_and_is_counted(audited, honest):
    code, found, _ = audited(honest.without_messages())
    assert (code, found["different"]) == (cli.DONE, 0)
    assert found["raw_missing"] == len(honest.entries) - 1
    assert found["transaction_compared"] == 0
    assert found["sweep_compared"] == COUNT


def test_the_broker_itself_and_its_kept_copy_are_audited_alike(
    kafka, topic_prefix, served, asked, tmp_path, monkeypatch
):
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    of = decided(State(Known(10_000)), served, small_stream(150), topic_prefix)
    at = of.at(Decision)
    planted = of.without_entry(at[100]).with_entry(at[20], history=(9, *of.entries[at[20]].history[1:]))
    write_to_kafka(kafka.bootstrap, planted)
    code, live, _ = asked("--no-record")
    assert (code, live["compared"], live["journal"]) == (
        cli.FAILED, 149, f"kafka://{kafka.bootstrap}/{topic_prefix}decisions",
    )  # fmt: skip
    assert {each["name"] for each in live["differences"] if each["layer"] != "features"} == {
        "account_count_10m", "entry",
    }  # fmt: skip
    folder = tmp_path / "kept"
    keep(folder, kafka.bootstrap, topic_prefix, ("", None), tell=lambda rows: None, block_sequences=70)
    code, kept, _ = asked("--no-record", "--journal", folder)
    assert kept["differences"] == live["differences"]
    of_both = {name: value for name, value in live.items() if name.endswith(("_compared", "_different"))}
    assert of_both.items() <= kept.items()


def test_an_honest_journal_after_an_archive_has_no_difference(served, asked, tmp_path):
    start = datetime.datetime.fromtimestamp(NOW // 10**6, datetime.UTC).date() - datetime.timedelta(days=40)
    plan = Plan(accounts=40, days=36, start=start, seed=9, transactions_per_account_day=0.6, fraud_rate=0.05)
    archive = simulate(plan, tmp_path / "archive")
    live = archive.manifest.first_occurred_at // DAY_US * DAY_US + 25 * DAY_US
    state = backfilled(archive, tmp_path / "snapshots", until_us=live, remembered=100_000)
    paid, said = [], []
    for part, batch in archive.arrivals(since_us=live):
        if part == "transactions":
            paid += [transactions.encode(each) for each in transactions_of(batch)]
        else:
            said += [msgspec.json.encode(each) for each in labels_of(batch)]
    assert len(said) > 3
    batches = [(paid[at : at + 40], said if at == 80 else []) for at in range(0, len(paid), 40)]
    of = decided(state, served, batches)
    folder = keep_in(tmp_path / "kept", of, (archive.manifest.digest, live))
    code, found, error = asked("--no-record", "--journal", folder, "--archive", archive.path)
    assert (code, found["different"], found["differences"]) == (cli.DONE, 0, []), error
    assert found["compared"] == found["score_compared"] == found["history_compared"] == len(paid)
    assert found["archive_digest"] == archive.manifest.digest

    damaged = shutil.copytree(archive.path, tmp_path / "damaged")
    day = sorted((damaged / "transactions").glob("*.parquet"))[3]
    day.write_bytes(day.read_bytes()[:-20] + b"\0" * 20)
    code, _, error = asked("--no-record", "--journal", folder, "--archive", damaged)
    assert code == cli.FAILED
    assert f"transactions/{day.name} is" in error
    assert "the file was changed or damaged" in error

    other = simulate(dataclasses.replace(plan, seed=10), tmp_path / "other")
    code, _, error = asked("--no-record", "--journal", folder, "--archive", other.path)
    assert code == cli.FAILED
    assert f"the journal began after the archive with digest {archive.manifest.digest}" in error
    assert other.manifest.digest in error


def test_another_model_file_is_told_for_every_score(audited, honest, models, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(models / "plumbline" / "1", other / "plumbline" / "1")
    card = other / "plumbline" / "1" / "assets.extra" / "plumbline.json"
    said = json.loads(card.read_text())
    said["files"]["saved_model.pb"] = "0" * 64
    card.write_text(json.dumps(said))
    at = honest.at(Decision)
    planted = honest.with_entries({n: msgspec.structs.replace(honest.entries[n], scores=(Score(1, 0.5),)) for n in at})
    code, found, _ = audited(planted, models_dir=other)
    assert code == cli.FAILED
    causes = {each["cause"] for each in found["differences"] if each["layer"] == "score"}
    assert causes == {Cause.FILES.value}
    assert found["versions"][0]["changed"] == ["saved_model.pb"]

    said["host"]["machine"] = "another"
    del said["files"]
    card.write_text(json.dumps(said))
    near = {
        n: msgspec.structs.replace(
            each, scores=(Score(1, float(np.nextafter(np.float32(each.scores[0].value), np.float32(1)))),)
        )
        for n in at
        if n % 3 == 0 and isinstance(each := honest.entries[n], Decision)
    }
    code, found, _ = audited(honest.with_entries(near), models_dir=other)
    causes = {each["cause"] for each in found["differences"] if each["layer"] == "score"}
    assert causes == {Cause.HOST.value}
    assert (found["versions"][0]["changed"], found["versions"][0]["same_host"]) == (None, False)


def test_a_model_of_another_declaration_is_told(audited, honest, models, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(models / "plumbline" / "1", other / "plumbline" / "1")
    card = other / "plumbline" / "1" / "assets.extra" / "plumbline.json"
    card.write_text(json.dumps({"version": 1, "fingerprint": "f" * 16}))
    code, found, _ = audited(honest, models_dir=other)
    assert code == cli.FAILED
    assert found["score_different"] == COUNT
    assert {each["cause"] for each in found["differences"]} == {Cause.DECLARATION.value}


def test_files_of_a_version_that_are_gone_are_asked_for(audited, honest, tmp_path):
    code, _, error = audited(honest, models_dir=tmp_path / "nowhere")
    assert code == cli.FAILED
    assert f"{tmp_path / 'nowhere' / 'plumbline' / '1'} is not there: bring its files" in error


def test_ranges_compare_what_lies_in_them_and_no_more(audited, honest):
    """Each entry here was journaled a second after the one before."""
    at = honest.at(Decision)
    planted = honest.with_entry(at[10], history=tuple(each + 1 for each in honest.entries[at[10]].history))
    start = records(honest)[0].appended_at_ms

    def moment(sequence):
        return f"{np.datetime64(start + sequence * 1000, 'ms')}"

    def compared(*options):
        code, found, error = audited(planted, *options)
        assert (code == cli.FAILED) == (found["different"] > 0), error
        return found["compared"], found["different"] > 0, found["first_sequence"], found["last_sequence"]

    whole = len(honest.entries)
    assert compared("--sequence", f"{at[11]}:{at[70]}") == (60, False, at[11], at[70])
    assert compared("--sequence", f"{at[10]}:{at[10]}") == (1, True, at[10], at[10])
    assert compared("--since", moment(at[11])) == (COUNT - 11, False, at[11], whole - 1)
    assert compared("--until", moment(at[10])) == (10, False, 0, at[10] - 1)
    both = ("--since", moment(at[5]), "--until", moment(at[20]), "--sequence", f"{at[8]}:{at[12]}")
    assert compared(*both) == (5, True, at[8], at[12])
    code, found, _ = audited(planted, "--sequence", "100000:")
    assert (code, found["compared"], found["first_sequence"]) == (cli.DONE, 0, None)


def test_a_sample_is_the_whole_audit_of_its_accounts(audited, served):
    def paid(n):
        return raw(payment(n, account_id=f"account-{n % 37}"))

    batches = [([paid(n) for n in range(begin, begin + 60)], []) for begin in range(0, 240, 60)]
    of = decided(State(Known(10_000)), served, batches)
    at = of.at(Decision)
    planted = of.with_entries(
        {n: msgspec.structs.replace(of.entries[n], history=(7, *of.entries[n].history[1:])) for n in at[::9]}
    )
    _, whole, _ = audited(planted)
    _, some, _ = audited(planted, "--sample", "1/3")
    sample = Sample(1, 3)
    ours = {
        each.transaction.transaction_id for each in of.entries if sample.takes(account_of(each)) and account_of(each)
    }
    assert 0 < len(ours) < 240
    assert some["compared"] == some["history_compared"] == len(ours)

    def told(differences):
        # Of a few entries it cannot be said whether their neighbours agree, so that the cause may be another. Of
        # features, which are many, only the first are listed.
        return sorted(
            json.dumps({**each, "cause": ""}, sort_keys=True)
            for each in differences
            if each["layer"] != "features" and each["transaction_id"] in ours
        )

    assert told(whole["differences"])
    assert told(some["differences"]) == told(whole["differences"])
    assert {each["transaction_id"] for each in some["differences"]} <= ours


def test_decisions_without_a_model_are_counted_and_an_empty_journal_is_fine(audited):
    client = FakeClient()
    client.down = True
    alone = decided(State(Known(100)), fake_model(client), [([raw(payment(1))], [])])
    code, found, _ = audited(alone)
    assert (code, found["different"], found["unscored"], found["score_compared"]) == (cli.DONE, 0, 1, 0)
    nothing = decided(State(Known(100)), fake_model(client), [])
    code, found, _ = audited(nothing)
    assert (code, found["compared"], found["different"]) == (cli.DONE, 0, 0)


def test_a_policy_of_the_same_name_is_the_one_that_was_in_force(audited, served):
    state = State(Known(1000))
    first = decided(state, served, [([raw(payment(n)) for n in range(20)], [])])
    second = decided(
        state, served, [([raw(payment(n)) for n in range(20, 40)], [])],
        policy=msgspec.structs.replace(first.entries[0].policy, review_at=0.0, decline_at=0.0),
    )  # fmt: skip
    moved = [
        msgspec.structs.replace(each, source=msgspec.structs.replace(each.source, offset=each.source.offset + 20))
        if each.source
        else each
        for each in second.entries
    ]
    messages = first.messages | {(topic, offset + 20): raw for (topic, offset), raw in second.messages.items()}
    control = Source(f"{first.prefix}control", 0, 0, NOW // 1000)
    moved[0] = msgspec.structs.replace(moved[0], source=control)
    messages[control.topic, 0] = encode_policy(moved[0].policy)
    code, found, _ = audited(type(first)(first.prefix, first.entries + moved, messages))
    assert (code, found["different"], found["compared"]) == (cli.DONE, 0, 40)


def test_a_second_beginning_is_a_difference_and_so_is_what_was_decided_under_it(audited, honest):
    last = honest.at(Decision)[-10]
    again = msgspec.structs.replace(honest.entries[0], policy=DEFAULT_POLICY)
    behind = [
        msgspec.structs.replace(each, policy_version=DEFAULT_POLICY.version) if isinstance(each, Decision) else each
        for each in honest.entries[last:]
    ]
    code, found, _ = audited(dataclasses.replace(honest, entries=[*honest.entries[:last], again, *behind]))
    assert code == cli.FAILED
    intake = [each for each in found["differences"] if each["layer"] == "intake"]
    assert found["intake_different"] == 1 + 10 == len(intake)
    assert (intake[0]["sequence"], intake[0]["name"], Cause(intake[0]["cause"])) == (last, "message", Cause.UNORDERED)
    assert {each["name"] for each in intake[1:]} == {"policy in force"}


def test_a_sample_and_thresholds_of_a_version_are_computed_again_to_the_bit(audited, served):
    own = VersionThresholds(version=1, review_at=0.0, decline_at=0.0)
    policy = Policy(version="p", thresholds=(own,), sample_per_mille=100, sample_salt="a salt of sixteen letters")
    of = decided(State(Known(1000)), served, [([raw(payment(n)) for n in range(60)], [])], policy=policy)
    drawn = [n for n in of.at(Decision) if LET_THROUGH in of.entries[n].reasons]
    assert 0 < len(drawn) < 20
    code, found, error = audited(of)
    assert (code, found["different"], found["compared"]) == (cli.DONE, 0, 60), error
    let, kept = drawn[0], next(n for n in of.at(Decision) if n not in drawn)
    code, found, _ = audited(
        of.with_entries(
            {
                let: msgspec.structs.replace(of.entries[let], outcome=Outcome.DECLINE),
                kept: msgspec.structs.replace(of.entries[kept], sample_per_mille=0),
            }
        )
    )
    assert code == cli.FAILED
    assert set(shown(found)[of.entries[let].transaction.transaction_id]) == {("outcome", "outcome")}
    assert set(shown(found)[of.entries[kept].transaction.transaction_id]) == {("outcome", "let through")}


def test_a_policy_that_was_rightly_refused_is_no_difference_and_one_that_was_not_is(audited):
    def written(replaces):
        state, model = State(Known(100), policy=DEFAULT_POLICY), fake_model(FakeClient())
        first = ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)
        message = Message(
            Source("bank.control", 0, 0, NOW // 1000), encode_policy(Policy(version="q", replaces=replaces))
        )
        entries = process(state, model, control=[message], now_us=NOW).entries
        return Recorded("bank.", [first, *entries], {("bank.control", 0): message.raw})

    for replaces, kind in (("0" * 16, Rejected), (digest(DEFAULT_POLICY), ControlApplied)):
        of = written(replaces)
        assert isinstance(of.entries[1], kind)
        code, found, error = audited(of)
        assert (code, found["different"], found["intake_compared"]) == (cli.DONE, 0, 2), error
    taken = ControlApplied(policy=Policy(version="q", replaces="0" * 16), source=of.entries[1].source, journaled_at=NOW)
    code, found, _ = audited(written("0" * 16).with_entries({1: taken}))
    assert (code, [each["layer"] for each in found["differences"]]) == (cli.FAILED, ["intake"])


def test_a_policy_with_the_version_of_an_earlier_one_was_rightly_refused(audited):
    state, model = State(Known(100)), fake_model(FakeClient())
    state.activate(DEFAULT_POLICY)
    first = ControlApplied(policy=DEFAULT_POLICY, source=None, journaled_at=NOW)
    raws = [encode_policy(Policy(version="p")), encode_policy(Policy(version="p", review_at=0.25))]
    messages = [Message(Source("bank.control", 0, n, NOW // 1000), each) for n, each in enumerate(raws)]
    entries = process(state, model, control=messages, now_us=NOW).entries
    assert [type(each) for each in entries] == [ControlApplied, Rejected]
    of = Recorded("bank.", [first, *entries], {("bank.control", n): each for n, each in enumerate(raws)})
    code, found, error = audited(of)
    assert (code, found["different"], found["intake_compared"]) == (cli.DONE, 0, 3), error
    wrongly = msgspec.structs.replace(entries[1], source=entries[0].source)
    code, found, _ = audited(of.with_entries({1: wrongly}))
    assert code == cli.FAILED, "what was refused without that reason is a difference"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sequence", "5"), "A:B with whole numbers"),
        (("--sequence", "a:b"), "A:B with whole numbers"),
        (("--sequence", "-3:4"), "A:B with whole numbers"),
        (("--sequence", "1:2:3"), "A:B with whole numbers"),
        (("--sequence", "9:3"), "A at most B"),
        (("--since", "yesterday"), "a day such as 2026-01-31"),
        (("--until", "2026-13-01"), "a day such as 2026-01-31"),
        (("--since", "2026-01-02", "--until", "2026-01-02"), "a time after --since 2026-01-02"),
        (("--sample", "0/5"), "a share of the accounts such as 1/100"),
        (("--sample", "3/2"), "a share of the accounts such as 1/100"),
        (("--sample", "1%"), "a share of the accounts such as 1/100"),
    ],
)
def test_a_bad_option_is_told_before_anything_is_loaded(asked, options, said):
    code, _, error = asked(*options)
    assert code == cli.USAGE
    assert said in error


def test_an_archive_where_none_was_backfilled_is_refused(audited, honest, tmp_path):
    code, _, error = audited(honest, "--archive", tmp_path / "archive")
    assert code == cli.USAGE
    assert "no archive: the journal began without one" in error


def test_a_report_that_cannot_be_written_is_told_before_the_work(asked, tmp_path):
    code, _, error = asked("--report", tmp_path / "no" / "report.html")
    assert code == cli.FAILED
    assert "is no folder" in error


def test_a_kept_journal_that_was_changed_is_refused(audited, honest, asked, tmp_path):
    folder = keep_in(tmp_path / "mine", honest)
    block = sorted(folder.glob("*.parquet"))[1]
    whole = block.read_bytes()
    block.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    code, _, error = asked("--no-record", "--journal", folder)
    assert code == cli.FAILED
    assert f"{block.name} is" in error
    assert "the file was changed or damaged" in error
    block.unlink()
    code, _, error = asked("--no-record", "--journal", folder)
    assert code == cli.FAILED
    assert "a readable block" in error
    code, _, error = asked("--no-record", "--journal", tmp_path / "nothing")
    assert code == cli.FAILED
    assert "make one with `plumbline keep`" in error


def test_the_result_is_stored_for_the_audit_light(asked, audited, honest, tmp_path, capsys):
    assert cli.run(["migrate"]) == cli.DONE
    capsys.readouterr()
    code, found, error = asked("--journal", keep_in(tmp_path / "mine", honest), "--report", tmp_path / "report.html")
    assert code == cli.DONE, error
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "plumbline.db")) as store:
        stored = store.execute("SELECT compared, different, last_sequence FROM audits").fetchall()
    assert stored == [(COUNT, 0, found["last_sequence"])]
    page = (tmp_path / "report.html").read_text()
    assert "0 differences" in page
    assert KeptJournal(tmp_path / "mine").digest in page
    assert found["versions"][0]["digests"]["saved_model.pb"] in page
