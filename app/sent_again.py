"""A transaction's conflicts in plain words: when its id was sent again, and what was not the same then."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flask_babel import gettext, lazy_gettext

from app.codes import channel_words, country_words
from app.languages import moment, money_words
from store.tables import Conflict, Decision

_FIELDS: Final = {
    "occurred_at": lazy_gettext("Occurred"),
    "account_id": lazy_gettext("Account"),
    "merchant_id": lazy_gettext("Merchant"),
    "device_id": lazy_gettext("Device"),
    "amount_minor": lazy_gettext("Amount"),
    "currency": lazy_gettext("Currency"),
    "channel": lazy_gettext("Channel"),
    "mcc": lazy_gettext("Merchant category"),
    "country": lazy_gettext("Country"),
    "latitude_e6": lazy_gettext("Latitude"),
    "longitude_e6": lazy_gettext("Longitude"),
}
_ABSENT: Final = {"device_id": "", "latitude_e6": None, "longitude_e6": None}
"""What a field is that a platform left out."""


@dataclass(frozen=True, slots=True)
class SentAgain:
    """One conflict; changes: (field, as decided, as sent this time) in words, empty when the body was the same."""

    journaled_at: int
    sequence: int
    identical: bool
    changes: tuple[tuple[str, str, str], ...]


def sent_again(decision: Decision, conflict: Conflict) -> SentAgain:
    """A conflict as an analyst reads it, beside the decision that stands."""
    decided = {name: getattr(decision, name) for name in _FIELDS}
    sent = {name: conflict.transaction.get(name, _ABSENT.get(name)) for name in _FIELDS}
    changes = tuple(
        (str(words), *_told_apart(name, decided, sent))
        for name, words in _FIELDS.items()
        if decided[name] != sent[name]
    )
    return SentAgain(conflict.journaled_at, conflict.sequence, conflict.identical, changes)


def _told_apart(name: str, decided: Mapping[str, Any], sent: Mapping[str, Any]) -> tuple[str, str]:
    """Both values in words; as recorded where words are too coarse to tell them apart."""
    words = _shown(name, decided), _shown(name, sent)
    return words if words[0] != words[1] else (str(decided[name]), str(sent[name]))


def _shown(name: str, body: Mapping[str, Any]) -> str:
    value = body[name]
    if value is None or value == "":
        return str(gettext("not known"))
    match name:
        case "occurred_at":
            return moment(value)
        case "amount_minor":
            return money_words(value, body["currency"])
        case "channel":
            return str(channel_words(value))
        case "country":
            return str(country_words(value))
        case "latitude_e6" | "longitude_e6":
            return f"{value / 1e6:.4f}°"
        case _:
            return str(value)
