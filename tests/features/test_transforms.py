"""Every transform against its formula in plain numpy, float64, also where something is absent, zero or unknown."""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "0")

import numpy as np
import pytest
import tensorflow as tf

from features.declaration import FEATURES
from features.grammar import ABSENT, INPUTS
from features.preprocessing import index, padded, vocabulary_table
from features.transforms import TRANSFORMS
from plumbline.transaction import DAY_US

YEAR_S = 365 * 86_400
HOUR_US = 3_600_000_000
RANDOM = np.random.default_rng(0)
COUNTS = np.append(RANDOM.integers(0, 2_000_000, 62), [0, 1])
OTHERS = np.append(RANDOM.integers(0, 2_000_000, 62), [0, 0])
TIMES = np.append(RANDOM.integers(0, 2**51, 60), [0, DAY_US - 1, 6 * HOUR_US, 6 * HOUR_US - 1])


def applied(name, *columns):
    return TRANSFORMS[name](*(tf.constant(column, tf.int64) for column in columns)).numpy()


def agree(found, wanted):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=1e-5)


def test_log_counts_never_as_a_year():
    numbers = np.append(COUNTS[:62], [-1, 0])
    agree(applied("log", numbers), np.log1p(np.where(numbers < 0, YEAR_S, numbers)))


def test_log_ratio_is_zero_without_anything_to_compare_with():
    wanted = np.where(OTHERS > 0, np.log1p(COUNTS) - np.log1p(OTHERS), 0)
    agree(applied("log_ratio", COUNTS, OTHERS), wanted)


def test_log_ratio_to_mean_is_zero_without_a_count():
    counts = np.append(RANDOM.integers(1, 600, 62), [0, 0])
    totals = counts * OTHERS
    wanted = np.where(counts > 0, np.log1p(COUNTS * counts) - np.log1p(totals), 0)
    agree(applied("log_ratio_to_mean", COUNTS, totals, counts), wanted)


def test_share_of_nothing_is_zero():
    agree(applied("share", COUNTS, OTHERS), np.where(OTHERS > 0, COUNTS / np.maximum(OTHERS, 1), 0))


def test_share_of_difference_is_zero_where_the_windows_differ_by_nothing():
    longer, shorter = OTHERS + COUNTS, np.append(COUNTS[:60], [7, 7, 7, 7])
    longer[60:] = [7, 8, 6, 0]
    left = longer - shorter
    wanted = np.where(left > 0, COUNTS / np.maximum(left, 1), 0)
    agree(applied("share_of_difference", COUNTS, longer, shorter), wanted)


def test_z_score_counts_in_two_more_numbers_half_the_mean_away():
    counts = np.append(RANDOM.integers(1, 500, 60), [0, 0, 1, 2])
    series = [RANDOM.integers(0, 100_000, each) for each in counts]
    totals, squares = ([int((each**power).sum()) for each in series] for power in (1, 2))
    wanted = []
    for number, each in zip(COUNTS, series, strict=True):
        if not len(each):
            wanted.append(0.0)
            continue
        mean = each.mean()
        squared = [*(each - mean) ** 2, (mean / 2) ** 2, (mean / 2) ** 2]
        wanted.append((number - mean) / np.sqrt(max(np.mean(squared), 1)))
    np.testing.assert_allclose(applied("z_score", COUNTS, totals, squares, counts), wanted, rtol=1e-3, atol=1e-3)


def test_z_score_tells_a_little_more_from_much_more_beside_equal_amounts():
    of = [np.array(each)[:, None].repeat(16, 1).ravel() for each in ([100, 110, 200, 0], [1000] * 4, [100_000] * 4)]
    found = applied("z_score", *of, np.full(64, 10)).reshape(4, 16)
    assert np.ptp(found, axis=1).max() == 0
    assert found[:, 0].tolist() == pytest.approx([0, 0.49, 4.9, -4.9], abs=0.01)
    assert np.all(applied("z_score", *[np.zeros(64, np.int64)] * 3, np.full(64, 3)) == 0), "nothing but zeros"


def test_known_is_zero_for_never_alone():
    agree(applied("known", [-1, 0, 5, YEAR_S] * 16), np.tile([0, 1, 1, 1], 16))


def test_times_of_the_day_and_of_the_week():
    angle = TIMES % DAY_US / DAY_US * 2 * np.pi
    agree(applied("hour_sine", TIMES), np.sin(angle))
    agree(applied("hour_cosine", TIMES), np.cos(angle))
    weekday = (TIMES // DAY_US + 3) % 7  # the epoch began on a Thursday
    agree(applied("weekday_sine", TIMES), np.sin(weekday * 2 * np.pi / 7))
    agree(applied("weekday_cosine", TIMES), np.cos(weekday * 2 * np.pi / 7))
    agree(applied("night", TIMES), TIMES % DAY_US < 6 * HOUR_US)
    agree(applied("weekend", TIMES), weekday >= 5)


def places():
    columns = [RANDOM.integers(-limit, limit, 64) for limit in (90_000_000, 180_000_000) * 2]
    columns[0][:8] = columns[1][:8] = ABSENT
    columns[2][4:12] = columns[3][4:12] = ABSENT
    columns[2][20:30], columns[3][20:30] = columns[0][20:30], columns[1][20:30]
    return columns


def kilometres(north, east, last_north, last_east):
    north_r, east_r, last_north_r, last_east_r = (
        np.radians(each / 1e6) for each in (north, east, last_north, last_east)
    )
    cosines = np.cos(north_r) * np.cos(last_north_r)
    square = np.sin((north_r - last_north_r) / 2) ** 2 + cosines * np.sin((east_r - last_east_r) / 2) ** 2
    distance = 2 * 6371.0088 * np.arcsin(np.sqrt(np.clip(square, 0, 1)))
    return np.where((north != ABSENT) & (last_north != ABSENT), distance, 0)


def test_distance_is_zero_where_a_place_is_absent():
    columns = places()
    found = applied("distance_km", *columns)
    agree(found, np.log1p(kilometres(*columns)))
    assert np.all(found[:12] == 0)


def test_speed_counts_a_minute_at_least_and_is_zero_where_a_place_is_absent():
    columns = places()
    seconds = np.append(RANDOM.integers(0, 100_000, 60), [-1, 0, 59, 61])
    found = applied("speed_kmh", *columns, seconds)
    agree(found, np.log1p(kilometres(*columns) / (np.maximum(seconds, 60) / 3600)))
    assert np.all(found[:12] == 0)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_numbers_that_no_transaction_can_bring_about_give_no_nan(name):
    extremes = [0, 1, -1, -2, ABSENT, 10**12, 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63)]
    found = applied(name, *RANDOM.choice(np.array(extremes, np.int64), (INPUTS[name], 4096)))
    assert not np.any(np.isnan(found))


def test_a_value_outside_the_vocabulary_has_index_zero():
    table = vocabulary_table([b"EUR", b"GBP"])
    assert index(tf.constant([b"GBP", b"EUR", b"", b"XXX"]), table).numpy().tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize(("rows", "wanted"), [(0, 0), (1, 192), (191, 192), (192, 192), (193, 384)])
def test_padding_adds_rows_of_zeros_up_to_a_multiple_of_192(rows, wanted):
    found = padded(tf.ones([rows, 3], tf.int64)).numpy()
    assert found.shape == (wanted, 3)
    assert np.all(found[:rows] == 1)
    assert np.all(found[rows:] == 0)


def test_every_declared_transform_is_computed_somewhere():
    assert {each.transform for each in FEATURES} == {*TRANSFORMS, "vocabulary"} == INPUTS.keys()
