"""API keys: who may call the decision API, and for what; the secret itself is never stored.

A key's text is `plb_ID_SECRET`. The secret is 32 random bytes, so one round of SHA-256 hides it as well as a slow hash
would: there is nothing to guess.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from plumbline.errors import Invalid, KeyNotFound
from store.tables import ApiKey
from store.upsert import put_if_absent

SCOPES: Final = {
    "decisions:write": "Ask for decisions.",
    "decisions:read": "Read decisions that were made.",
}
"""Every scope, and what it is for."""

SECRET_BYTES: Final = 32
ID_BYTES: Final = 6

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_TEXT: Final = re.compile(r"plb_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


def text_of(key_id: str, secret: str) -> str:
    """What its owner sends: 'plb_' with id and secret."""
    return f"plb_{key_id}_{secret}"


def parts_of(text: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None where it is none."""
    found = _TEXT.fullmatch(text)
    return (found[1], found[2]) if found else None


def hashed(secret: str) -> str:
    """What is stored of a secret: 64 hexadecimal characters."""
    return hashlib.sha256(secret.encode()).hexdigest()


def add_key(
    session: Session, *, name: str, scopes: Sequence[str], key_id: str, secret: str, created_by: str, created_at: int
) -> ApiKey:
    """A new key; the caller commits.

    key_id: 12 fresh random hexadecimal characters; secret: 32 fresh random bytes as 43 URL-safe characters;
    created_at: microseconds since 1970 UTC. Raises Invalid for an unknown scope, none at all, or a name that is taken.
    """
    if not _NAME.fullmatch(name):
        raise Invalid("key", "name", name, "1 to 64 small letters, digits, dots, dashes, such as card-platform")
    for scope in scopes or ("",):
        if scope not in SCOPES:
            raise Invalid("key", "scope", scope, "one or more of " + ", ".join(SCOPES))
    key = ApiKey(
        name=name,
        key_id=key_id,
        secret_hash=hashed(secret),
        scopes=sorted(set(scopes)),
        created_by=created_by,
        created_at=created_at,
    )
    if not put_if_absent(session, key):
        raise Invalid("key", "name", name, "a name that no key ever had; `plumbline keys list` shows them")
    return session.get_one(ApiKey, name)


def list_keys(session: Session) -> list[ApiKey]:
    """Every key, by name."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.name)))


def disable_key(session: Session, name: str, at: int) -> ApiKey:
    """A key opens nothing any more, from `at` on, microseconds since 1970 UTC; the caller commits.

    Raises KeyNotFound.
    """
    first = update(ApiKey).where(ApiKey.name == name, ApiKey.disabled_at.is_(None)).values(disabled_at=at)
    session.execute(first)
    key = session.get(ApiKey, name, populate_existing=True)
    if key is None:
        raise KeyNotFound(f"no API key has the name {name!r}: `plumbline keys list` shows those that exist")
    return key


def mark_used(session: Session, used: Mapping[str, int]) -> None:
    """Note when each key was used last, by key id; the caller commits."""
    for key_id, at in used.items():
        older = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < at)  # another process may know of a later one
        session.execute(update(ApiKey).where(ApiKey.key_id == key_id, older).values(last_used_at=at))
