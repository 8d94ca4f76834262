"""From training to a run over a real journal: a world that stays raises nothing, a changed one what it touches."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from archive.layout import LABEL_SCHEMA, TRANSACTION_SCHEMA, write_archive
from archive.rows import transactions_of
from features.declaration import FEATURE_NAMES, FEATURES, HISTORY
from features.reference import counted, read_reference, reference_file
from plumbline import transaction as transactions
from plumbline.cli import main as cli
from plumbline.decision import Decision, DeclaredHistory, Score
from plumbline.journal import ControlApplied
from plumbline.label import Label
from plumbline.policy import Policy
from serving.client import ModelClient
from store.drifts import figures_of, newest_drift, newest_drifts
from store.engine import engine_at
from streaming.batch import process
from streaming.known import Known
from streaming.model import Model
from streaming.state import State
from tests.archived import backfilled
from tests.fakes import NOW, Clock, FakeClient, Numbered, fake_model, payment, raw
from tests.journal_writer import JournalWriter, read_topic
from tests.serving_process import ModelServer

pytestmark = pytest.mark.slow

DAY = 86_400_000_000
FIRST = 17_800 * DAY
DAYS, ROWS = 300, 72_000
LIVE = FIRST + 279 * DAY
"""Training days 240 to 269, when the longest window is full and reports are as old as they get; test days 272 to 278;
then the live stream."""
RARE_SHARE = 0.01
"""Share of the transactions that come from accounts of which hardly one was seen before, however long the past."""


def steady_archive(folder):
    """A world in which nothing changes: every day's transactions are drawn alike, each by itself."""
    random = np.random.default_rng(3)
    occurred_at = FIRST + np.sort(random.integers(0, DAYS * DAY, ROWS))
    fraud = random.random(ROWS) < 0.05
    amount = np.exp(random.normal(8, 0.5, ROWS) + 1.0 * fraud).astype(np.int64)
    often, rare = random.integers(0, 1000, ROWS), random.integers(2000, 30_000, ROWS)
    accounts = [f"account-{n}" for n in np.where(random.random(ROWS) < RARE_SHARE, rare, often)]
    merchants = [f"merchant-{n}" for n in random.integers(0, 1500, ROWS)]
    rows = pa.table(
        {
            "transaction_id": [f"t{n:06}" for n in range(ROWS)],
            "occurred_at": occurred_at,
            "account_id": accounts,
            "merchant_id": merchants,
            "device_id": [f"device-{n}" for n in random.integers(0, 2500, ROWS)],
            "amount_minor": amount,
            "currency": random.choice(["EUR", "GBP"], ROWS, p=[0.8, 0.2]),
            "channel": random.choice(["pos", "ecom", "atm"], ROWS),
            "mcc": random.choice(["5411", "5812", "4111"], ROWS),
            "country": random.choice(["FR", "DE"], ROWS),
            "latitude_e6": pa.array(random.integers(40_000_000, 50_000_000, ROWS), pa.int32()),
            "longitude_e6": pa.array(random.integers(0, 10_000_000, ROWS), pa.int32()),
        },
        schema=TRANSACTION_SCHEMA,
    )
    at = np.flatnonzero(fraud)
    labels = pa.table(
        {
            "label_id": [f"l{n}" for n in at],
            "transaction_id": [f"t{n:06}" for n in at],
            "account_id": [accounts[n] for n in at],
            "merchant_id": [merchants[n] for n in at],
            "verdict": ["fraud"] * len(at),
            "source": ["chargeback"] * len(at),
            "known_at": occurred_at[at] + 2 * DAY,
            "note": [""] * len(at),
        },
        schema=LABEL_SCHEMA,
    )
    return write_archive(folder, [rows], labels, "test")


@dataclass(frozen=True)
class Trained:
    """A model that `plumbline train` made, in a folder of models, and the archive it was trained on."""

    models: str
    archive: object
    version: object


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from training.fit import Recipe
    from training.train import train
    from training.windows import Windows, parse_days

    folder = tmp_path_factory.mktemp("trained")
    archive = steady_archive(folder / "archive")
    windows = Windows(parse_days("2019-05-24..2019-06-22"), 2, parse_days("2019-06-25..2019-07-01"))
    assert windows.test.until_us == LIVE
    made = train(
        archive, windows, Recipe(epochs=2), base=folder / "models" / "plumbline", cache=folder / "cache", now_us=NOW
    )
    return Trained(folder / "models", archive, made.folder)


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "serve.log"
    with ModelServer(trained.models / "plumbline", log) as running:
        running.wait_for("serving")
        yield running


