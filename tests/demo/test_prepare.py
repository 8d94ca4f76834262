"""What the demo makes once: days that do not overlap, secrets that nobody else reads, and words about an end."""

import datetime
import stat
from pathlib import Path

import pytest

from archive.simulation.run import read_plan
from demo.prepare import (
    BANK,
    BANK_FILE,
    DELAY_DAYS,
    PLAN,
    TEST_DAYS,
    TRAIN_DAYS,
    Plan,
    keep,
    plan_of,
    secret_files,
    training_days,
)
from demo.resume import sent_us
from plumbline.errors import Unready
from streaming.parts import start

TODAY = datetime.date(2026, 3, 1)


def test_a_plan_is_made_once_and_read_again_on_a_later_day(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TODAY)
    bank = read_plan(tmp_path / BANK_FILE)
    assert bank.start + datetime.timedelta(days=bank.days) == plan.live
    assert bank.days == BANK.days
    assert plan_of(tmp_path, TODAY + datetime.timedelta(days=9)) == plan
    keep(tmp_path, Plan(plan.live, 123))
    assert plan_of(tmp_path, TODAY).played_until_us == 123
    assert read_plan(tmp_path / BANK_FILE) == bank


def test_a_plan_of_another_release_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / PLAN).write_text('{"start": "2026-01-01", "live": "2026-02-01", "next_sequence": -5}')
    with pytest.raises(Unready, match=f"was written by another release .*: remove {tmp_path}, and start again"):
        plan_of(tmp_path, TODAY)


def test_the_stream_goes_on_behind_simulated_transactions_alone() -> None:
    assert sent_us(b'{"transaction_id": "s20260301-7", "occurred_at": 99, "channel": "pos"}') == 99
    for other in (b'{"transaction_id": "mine", "occurred_at": 99}', b'{"occurred_at": 99}', b"\xff", b"", b"[]"):
        assert sent_us(other) == 0


def test_training_ends_a_label_delay_before_the_test_and_the_test_before_the_stream() -> None:
    live = datetime.date(2026, 1, 1)
    train, test = ([datetime.date.fromisoformat(day) for day in days.split("..")] for days in training_days(live))
    assert (train[1] - train[0]).days + 1 == TRAIN_DAYS
    assert (test[1] - test[0]).days + 1 == TEST_DAYS
    assert (test[0] - train[1]).days == DELAY_DAYS + 1
    assert test[1] < live


def test_secrets_are_private_and_stay_the_same(tmp_path: Path) -> None:
    files = secret_files(tmp_path)
    before = {name: Path(file).read_text() for name, file in files.items()}
    assert set(files) == {"PLUMBLINE_SECRET_KEY_FILE", "PLUMBLINE_PASSWORD_SALT_FILE"}
    assert {stat.S_IMODE(Path(file).stat().st_mode) for file in files.values()} == {0o600}
    assert {name: Path(file).read_text() for name, file in secret_files(tmp_path).items()} == before


def test_a_part_that_ends_before_it_is_ready_says_how(tmp_path: Path) -> None:
    part = start("odd", {}, tmp_path / "logs", ["no-such-verb"])
    try:
        with pytest.raises(Unready, match=r"odd ended with exit code [1-9]\d*; its log .*odd\.log ends:\n"):
            part.wait_for(state="ready")
    finally:
        part.stop()
