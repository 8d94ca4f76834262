"""Log-ins: made on the command line, verified by flask-security itself."""

import flask
import pytest
import sqlalchemy as sa
from flask_security import Security, verify_password
from flask_security.datastore import SQLAlchemySessionUserDatastore
from sqlalchemy.orm import scoped_session, sessionmaker

from plumbline.errors import Invalid, UserNotFound
from store import users
from store.engine import transaction
from store.people import Role, User

SALT = "a salt of 16 characters or more"
PASSWORD = "correct horse battery ﬁre"  # a ligature, which normalization takes apart


def add(engine: sa.Engine, email: str, roles: list[str]) -> None:
    with transaction(engine) as session:
        users.add_user(
            session,
            email=email,
            name="Ada",
            roles=roles,
            password_hash=users.hash_password(PASSWORD, SALT),
            uniquifier=email.encode().hex().ljust(32, "0")[:64],
        )


def flask_security(engine: sa.Engine, salt: str) -> flask.Flask:
    app = flask.Flask(__name__)
    app.config.update(SECRET_KEY="s" * 32, SECURITY_PASSWORD_SALT=salt, SECURITY_PASSWORD_HASH="argon2")
    Security(app, SQLAlchemySessionUserDatastore(scoped_session(sessionmaker(engine)), User, Role))
    return app


def test_flask_security_accepts_our_hash_and_reads_our_users(engine: sa.Engine) -> None:
    add(engine, "Ada@Bank.example", ["analyst", "supervisor"])
    with flask_security(engine, SALT).app_context():
        people = flask.current_app.extensions["security"].datastore
        found = people.find_user(email="ada@bank.example")
        assert found is not None
        assert found.has_role("supervisor")
        assert not found.has_role("engineer")
        assert found.is_active
        assert found.verify_and_update_password("correct horse battery fire")
        assert not found.verify_and_update_password("correct horse battery fir")
        people.db.session.remove()


def test_a_stolen_hash_is_of_no_use_without_the_salt(engine: sa.Engine) -> None:
    stored = users.hash_password(PASSWORD, SALT)
    assert stored.startswith("$argon2id$")
    with flask_security(engine, "another salt altogether").app_context():
        assert not verify_password("correct horse battery fire", stored)
    with flask_security(engine, SALT).app_context():
        assert verify_password("correct horse battery fire", stored)


def test_addresses_are_unique_whatever_their_case(engine: sa.Engine) -> None:
    add(engine, "ada@bank.example", ["analyst"])
    with pytest.raises(Invalid, match="nobody has yet"):
        add(engine, " ADA@bank.example ", ["analyst"])
    with pytest.raises(Invalid, match="without spaces"):
        add(engine, "ada lovelace", ["analyst"])
    with pytest.raises(Invalid, match="expected one of analyst, supervisor, engineer"):
        add(engine, "bob@bank.example", ["boss"])
    with transaction(engine) as session:
        assert [user.email for user in users.list_users(session)] == ["ada@bank.example"]


def test_a_new_password_and_a_disabled_log_in_end_every_session(engine: sa.Engine) -> None:
    """flask-security finds a session's person by the uniquifier: a new one leaves old sessions without any."""
    add(engine, "ada@bank.example", ["analyst"])
    with transaction(engine) as session:
        users.set_password(session, "ADA@bank.example", "other", "1" * 32)
    with transaction(engine) as session:
        ada = users.user(session, "ada@bank.example")
        assert (ada.password, ada.fs_uniquifier, ada.active) == ("other", "1" * 32, True)
        users.disable(session, "ada@bank.example", "2" * 32)
    with transaction(engine) as session:
        ada = users.user(session, "ada@bank.example")
        assert (ada.fs_uniquifier, ada.active) == ("2" * 32, False)
        users.enable(session, "ada@bank.example")
        assert ada.active
        with pytest.raises(UserNotFound, match="has the address 'nobody"):
            users.disable(session, "nobody@bank.example", "3" * 32)


@pytest.mark.parametrize("password", ["", "eleven char", "x" * 257])
def test_passwords_out_of_range_are_refused_without_showing_them(password: str) -> None:
    with pytest.raises(Invalid, match="expected 12 to 256 characters") as caught:
        users.hash_password(password, SALT)
    assert not password or password not in str(caught.value)
