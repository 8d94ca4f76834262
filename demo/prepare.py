"""What the demo makes once and uses again: secrets, log-ins, a simulated bank, its first snapshot and first model.

Each step is skipped when its result is there, so a second start takes seconds, and one that was cut off goes on.
"""

import datetime
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from streaming.parts import step

ACCOUNTS: Final = 1200
PER_ACCOUNT_DAY: Final = 0.75
HISTORY_DAYS: Final = 365
LIVE_DAYS: Final = 40
"""Days after the year of history that are played as the live stream."""

TRAIN_DAYS: Final = 150
DELAY_DAYS: Final = 7
TEST_DAYS: Final = 21
SEED: Final = 7

LOG_INS: Final = (
    ("analyst@plumbline.example", "Ana Lyst", "analyst"),
    ("boss@plumbline.example", "Sue Pervisor", "supervisor"),
    ("models@plumbline.example", "Engi Neer", "engineer"),
)


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The demo's bank: its first day, the day on which the live stream begins, and where to go on playing."""

    start: datetime.date
    live: datetime.date
    next_sequence: int | None = None


@dataclass(frozen=True, slots=True)
class LogIn:
    """A log-in of the demo's console; it exists on this machine alone."""

    email: str
    password: str
    role: str


Tell = Callable[[str], None]


def plan_of(folder: Path, today: datetime.date) -> Plan:
    """The plan that an earlier start wrote, or a new one that ends yesterday."""
    file = folder / "demo.json"
    if file.exists():
        return msgspec.json.decode(file.read_bytes(), type=Plan)
    live = today - datetime.timedelta(days=LIVE_DAYS)
    plan = Plan(start=live - datetime.timedelta(days=HISTORY_DAYS), live=live)
    keep(folder, plan)
    return plan


def keep(folder: Path, plan: Plan) -> None:
    """Write the plan down."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / ".demo.json"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(plan)))
    unfinished.rename(folder / "demo.json")


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
    """Simulate the bank, fold its year into the first snapshot, train the first model: whatever is not there yet."""
    archive = folder / "archive"
    if not (archive / "archive.json").exists():
        tell("Simulating a year of payments, and the days to come")
        step(
            environ, "simulate", "--to", str(archive), "--accounts", str(ACCOUNTS), "--start", str(plan.start),
            "--days", str((plan.live - plan.start).days + LIVE_DAYS), "--seed", str(SEED),
            "--transactions-per-account-day", str(PER_ACCOUNT_DAY), "--json",
        )  # fmt: skip
    if not any((folder / "snapshots").glob("*/manifest.json")):
        tell("Folding the year into the first snapshot of history")
        step(environ, "backfill", "--archive", str(archive), "--until", str(plan.live), "--json")
    if not any(models.glob("*/saved_model.pb")):
        tell("Training the first model (a minute or two)")
        train, test = training_days(plan.live)
        printed = step(
            environ, "train", "--archive", str(archive), "--train", train, "--test", test,
            "--delay-days", str(DELAY_DAYS), "--json",
        )  # fmt: skip
        found = json.loads(printed.splitlines()[-1])
        tell(f"Model {found['version']}: average precision {found['ap']:.3f}, ROC AUC {found['auc']:.3f} on later days")


def training_days(live: datetime.date) -> tuple[str, str]:
    """Training and test days, as `plumbline train` takes them; the test ends where the live stream begins.

    >>> training_days(datetime.date(2026, 1, 1))
    ('2025-07-07..2025-12-03', '2025-12-11..2025-12-31')
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
