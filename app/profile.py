"""How a person wants to see the console: language and theme."""

from typing import Final

from flask import Blueprint, abort, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_security import current_user

from app.access import person
from app.database import store
from app.languages import LANGUAGE_COOKIE, LOCALES, THEME_COOKIE, THEMES

blueprint = Blueprint("profile", __name__, url_prefix="/profile")

YEAR_SECONDS: Final = 31_536_000


@blueprint.get("")
def page() -> ResponseReturnValue:
    """Who is logged in, with which rights, and the choices."""
    return render_template("profile.html", person=person())


@blueprint.post("/view")
def view() -> ResponseReturnValue:
    """Stores a language, a theme, or both, in a cookie, and with the person where somebody is logged in."""
    language, theme = request.form.get("language"), request.form.get("theme")
    if language not in (None, "", *LOCALES) or theme not in (None, *THEMES):
        abort(400)
    known = current_user.is_authenticated
    if known:
        who = person()
        who.locale = who.locale if language is None else language
        who.theme = who.theme if theme is None else theme
        store().commit()
    response = make_response(redirect(local_path(request.form.get("next", "")), 303))
    for name, value in ((LANGUAGE_COOKIE, language), (THEME_COOKIE, theme)):
        if value is not None:
            response.set_cookie(
                name, value, max_age=YEAR_SECONDS, secure=request.is_secure, httponly=True, samesite="Lax"
            )
    return response


def local_path(wanted: str) -> str:
    """A path on this host to go back to; the overview for anything that could lead elsewhere.

    >>> local_path("/alerts?outcome=review")
    '/alerts?outcome=review'
    """
    plain = (
        wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and wanted.isprintable() and "\\" not in wanted
    )
    return wanted if plain else url_for("overview.page")
