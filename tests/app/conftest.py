"""A console over a store filled as the ledger fills it: some thousand decisions of the last quarter of an hour."""

import math
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from app import create_app, entries, frontend
from features import declaration
from features.grammar import ABSENT, RUNS, Measure
from plumbline.decision import MODEL_UNAVAILABLE, Decision, Outcome, Reason, Score, Source
from plumbline.journal import LabelApplied
from plumbline.label import Label
from plumbline.settings import Settings
from plumbline.transaction import Transaction
from store import people
from store.audits import record_audit
from store.drifts import record_drift
from store.engine import engine_at, transaction
from store.ledger import Rows, store
from store.schema import migrate
from store.tables import DriftFigure, DriftRun
from store.users import add_user, hash_password
from tests.app.registered import add_models

PASSWORD = "correct horse battery staple"
SALT = "a-salt-for-the-tests-only"
SECOND_US = 1_000_000
MERCHANTS = (
    "m-grocer-07",
    "m-fuel-118",
    "m-bakery-3",
    "m-books-21",
    "m-pharma-9",
    "m-rail-2",
    "m-electro-44",
    "m-voucher-5",
)
PLACES = {"m-electro-44": (52_520_008, 13_404_954), "m-voucher-5": None}
MUNICH = (48_137_154, 11_576_124)


@dataclass(frozen=True)
class Console:
    """An application, its store, and the moment its data ends at."""

    app: Flask
    engine: sa.Engine
    now_us: int

    def client(self, role: str | None = None) -> FlaskClient:
        """A browser; logged in as the person of a role where one is given."""
        client = self.app.test_client()
        if role is not None:
            answer = send_log_in(client, f"{role}@bank.example")
            assert answer.status_code == 302, answer.text
        return client


@pytest.fixture
def log_in() -> Callable[..., Any]:
    """A function that sends the log-in form: client, name, password, and more fields."""
    return send_log_in


@pytest.fixture
def token_of() -> Callable[[str], str]:
    """A function that finds the CSRF token in a page."""
    return csrf


def send_log_in(client: FlaskClient, name: str, password: str = PASSWORD, **extra: Any) -> Any:
    """Send the log-in form, with its token, as a browser would."""
    token = csrf(client.get("/login").text)
    return client.post("/login", data={"email": name, "password": password, "csrf_token": token, **extra})


def csrf(page: str) -> str:
    """The token in a page's first form."""
    return page.split('name="csrf_token"')[1].split('value="')[1].split('"', maxsplit=1)[0]


@pytest.fixture(scope="session")
def built_frontend() -> None:
    """Libraries and translations, as `make` installs them."""
    frontend.build()


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a laptop: no HTTPS."""
    folder = tmp_path_factory.mktemp("console")
    return Settings(data_dir=str(folder), https_only=False, secret_key="k" * 32, password_salt=SALT)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A filled database, made once a run for tests to copy, and the moment its data ends at."""
    file, now_us = tmp_path_factory.mktemp("seeded") / "plumbline.db", time.time_ns() // 1000
    engine = engine_at(sa.URL.create("sqlite", database=str(file)))
    migrate(engine)
    with transaction(engine) as session:
        add_people(session)
    seed(engine, now_us)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    return file, now_us


@pytest.fixture
def console(built_frontend: None, settings: Settings, seeded: tuple[Path, int], tmp_path: Path) -> Iterator[Console]:
    """An application with seeded data; each test has its own copy."""
    file = shutil.copy(seeded[0], tmp_path / "plumbline.db")
    engine = engine_at(sa.URL.create("sqlite", database=str(file)))
    app = create_app(settings, engine)
    yield Console(app, engine, seeded[1])
    app.extensions["plumbline.desk"].close()
    engine.dispose()