@pytest.fixture(scope="module")
def live(trained):
    """The transactions after the training and test days, as the stream would bring them."""
    batches = [batch for part, batch in trained.archive.arrivals(since_us=LIVE) if part == "transactions"]
    return [each for batch in batches for each in transactions_of(batch)]


@pytest.fixture(scope="module")
def decided(trained, server, live, tmp_path_factory):
    """A function: the journal that a scorer would write when the live transactions came with these changes."""

    def decide(change):
        folder = tmp_path_factory.mktemp("state")
        state = backfilled(trained.archive, folder, until_us=LIVE, remembered=100_000)
        state.policy = Policy(version="drifting", review_at=0.9, decline_at=0.95)
        topic, told = Numbered("transactions"), Numbered("labels")
        reports = trained.archive.labels(since_us=LIVE).to_pylist()
        found = [ControlApplied(policy=state.policy, source=None, journaled_at=NOW)]
        with ModelClient(server.target, "plumbline", 60_000) as client:
            model = Model(client, Clock().monotonic)
            for begin in range(0, len(live), 500):
                come = live[begin : begin + 500]
                due = [each for each in reports if each["known_at"] <= come[-1].occurred_at]
                reports = reports[len(due) :]
                said = [told.message(msgspec.json.encode(label_of(each))) for each in due]
                sent = [topic.message(transactions.encode(change(each))) for each in come]
                found += process(state, model, label=said, transaction=sent, now_us=NOW).entries
        assert all(each.scores for each in found if isinstance(each, Decision))
        return found

    return decide


def label_of(row):
    """A row of the archive's labels, as the stream would bring it."""
    return Label(**{name: row[name] for name in ("label_id", "transaction_id", "verdict", "source", "known_at")})


def unchanged(each):
    return each


def three_times(each):
    return msgspec.structs.replace(each, amount_minor=3 * each.amount_minor)


def elsewhere(each):
    """Terminals stop telling where they are, and money of another country comes in."""
    return msgspec.structs.replace(each, latitude_e6=None, longitude_e6=None, currency="SEK")


@pytest.fixture(scope="module")
def journals(decided):
    return {change.__name__: decided(change) for change in (unchanged, three_times, elsewhere)}


@pytest.fixture
def asked(kafka, topic_prefix, trained, server, tmp_path, monkeypatch, capsys):
    """Runs the command on the test's own journal and data folder; returns exit code, JSON and error text."""
    monkeypatch.setenv("PLUMBLINE_KAFKA_BOOTSTRAP", kafka.bootstrap)
    monkeypatch.setenv("PLUMBLINE_TOPIC_PREFIX", topic_prefix)
    monkeypatch.setenv("PLUMBLINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PLUMBLINE_MODEL_SERVER", server.target)

    def ask(*arguments, models_dir=trained.models):
        code = cli.run(["drift", "--json", "--models-dir", str(models_dir), *arguments])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return ask


def written(kafka, prefix, entries, size=2000):
    with contextlib.closing(JournalWriter(kafka.bootstrap, prefix)) as writer:
        writer.write(entries, size=size)


def raised(found):
    (run,) = found["runs"]
    return {name for name, each in run["features"].items() if each["level"] in ("warn", "alarm")}


def fed_by(*names):
    """Features that these measures or raw columns enter."""
    return {each.name for each in FEATURES if set(each.inputs) & set(names)}


