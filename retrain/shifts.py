"""How the newest labels differ from those before: what a poisoned feed, a broken one or a bribed analyst looks like.

Nothing is refused here; the gate sets limits to these facts. All of them are shares or counts over the labels known at
the cut-off: the newest week against the four weeks before it.

labels_new, labels_usual         labels of the newest week; the mean of the four weeks before
labels_fraud_share, ..._before   share of labels that say fraud
labels_NAME_share, ..._before    share of labels by chargeback, analyst, archive, maturity
labels_changed, ..._share        transactions with a truth a week ago that have another one now, and as a share of the
                                 frauds known a week ago; labels_withdrawn(_share): those that were fraud and are not
fraud_rate, fraud_rate_before    share of frauds among the transactions that became mature in the newest week, and in
                                 the four weeks before, with today's labels
analyst_contradicted_most        largest share of an analyst's verdicts that a chargeback overruled (of 10 or more),
                                 and analyst_contradicted_by, who that is
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plumbline.transaction import DAY_US
from retrain.judged import RANKS, Judged, judge
from retrain.sources import Sources
from retrain.truth import truths_of

NEW_DAYS: Final = 7
USUAL_DAYS: Final = 28
VERDICTS_LEAST: Final = 10


def shifts(sources: Sources, told: pa.Table, judged: Judged, maturity_days: int) -> dict[str, Any]:
    """The facts; told: labels known at the cut-off, in order of arrival; judged: the same, judged."""
    new_since = sources.cut_off_us - NEW_DAYS * DAY_US
    new = told.filter(pc.greater_equal(told["known_at"], new_since))
    before = told.filter(
        pc.and_(
            pc.less(told["known_at"], new_since),
            pc.greater_equal(told["known_at"], new_since - USUAL_DAYS * DAY_US),
        )
    )
    facts: dict[str, Any] = {"labels_new": new.num_rows, "labels_usual": before.num_rows * NEW_DAYS / USUAL_DAYS}
    facts["labels_fraud_share"] = _share(new, "verdict", "fraud")
    facts["labels_fraud_share_before"] = _share(before, "verdict", "fraud")
    for source in RANKS:
        facts[f"labels_{source}_share"] = _share(new, "source", source)
        facts[f"labels_{source}_share_before"] = _share(before, "source", source)
    return (
        facts
        | _changed(sources, judged, new_since, maturity_days)
        | _rates(sources, judged, maturity_days)
        | _worst(judged)
    )


def _changed(sources: Sources, judged: Judged, then_us: int, maturity_days: int) -> dict[str, Any]:
    """Truths that labels have changed within the newest week: of labelled transactions, and of those mature by then."""
    then = judge(sources.labels(then_us))
    at = pc.index_in(judged.transaction_ids, value_set=then.transaction_ids)
    known = np.asarray(pc.is_valid(at))
    was = np.zeros(len(judged), np.bool_)
    if len(then):
        was[known] = then.frauds[np.asarray(pc.fill_null(at, 0), dtype=np.int64)[known]]
    withdrawn = int((known & was & ~judged.frauds).sum())
    added = int((known & ~was & judged.frauds).sum()) + _late_frauds(sources, judged, ~known, then_us, maturity_days)
    frauds = max(1, int(then.frauds.sum()))
    return {
        "labels_changed": withdrawn + added,
        "labels_changed_share": (withdrawn + added) / frauds,
        "labels_withdrawn": withdrawn,
        "labels_withdrawn_share": withdrawn / frauds,
    }


def _late_frauds(sources: Sources, judged: Judged, first_told: Any, then_us: int, maturity_days: int) -> int:
    """Frauds first told within the newest week of transactions that had counted as genuine, by their age, before it."""
    ids = judged.transaction_ids.filter(pa.array(first_told & judged.frauds))
    mature_us = then_us - maturity_days * DAY_US
    columns = ("transaction_id",)
    found = 0
    for part in (*sources.archived(0, mature_us, columns), *sources.journaled(0, mature_us, columns)):
        found += int(pc.sum(pc.is_in(part.column("transaction_id"), value_set=ids)).as_py() or 0)
    return found


def _rates(sources: Sources, judged: Judged, maturity_days: int) -> dict[str, Any]:
    until = sources.cut_off_us // DAY_US - maturity_days
    found = {}
    for name, days in (
        ("fraud_rate", range(until - NEW_DAYS, until)),
        ("fraud_rate_before", range(until - NEW_DAYS - USUAL_DAYS, until - NEW_DAYS)),
    ):
        truths = [truths_of(sources, judged, day, sources.cut_off_us, maturity_days, "test") for day in days]
        rows = sum(each.truths.num_rows for each in truths)
        found[name] = sum(each.frauds for each in truths) / rows if rows else 0.0
        found[f"{name}_rows"] = rows
    return found


def _worst(judged: Judged) -> dict[str, Any]:
    shares = {who: bad / said for who, (said, bad) in judged.analysts.items() if said >= VERDICTS_LEAST}
    worst = max(sorted(shares), key=lambda who: shares[who], default="")
    return {"analyst_contradicted_most": shares.get(worst, 0.0), "analyst_contradicted_by": worst}


def _share(labels: pa.Table, column: str, value: str) -> float:
    said = int(pc.sum(pc.equal(labels[column], value)).as_py() or 0)
    return said / max(1, int(labels.num_rows))
