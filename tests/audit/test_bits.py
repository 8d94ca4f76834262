"""Bits: nothing that differs passes as equal, and every value is shown so that the difference can be seen."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audit.bits import bits, distance_ulps, unequal

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_values_are_shown_as_their_bits():
    assert bits(np.float32(1.0)) == "0x3f800000 (1.0)"
    assert bits(np.float64(0.5)) == "0x3fe0000000000000 (0.5)"
    assert bits(np.int64(-1)) == "0xffffffffffffffff (-1)"
    assert bits(7) == "0x0000000000000007 (7)"
    assert bits(np.float32(-0.0)) != bits(np.float32(0.0))


def test_values_are_unequal_when_any_bit_is():
    nan = np.array([np.nan], np.float32)
    assert not unequal(nan, nan).any(), "a NaN equals itself"
    assert unequal(np.array([0.0]), np.array([-0.0])).all()
    assert unequal(np.array([1], np.int64), np.array([1], np.float64)).all()


@given(FLOATS, st.integers(1, 50), st.booleans())
def test_the_distance_counts_the_steps_between_two_floats(start, steps, up):
    value = np.float32(start)
    for _ in range(steps):
        value = np.nextafter(value, np.float32(np.inf if up else -np.inf))
    if np.isfinite(value):
        # 0.0 and -0.0 are one place among the numbers, so a walk never counts them apart.
        assert distance_ulps(float(start), float(value)) == steps


def test_a_value_that_is_no_float32_has_no_distance():
    assert distance_ulps(0.1, 0.1) is None
    assert distance_ulps(float("nan"), 1.0) is None
