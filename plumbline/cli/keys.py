"""`plumbline keys`: who may call the decision API. A key is printed once, when it is made, and never stored."""

import datetime
import getpass
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from store.tables import ApiKey

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, list or disable keys of the decision API.")

Name = Annotated[str, typer.Argument(help="Name of the key: who uses it, such as card-platform.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def add(
    name: Name,
    scope: Annotated[list[str], typer.Option(help="decisions:write or decisions:read; may be given again.")],
    by: Annotated[str, typer.Option(help="Who makes it. [default: the user of this machine]")] = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once: keep it where its user keeps secrets."""
    from store.keys import ID_BYTES, SECRET_BYTES, add_key, text_of

    key_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    with _store() as session:
        key = add_key(
            session, name=name, scopes=scope, key_id=key_id, secret=secret, created_by=by or _user(), created_at=_now()
        )
    if as_json:
        print(json.dumps({**_facts(key), "key": text_of(key_id, secret)}))
    else:
        print(text_of(key_id, secret))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List every key: name, id, scopes, who made it and when, when it was used last, whether it is good."""
    from store.keys import list_keys

    with _store() as session:
        keys = [_facts(each) for each in list_keys(session)]
    if as_json:
        print(json.dumps({"keys": keys}))
        return
    for key in keys:
        state = f"disabled {key['disabled_at']}" if key["disabled_at"] else "good"
        used = f"used {key['last_used_at']}" if key["last_used_at"] else "never used"
        print(
            "\t".join(
                [key["name"], key["key_id"], ",".join(key["scopes"]), key["created_by"], key["created_at"], used, state]
            )
        )


@app.command()
def disable(name: Name, as_json: AsJson = False) -> None:
    """A key opens nothing any more, within a few seconds; its name stays in the list."""
    from store.keys import disable_key

    with _store() as session:
        key = disable_key(session, name, _now())
    print(json.dumps(_facts(key)) if as_json else f"{name} opens nothing any more.")


def _facts(key: "ApiKey") -> dict[str, Any]:
    return {
        "name": key.name,
        "key_id": key.key_id,
        "scopes": key.scopes,
        "created_by": key.created_by,
        "created_at": _moment(key.created_at),
        "disabled_at": _moment(key.disabled_at),
        "last_used_at": _moment(key.last_used_at),
    }


def _moment(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return datetime.datetime.fromtimestamp(at_us // 1_000_000, datetime.UTC).isoformat()


def _now() -> int:
    return time.time_ns() // 1000


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # a container's user may have no name


@contextmanager
def _store() -> "Iterator[Session]":
    """A session that is committed at the end of the block, on tables of this version."""
    from plumbline.settings import load
    from store import schema
    from store.engine import open_engine, transaction

    engine = open_engine(load())
    try:
        schema.require_current(engine)
        with transaction(engine) as session:
            yield session
    finally:
        engine.dispose()
