"""Who may log in: adding, listing, and shutting out people; passwords hashed as flask-security verifies them."""

import base64
import hashlib
import hmac
import unicodedata

from argon2 import PasswordHasher
from sqlalchemy import select
from sqlalchemy.orm import Session

from plumbline.errors import Invalid, UserNotFound
from store.people import ROLES, Role, User
from store.tables import NAME_CHARACTERS
from store.upsert import put_if_absent

PASSWORD_MIN_CHARACTERS = 12
PASSWORD_MAX_CHARACTERS = 256


def add_user(session: Session, *, email: str, name: str, roles: list[str], password_hash: str, uniquifier: str) -> User:
    """A new log-in; the caller commits.

    password_hash: from `hash_password`; uniquifier: a fresh random id of 32 hexadecimal characters or more.
    Raises Invalid for an unknown role, an address with spaces, or one that is taken.
    """
    email = email.strip().lower()
    if not (0 < len(email) <= NAME_CHARACTERS and email.isprintable()) or any(map(str.isspace, email)):
        raise Invalid("user", "email", email, "an address such as ada@bank.example, without spaces")
    known = [_role(session, role) for role in roles]
    added = User(email=email, name=name, password=password_hash, active=True, fs_uniquifier=uniquifier)
    if not put_if_absent(session, added):
        raise Invalid("user", "email", email, "an address that nobody has yet; `plumbline users list` shows them")
    found = user(session, email)
    found.roles = known
    session.flush()
    return found


def _role(session: Session, name: str) -> Role:
    if name not in ROLES:
        raise Invalid("user", "role", name, "one of " + ", ".join(ROLES))
    wanted = select(Role).where(Role.name == name)
    if (role := session.scalars(wanted).one_or_none()) is None:
        put_if_absent(session, Role(name=name, description=ROLES[name]))
        role = session.scalars(wanted).one()
    return role


def list_users(session: Session) -> list[User]:
    """Every log-in with its roles, by address."""
    return list(session.scalars(select(User).order_by(User.email)))


def user(session: Session, email: str) -> User:
    """One log-in; raises UserNotFound."""
    found = session.scalars(select(User).where(User.email == email.strip().lower())).one_or_none()
    if found is None:
        raise UserNotFound(f"no user has the address {email!r}: `plumbline users list` shows those who do")
    return found


def set_password(session: Session, email: str, password_hash: str, uniquifier: str) -> None:
    """Replace a password; the new uniquifier ends every session of that person. The caller commits."""
    person = user(session, email)
    person.password = password_hash
    person.fs_uniquifier = uniquifier


def disable(session: Session, email: str, uniquifier: str) -> None:
    """Shut a person out and end every session of theirs; what they said stays. The caller commits."""
    person = user(session, email)
    person.active = False
    person.fs_uniquifier = uniquifier


def enable(session: Session, email: str) -> None:
    """Let a person in again; the caller commits."""
    user(session, email).active = True


def hash_password(password: str, salt: str) -> str:
    """The argon2id hash that flask-security verifies under `SECURITY_PASSWORD_HASH = "argon2"` with this salt.

    It signs the normalized password with the salt first (HMAC-SHA512, base64), so that a stolen table is of no use
    without the salt. Raises Invalid for a password that is too short or too long.
    """
    password = unicodedata.normalize("NFKD", password)
    if not PASSWORD_MIN_CHARACTERS <= len(password) <= PASSWORD_MAX_CHARACTERS:
        allowed = f"{PASSWORD_MIN_CHARACTERS} to {PASSWORD_MAX_CHARACTERS} characters"
        raise Invalid("user", "password", f"{len(password)} characters", allowed)
    signed = hmac.new(salt.encode(), password.encode(), hashlib.sha512).digest()
    return PasswordHasher().hash(base64.b64encode(signed))
