import dataclasses

import numpy as np
import pytest

from plumbline.errors import Invalid
from serving.columns import NAMES
from tests.serving_model import columns


def test_take_gives_the_rows_asked_for_in_that_order():
    asked = columns(9)
    taken = asked.take(np.array([7, 0, 7]))
    assert len(taken) == 3
    for name in NAMES:
        before, after = getattr(asked, name), getattr(taken, name)
        assert [np.asarray(row).tolist() for row in after] == [np.asarray(before[i]).tolist() for i in (7, 0, 7)]


def test_take_keeps_texts_of_arrays():
    asked = dataclasses.replace(columns(3), currency=np.array([b"EUR", b"USD", b"XXX"], object))
    assert asked.take(np.array([2])).currency.tolist() == [b"XXX"]


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("amount_minor", np.zeros(4, np.int64), r"int64 \[4\]"),
        ("amount_minor", np.zeros(3, np.int32), "int32"),
        ("latitude_e6", np.zeros((3, 1), np.int64), r"\[3, 1\]"),
        ("history", np.zeros(3, np.int64), r"int64 \[3\]"),
        ("mcc", [b"5411"], "1 rows"),
    ],
)
def test_a_column_of_another_type_or_length_is_refused_by_name(column, value, found):
    with pytest.raises(Invalid, match=f"{column} is .*{found}"):
        dataclasses.replace(columns(3), **{column: value})
