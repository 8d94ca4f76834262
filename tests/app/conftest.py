"""A console over a store filled as the ledger fills it: some thousand decisions of the last quarter of an hour."""

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from app import create_app, frontend
from features import declaration
from plumbline.settings import Settings
from store import people
from store.audits import record_audit
from store.engine import engine_at, transaction
from store.ledger import Rows, store
from store.schema import migrate
from store.users import add_user, hash_password

PASSWORD = "correct horse battery staple"
SALT = "a-salt-for-the-tests-only"
SECOND_US = 1_000_000
MERCHANTS = ("m-grocer-07", "m-fuel-118", "m-bakery-3", "m-books-21", "m-pharma-9", "m-rail-2", "m-electro-44", "m-voucher-5")
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
            answer = log_in(client, f"{role}@bank.example")
            assert answer.status_code == 302, answer.text
        return client


def log_in(client: FlaskClient, name: str, password: str = PASSWORD, **extra: Any) -> Any:
    """Send the log-in form, with its token, as a browser would."""
    token = csrf(client.get("/login").text)
    return client.post("/login", data={"email": name, "password": password, "csrf_token": token, **extra})


def csrf(page: str) -> str:
    """The token in a page's first form."""
    return page.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]


@pytest.fixture(scope="session")
def built_frontend() -> None:
    """Libraries and translations, as `make` installs them."""
    frontend.build()


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a laptop: no HTTPS."""
    folder = tmp_path_factory.mktemp("console")
    return Settings(data_dir=str(folder), https_only=False, secret_key="k" * 32, password_salt=SALT)


@pytest.fixture
def console(built_frontend: None, settings: Settings, tmp_path: Path) -> Iterator[Console]:
    """An application with seeded data; each test has its own."""
    engine = engine_at(sa.URL.create("sqlite", database=str(tmp_path / "plumbline.db")))
    migrate(engine)
    now_us = time.time_ns() // 1000
    with transaction(engine) as session:
        add_people(session)
    seed(engine, now_us)
    app = create_app(settings, engine)
    yield Console(app, engine, now_us)
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
def insert_alert(console: Console) -> Callable[..., int]:
    """A function that stores one more decision with its alert, and says the alert's transaction id."""

    def insert(transaction_id: str = "tx-late-1", loss: int = 9_999_999, **changes: Any) -> None:
        newest = 10_000 + random.Random(transaction_id).randrange(10**6)
        row = decision_row(Payment(time.time_ns() // 1000, "acc-1004", "m-voucher-5", "", loss), [], newest, 0.97)
        row.update({"transaction_id": transaction_id, **changes})
        with console.engine.begin() as connection:
            store(connection, Rows(decisions=[row], alerts=[alert_row(row)]))

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


def seed(engine: sa.Engine, now_us: int, accounts: int = 160, live: int = 900) -> None:
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
        at = now_us - 900 * SECOND_US + place * SECOND_US + rng.randrange(SECOND_US)
        number = rng.randrange(accounts)
        fraud = rng.random() < 0.05
        merchant = rng.choice(MERCHANTS[6:]) if fraud else rng.choice(MERCHANTS[:6])
        amount = rng.randrange(40_000, 480_000) if fraud else max(150, int(rng.lognormvariate(8.2, 0.6)))
        payments.append(Payment(at, f"acc-{1000 + number}", merchant, f"d-{number}", amount))
    rows = Rows()
    seen: dict[str, list[Payment]] = {}
    for sequence, payment in enumerate(payments):
        hot = payment.amount_minor > 39_000 and payment.merchant in MERCHANTS[6:]
        score = min(0.99, max(0.002, rng.gauss(0.82, 0.13))) if hot else min(0.4, abs(rng.gauss(0.02, 0.03)))
        # what nobody will look at closely gets the past of its account alone: merchants' pasts are long
        past = payments[:sequence] if hot else seen.setdefault(payment.account, [])
        row = decision_row(payment, past, sequence, None if sequence == before + 700 else score)
        seen.setdefault(payment.account, []).append(payment)
        if sequence < before:  # the month before is not live: it was decided long ago
            row["received_at_ms"] = payment.at // 1000
            row["journaled_at_ms"] = payment.at // 1000 + rng.randrange(4, 20)
        else:
            row["journaled_at_ms"] = row["received_at_ms"] + int(rng.lognormvariate(2.0, 0.55)) + 2
        rows.decisions.append(row)
        if row["outcome"] != "approve":
            rows.alerts.append(alert_row(row))
    for place, row in enumerate(rows.decisions[before - 40 : before : 9]):
        rows.labels.append(label_row(row, len(payments) + place, "genuine" if place % 2 else "fraud", now_us))
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


def decision_row(payment: Payment, past: list[Payment], sequence: int, score: float | None) -> dict[str, Any]:
    """A row of `decisions` with the history that the payments before it give."""
    outcome = "review" if score is None or 0.5 <= score < 0.9 else "decline" if score >= 0.9 else "approve"
    place = PLACES.get(payment.merchant, MUNICH)
    return {
        "transaction_id": f"tx-{sequence:06d}",
        "sequence": sequence,
        "occurred_at": payment.at,
        "account_id": payment.account,
        "merchant_id": payment.merchant,
        "device_id": payment.device,
        "amount_minor": payment.amount_minor,
        "currency": "EUR",
        "channel": "ecom" if payment.merchant in MERCHANTS[6:] else "pos",
        "mcc": "5732" if payment.merchant == "m-electro-44" else "5411",
        "country": "DE",
        "latitude_e6": place[0] if place else None,
        "longitude_e6": place[1] if place else None,
        "outcome": outcome,
        "score": score,
        "model_version": None if score is None else 3,
        "policy_version": "2026-08-standard",
        "fingerprint": declaration.fingerprint(),
        "reasons": reasons(score, outcome),
        "history": history(payment, past),
        "source_partition": 0,
        "source_offset": 4_100_000 + sequence,
        "received_at_ms": payment.at // 1000,
        "journaled_at_ms": payment.at // 1000 + 9,
        "decided_at": payment.at + 6_000,
    }


def reasons(score: float | None, outcome: str) -> list[dict[str, Any]]:
    """Reasons such as a scorer journals: a fault without a score, else features by their effect on the logit."""
    if score is None:
        return [{"kind": "fault", "code": "model_unavailable"}]
    if outcome == "approve":
        return []
    effects = {
        "amount_to_mean_30d": 1.9 + score,
        "account_merchant_ever_log": 1.12,
        "merchant_fraud_share_7d": 0.64,
        "hour_sine": 0.21,
        "hour_cosine": 0.17,
        "device_distinct_7d_log": -0.42,
    }
    found: list[dict[str, Any]] = [{"kind": "feature", "code": code, "effect": effect} for code, effect in effects.items()]
    return [{"kind": "rule", "code": "review_amount"}, *found] if score > 0.97 else found


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
    return [measured(measure, payment, mine[declaration.table(measure.table).entity]) for measure in declaration.HISTORY]


def measured(measure: declaration.Measure, payment: Payment, mine: list[Payment]) -> int:
    """One measure of an entity's payments, oldest first; fraud labels are made up."""
    entity = declaration.table(measure.table).entity
    if declaration.table(measure.table).stream == "fraud_labels":
        return {"m-voucher-5": 4, "m-electro-44": 1}.get(payment.merchant, 0) if entity == "merchant" else 0
    if measure.window:
        mine = [other for other in mine if payment.at - measure.window_us < other.at <= payment.at]
    match measure.kind:
        case "count" | "ever":
            return len(mine)
        case "sum":
            return sum(other.amount_minor for other in mine)
        case "maximum":
            return max((other.amount_minor for other in mine), default=0)
        case "distinct":
            what = "merchant" if entity == "account" else "account"
            return len({getattr(other, what) for other in mine})
        case "latitude_e6" | "longitude_e6":
            return MUNICH[0 if measure.kind == "latitude_e6" else 1] if mine else declaration.ABSENT
        case _:
            return (payment.at - mine[-1].at) // SECOND_US if mine else -1


def alert_row(row: dict[str, Any]) -> dict[str, Any]:
    """The alert that a decision opens."""
    score = 1.0 if row["score"] is None else row["score"]
    return {
        "transaction_id": row["transaction_id"],
        "outcome": row["outcome"],
        "expected_loss_minor": round(score * row["amount_minor"]),
        "opened_at": row["decided_at"],
    }


def label_row(row: dict[str, Any], sequence: int, verdict: str, now_us: int) -> dict[str, Any]:
    """A label on a decision, as the journal holds it."""
    return {
        "label_id": f"label-{sequence}",
        "sequence": sequence,
        "transaction_id": row["transaction_id"],
        "account_id": row["account_id"],
        "merchant_id": row["merchant_id"],
        "verdict": verdict,
        "source": "chargeback" if verdict == "fraud" else "analyst",
        "known_at": now_us - 3600 * SECOND_US,
        "by": "" if verdict == "fraud" else "analyst@bank.example",
        "note": "" if verdict == "fraud" else "Customer confirmed by phone.",
        "effect": "counted" if verdict == "fraud" else "not_fraud",
        "journaled_at": now_us - 3600 * SECOND_US,
    }