def test_training_leaves_a_reference_of_its_own_rows(trained):
    reference = read_reference(trained.version)
    card = json.loads((trained.version / "assets.extra" / "plumbline.json").read_text())
    assert tuple(each.name for each in reference.features) == FEATURE_NAMES
    assert (reference.declaration.fingerprint, reference.train, reference.test) == (
        card["fingerprint"], card["train"], card["test"],
    )  # fmt: skip
    assert {sum(each.counts) for each in reference.features} == {card["rows"]["train"]}
    assert sum(reference.score.counts) == card["rows"]["test"]
    by_name = {each.name: each for each in reference.features}
    assert by_name["currency"].words == ("EUR", "GBP")
    assert by_name["currency"].counts[0] == 0
    assert by_name["amount_log"].counts[0] == 0
    assert np.ptp(by_name["amount_log"].counts[1:]) <= 0.01 * card["rows"]["train"]
    assert by_name["account_known"].counts[0] == 0
    never = by_name["account_seconds_since_log"].counts[0]
    assert by_name["account_known"].counts[1] == never > 0, "the first bin of whether it is known is those that are not"
    assert reference_file(trained.version).stat().st_size < 50_000


def test_a_world_that_stays_as_it_was_raises_nothing(kafka, topic_prefix, asked, journals, live):
    written(kafka, topic_prefix, journals["unchanged"])
    code, found, error = asked("--no-record")
    assert code == cli.DONE, error
    assert raised(found) == set(), found["runs"]
    (run,) = found["runs"]
    assert run["level"] == "calm"
    assert run["compared"] == len(live)
    assert run["score_psi"] < 0.1


def test_amounts_three_times_as_high_raise_what_reads_amounts_and_nothing_else(
    kafka, topic_prefix, asked, journals, tmp_path, capsys
):
    written(kafka, topic_prefix, journals["three_times"])
    assert cli.run(["migrate"]) == cli.DONE
    capsys.readouterr()
    code, found, error = asked()
    assert code == cli.DONE, error
    sums = [each.name for each in HISTORY if each.kind in ("sum", "maximum", "squares", "unusual")]
    surely = {"amount_log", "amount_to_mean_30d", "amount_to_maximum_30d", "amount_to_merchant_mean_30d"}
    assert surely <= raised(found) <= fed_by("amount_minor", *sums)
    (run,) = found["runs"]
    assert run["level"] == "alarm"
    assert run["worst_psi"] == max(each["psi"] for each in run["features"].values())
    assert run["worst_feature"] in surely
    assert run["score_psi"] > 0.25, "the model was taught that high amounts are fraud"
    assert all(
        each["missing_now"] == pytest.approx(each["missing_then"], abs=0.05) for each in run["features"].values()
    )

    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    with Session(engine) as session:
        stored = newest_drift(session)
        assert (stored.level, stored.compared, stored.model_version) == ("alarm", run["compared"], 1)
        score, first, *_ = figures_of(session, stored)
        assert (score.kind, score.psi) == ("score", run["score_psi"])
        assert (first.name, first.psi) == (run["worst_feature"], run["worst_psi"])
        assert sum(first.bins["now"]) == run["compared"]
    engine.dispose()


def test_places_that_are_not_told_and_an_unknown_currency_are_missing(kafka, topic_prefix, asked, journals):
    written(kafka, topic_prefix, journals["elsewhere"])
    code, found, error = asked("--no-record")
    assert code == cli.DONE, error
    features = found["runs"][0]["features"]
    for name in ("distance_km", "speed_kmh", "currency"):
        assert features[name]["level"] == "alarm"
        assert features[name]["missing_now"] == 1.0
        assert features[name]["missing_then"] < 0.6
    assert raised(found) <= fed_by("latitude_e6", "currency", "account_seconds_since_place")


def test_a_window_is_taken_by_the_brokers_time_and_files_give_what_the_server_gives(
    kafka, topic_prefix, asked, journals, live
):
    written(kafka, topic_prefix, journals["unchanged"])
    before = read_topic(kafka.bootstrap, f"{topic_prefix}decisions")[-1].timestamp
    while (written_at := read_topic(kafka.bootstrap, f"{topic_prefix}decisions")[-1].timestamp) == before:
        written(kafka, topic_prefix, journals["three_times"])
    split = str(np.datetime64(before + 1, "ms"))
    calm, moved = asked("--no-record", "--until", split), asked("--no-record", "--since", split)
    assert (calm[0], moved[0]) == (cli.DONE, cli.DONE)
    assert raised(calm[1]) == set()
    assert "amount_log" in raised(moved[1])
    assert moved[1]["until_ms"] == written_at + 1
    assert calm[1]["runs"][0]["compared"] == moved[1]["runs"][0]["compared"] == len(live)
    assert asked("--no-record", "--since", split, "--in-process")[1] == moved[1]
    both = asked("--no-record")[1]["runs"][0]
    assert both["compared"] == 2 * len(live)
    assert asked("--no-record", "--until", "2001-01-01")[1]["runs"] == []


