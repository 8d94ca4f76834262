"""Bins take every value there can be, exactly once; and a feature is missing where the declaration says so."""

import bisect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.declaration import DECLARATION, FEATURES
from features.grammar import ABSENT, Feature
from features.missing import missing
from features.reference import (
    CATEGORIES_MOST,
    SCORE_QUANTILES,
    Binned,
    Reference,
    counted,
    edges_of_categories,
    edges_of_numbers,
    read_reference,
    reference_file,
)
from plumbline.errors import NotFound, Refused

NUMBERS = st.floats(width=32, allow_nan=False)
COLUMNS = st.integers(0, 300).flatmap(lambda n: arrays(np.float32, n, elements=NUMBERS))
BY_NAME = {feature.name: feature for feature in FEATURES}


@given(COLUMNS, arrays(np.float32, 50, elements=st.floats(width=32)))
def test_every_value_lies_in_one_bin_also_those_never_seen_in_training(seen, others):
    edges = edges_of_numbers(seen)
    assert list(edges) == sorted(set(edges))
    values = np.concatenate([seen, others, np.array([np.inf, -np.inf, np.nan], np.float32)])
    nothing = np.zeros(len(values), np.bool_)
    nothing[::7] = True
    counts = counted(edges, values, nothing)
    assert len(counts) == len(edges) + 2
    assert counts.sum() == len(values)
    for bin_number, count in enumerate(counts.tolist()):
        places = [
            0 if missed or np.isnan(value) else 1 + bisect.bisect_left(edges, float(value))
            for value, missed in zip(values, nothing, strict=True)
        ]
        assert places.count(bin_number) == count


@given(st.sets(NUMBERS, min_size=100, max_size=160).map(lambda values: np.array(list(values), np.float32)))
def test_tenths_of_different_values_hold_a_tenth_each(values):
    counts = counted(edges_of_numbers(values), values, np.zeros(len(values), np.bool_))
    assert counts[0] == 0
    assert len(counts) == 11
    assert np.abs(counts[1:] - len(values) / 10).max() <= 1


@given(COLUMNS.filter(len))
def test_no_bin_of_training_is_empty_but_the_one_of_missing_rows(values):
    counts = counted(edges_of_numbers(values), values, np.zeros(len(values), np.bool_))
    assert (counts[1:] > 0).all()


def test_a_value_that_most_rows_have_keeps_to_itself():
    values = np.repeat(np.array([0.0, 0.7, 1.1], np.float32), [9500, 300, 200])
    edges = edges_of_numbers(values)
    assert edges == (0.0,)
    assert counted(edges, values, np.zeros(len(values), np.bool_)).tolist() == [0, 9500, 500]
    (only,) = edges_of_numbers(1 - values[:9800])
    assert only == pytest.approx(0.3), "the few below a value that most rows have are seen too"
    assert edges_of_numbers(np.repeat([0, 1, 2, 3, 4], [5, 100, 5, 1000, 5])) == (2, 3)
    assert edges_of_numbers(np.zeros(100, np.float32)) == ()
    assert edges_of_numbers(np.zeros(0, np.float32)) == ()


def test_scores_are_cut_finely_where_decisions_fall():
    scores = np.arange(10_000, dtype=np.float32) / 10_000
    counts = counted(edges_of_numbers(scores, SCORE_QUANTILES), scores, np.zeros(len(scores), np.bool_))
    assert counts[-3:].tolist() == [100, 50, 50]


def test_frequent_categories_have_bins_of_their_own_and_the_rest_share_one():
    indices = np.repeat([1, 2, 3, 4, 0], [500, 300, 9, 8, 183])
    assert edges_of_categories(indices) == (1.0, 2.0)
    assert counted(edges_of_categories(indices), indices, indices == 0).tolist() == [183, 500, 300, 17]
    many = np.repeat(np.arange(1, 41), 25)
    assert len(edges_of_categories(many)) == CATEGORIES_MOST
    assert edges_of_categories(np.zeros(10, np.int64)) == ()


