"""What history means, said as plainly as possible: a double loop over everything that came before."""

import numpy as np

from features.declaration import DECLARATION
from features.grammar import ABSENT, RUNS

KEY = {
    "account": lambda row: row["account_id"],
    "merchant": lambda row: row["merchant_id"],
    "device": lambda row: row["device_id"],
    "account_merchant": lambda row: (row["account_id"], row["merchant_id"]),
}


def remembered(declaration, table, arrivals):
    """The entries of one key, sorted by time, that are not forgotten after these arrivals."""
    kept = []
    for row in arrivals:
        if row["is_label"] and table.is_marked:
            of = [each for each in kept if each["time"] == row["occurred_at"] and not each["marked"]]
            for each in of[-1:]:
                each["marked"] = True
            continue
        usual = [each["amount_minor"] for each in kept if row["time"] - table.usual_us < each["time"] <= row["time"]]
        kept.append(
            row | {"odd": row["amount_minor"] * len(usual) > 3 * sum(usual) and len(usual) > 0, "marked": False}
        )
        kept.sort(key=lambda each: each["time"])
        newest = kept[-1]["time"]
        kept = [each for each in kept if each["time"] > newest - declaration.horizon_us(table.name)]
        kept = kept[-table.bound :] if table.bound else []
    return kept


def measured(table, measure, row, past, kept, horizon_us):
    """One measure of one transaction, given the entries of its key before it and what is remembered of them."""
    t = row["time"]
    located = [each for each in past if each["latitude_e6"] != ABSENT]
    if measure.kind == "ever":
        return len(past)
    if measure.kind == "seconds_since":
        return max(0, (t - max(each["time"] for each in past)) // 1_000_000) if past else -1
    if measure.kind == "latitude_e6":
        return located[-1]["latitude_e6"] if located else ABSENT
    if measure.kind == "longitude_e6":
        return located[-1]["longitude_e6"] if located else ABSENT
    if measure.kind == "seconds_since_place":
        return max(0, (t - located[-1]["time"]) // 1_000_000) if located else -1
    if measure.kind in RUNS:
        run = []
        for each in reversed([each for each in kept if t - horizon_us < each["time"] <= t - measure.window_us]):
            if not each["marked"]:
                break
            run.append(each)
        if measure.kind == "seconds_since_fraud_run":
            return (t - run[-1]["time"]) // 1_000_000 if run else -1
        amounts = [each["amount_minor"] for each in run]
        found = {"fraud_run": len(run), "fraud_run_last": (amounts or [0])[0], "fraud_run_minimum": min(amounts or [0])}
        return found[measure.kind]
    window = [each for each in kept if t - measure.window_us < each["time"] <= t]
    if measure.kind == "count":
        return len(window)
    if measure.kind == "sum":
        return sum(each["amount_minor"] for each in window)
    if measure.kind == "maximum":
        return max((each["amount_minor"] for each in window), default=0)
    if measure.kind == "unusual":
        return sum(each["odd"] for each in window)
    if measure.kind == "squares":
        return sum(min(each["amount_minor"], table.square_most) ** 2 for each in window)
    if measure.kind == "seconds_since_first":
        return (t - min(each["time"] for each in window)) // 1_000_000 if window else -1
    return len({each[f"{table.distinct}_id"] for each in window})


def history(rows, declaration=DECLARATION):
    """int64 [n, measures] of rows (dicts) in arrival order; labels give rows of 0."""
    out = np.zeros((len(rows), len(declaration.history)), np.int64)
    for n, row in enumerate(rows):
        for of in [] if row["is_label"] else declaration.tables:
            key = KEY[of.entity](row)
            wants_labels = of.stream == "fraud_labels"
            of_key = [each for each in rows[:n] if KEY[of.entity](each) == key and key != ""]
            past = [each for each in of_key if each["is_label"] == wants_labels]
            kept = remembered(declaration, of, of_key if of.is_marked else past)
            for m, measure in enumerate(declaration.history):
                if measure.table == of.name:
                    out[n, m] = measured(of, measure, row, past, kept, declaration.horizon_us(of.name))
    return out