def test_what_was_counted_is_what_the_graph_gives(kafka, topic_prefix, asked, journals, trained, tmp_path, capsys):
    """One feature by another way: the version loaded here, over the journaled rows, in one call."""
    from audit.models import inputs
    from training.evaluate import load_version

    written(kafka, topic_prefix, journals["three_times"])
    assert cli.run(["migrate"]) == cli.DONE
    capsys.readouterr()
    assert asked()[0] == cli.DONE
    rows = [each for each in journals["three_times"] if isinstance(each, Decision)]
    history = np.array([each.history for each in rows], np.int64)
    values = load_version(trained.version).call("transform", inputs([each.transaction for each in rows], history))
    reference = {each.name: each for each in read_reference(trained.version).features}
    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    with Session(engine) as session:
        figures = {each.name: each for each in figures_of(session, newest_drift(session))}
    engine.dispose()
    for name in ("amount_log", "account_known", "channel"):
        nothing = values[name] == 0 if name == "channel" else np.zeros(len(rows), np.bool_)
        assert figures[name].bins["now"] == counted(reference[name].edges, values[name], nothing).tolist()
        assert figures[name].bins["then"] == list(reference[name].counts)


def test_a_version_that_is_no_longer_served_is_loaded_and_one_without_a_reference_is_named(
    kafka, topic_prefix, asked, journals, trained, tmp_path
):
    models = tmp_path / "elsewhere"
    shutil.copytree(trained.version, models / "plumbline" / "7")

    def by(version, entries):
        return [
            msgspec.structs.replace(each, scores=(msgspec.structs.replace(each.scores[0], model_version=version),))
            for each in entries
            if isinstance(each, Decision)
        ]

    entries = journals["unchanged"]
    written(kafka, topic_prefix, by(7, entries))
    code, found, error = asked("--no-record", models_dir=models)
    assert code == cli.DONE, error
    assert [each["model_version"] for each in found["runs"]] == [7]
    assert raised(found) == set()

    written(kafka, topic_prefix, by(8, entries)[:1500])
    code, found, error = asked("--no-record", models_dir=models)
    assert code == cli.DONE, error
    assert list(found["not_compared"]) == ["8"]

    shutil.copytree(trained.version / "assets.extra", models / "plumbline" / "8" / "assets.extra")
    code, found, error = asked("--no-record", models_dir=models)
    assert code == cli.DONE, error
    assert "cannot be loaded" in found["not_compared"]["8"]
    assert [each["model_version"] for each in found["runs"]] == [7]

    reference_file(models / "plumbline" / "7").unlink()
    code, _, error = asked("--no-record", models_dir=models)
    assert code == cli.FAILED
    assert "was trained by an older release" in error


def test_a_shadow_is_compared_by_its_own_history_and_the_deciding_version_comes_last(
    kafka, topic_prefix, asked, journals, trained, live, tmp_path
):
    """Version 9 decided under another declaration; version 1 scored beside it, with its history recorded beside."""
    models = tmp_path / "both"
    for number in ("1", "9"):
        shutil.copytree(trained.version, models / "plumbline" / number)
    reference = read_reference(trained.version)
    shorter = msgspec.structs.replace(reference.declaration, lateness_us=reference.declaration.lateness_us + 1)
    file = reference_file(models / "plumbline" / "9")
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(reference, declaration=shorter)))

    def beside(decision):
        return msgspec.structs.replace(
            decision,
            fingerprint=shorter.fingerprint,
            scores=(Score(9, 0.0), *decision.scores),
            other_histories=(DeclaredHistory(decision.fingerprint, decision.history),),
        )

    rows = [each for each in journals["unchanged"] if isinstance(each, Decision)]
    alone = [msgspec.structs.replace(beside(each), other_histories=()) for each in rows[-7:]]
    written(kafka, topic_prefix, [*map(beside, rows[:-7]), *alone])
    code, found, error = asked("--no-record", models_dir=models)
    assert code == cli.DONE, error
    shadow, deciding = found["runs"]
    assert (shadow["model_version"], deciding["model_version"]) == (1, 9)
    assert (shadow["compared"], deciding["compared"]) == (len(live) - 7, len(live))
    assert found["other_declaration"] == 7
    assert shadow["level"] == "calm"
    assert deciding["score_psi"] > 1, "its scores are all 0"
    assert deciding["level"] == "alarm"
    assert {each["level"] for each in deciding["features"].values()} == {"calm"}


