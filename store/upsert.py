"""Rows that two processes may write at the same moment, the first time too: each by one statement of the database.

Looking whether a row is there and inserting it afterwards fails where another process inserts it in between.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Insert, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from store.tables import Base

Changes = Callable[[Any, Any], Mapping[str, Any]]
"""New values of columns of the row that is there, from its columns and those of the row that came."""


def put(session: Session, row: Base, changes: Changes = lambda there, came: {}) -> None:
    """Insert a row, or give the one with its key the values that `row` has; the caller commits.

    changes: of columns that follow another rule. What the session loaded before is not refreshed.
    """
    insert, key = _insert(session, row)
    there, came = type(row).__table__.c, insert.excluded
    values = {name: came[name] for name in _values(row) if name not in key}
    session.execute(insert.on_conflict_do_update(index_elements=key, set_={**values, **changes(there, came)}))


def put_if_absent(session: Session, row: Base) -> bool:
    """Insert a row unless one with its key, or another unique value of it, is there; whether it was inserted."""
    insert, _ = _insert(session, row)
    done = session.execute(insert.on_conflict_do_nothing(), execution_options={"preserve_rowcount": True})
    return bool(done.rowcount == 1)  # type: ignore[attr-defined] # of a cursor, as every INSERT gives


def _insert(session: Session, row: Base) -> tuple[Any, list[str]]:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    table = type(row).__table__
    insert: Insert = dialect.insert(table).values(_values(row))
    return insert, [column.name for column in table.primary_key]


def _values(row: Base) -> dict[str, Any]:
    """The columns that were given a value, by name."""
    state = inspect(row)
    attributes = state.mapper.column_attrs
    return {each.columns[0].name: state.dict[each.key] for each in attributes if each.key in state.dict}
