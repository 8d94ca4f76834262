"""The guard: how far it is, the versions under guard, and incidents."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "guard",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.Column("begin", BIG, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("behind_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_guard"),
    )
    op.create_table(
        "trials",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("version", BIG, autoincrement=False, nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=False),
        sa.Column("champion", BIG, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("per_mille", BIG, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("began_at", BIG, nullable=False),
        sa.Column("passed_at", BIG, nullable=True),
        sa.Column("ended_at", BIG, nullable=True),
        sa.Column("decisions", BIG, nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("spent", sa.Double(), nullable=False),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", "version", name="pk_trials"),
    )
    op.create_table(
        "incidents",
        sa.Column("id", BIG, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("champion", BIG, nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("slice", sa.String(length=64), nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("last_sequence", BIG, nullable=False),
        sa.Column("picture", sa.JSON(), nullable=False),
        sa.Column("rollback", sa.String(length=64), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("published_at", BIG, nullable=True),
        sa.Column("effective_at", BIG, nullable=True),
        sa.Column("effective_sequence", BIG, nullable=True),
        sa.Column("acknowledged_at", BIG, nullable=True),
        sa.Column("acknowledged_by", sa.String(length=128), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_incidents"),
        sa.UniqueConstraint("sequence", "version", name="uq_incidents_sequence_version"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("incidents", "trials", "guard"):
        op.drop_table(table)
