"""Runs migrations on the connection that `store.schema` hands over; Alembic loads this file by its name."""

from alembic import context

from store import audit_tables, guard_tables, model_tables, release_tables, retrain_tables  # noqa: F401 - their tables are part of the schema
from store.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    # SQLite can alter little in place: tables are copied there, by the same migrations.
    render_as_batch=True,
    # All or nothing: `store.schema` opens SQLite transactions itself, which the driver would not do for DDL.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
