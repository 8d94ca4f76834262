"""What a declared transform computes: functions of integer columns, each row by itself, in TensorFlow operations.

Every function takes int64 [n] tensors, n a multiple of 192, in the order of the feature's `inputs`, and returns
float32 [n], not yet scaled. The multiple matters: the vector and the scalar code of a math function differ in the last
bit, so a row's value must not depend on how many rows stand beside it. All operations are among LiteRT's built-in
ones, which is why time is taken apart by remainders and comparisons alone (there is no int64 division).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import tensorflow as tf

from features.grammar import ABSENT
from plumbline.transaction import DAY_US, SECOND_US

Tensor = Any

YEAR_SECONDS: Final = 365 * 86_400
"""What "never" counts as: the measures of time since something give -1 for it, and a year is longer than any window."""

EARTH_RADIUS_KM: Final = 6371.0088
SPEED_LEAST_SECONDS: Final = 60
"""Clocks of two terminals may differ; over less than a minute a speed says nothing."""

Z_PRIOR_COUNT: Final = 2.0
Z_PRIOR_SHARE: Final = 0.5
"""`z_score` counts in so many more numbers, this share of the mean away from it."""

MONDAY_US: Final = 3 * DAY_US
"""From a Monday to the Thursday on which the epoch began."""


def log(number: Tensor) -> Tensor:
    """log(1 + number); a negative number means never, and counts as a year's seconds."""
    return _log(tf.where(number < 0, tf.constant(YEAR_SECONDS, tf.int64), number))


def log_ratio(number: Tensor, to: Tensor) -> Tensor:
    """log((1 + number) / (1 + to)); 0 where `to` is 0: nothing is known to compare with."""
    return tf.where(to > 0, _log(number) - _log(to), 0.0)


def log_ratio_to_mean(number: Tensor, total: Tensor, count: Tensor) -> Tensor:
    """log of a number against the mean total / count; 0 where the count is 0.

    Both sides are multiplied by the count, so that no mean is rounded: log((1 + number × count) / (1 + total)).
    """
    return tf.where(count > 0, _log(number * count) - _log(total), 0.0)


