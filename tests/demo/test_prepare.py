"""What the demo makes once: days that do not overlap, secrets that nobody else reads, and words about an end."""

import datetime
import stat
from pathlib import Path

import pytest

from demo.prepare import DELAY_DAYS, HISTORY_DAYS, TEST_DAYS, TRAIN_DAYS, keep, plan_of, secret_files, training_days
from plumbline.errors import Unready
from streaming.parts import start

TODAY = datetime.date(2026, 3, 1)


def test_a_plan_is_made_once_and_read_again_on_a_later_day(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TODAY)
    assert (plan.live - plan.start).days == HISTORY_DAYS
    assert plan_of(tmp_path, TODAY + datetime.timedelta(days=9)) == plan
    keep(tmp_path, type(plan)(plan.start, plan.live, 123))
    assert plan_of(tmp_path, TODAY).next_sequence == 123


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
