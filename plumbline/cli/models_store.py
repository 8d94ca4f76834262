"""What all commands of `plumbline models` share: the store they work on, the clock, and facts as JSON."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import sqlalchemy as sa

    from plumbline.settings import Settings
    from store.model_tables import ModelChange, ModelRequest, ModelVersion

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Number = Annotated[int, typer.Argument(min=1, help="Number of the version.")]
By = Annotated[str, typer.Option(help="Who asks: a log-in of the console with the role engineer or supervisor.")]


@contextmanager
def opened() -> "Iterator[tuple[sa.Engine, Settings]]":
    """The store, whose tables must be this version's, and the settings. Raises Unready."""
    from plumbline.settings import load
    from store import schema
    from store.engine import open_engine

    settings = load()
    engine = open_engine(settings)
    try:
        schema.require_current(engine)
        yield engine, settings
    finally:
        engine.dispose()


@contextmanager
def owning_if_stored(settings: "Settings", doing: str, wait_seconds: float) -> Iterator[None]:
    """Own the release, as every command does that changes the stream; without SQL tables there is no registry to share.

    A database that is away does not keep a person from changing the stream: they are told. Raises ReleaseHeld.
    """
    from plumbline.errors import StoreUnavailable
    from store import schema
    from store.engine import open_engine, url
    from store.releases import owning

    address = url(settings)
    if address.get_backend_name() == "sqlite" and address.database and not Path(address.database).exists():
        yield
        return
    with ExitStack() as stack:
        engine = open_engine(settings)
        stack.callback(engine.dispose)
        try:
            if schema.current(engine) == schema.head():
                stack.enter_context(owning(engine, doing, urgent=False, wait_seconds=wait_seconds))
        except StoreUnavailable as error:
            print(f"plumbline: {error}; going on without the registry's lock", file=sys.stderr)
        yield


def now_us() -> int:
    """Our clock, microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def moment(at_us: int | None) -> str:
    """A time for people to read, or a dash.

    >>> moment(0), moment(None)
    ('1970-01-01 00:00', '–')
    """
    return "–" if at_us is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(at_us / 1_000_000))


def version_facts(version: "ModelVersion") -> dict[str, Any]:
    """Everything that the registry keeps of a version but its card, which says the same in its own words."""
    names = [column.name for column in version.__table__.columns if column.name != "card"]
    return {name: getattr(version, name) for name in names}


def change_facts(change: "ModelChange") -> dict[str, Any]:
    """A change as JSON."""
    return {column.name: getattr(change, column.name) for column in change.__table__.columns}


def request_facts(request: "ModelRequest") -> dict[str, Any]:
    """A request as JSON."""
    return {column.name: getattr(request, column.name) for column in request.__table__.columns}
