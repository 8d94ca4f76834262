"""The kernel against the naive oracle: any arrivals, any batches, any order of times."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from features import declaration, kernel
from features.declaration import HISTORY_NAMES
from features.grammar import ABSENT, Measure, Table
from features.sweep import Arrivals, Entities, History
from tests.features.wide import WIDE

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)

MINUTE = 60 * 1_000_000
DAY = 24 * 60 * MINUTE

# Times that collide, sit on window edges, come late by hours and by weeks, and run ahead.
times = st.one_of(
    st.integers(0, 20).map(lambda minutes: 100 * DAY + minutes * 5 * MINUTE),
    st.sampled_from(
        [100 * DAY - width + nudge for width in (10 * MINUTE, DAY, 7 * DAY, 30 * DAY, 90 * DAY) for nudge in (-1, 0, 1)]
    ),
    st.integers(0, 150 * DAY),
)
places = st.one_of(st.just((ABSENT, ABSENT)), st.tuples(st.integers(-90, 90), st.integers(-180, 180)))


@st.composite
def rows(draw):
    latitude, longitude = draw(places)
    is_label = draw(st.integers(0, 5)) == 0
    of = draw(times)
    return {
        "account_id": draw(st.sampled_from("ab")),
        "merchant_id": draw(st.sampled_from("mnop")),
        "device_id": "" if is_label else draw(st.sampled_from(["", "d", "e"])),
        "time": max(of, draw(times)) if is_label else of,
        "occurred_at": of,
        "amount_minor": draw(st.one_of(st.integers(0, 1000), st.integers(0, 9), st.just(10**12))),
        "latitude_e6": ABSENT if is_label else latitude,
        "longitude_e6": ABSENT if is_label else longitude,
        "is_label": is_label,
    }


def arrivals(rows):
    def column(name):
        return [row[name] for row in rows]

    return Arrivals(
        column("account_id"), column("merchant_id"), column("device_id"),
        np.array(column("time"), np.int64), np.array(column("amount_minor"), np.int64),
        np.array(column("latitude_e6"), np.int64), np.array(column("longitude_e6"), np.int64),
        np.array(column("is_label"), bool), np.array(column("occurred_at"), np.int64),
    )  # fmt: skip


def in_batches(rows, cuts, history=None):
    history = history or History(WIDE)
    edges = [0, *sorted(cuts), len(rows)]
    parts = [history.advance(arrivals(rows[a:b])) for a, b in itertools.pairwise(edges)]
    return np.concatenate(parts) if parts else np.zeros((0, len(WIDE.history)), np.int64)


def revived_from(history):
    """The same history, by way of a snapshot's arrays."""
    entities = Entities.from_arrays(history.entities.arrays())
    return History.from_arrays(history.arrays(), history.declaration, entities)


def assert_equal(found, wanted):
    for n, m in np.argwhere(found != wanted):
        pytest.fail(f"row {n}, {WIDE.history_names[m]}: kernel {found[n, m]}, oracle {wanted[n, m]}")


@given(st.lists(rows(), max_size=40), st.data())
@settings(deadline=None, max_examples=200)
def test_equals_the_oracle_in_any_batches(stream, data):
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=4))
    assert_equal(in_batches(stream, cuts), oracle.history(stream, WIDE))


@given(st.lists(rows(), max_size=20), st.lists(rows(), max_size=12))
@settings(deadline=None, max_examples=60)
def test_a_snapshot_goes_on_where_it_stopped(before, after):
    history = History(WIDE)
    history.advance(arrivals(before))
    revived = revived_from(history)
    assert_equal(revived.advance(arrivals(after)), oracle.history(before + after, WIDE)[len(before) :])


