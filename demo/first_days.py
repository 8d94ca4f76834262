"""The first days of the demo's stream: decided, compared, and worked on by an analyst, so that no page is empty.

All of it is made by the parts themselves: the scorer decides, the ledger stores, the registry releases, and the
verdicts go through the outbox. Each step is skipped when its result is there.
"""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from archive.simulation.run import Days, read_plan
from demo.prepare import ANALYST, BANK_FILE, ENGINEER, FIRST_DAYS, SUPERVISOR, Plan
from demo.resume import newest
from features.reference import reference_file
from plumbline.errors import Unready
from plumbline.names import Topic
from plumbline.transaction import DAY_US
from store.alerts import OPEN
from store.drifts import newest_drift
from store.engine import transaction
from store.labels import record_verdict
from store.ledger import next_offset
from store.models import model_versions
from store.tables import Alert, Decision, Verdict
from streaming.parts import step

OPEN_DAYS: Final = 3
"""Alerts of the last of the first days are left to the visitor."""

LEDGER_SECONDS: Final = 120.0
LOOK_SECONDS: Final = 0.2
LABEL_ID_BYTES: Final = 16

NowUs = Callable[[], int]


def play_first_days(environ: Mapping[str, str], folder: Path, plan: Plan, resume_us: int) -> int:
    """Play the first days at the scorer's pace; the time from which the stream goes on."""
    if resume_us >= plan.first_days_end_us:
        return resume_us
    bank = ["--bank", str(folder / BANK_FILE), "--from-sequence", str(resume_us)]
    step(environ, "play", *bank, "--to-sequence", str(plan.first_days_end_us), "--in-step", "--json")
    return plan.first_days_end_us


def wait_for_ledger(engine: Engine, bootstrap: str, stop: Event) -> None:
    """Wait until SQL holds all of the journal. Raises Unready when it does not within two minutes."""
    wanted = max((record.offset + 1 for record in newest(bootstrap, Topic.DECISIONS)), default=0)
    waited = 0.0
    while not stop.is_set():
        with engine.connect() as connection:
            stored = next_offset(connection, Topic.DECISIONS.value, 0) or 0
        if stored >= wanted:
            return
        if waited >= LEDGER_SECONDS:
            raise Unready(f"the ledger has stored {stored} of {wanted} entries of the journal: see ledger.log")
        stop.wait(LOOK_SECONDS)
        waited += LOOK_SECONDS


def release_first_model(engine: Engine, environ: Mapping[str, str], version: int) -> None:
    """Make the version the champion, as two people would."""
    with transaction(engine) as session:
        registered = any(each.version == version for each in model_versions(session))
    if not registered:  # as when its training was stopped just behind the export
        step(environ, "models", "register", str(version), "--by", ENGINEER, "--json")
    promote = ("models", "promote", str(version), "--to", "champion")
    step(environ, *promote, "--by", ENGINEER, "--why", "the first model", "--over", "--json")
    step(environ, *promote, "--by", SUPERVISOR, "--approve", "--few", "--json")


def give_verdicts(engine: Engine, folder: Path, plan: Plan, now_us: NowUs) -> None:
    """Close the alerts of the first days but the last three, as an analyst who asks the customers.

    The customers say what they will report in the simulation: of the frauds that nobody ever reports they say nothing.
    """
    with transaction(engine) as session:
        if session.scalar(select(Verdict.label_id).limit(1)) is not None:
            return
        asked = _alerts_before(session, plan.first_days_end_us - OPEN_DAYS * DAY_US)
    frauds = _frauds(folder, plan)
    for alert_id, transaction_id in asked:
        pattern = frauds.get(transaction_id)
        said = "fraud" if pattern else "genuine"
        note = f"customer did not pay this: {pattern.replace('_', ' ')}" if pattern else "customer knows the payment"
        with transaction(engine) as session:
            label_id = secrets.token_hex(LABEL_ID_BYTES)
            record_verdict(session, alert_id, said, note, by=ANALYST, now_us=now_us(), label_id=label_id)


def compare_with_training(engine: Engine, environ: Mapping[str, str], version: Path) -> None:
    """Compare the first days with the training days, where the version knows them."""
    with transaction(engine) as session:
        compared = newest_drift(session) is not None
    if not compared and reference_file(version).exists():
        step(environ, "drift", "--json")


def _alerts_before(session: Session, until_us: int) -> list[tuple[int, str]]:
    open_before = (
        select(Alert.id, Alert.transaction_id)
        .join(Alert.decision)
        .where(Alert.status == OPEN, Decision.occurred_at < until_us)
        .order_by(Alert.id)
    )
    return [(alert_id, transaction_id) for alert_id, transaction_id in session.execute(open_before)]


def _frauds(folder: Path, plan: Plan) -> dict[str, str]:
    """The pattern of each fraud of the first days that is ever reported, by transaction."""
    bank = read_plan(folder / BANK_FILE)
    first, days = (plan.live - bank.start).days, Days(bank)
    labels = [days.day(number)[1] for number in range(first, first + FIRST_DAYS)]
    return {row["transaction_id"]: row["note"] for table in labels for row in table.to_pylist()}
