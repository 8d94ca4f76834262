"""`plumbline users`: the console's log-ins. A password is asked for, or read from standard input; it is no argument,
since arguments can be seen by everybody on the machine."""

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from plumbline.settings import Settings
    from store.people import User

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, list or disable log-ins of the console.")

Address = Annotated[str, typer.Argument(help="Log-in name: the person's mail address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def add(
    email: Address,
    role: Annotated[list[str], typer.Option(help="analyst, supervisor or engineer; may be given again.")],
    name: Annotated[str, typer.Option(help="The person's name, as shown.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a log-in; the password is asked for, or is the first line of standard input."""
    from store.users import add_user

    with _store() as (session, settings):
        hashed = _hashed_password(settings)
        user = add_user(session, email=email, name=name, roles=role, password_hash=hashed, uniquifier=uuid.uuid4().hex)
    if as_json:
        print(json.dumps({"email": user.email, "name": user.name, "roles": _role_names(user)}))
    else:
        print(f"{user.email} may log in now as {', '.join(_role_names(user))}.")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List every log-in: address, name, roles, whether it is active."""
    from store.users import list_users

    with _store() as (session, _):
        users = list_users(session)
    if as_json:
        rows = [
            {"email": user.email, "name": user.name, "roles": _role_names(user), "active": user.active}
            for user in users
        ]
        print(json.dumps({"users": rows}))
        return
    for user in users:
        state = "active" if user.active else "disabled"
        print(f"{user.email}\t{user.name}\t{','.join(_role_names(user))}\t{state}")


@app.command("set-password")
def set_password_(email: Address) -> None:
    """Replace a password and end that person's sessions; it is asked for, or read from standard input."""
    from store.users import set_password, user

    with _store() as (session, settings):
        user(session, email)
        set_password(session, email, _hashed_password(settings), uuid.uuid4().hex)
    print(f"{email} has a new password; every session of theirs has ended.")


@app.command("disable")
def disable_(email: Address) -> None:
    """Shut a person out and end their sessions; what they decided stays."""
    from store.users import disable

    with _store() as (session, _):
        disable(session, email, uuid.uuid4().hex)
    print(f"{email} can no longer log in.")


@app.command("enable")
def enable_(email: Address) -> None:
    """Let a disabled person log in again."""
    from store.users import enable

    with _store() as (session, _):
        enable(session, email)
    print(f"{email} may log in again.")


def _role_names(user: "User") -> list[str]:
    return sorted(role.name for role in user.roles)


@contextmanager
def _store() -> "Iterator[tuple[Session, Settings]]":
    """A session that is committed at the end of the block, on tables of this version."""
    from plumbline.settings import load
    from store import schema
    from store.engine import open_engine, transaction

    settings = load()
    engine = open_engine(settings)
    try:
        schema.require_current(engine)
        with transaction(engine) as session:
            yield session, settings
    finally:
        engine.dispose()


def _hashed_password(settings: "Settings") -> str:
    from plumbline.errors import Unready
    from store.users import hash_password

    if not settings.password_salt:
        raise Unready(
            "PLUMBLINE_PASSWORD_SALT is not set: give users and console the same long random text, for example from "
            "`openssl rand -hex 32`"
        )
    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    return hash_password(password, settings.password_salt)