@pytest.fixture
def empty_console(built_frontend: None, settings: Settings, tmp_path: Path) -> Iterator[Console]:
    """An application whose store has people and nothing else."""
    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    migrate(engine)
    with transaction(engine) as session:
        add_people(session)
    app = create_app(settings, engine)
    yield Console(app, engine, time.time_ns() // 1000)
    app.extensions["plumbline.desk"].close()
    engine.dispose()


@pytest.fixture
def insert_alert(console: Console) -> Callable[..., None]:
    """A function that stores one more decision with its alert, as the ledger would."""

    def insert(transaction_id: str = "tx-late-1", amount_minor: int = 9_999_999, **changes: Any) -> None:
        sequence = 10_000 + random.Random(transaction_id).randrange(10**6)
        payment = Payment(time.time_ns() // 1000, "acc-1004", "m-voucher-5", "", amount_minor)
        decided = decision(payment, [], sequence, 0.97)
        transaction = msgspec.structs.replace(decided.transaction, transaction_id=transaction_id, **changes)
        rows = Rows()
        entries.add(rows, msgspec.structs.replace(decided, transaction=transaction), sequence, payment.at // 1000 + 9)
        with console.engine.begin() as connection:
            store(connection, rows)

    return insert


_HASHES: dict[str, str] = {}


def add_people(session: Any) -> None:
    """One person a role, all with the same password, which is hashed once a run."""
    if PASSWORD not in _HASHES:
        _HASHES[PASSWORD] = hash_password(PASSWORD, SALT)
    for number, role in enumerate(people.ROLES):
        add_user(
            session,
            email=f"{role}@bank.example",
            name=role.title(),
            roles=[role],
            password_hash=_HASHES[PASSWORD],
            uniquifier=f"{number:032d}",
        )


@dataclass(frozen=True)
class Payment:
    """A payment as it is made up here."""

    at: int
    account: str
    merchant: str
    device: str
    amount_minor: int


def seed(engine: sa.Engine, now_us: int, accounts: int = 160, live: int = 1200) -> None:
    """A month of habits, a quarter of an hour of live traffic, some frauds in it, labels and an exact audit."""
    rng = random.Random(20260801)
    payments = []
    for number in range(accounts):
        habit = math.exp(rng.gauss(8.3, 0.5))
        for _ in range(rng.randrange(8, 26)):
            at = now_us - rng.randrange(3600, 30 * 86_400) * SECOND_US
            merchant = rng.choice(MERCHANTS[:6])
            amount = max(150, int(rng.lognormvariate(math.log(habit), 0.5)))
            payments.append(Payment(at, f"acc-{1000 + number}", merchant, f"d-{number}", amount))
    payments.sort(key=lambda payment: payment.at)
    before = len(payments)
    for place in range(live):
        at = now_us - 900 * SECOND_US + 900 * SECOND_US * place // live - rng.randrange(12 * SECOND_US)
        number = rng.randrange(accounts)
        fraud = rng.random() < 0.05
        merchant = rng.choice(MERCHANTS[6:]) if fraud else rng.choice(MERCHANTS[:6])
        amount = rng.randrange(40_000, 480_000) if fraud else max(150, int(rng.lognormvariate(8.2, 0.6)))
        payments.append(Payment(at, f"acc-{1000 + number}", merchant, f"d-{number}", amount))
    payments[before:] = sorted(payments[before:], key=lambda payment: payment.at)
    rows = Rows()
    seen: dict[str, list[Payment]] = {}
    labelled: list[Decision] = []
    for sequence, payment in enumerate(payments):
        hot = payment.amount_minor > 39_000 and payment.merchant in MERCHANTS[6:]
        score = min(0.99, max(0.002, rng.gauss(0.82, 0.13))) if hot else min(0.4, abs(rng.gauss(0.02, 0.03)))
        # what nobody will look at closely gets the past of its account alone: merchants' pasts are long
        past = payments[:sequence] if hot else seen.setdefault(payment.account, [])
        # the month before is not live: it was decided long ago
        took_ms = rng.randrange(4, 20) if sequence < before else int(rng.lognormvariate(2.0, 0.55)) + 2
        decided = decision(payment, past, sequence, None if sequence == before + 700 else score)
        entries.add(rows, decided, sequence, payment.at // 1000 + took_ms)
        seen.setdefault(payment.account, []).append(payment)
        if before - 40 <= sequence < before and sequence % 9 == 0:
            labelled.append(decided)
    for place, decided in enumerate(labelled):
        known = label(decided, "genuine" if place % 2 else "fraud", now_us)
        entries.add(rows, known, len(payments) + place, now_us // 1000)
    with engine.begin() as connection:
        store(connection, rows)
    with transaction(engine) as session:
        record_audit(
            session,
            started_at=now_us - 200 * SECOND_US,
            finished_at=now_us - 190 * SECOND_US,
            first_sequence=0,
            last_sequence=len(payments) - 1,
            compared=len(payments),
            different=0,
            detail=[],
        )
        record_drift(session, *drift_run(now_us, level="warn"))
        add_models(session, now_us)


def drift_run(now_us: int, level: str, far: tuple[str, ...] = ("amount_log",)) -> tuple[DriftRun, list[DriftFigure]]:
    """A drift run with every declared feature: those that are far have the level, all others are calm."""
    rng = random.Random(level)
    run = DriftRun(
        started_at=now_us - 70 * SECOND_US, finished_at=now_us - 60 * SECOND_US, since_ms=now_us // 1000 - 86_400_000,
        until_ms=now_us // 1000 - 60_000, model_version=3, trained="2026-03-01..2026-07-28", compared=4200, level=level,
    )  # fmt: skip
    figures = []
    for feature in declaration.FEATURES:
        words = ["ecom", "pos"] if feature.name == "channel" else ["A", "B", "C"] if feature.is_category else []
        edges = [float(n + 1) for n in range(len(words))] or [n / 2 - 2 for n in range(9)]
        then = [rng.randrange(40), *(1000 + rng.randrange(30) for _ in range(len(edges) + 1))]
        is_far = feature.name in far
        now = [rows * (1 + place * is_far) for place, rows in enumerate(then)]
        figures.append(
            DriftFigure(
                kind="feature",
                name=feature.name,
                psi=0.21 if is_far else rng.random() / 50,
                level=level if is_far else "calm",
                missing_then=then[0] / sum(then),
                missing_now=now[0] / sum(now),
                bins={"edges": edges, "words": words, "then": then, "now": now},
            )
        )
    bins = {"edges": [0.001, 0.25], "words": [], "then": [0, 900, 90, 10], "now": [0, 3800, 360, 40]}
    score = DriftFigure(
        kind="score", name="score", psi=0.002, level="calm", missing_then=0.0, missing_now=0.0, bins=bins
    )
    return run, [score, *figures]


@pytest.fixture
def drifted(console: Console) -> Callable[..., int]:
    """A function that stores a drift run of a level, in which the named features are far off; returns its id."""

    def record(level: str, *far: str) -> int:
        with transaction(console.engine) as session:
            return record_drift(session, *drift_run(console.now_us, level, far)).id

    return record


def decision(payment: Payment, past: list[Payment], sequence: int, score: float | None) -> Decision:
    """A decision with the history that the payments before it give."""
    place = PLACES.get(payment.merchant, MUNICH)
    outcome, found = decide_by(score)
    return Decision(
        transaction=Transaction(
            transaction_id=f"tx-{sequence:06d}",
            occurred_at=payment.at,
            account_id=payment.account,
            merchant_id=payment.merchant,
            device_id=payment.device,
            amount_minor=payment.amount_minor,
            currency="EUR",
            channel="ecom" if payment.merchant in MERCHANTS[6:] else "pos",
            mcc="5732" if payment.merchant == "m-electro-44" else "5411",
            country="DE",
            latitude_e6=place[0] if place else None,
            longitude_e6=place[1] if place else None,
        ),
        source=Source("transactions", 0, 4_100_000 + sequence, payment.at // 1000),
        history=tuple(history(payment, past)),
        fingerprint=declaration.fingerprint(),
        scores=() if score is None else (Score(3, score),),
        policy_version="2026-08-standard",
        outcome=outcome,
        reasons=found,
        decided_at=payment.at + 6_000,
    )


def decide_by(score: float | None) -> tuple[Outcome, tuple[Reason, ...]]:
    """An outcome, and reasons such as a scorer journals: a fault without a score, else rules and features' effects."""
    if score is None:
        return Outcome.REVIEW, (MODEL_UNAVAILABLE,)
    if score < 0.5:
        return Outcome.APPROVE, ()
    effects = {
        "amount_to_mean_30d": 1.9 + score,
        "account_merchant_ever_log": 1.12,
        "merchant_fraud_share_7d": 0.64,
        "hour_sine": 0.21,
        "hour_cosine": 0.17,
        "device_distinct_7d_log": -0.42,
    }
    rules = (Reason("rule", "review_amount"),) if score > 0.97 else ()
    features = tuple(Reason("feature", code, effect) for code, effect in effects.items())
    return Outcome.DECLINE if score >= 0.9 else Outcome.REVIEW, rules + features


KEYS = {
    "account": ("account",),
    "merchant": ("merchant",),
    "device": ("device",),
    "account_merchant": ("account", "merchant"),
}


def history(payment: Payment, past: list[Payment]) -> list[int]:
    """The measures of the payments before this one, in the plainest way."""
    mine = {
        entity: [other for other in past if all(getattr(other, key) == getattr(payment, key) for key in keys)]
        for entity, keys in KEYS.items()
    }
    return [
        measured(measure, payment, mine[declaration.DECLARATION.table(measure.table).entity])
        for measure in declaration.HISTORY
    ]


def measured(measure: Measure, payment: Payment, mine: list[Payment]) -> int:
    """One measure of an entity's payments, oldest first; fraud labels are made up."""
    entity = declaration.DECLARATION.table(measure.table).entity
    if measure.kind.startswith("seconds_since") and measure.table.endswith("_fraud"):
        return -1
    if declaration.DECLARATION.table(measure.table).stream == "fraud_labels":
        return {"m-voucher-5": 4, "m-electro-44": 1}.get(payment.merchant, 0) if entity == "merchant" else 0
    if measure.kind in RUNS:
        return -1 if measure.kind == "seconds_since_fraud_run" else 0
    if measure.window:
        mine = [other for other in mine if payment.at - measure.window_us < other.at <= payment.at]
    match measure.kind:
        case "count" | "ever":
            return len(mine)
        case "sum":
            return sum(other.amount_minor for other in mine)
        case "maximum":
            return max((other.amount_minor for other in mine), default=0)
        case "unusual":
            return sum(other.amount_minor > 50_000 for other in mine)
        case "squares":
            return sum(other.amount_minor**2 for other in mine)
        case "distinct":
            what = "merchant" if entity == "account" else "account"
            return len({getattr(other, what) for other in mine})
        case "latitude_e6" | "longitude_e6":
            return MUNICH[0 if measure.kind == "latitude_e6" else 1] if mine else ABSENT
        case _:
            return (payment.at - mine[-1].at) // SECOND_US if mine else -1


def label(decided: Decision, verdict: Any, now_us: int) -> LabelApplied:
    """A label on a decision: fraud by chargeback, else an analyst's word."""
    fraud = verdict == "fraud"
    return LabelApplied(
        label=Label(
            label_id=f"label-{decided.transaction.transaction_id}",
            transaction_id=decided.transaction.transaction_id,
            verdict=verdict,
            source="chargeback" if fraud else "analyst",
            known_at=now_us - 3600 * SECOND_US,
            by="" if fraud else "analyst@bank.example",
            note="" if fraud else "Customer confirmed by phone.",
        ),
        source=Source("labels", 0, 7, now_us // 1000),
        effect="counted" if fraud else "not_fraud",
        account_id=decided.transaction.account_id,
        merchant_id=decided.transaction.merchant_id,
        journaled_at=now_us - 3599 * SECOND_US,
    )