def test_a_snapshot_remembers_more_merchants_than_the_next_batch_names():
    spree = [{**row, "account_id": "a", "merchant_id": f"m{n}"} for n, row in enumerate(_random_stream(
        np.random.default_rng(3), 200, span=DAY // 2))]  # fmt: skip
    history = History(WIDE)
    history.advance(arrivals(spree))
    after = [{**spree[-1], "merchant_id": "m0", "is_label": False}]
    revived = revived_from(history)
    assert_equal(revived.advance(arrivals(after)), history.advance(arrivals(after)))


@given(st.lists(rows(), max_size=30), st.data())
@settings(deadline=None, max_examples=80)
def test_what_is_remembered_is_what_the_oracle_keeps_in_any_batches_and_over_a_snapshot(stream, data):
    cut = data.draw(st.integers(0, len(stream)))
    tables = tuple(replace(each, bound=min(each.bound, data.draw(st.sampled_from([4, 64])))) for each in _TABLES)
    history = History(replace(WIDE, tables=tables))
    in_batches(stream[:cut], [cut // 2], history)
    history = revived_from(history)
    history.advance(arrivals(stream[cut:]))
    slots = history.entities.keys
    for table in tables:
        if table.entity == "account_merchant":
            continue  # it remembers counts alone
        found = history.tables[table.name].remembered()
        for slot, length in enumerate(found["length"].tolist()):
            name = slots[table.entity].id_of(slot)
            of_key = [
                row for row in stream
                if row[f"{table.entity}_id"] == name
                and (table.is_marked or row["is_label"] == (table.stream == "fraud_labels"))
            ]  # fmt: skip
            kept = oracle.remembered(history.declaration, table, of_key)
            of_key = [row for row in of_key if row["is_label"] == (table.stream == "fraud_labels")]
            begin = int(found["length"][:slot].sum())
            for part, field in (("time", "time"), ("amount", "amount_minor")):
                assert found[part][begin : begin + length].tolist() == [row[field] for row in kept]
            if table.distinct is not None:
                others = [slots[table.distinct].id_of(other) for other in found["other"][begin : begin + length]]
                assert others == [row[f"{table.distinct}_id"] for row in kept]
            if table.usual_us:
                assert found["odd"][begin : begin + length].tolist() == [row["odd"] for row in kept]
            if table.is_marked:
                assert found["fraud"][begin : begin + length].tolist() == [row["marked"] for row in kept]
            assert found["ever"][slot] == len(of_key)
        assert found["length"].sum() == len(found["time"])


_TABLES = WIDE.tables


def test_nothing_after_a_row_can_change_it():
    draw = np.random.default_rng(7)
    stream = _random_stream(draw, 400)
    whole = History(WIDE).advance(arrivals(stream))
    for cut in (1, 57, 399):
        changed = stream[:cut] + _random_stream(draw, 50)
        assert_equal(History(WIDE).advance(arrivals(changed))[:cut], whole[:cut])


def _random_stream(draw, count, accounts=6, span=40 * DAY):
    """Payments that come in order but for some, and labels, most of which speak of a payment that was."""
    stream = [
        {
            "account_id": f"a{draw.integers(accounts)}",
            "merchant_id": f"m{draw.integers(4)}",
            "device_id": ["", "d", "e"][draw.integers(3)],
            "time": int(60 * DAY + n * span // count - (draw.integers(3 * DAY) if draw.random() < 0.1 else 0)),
            "amount_minor": int(draw.integers(1, 10**6)) // (1 if draw.random() < 0.2 else 100),
            "latitude_e6": int(draw.integers(-90, 90)) if n % 3 else ABSENT,
            "longitude_e6": 5 if n % 3 else ABSENT,
            "is_label": bool(draw.random() < 0.3),
        }
        for n in range(count)
    ]
    for n, row in enumerate(stream):
        row["occurred_at"] = row["time"]
        if row["is_label"] and n:
            of = stream[int(draw.integers(max(0, n - 12), n))]
            row |= {name: of[name] for name in ("account_id", "merchant_id", "occurred_at")}
    return stream


@pytest.mark.parametrize("seed", range(2))
def test_bounds_forget_the_oldest(seed):
    """With small bounds rings fill, double, drop their oldest and refuse what is older still."""
    tables = tuple(replace(each, bound=min(each.bound, 8)) for each in WIDE.tables)
    small = replace(WIDE, tables=tables)
    stream = _random_stream(np.random.default_rng(seed), 150, accounts=2, span=DAY)
    assert_equal(in_batches(stream, [3, 100, 101], History(small)), oracle.history(stream, small))


@pytest.mark.parametrize("seed", range(2))
def test_long_streams_reuse_the_arena(seed):
    """Keys that come and go for months: forgotten entries free their places, and the answers stay right."""
    stream = _random_stream(np.random.default_rng(seed), 250, accounts=12, span=300 * DAY)
    assert_equal(in_batches(stream, range(0, 250, 37)), oracle.history(stream, WIDE))


ONE = replace(
    WIDE, tables=(Table("account", "account", "transactions", bound=4096, usual="90d"),), features=(),
    history=tuple(Measure("account", kind, "90d") for kind in ("unusual", "squares")),
)  # fmt: skip


def _at(time):
    return {"time": time, "occurred_at": time}


def of_amounts(amounts, declared=ONE):
    """`unusual` and `squares` over 90 days as each transaction of one account finds them, an hour apart."""
    row = {
        "account_id": "a", "merchant_id": "m", "device_id": "", "latitude_e6": ABSENT, "longitude_e6": ABSENT,
        "is_label": False,
    }  # fmt: skip
    stream = [row | _at(100 * DAY + n * 60 * MINUTE) | {"amount_minor": each} for n, each in enumerate(amounts)]
    return History(declared).advance(arrivals(stream)).T.tolist()


def test_exactly_three_times_the_mean_is_not_unusual_and_a_cent_more_is():
    assert of_amounts([100, 300, 0])[0] == [0, 0, 0]
    assert of_amounts([100, 301, 0])[0] == [0, 0, 1]
    assert of_amounts([100, 101, 301, 0])[0] == [0, 0, 0, 0], "301 x 2 is below 3 x 201"
    assert of_amounts([100, 101, 302, 0])[0] == [0, 0, 0, 1]
    assert of_amounts([0, 0, 1, 0])[0] == [0, 0, 0, 1], "anything is unusual beside nothing but zeros"
    assert of_amounts([10**12, 5])[0] == [0, 0], "the first is beside nothing at all"


@given(st.integers(0, 10**12), st.integers(1, 4096), st.integers(0, 4096 * 10**12))
@settings(max_examples=300)
def test_the_test_of_the_unusual_is_exact_for_any_amounts(amount, count, total):
    assert kernel._is_unusual(amount, count, total) == (amount * count > 3 * total)
    edge = 3 * total // count
    for near in (edge - 1, edge, edge + 1):
        assert kernel._is_unusual(near, count, total) == (near * count > 3 * total)


def test_sums_of_squares_stay_within_int64_whatever_the_amounts():
    most = ONE.table("account").square_most
    assert 4096 * most**2 < 2**63 <= 4096 * (most + 1) ** 2
    small = replace(ONE, tables=(replace(ONE.tables[0], bound=4),))
    most = small.table("account").square_most
    assert of_amounts([most, most + 1, 10**12, 10**12, 3, 0], small)[1] == [
        0, most**2, 2 * most**2, 3 * most**2, 4 * most**2, 3 * most**2 + 9,
    ]  # fmt: skip


def test_what_comes_late_makes_nothing_unusual_that_was_usual_when_it_came():
    row = {
        "account_id": "a", "merchant_id": "m", "device_id": "", "latitude_e6": ABSENT, "longitude_e6": ABSENT,
        "is_label": False,
    }  # fmt: skip
    spent = [(2, 1000), (3, 3000), (1, 10), (1, 10), (4, 0)]  # the two of the first day come after the third day's
    stream = [row | _at((100 + day) * DAY) | {"amount_minor": amount} for day, amount in spent]
    assert History(ONE).advance(arrivals(stream))[-1, 0] == 0
    in_order = [stream[at] for at in np.argsort([each["time"] for each in stream], kind="stable")]
    assert History(ONE).advance(arrivals(in_order))[-1, 0] == 2, "in order, both were unusual when they came"


RUN = replace(
    WIDE, tables=(Table("merchant", "merchant", "transactions", bound=4, outcomes=True),), features=(),
    history=tuple(Measure("merchant", kind, "7d") for kind in ("fraud_run", "seconds_since_fraud_run")),
)  # fmt: skip


def runs_of(story):
    """What each payment of one merchant finds; a story is of days, a payment's own or ("fraud", of which day)."""
    row = {
        "account_id": "a", "merchant_id": "m", "device_id": "", "latitude_e6": ABSENT, "longitude_e6": ABSENT,
        "amount_minor": 1,
    }  # fmt: skip
    stream = [
        row | {"is_label": True, "time": 300 * DAY, "occurred_at": (100 + each[1]) * DAY}
        if isinstance(each, tuple) else row | {"is_label": False} | _at(int((100 + each) * DAY))
        for each in story
    ]  # fmt: skip
    assert oracle.history(stream, RUN).tolist() == History(RUN).advance(arrivals(stream)).tolist()
    return [
        (run, seconds // 86_400 if seconds >= 0 else -1)
        for row, (run, seconds) in zip(stream, oracle.history(stream, RUN).tolist(), strict=True)
        if not row["is_label"]
    ]


def test_a_run_of_frauds_goes_back_to_the_first_that_is_not():
    assert runs_of([0, 1, 2, ("fraud", 1), ("fraud", 2), 9])[-1] == (2, 8)
    assert runs_of([0, 1, 2, ("fraud", 0), ("fraud", 2), 9])[-1] == (1, 7)
    assert runs_of([0, 1, 2, ("fraud", 0), ("fraud", 1), 9])[-1] == (0, -1), "the newest of those days old was genuine"
    assert runs_of([0, 1, ("fraud", 0), ("fraud", 1), 5, 8])[-1] == (2, 8), "of what is younger nothing is known yet"


def test_of_several_payments_of_one_microsecond_each_label_marks_another():
    assert runs_of([0, 1, 1, ("fraud", 1), 9])[-1] == (1, 8)
    assert runs_of([0, 1, 1, ("fraud", 1), ("fraud", 1), 9])[-1] == (2, 8)
    assert runs_of([0, 1, 1, ("fraud", 1), ("fraud", 1), ("fraud", 1), 9])[-1] == (2, 8), "the third finds none"


def test_the_amounts_of_a_run_are_those_of_its_own_payments_only():
    kinds = ("fraud_run", "fraud_run_last", "fraud_run_minimum")
    amounts = replace(RUN, history=tuple(Measure("merchant", kind, "7d") for kind in kinds))
    row = {
        "account_id": "a", "merchant_id": "m", "device_id": "", "latitude_e6": ABSENT, "longitude_e6": ABSENT,
        "amount_minor": 0,
    }  # fmt: skip
    paid = [
        row | {"is_label": False, "amount_minor": amount} | _at((100 + day) * DAY)
        for day, amount in ((0, 5), (1, 70), (2, 20), (3, 40))
    ]
    told = [row | {"is_label": True, "time": 105 * DAY, "occurred_at": (100 + day) * DAY} for day in (1, 2, 3)]
    late = row | {"is_label": False} | _at(111 * DAY)
    for stream, expected in (([*paid, *told, late], [3, 40, 20]), ([*paid, *told[1:], late], [2, 40, 20])):
        assert oracle.history(stream, amounts)[-1].tolist() == expected
        assert History(amounts).advance(arrivals(stream))[-1].tolist() == expected
    assert History(amounts).advance(arrivals([*paid, late]))[-1].tolist() == [0, 0, 0]


def test_a_late_payment_joins_the_run_unmarked_and_ends_it():
    assert runs_of([0, 2, ("fraud", 0), ("fraud", 2), 9, 1, 9.5])[-1] == (1, 7)
    assert runs_of([0, 2, ("fraud", 0), ("fraud", 2), 9, 1, ("fraud", 1), 9.5])[-1] == (3, 9)


def test_what_is_forgotten_is_neither_marked_nor_in_a_run():
    assert runs_of([0, 1, 2, 3, 4, ("fraud", 0), 12])[-1] == (0, -1), "the bound of 4 forgot it"
    frauds = [("fraud", day) for day in range(1, 5)]
    assert runs_of([0, 1, 2, 3, 4, *frauds, 12])[-1] == (4, 11)
    assert runs_of([0, 1, 2, 3, 4, *frauds, 17.5])[-1] == (1, 13), "14 days and more are beyond the horizon"
    assert runs_of([0, 40, ("fraud", 0), ("fraud", 40), 47])[-1] == (1, 7)


def test_one_more_line_is_one_more_measure():
    assert len(declaration.HISTORY) == len(set(declaration.HISTORY_NAMES))
    assert {"account_count_10m", "merchant_fraud_count_30d"} <= set(HISTORY_NAMES)