def missing_of(name, value=0.5, **inputs):
    return gone(BY_NAME[name], value, **inputs)


def gone(feature, value=0.5, **inputs):
    columns = {key: np.array([each], np.int64) for key, each in inputs.items()}
    return bool(missing(feature, np.array([value]), columns.__getitem__)[0])


def test_a_feature_is_missing_where_its_inputs_say_so():
    assert missing_of("account_seconds_since_log", account_seconds_since=-1)
    assert not missing_of("account_seconds_since_log", account_seconds_since=0)
    assert not missing_of("account_known", account_seconds_since=-1), "whether is always known"
    assert not missing_of("account_count_1d_log", account_count_1d=0), "none is a measurement"
    here = {"latitude_e6": -1, "longitude_e6": -1, "account_latitude_e6": -1, "account_longitude_e6": -1}
    assert not missing_of("distance_km", **here), "south and west are places too"
    for name in here:
        assert missing_of("distance_km", **here | {name: ABSENT})
    assert missing_of("speed_kmh", **here, account_seconds_since_place=-1)
    ratio = {"amount_minor": 5, "account_sum_1d": 0, "account_count_1d": 0}
    assert missing_of("amount_to_mean_1d", **ratio)
    assert not missing_of("amount_to_mean_1d", **ratio | {"account_count_1d": 1})
    assert missing_of("amount_to_maximum_1d", amount_minor=5, account_maximum_1d=0)
    assert missing_of("merchant_fraud_share_1d", merchant_fraud_count_1d=0, merchant_count_1d=0)
    assert not missing_of("merchant_fraud_share_1d", merchant_fraud_count_1d=0, merchant_count_1d=2)
    z_score = Feature("z", "z_score", ("amount_minor", "s", "q", "n"), "", "")
    later = Feature("d", "share_of_difference", ("part", "longer", "shorter"), "", "")
    nothing = {"amount_minor": 5, "s": 0, "q": 0, "n": 0}
    assert gone(z_score, **nothing)
    assert not gone(z_score, **nothing | {"n": 1})
    assert gone(later, part=0, longer=4, shorter=4)
    assert not gone(later, part=0, longer=5, shorter=4)
    assert missing_of("country", value=0)
    assert not missing_of("country", value=1)
    assert missing_of("amount_log", value=float("nan"), amount_minor=3)
    assert not missing_of("hour_sine", occurred_at=0)


def test_a_reference_is_found_again_or_says_what_is_wrong(tmp_path):
    import msgspec

    with pytest.raises(NotFound, match=r"reference\.json is not there: the version was trained by an older release"):
        read_reference(tmp_path)
    binned = Binned(name="score", edges=(0.5,), counts=(0, 3, 4))
    features = tuple(Binned(name=each.name, edges=(), counts=(0, 7)) for each in FEATURES)
    reference = Reference(declaration=DECLARATION, train="a..b", test="c..d", features=features, score=binned)
    reference_file(tmp_path).parent.mkdir()
    reference_file(tmp_path).write_bytes(msgspec.json.encode(reference))
    assert read_reference(tmp_path) == reference
    reference_file(tmp_path).write_bytes(msgspec.json.encode(reference)[:-20])
    with pytest.raises(Refused, match="cannot be read"):
        read_reference(tmp_path)
    broken = msgspec.json.encode(reference).replace(b"[0,3,4]", b"[0,3]")
    reference_file(tmp_path).write_bytes(broken)
    with pytest.raises(Refused, match="do not fit the edges"):
        read_reference(tmp_path)
    reference_file(tmp_path).write_bytes(
        msgspec.json.encode(reference).replace(b'"amount_log","edges"', b'"x","edges"')
    )
    with pytest.raises(Refused, match="not those of the declaration"):
        read_reference(tmp_path)
