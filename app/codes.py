"""The words of closed sets of codes: outcomes, routes, verdicts, channels, countries, where a label came from."""

from babel import Locale
from flask_babel import gettext

from app.languages import locale


def outcome_words(outcome: str) -> str:
    """An outcome in the page's language; its own name where it is unknown here."""
    words = {"approve": gettext("Approved"), "review": gettext("Review"), "decline": gettext("Declined")}
    return str(words.get(outcome, outcome))


def verdict_words(verdict: str) -> str:
    """A verdict in the page's language."""
    words = {"fraud": gettext("Fraud"), "genuine": gettext("Genuine"), "unsure": gettext("Unsure")}
    return str(words.get(verdict, verdict))


def source_words(source: str) -> str:
    """Who told of a label, where no person's name stands beside it."""
    words = {
        "analyst": gettext("an analyst"),
        "chargeback": gettext("a chargeback"),
        "maturity": gettext("time: no fraud was reported"),
        "archive": gettext("the archive"),
    }
    return str(words.get(source, source))


def channel_words(channel: str) -> str:
    """How a payment was made."""
    words = {
        "pos": gettext("Card at a terminal"),
        "ecom": gettext("Online"),
        "atm": gettext("Cash machine"),
        "transfer": gettext("Transfer"),
        "other": gettext("Other"),
    }
    return str(words.get(channel, channel))


def equation_words(name: str) -> str:
    """What conservation holds equal; its own name where it is unknown here."""
    words = {
        "acknowledged": gettext("every acknowledged message has an entry or is on its way"),
        "once": gettext("no message has two entries"),
        "kinds": gettext("every entry is of a kind that belongs to the topic"),
        "changes": gettext("the active policy and assignment changed only by messages"),
        "active": gettext("every decision was made under the active policy and assignment"),
        "rejected": gettext("every rejected message has a dead letter"),
        "letters": gettext("every dead letter has a rejected message"),
        "stored": gettext("every entry up to the ledger's sequence is in SQL"),
    }
    return str(words.get(name, name))


def country_words(country: str) -> str:
    """A country's name and code; ZZ is one that is not known."""
    if country == "ZZ":
        return str(gettext("not known"))
    name = Locale.parse(locale()).territories.get(country)
    return f"{name} ({country})" if name else country


def route_words(route: str) -> str:
    """Why a version decided."""
    words = {
        "newest": gettext("First version served, promoted by nobody"),
        "champion": gettext("Champion"),
        "canary": gettext("Canary"),
        "experiment": gettext("Arm of an experiment"),
        "fallback": gettext("Champion, for an arm that did not answer"),
    }
    return str(words.get(route, route))


def unscored_words(failure: str) -> str:
    """Why a shadow gave no score."""
    words = {
        "deadline": gettext("did not answer in time"),
        "error": gettext("could not answer"),
        "skipped": gettext("was not asked: too far behind"),
    }
    return str(words.get(failure, failure))