def test_few_decisions_no_model_and_no_journal_are_said_plainly(kafka, topic_prefix, asked, journals):
    written(kafka, topic_prefix, [])
    code, found, _ = asked("--no-record")
    assert (code, found["runs"], found["unscored"]) == (cli.DONE, [], 0)
    client = FakeClient()
    client.down = True
    state = State(Known(100))
    state.policy = Policy(version="p")
    entries = process(
        state, fake_model(client), transaction=[Numbered("transactions").message(raw(payment(1)))], now_us=NOW
    ).entries
    decisions = [each for each in journals["three_times"] if isinstance(each, Decision)]
    written(kafka, topic_prefix, [*entries, *decisions[:799]])
    code, found, _ = asked("--no-record")
    (run,) = found["runs"]
    assert (code, found["unscored"], run["level"], run["compared"]) == (cli.DONE, 1, "few", 799)
    assert run["worst_psi"] is None
    assert {each["psi"] for each in run["features"].values()} == {None}


def test_a_large_window_is_sampled_evenly(kafka, topic_prefix, asked, journals, live, monkeypatch):
    monkeypatch.setattr("drift.window.DECISIONS_MOST", 1700)
    written(kafka, topic_prefix, journals["unchanged"])
    code, found, error = asked("--no-record")
    assert code == cli.DONE, error
    assert found["one_of"] >= 3
    assert found["runs"][0]["compared"] == pytest.approx(len(live) / found["one_of"], rel=0.01)
    assert raised(found) == set()


def test_a_sample_does_not_fall_into_step_with_the_marks_between_decisions(
    kafka, topic_prefix, asked, journals, monkeypatch
):
    """A scorer that decides one transaction at a time leaves a decision at every second offset alone."""
    rows = [each for each in journals["unchanged"] if isinstance(each, Decision)][:301]
    monkeypatch.setattr("drift.window.DECISIONS_MOST", 500)
    written(kafka, topic_prefix, rows, size=1)
    code, found, error = asked("--no-record")
    assert code == cli.DONE, error
    assert found["one_of"] == 2
    assert found["runs"][0]["compared"] in (150, 151)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "a day or time such as 2026-03-01"),
        (("--since", "2026-03-02", "--until", "2026-03-01"), "a time before --until"),
    ],
)
def test_a_window_that_is_none_is_wrong_usage(asked, arguments, said):
    code, _, error = asked(*arguments)
    assert code == cli.USAGE
    assert said in error


def test_it_follows_the_journal_until_it_is_told_to_stop(kafka, topic_prefix, trained, server, journals, tmp_path):
    written(kafka, topic_prefix, journals["unchanged"][:1500])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
    environ = kept | {
        "PLUMBLINE_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "PLUMBLINE_TOPIC_PREFIX": topic_prefix,
        "PLUMBLINE_DATA_DIR": str(tmp_path),
        "PLUMBLINE_MODEL_SERVER": server.target,
    }
    command = [sys.executable, "-m", "plumbline.cli.main"]
    subprocess.run([*command, "migrate"], env=environ, check=True, capture_output=True)
    following = subprocess.Popen(
        [*command, "drift", "--follow", "0.02", "--json", "--models-dir", str(trained.models)],
        env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first, second = (json.loads(following.stdout.readline()) for _ in range(2))
        assert first["runs"] == second["runs"] != []
        mapped = (path.split()[-1] for path in open(f"/proc/{following.pid}/maps"))  # noqa: SIM115
        assert not any("libtensorflow" in path for path in mapped), "it is a small process"
    finally:
        following.send_signal(signal.SIGTERM)
    assert following.wait(30) == 0
    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    with Session(engine) as session:
        assert len(newest_drifts(session)) >= 2
    engine.dispose()