def share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole; 0 where the whole is 0."""
    return _float(part) / _float(tf.maximum(whole, tf.constant(1, tf.int64))) * _float(whole > 0)


def share_of_difference(part: Tensor, longer: Tensor, shorter: Tensor) -> Tensor:
    """part / (longer - shorter); 0 where the difference is 0.

    With counts over a longer and a shorter window the difference is what happened between their ends: labels become
    known days later, so the labels of a week are a share of what happened in the week before.
    """
    return share(part, longer - shorter)


def known(number: Tensor) -> Tensor:
    """1 where something happened before, 0 where the measure says never."""
    return _float(number >= 0)


def hour_sine(occurred_at: Tensor) -> Tensor:
    """Sine of the time of day, UTC; midnight is 0."""
    return tf.sin(_angle(occurred_at, DAY_US))


def hour_cosine(occurred_at: Tensor) -> Tensor:
    """Cosine of the time of day, UTC; midnight is 1."""
    return tf.cos(_angle(occurred_at, DAY_US))


def weekday_sine(occurred_at: Tensor) -> Tensor:
    """Sine of the day of the week, UTC, the same for a whole day; Monday is 0."""
    return tf.sin(_weekday(occurred_at) * (2 * math.pi / 7))


def weekday_cosine(occurred_at: Tensor) -> Tensor:
    """Cosine of the day of the week, UTC, the same for a whole day; Monday is 1."""
    return tf.cos(_weekday(occurred_at) * (2 * math.pi / 7))


def night(occurred_at: Tensor) -> Tensor:
    """1 before 6 in the morning, UTC."""
    return _float(_remainder(occurred_at, DAY_US) < 6 * 3600 * SECOND_US)


def weekend(occurred_at: Tensor) -> Tensor:
    """1 on Saturdays and Sundays, UTC."""
    return _float(_remainder(occurred_at + MONDAY_US, 7 * DAY_US) >= 5 * DAY_US)


def distance_km(latitude: Tensor, longitude: Tensor, last_latitude: Tensor, last_longitude: Tensor) -> Tensor:
    """log(1 + kilometres) along the great circle between two places; 0 where either is not known."""
    return tf.math.log1p(_kilometres(latitude, longitude, last_latitude, last_longitude))


def speed_kmh(
    latitude: Tensor, longitude: Tensor, last_latitude: Tensor, last_longitude: Tensor, seconds: Tensor
) -> Tensor:
    """log(1 + kilometres an hour) from the last place to this one; 0 where either is not known."""
    kilometres = _kilometres(latitude, longitude, last_latitude, last_longitude)
    hours = _float(tf.maximum(seconds, tf.constant(SPEED_LEAST_SECONDS, tf.int64))) / 3600.0
    return tf.math.log1p(kilometres / hours)


def z_score(number: Tensor, total: Tensor, squares: Tensor, count: Tensor) -> Tensor:
    """How many standard deviations a number lies above the mean of `count` others; 0 where the count is 0.

    The others' sum and sum of squares give mean and variance. Two more that lie half the mean away are counted in, so
    that one or two, or many that are all equal, do not make every other number infinitely far.
    """
    counted = _float(tf.maximum(count, tf.constant(1, tf.int64)))
    mean = _float(total) / counted
    spread = tf.maximum(_float(squares) / counted - mean * mean, 0.0)
    variance = (counted * spread + (Z_PRIOR_COUNT * Z_PRIOR_SHARE * Z_PRIOR_SHARE) * mean * mean) / (
        counted + Z_PRIOR_COUNT
    )
    return (_float(number) - mean) / tf.sqrt(tf.maximum(variance, 1.0)) * _float(count > 0)


TRANSFORMS: Final[Mapping[str, Callable[..., Tensor]]] = {
    each.__name__: each
    for each in (
        log, log_ratio, log_ratio_to_mean, share, known, hour_sine, hour_cosine, weekday_sine, weekday_cosine,
        night, weekend, distance_km, speed_kmh, z_score, share_of_difference,
    )
}  # fmt: skip
"""Every transform of numbers by the name that a declaration uses; `vocabulary` is `preprocessing`'s own."""


def _float(tensor: Tensor) -> Tensor:
    return tf.cast(tensor, tf.float32)


def _log(number: Tensor) -> Tensor:
    """log(1 + number), of 0 where no transaction can bring the number about (negative, or too large for int64).

    A NaN must not leave the graph: it has many bit patterns, of which JSON can carry but one.
    """
    return tf.math.log1p(_float(tf.maximum(number, tf.constant(0, tf.int64))))


def _remainder(time_us: Tensor, period_us: int) -> Tensor:
    return tf.math.floormod(time_us, tf.constant(period_us, tf.int64))


def _angle(time_us: Tensor, period_us: int) -> Tensor:
    return _float(_remainder(time_us, period_us)) * (2 * math.pi / period_us)


def _weekday(time_us: Tensor) -> Tensor:
    """0 for Monday to 6 for Sunday, as float32."""
    since_monday = _remainder(time_us + MONDAY_US, 7 * DAY_US)
    return tf.add_n([_float(since_monday >= day * DAY_US) for day in range(1, 7)])


def _kilometres(latitude: Tensor, longitude: Tensor, last_latitude: Tensor, last_longitude: Tensor) -> Tensor:
    """Haversine distance; differences are taken between integers, so that near places do not cancel."""
    both = _float(latitude != ABSENT) * _float(last_latitude != ABSENT)
    radians = math.pi / 180 / 1e6
    rise = tf.sin(_float(latitude - last_latitude) * (radians / 2))
    turn = tf.sin(_float(longitude - last_longitude) * (radians / 2))
    square = rise * rise + tf.cos(_float(latitude) * radians) * tf.cos(_float(last_latitude) * radians) * turn * turn
    square = tf.clip_by_value(square, 0.0, 1.0)
    return 2 * EARTH_RADIUS_KM * tf.atan2(tf.sqrt(square), tf.sqrt(1.0 - square)) * both
