"""What the demo makes once and uses again: secrets, log-ins, a simulated bank, its first snapshot and first model.

Each step is skipped when its result is there, so a second start takes seconds, and one that was cut off goes on.
"""

import datetime
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from archive.simulation import run as simulation
from plumbline.errors import Unready
from plumbline.transaction import DAY_US
from streaming.parts import step

BANK: Final = simulation.Plan(
    accounts=4000, days=365, transactions_per_account_day=0.75, fraud_rate=0.008, seed=28, names=True
)
"""What is simulated; its first day depends on when the demo is started first."""

LIVE_DAYS: Final = 20
"""Days between the history and now: they are played as the live stream, faster than they were lived."""

FIRST_DAYS: Final = 5
"""Of these, the days that the first start plays as fast as the scorer decides."""

DELAY_DAYS: Final = 7
TEST_DAYS: Final = 21
TRAIN_DAYS: Final = 60
EPOCHS: Final = 4

PLAN: Final = "demo.json"
BANK_FILE: Final = "bank.json"
EPOCH: Final = datetime.date(1970, 1, 1)

ANALYST: Final = "analyst@plumbline.example"
SUPERVISOR: Final = "boss@plumbline.example"
ENGINEER: Final = "models@plumbline.example"
LOG_INS: Final = (
    (ANALYST, "Ana Lyst", "analyst"),
    (SUPERVISOR, "Sue Pervisor", "supervisor"),
    (ENGINEER, "Engi Neer", "engineer"),
)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The demo's days.

    live: the day on which the live stream begins; played_until_us: arrivals before it were sent, microseconds since
    1970 UTC; None before the first.
    """

    live: datetime.date
    played_until_us: int | None = None

    @property
    def live_us(self) -> int:
        """Begin of the live stream, microseconds since 1970 UTC."""
        return (self.live - EPOCH) // datetime.timedelta(microseconds=1)

    @property
    def first_days_end_us(self) -> int:
        """End of the days that are played at once."""
        return self.live_us + FIRST_DAYS * DAY_US


@dataclass(frozen=True, slots=True)
class LogIn:
    """A log-in of the demo's console; it exists on this machine alone."""

    email: str
    password: str
    role: str


Tell = Callable[[str], None]


def plan_of(folder: Path, today: datetime.date) -> Plan:
    """The plan that an earlier start wrote, or a new one, whose bank is written beside it.

    Raises Unready where another release of the demo wrote it.
    """
    file = folder / PLAN
    if file.exists():
        try:
            return msgspec.json.decode(file.read_bytes(), type=Plan)
        except msgspec.MsgspecError as error:
            raise Unready(
                f"{file} was written by another release ({error}): remove {folder}, and start again"
            ) from error
    plan = Plan(live=today - datetime.timedelta(days=LIVE_DAYS))
    keep(folder, plan, replace(BANK, start=plan.live - datetime.timedelta(days=BANK.days)))
    return plan


def keep(folder: Path, plan: Plan, bank: simulation.Plan | None = None) -> None:
    """Write the plan down, and the bank with it where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    if bank is not None:
        _write(folder / BANK_FILE, bank)
    _write(folder / PLAN, plan)


def _write(file: Path, value: object) -> None:
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(value)))
    unfinished.rename(file)


def secret_files(folder: Path) -> dict[str, str]:
    """Variables that name files with the console's secrets: made at random when first asked for, and private."""
    variables = {}
    for name in ("SECRET_KEY", "PASSWORD_SALT"):
        file = folder / "secrets" / name.lower()
        if not file.exists():
            _write_private(file, secrets.token_urlsafe(48))
        variables[f"PLUMBLINE_{name}_FILE"] = str(file)
    return variables


def log_ins(folder: Path, environ: Mapping[str, str]) -> list[LogIn]:
    """The demo's log-ins, with passwords made at random when first asked for."""
    file = folder / "secrets" / "log-ins.json"
    if not file.exists():
        made = [LogIn(email, secrets.token_urlsafe(12), role) for email, _, role in LOG_INS]
        for each, (_, name, _) in zip(made, LOG_INS, strict=True):
            step(environ, "users", "add", each.email, "--role", each.role, "--name", name, given=each.password + "\n")
        _write_private(file, msgspec.json.encode(made).decode())
    return msgspec.json.decode(file.read_bytes(), type=list[LogIn])


def prepare(folder: Path, environ: Mapping[str, str], plan: Plan, models: Path, tell: Tell) -> None:
    """Simulate the bank and train the first model: whatever is not there yet."""
    archive = folder / "archive"
    if not (archive / "archive.json").exists():
        tell("Simulating a bank's payments")
        bank = simulation.read_plan(folder / BANK_FILE)
        step(
            environ, "simulate", "--to", str(archive), "--accounts", str(bank.accounts), "--start", str(bank.start),
            "--days", str(bank.days), "--seed", str(bank.seed), "--fraud-rate", str(bank.fraud_rate),
            "--transactions-per-account-day", str(bank.transactions_per_account_day), *(["--names"] * bank.names),
            "--json",
        )  # fmt: skip
    if not any(models.glob("*/saved_model.pb")):
        tell("Training the first model (a minute or two)")
        train, test = training_days(plan.live)
        printed = step(
            environ, "train", "--archive", str(archive), "--train", train, "--test", test,
            "--delay-days", str(DELAY_DAYS), "--epochs", str(EPOCHS), "--by", ENGINEER, "--json",
        )  # fmt: skip
        found = json.loads(printed.splitlines()[-1])
        tell(f"Model {found['version']}: average precision {found['ap']:.3f}, ROC AUC {found['auc']:.3f} on later days")


def begin_journal(folder: Path, environ: Mapping[str, str], plan: Plan, tell: Tell) -> None:
    """Begin the journal with the simulated year, where the scorer has left no snapshot yet; needs topics."""
    if not any((folder / "snapshots").glob("*/manifest.json")):
        tell("Folding the year into the first snapshot of history")
        step(environ, "backfill", "--until", str(plan.live), "--json")


def training_days(live: datetime.date) -> tuple[str, str]:
    """Training and test days, as `plumbline train` takes them; the test ends where the live stream begins.

    >>> training_days(datetime.date(2026, 1, 1))
    ('2025-10-05..2025-12-03', '2025-12-11..2025-12-31')
    """
    day = datetime.timedelta(days=1)
    test_first = live - TEST_DAYS * day
    train_last = test_first - (DELAY_DAYS + 1) * day
    return f"{train_last - (TRAIN_DAYS - 1) * day}..{train_last}", f"{test_first}..{live - day}"


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = file.with_suffix(".unfinished")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        opened.write(text)
    unfinished.rename(file)
