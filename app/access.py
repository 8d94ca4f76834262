"""Who may see and do what: log-in by flask-security on the store's users, and one rule for every route.

A route is open only when it is listed in OPEN; every other one wants a person who is logged in with one of the
known roles. What only some roles may do carries `roles_accepted` beside its view.
"""

import datetime
from typing import Final

from flask import Flask, abort, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_security import LoginForm, Security, auth_required, current_user
from flask_security.datastore import SQLAlchemySessionUserDatastore
from werkzeug.local import LocalProxy
from wtforms import StringField
from wtforms.validators import InputRequired, Length

from app.database import Sessions
from plumbline.errors import Unready
from plumbline.settings import Settings
from store.people import ROLES, Role, User

OPEN: Final = frozenset(
    {
        "static",
        "health.healthz",
        "health.readyz",
        "profile.view",
        "security.login",
        "security.logout",
        "security.verify",
    }
)
"""Endpoints that answer without a log-in; flask-security guards its own (verify and logout)."""

JUDGES: Final = ("analyst", "supervisor")
"""Roles that may give a verdict."""

IDLE: Final = datetime.timedelta(hours=2)
SHIFT: Final = datetime.timedelta(hours=12)
"""A session ends after this long without a request; the password is asked again after a shift."""


class LogInForm(LoginForm):
    """flask-security's form, without its demand that a log-in name be an address that mail could reach."""

    email = StringField(validators=[InputRequired(), Length(max=255)])


def guard(app: Flask, settings: Settings, sessions: Sessions) -> None:
    """Log-in, log-out, and the rule for every route; raises Unready when a secret is missing."""
    for name, value in (("secret_key", settings.secret_key), ("password_salt", settings.password_salt)):
        if not value:
            raise Unready(
                f"PLUMBLINE_{name.upper()} is not set: the console signs log-ins with it; set it (or "
                f"PLUMBLINE_{name.upper()}_FILE) to a long random text, for example from `openssl rand -hex 32`"
            )
    app.config.update(
        SECRET_KEY=settings.secret_key,
        SECURITY_PASSWORD_SALT=settings.password_salt,
        SECURITY_PASSWORD_HASH="argon2",  # noqa: S106 - the name of the algorithm
        SECURITY_PASSWORD_SCHEMES=["argon2"],
        SECURITY_USER_IDENTITY_ATTRIBUTES=[{"email": {"mapper": log_in_name, "case_insensitive": True}}],
        SECURITY_RETURN_GENERIC_RESPONSES=True,
        SECURITY_TRACKABLE=True,
        SECURITY_LOGIN_USER_TEMPLATE="log_in.html",
        SECURITY_VERIFY_TEMPLATE="verify.html",
        SECURITY_POST_LOGIN_VIEW="overview.page",
        SECURITY_POST_LOGOUT_VIEW="security.login",
        SECURITY_LOGOUT_METHODS=["POST"],
        SECURITY_LOGOUT_CSRF=True,
        SECURITY_API_ENABLED_METHODS=["session"],
        SECURITY_FRESHNESS=SHIFT,
        SECURITY_FRESHNESS_GRACE_PERIOD=datetime.timedelta(0),
        SECURITY_STATIC_FOLDER=None,
        SECURITY_FLASH_MESSAGES=False,  # the log-in page says by itself what it wants
        PERMANENT_SESSION_LIFETIME=IDLE,
        SESSION_PROTECTION="strong",
    )
    Security(app, SQLAlchemySessionUserDatastore(sessions, User, Role), login_form=LogInForm)
    app.before_request(require_person)


def log_in_name(identity: str) -> str:
    """A log-in name as it is looked up; it is an address by custom, and any name is allowed."""
    return identity.strip()[:255]


def person() -> User:
    """The person who is logged in, as the store's User."""
    user = current_user._get_current_object() if isinstance(current_user, LocalProxy) else current_user
    assert isinstance(user, User)  # the rule for every route lets nobody else come here
    return user


def may_judge() -> bool:
    """Whether the person who is logged in may give a verdict."""
    return any(current_user.has_role(role) for role in JUDGES)


def require_person() -> ResponseReturnValue | None:
    """None when the request may go on; else the way to the log-in page, or 401 for what is no page."""
    if request.endpoint is None or request.endpoint in OPEN:
        return None
    answer: ResponseReturnValue | None = _logged_in()
    if answer is not None:
        if "HX-Request" in request.headers:
            # a part of a page was asked for: the whole page must go to the log-in, not the part
            return "", 401, {"HX-Redirect": url_for("security.login")}
        return answer
    session.permanent = True
    if not any(current_user.has_role(role) for role in ROLES):
        abort(403)
    return None


@auth_required("session", within=lambda: SHIFT, grace=0)
def _logged_in() -> None:
    return None
