"""Which language and theme a page has, and how it writes times and numbers.

Words come from gettext catalogues (`app/translations`), numbers and dates from Babel; features' own words come from
the declaration, in the same two languages.
"""

import datetime
from typing import Final

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal, format_percent
from flask import Flask, request
from flask_babel import Babel, get_locale, gettext
from flask_security import current_user

from app import money
from plumbline.transaction import SECOND_US

LOCALES: Final = {"en": "English", "zh_Hans_CN": "中文"}
THEMES: Final = ("", "light", "dark")
LANGUAGE_COOKIE: Final = "plumbline-language"
THEME_COOKIE: Final = "plumbline-theme"

_TAGS: Final = {
    "en": "en",
    "zh-hans-cn": "zh_Hans_CN",
    "zh-cn": "zh_Hans_CN",
    "zh-hans": "zh_Hans_CN",
    "zh": "zh_Hans_CN",
}


def speak(app: Flask) -> None:
    """Gives an application its languages, and its templates the words and formats."""
    app.config["BABEL_DEFAULT_LOCALE"] = "en"
    Babel(app, locale_selector=chosen_locale)
    app.jinja_env.filters.update(
        clock=clock,
        moment=moment,
        iso=iso,
        ago=ago,
        number=number,
        percent=percent,
        money=money_words,
        score=score_words,
    )
    app.jinja_env.globals.update(
        LOCALES=LOCALES, locale=locale, language=language, html_lang=html_lang, theme=chosen_theme
    )


def chosen_locale() -> str:
    """The person's own choice, else the cookie's, else the best of what the browser asks for."""
    own = current_user.locale if current_user and current_user.is_authenticated else ""
    for wanted in (own, request.cookies.get(LANGUAGE_COOKIE, "")):
        if wanted in LOCALES:
            return str(wanted)
    return _TAGS[request.accept_languages.best_match(list(_TAGS), "en")]


def chosen_theme() -> str:
    """`light`, `dark`, or empty for the system's own."""
    own = current_user.theme if current_user and current_user.is_authenticated else ""
    theme = own or request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else ""


def locale() -> str:
    """The page's locale: a key of LOCALES."""
    return str(get_locale() or "en")


def language() -> str:
    """The language of the declaration's words: `en` or `zh`."""
    return locale()[:2]


def html_lang() -> str:
    """The page's language as HTML names it."""
    return "zh-Hans" if language() == "zh" else "en"


def utc(time_us: int) -> datetime.datetime:
    """Microseconds since 1970 UTC as a datetime."""
    return datetime.datetime.fromtimestamp(time_us / SECOND_US, datetime.UTC)


def moment(time_us: int) -> str:
    """A date and a time, in UTC."""
    pattern = "y 年 M 月 d 日 HH:mm:ss" if language() == "zh" else "d MMM y, HH:mm:ss"
    return f"{format_datetime(utc(time_us), pattern, locale=locale())} UTC"


def clock(time_us: int) -> str:
    """A short date and time, in UTC, for lists."""
    pattern = "M 月 d 日 HH:mm" if language() == "zh" else "d MMM, HH:mm"
    return str(format_datetime(utc(time_us), pattern, locale=locale()))


def iso(time_us: int) -> str:
    """The same for machines."""
    return utc(time_us).isoformat()


def ago(time_us: int, now_us: int) -> str:
    """How long ago something was, in words; `just now` within a few seconds."""
    seconds = (now_us - time_us) // SECOND_US
    if seconds < 5:
        return str(gettext("just now"))
    gone = datetime.timedelta(seconds=seconds)
    return str(format_timedelta(-gone, add_direction=True, threshold=1.5, locale=locale()))


def duration(seconds: int) -> str:
    """A length of time in words, in its largest fitting unit."""
    return str(format_timedelta(datetime.timedelta(seconds=seconds), threshold=1.5, locale=locale()))


def number(value: float, decimals: int = 0) -> str:
    """A number with at most this many decimals."""
    return str(
        format_decimal(round(value, decimals), "#,##0." + "#" * decimals if decimals else "#,##0", locale=locale())
    )


def percent(share: float) -> str:
    """A share of 1 in percent, with one decimal below 10 %."""
    pattern = "0.#%" if 0 < share < 0.1 else "0%"
    return str(format_percent(share, pattern, locale=locale()))


def score_words(score: float | None) -> str:
    """A score with three decimals; a dash where no model answered."""
    return "–" if score is None else str(format_decimal(score, "0.000", locale=locale()))


def money_words(minor: int, currency: str) -> str:
    """An amount in the page's language."""
    return money.amount(minor, currency, locale())
