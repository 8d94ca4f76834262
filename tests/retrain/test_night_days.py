"""Cut-offs, the days that follow from them, and what old nights leave."""

import msgspec
import pytest

from plumbline.errors import InvalidSetting, Refused
from plumbline.transaction import DAY_US
from retrain.manifest import Manifest, StepRecord, name_of, write_run
from retrain.plan import Plan, last_midnight, moment, windows_of
from retrain.pruning import KEPT_DAYS, prune, shared_names


def plan(cut_off_us, **facts):
    return Plan(cut_off_us=cut_off_us, fingerprint="f", model_name="plumbline", **facts)


@pytest.mark.parametrize(("text", "at"), [("1970-01-02", DAY_US), ("1970-01-02T01:00+01:00", DAY_US)])
def test_cut_offs(text, at):
    assert moment(text) == at


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30", "2026-01-31T02:00", "31.1.2026"])
def test_what_is_no_cut_off(text):
    with pytest.raises(InvalidSetting, match="--cut-off"):
        moment(text)


def test_a_night_without_a_cut_off_ends_at_midnight():
    assert last_midnight(5 * DAY_US + 77) == 5 * DAY_US == last_midnight(5 * DAY_US)


def test_days_of_a_long_past():
    found = windows_of(0, plan(400 * DAY_US))
    assert (found.test.first, found.test.last, found.train.first, found.train.last) == (379, 392, 102, 371)
    assert found.cut_off_us == 379 * DAY_US, "what trains was known when the test began"
    assert found.test.until_us + 7 * DAY_US == 400 * DAY_US, "the newest test day is old enough to lack a label"


@pytest.mark.parametrize("hours", [1, 12, 23])
def test_a_cut_off_within_a_day_leaves_out_the_days_that_are_too_young(hours):
    found = windows_of(0, plan(400 * DAY_US + hours * 3_600_000_000))
    assert found.test.last == 392
    assert found.test.until_us + 7 * DAY_US <= 400 * DAY_US + hours * 3_600_000_000


@pytest.mark.parametrize("days", range(0, 120, 7))
def test_a_short_past_has_a_shorter_test_or_is_refused(days):
    asked = plan((3 + days) * DAY_US)
    if days < 22:
        with pytest.raises(Refused, match="too few to train"):
            windows_of(3 * DAY_US + 5, asked)
        return
    found = windows_of(3 * DAY_US + 5, asked)
    assert 3 <= found.train.first <= found.train.last < found.test.first - 7
    assert found.test.last < 3 + days - 7


def test_a_runs_name_stands_for_what_was_asked():
    one, other = plan(DAY_US, seed=1), plan(DAY_US, seed=2)
    assert one.day == "1970-01-02"
    assert name_of(one.day, one.asked()) == name_of(one.day, msgspec.json.decode(msgspec.json.encode(one.asked())))
    assert name_of(one.day, one.asked()) != name_of(other.day, other.asked())


def test_old_nights_keep_their_words_and_very_old_ones_nothing(tmp_path):
    now = (KEPT_DAYS + 10) * DAY_US
    for number in range(6):
        folder = tmp_path / f"night-{number}"
        for name in ("rows/days.json", "rows/train.parquet", "rows/step.json", "gate/gate.json", "fit/model/v/data"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        days = {"retrain/days/shared.parquet": "a" * 64, f"retrain/days/day-{number}.parquet": "a" * 64}
        steps = (StepRecord(name="rows", shared=days),)
        at = now - (5 - number) * DAY_US if number else 5
        write_run(folder, Manifest(run=f"night-{number}", arguments={}, started_at=at, updated_at=at, steps=steps))
    (tmp_path / "somebody's").mkdir()
    assert sorted(prune(tmp_path, 2, now)) == ["night-0", "night-1", "night-2", "night-3"]
    left = {each.name: sorted(file.name for file in each.rglob("*") if file.is_file()) for each in tmp_path.iterdir()}
    words, whole = ["gate.json", "run.json", "step.json"], [
        "data", "days.json", "gate.json", "run.json", "step.json", "train.parquet",
    ]  # fmt: skip
    assert left == {"somebody's": []} | {f"night-{n}": words for n in (1, 2, 3)} | {f"night-{n}": whole for n in (4, 5)}
    assert shared_names(tmp_path) == {"shared.parquet", "day-4.parquet", "day-5.parquet"}
    assert prune(tmp_path, 2, now) == []
