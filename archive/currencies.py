"""Which currencies the transactions of an archive are in: sums of amounts make sense in one alone."""

from collections import Counter

import pyarrow.compute as pc

from archive.layout import Archive


def currencies_of(archive: Archive, since_us: int | None = None, until_us: int | None = None) -> dict[str, int]:
    """Transactions by currency, the most frequent first; half-open range of `occurred_at`."""
    found: Counter[str] = Counter()
    for batch in archive.transactions(since_us, until_us, ["currency"]):
        for each in pc.value_counts(batch.column("currency")).to_pylist():
            found[each["values"]] += each["counts"]
    return dict(found.most_common())


def mixed(found: dict[str, int]) -> str:
    """A warning about more than one currency, empty where there is one."""
    if len(found) < 2:
        return ""
    listed = ", ".join(f"{currency} {rows:,}" for currency, rows in found.items())
    return (
        f"{len(found)} currencies in one archive ({listed}): history and model add and compare amounts in minor units "
        "without converting them; convert the amounts to one currency, or keep one archive and one model for each"
    )
