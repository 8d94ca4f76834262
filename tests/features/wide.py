"""A declaration with every kind of measure that the grammar knows, over short and long windows: for the oracle."""

from msgspec.structs import replace

from features.declaration import DECLARATION, measures
from features.grammar import Measure

_USUAL = {"account": "90d", "merchant": "1d"}

_MORE: tuple[Measure, ...] = (
    *measures("account", "count sum squares", "90d"),
    *measures("account", "unusual", "10m 1d 7d 14d"),
    *measures("account", "squares seconds_since_first", "1h 30d"),
    *measures("merchant", "unusual", "1d 60d"),
    *measures("merchant", "squares", "7d"),
    *measures("merchant", "fraud_run seconds_since_fraud_run fraud_run_last fraud_run_minimum", "10m 1d 7d"),
    *measures("account", "fraud_run seconds_since_fraud_run fraud_run_last fraud_run_minimum", "1h 30d"),
    *measures("account_fraud", "count seconds_since_first", "1d 60d"),
    *measures("account_fraud", "seconds_since ever"),
    *measures("merchant_fraud", "seconds_since_first", "30d 60d"),
    *measures("merchant_fraud", "seconds_since"),
)

WIDE = replace(
    DECLARATION,
    tables=tuple(
        replace(each, usual=_USUAL[each.name], outcomes=True) if each.name in _USUAL else each
        for each in DECLARATION.tables
    ),
    history=(*DECLARATION.history, *(each for each in _MORE if each not in DECLARATION.history)),
)
