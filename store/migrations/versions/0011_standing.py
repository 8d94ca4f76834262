"""What stands until it is acknowledged: audits with differences, what the continuous audit found, and imbalances."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def acknowledged() -> list[sa.Column[Any]]:
    """Columns of what stands until somebody acknowledges it."""
    return [
        sa.Column("acknowledged_at", BIG, nullable=True),
        sa.Column("acknowledged_by", sa.String(length=128), nullable=True),
        sa.Column("acknowledged_why", sa.Text(), server_default=sa.text("''"), nullable=False),
    ]


def upgrade() -> None:
    """Add the columns and the table; what the continuous audit has counted so far stands from now on as well."""
    columns: list[sa.Column[Any]] = [
        sa.Column("origin", sa.String(length=8), server_default=sa.text("'audit'"), nullable=False),
        sa.Column("journal", sa.String(length=255), server_default=sa.text("''"), nullable=False),
        sa.Column("sample", sa.String(length=32), server_default=sa.text("''"), nullable=False),
        sa.Column("raw_missing", BIG, server_default=sa.text("0"), nullable=False),
        *acknowledged(),
    ]
    for column in columns:
        op.add_column("audits", column)
    op.create_table(
        "imbalances",
        sa.Column("id", BIG, nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("seen_at", BIG, nullable=False),
        sa.Column("cleared_at", BIG, nullable=True),
        sa.Column("count", BIG, nullable=False),
        sa.Column("equations", sa.JSON(), nullable=False),
        *acknowledged(),
        sa.PrimaryKeyConstraint("id", name="pk_imbalances"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO audits (origin, sample, started_at, finished_at, first_sequence, last_sequence, compared, "
        "different, detail) SELECT 'watch', '1/' || one_in, started_at, updated_at, 0, sequence, compared, "
        "different, detail FROM continuous_audit WHERE different > 0"
    )


def downgrade() -> None:
    """Drop them; rows of the continuous audit go, since older releases would take them for audits of a range."""
    op.drop_table("imbalances")
    op.execute("DELETE FROM audits WHERE origin = 'watch'")
    columns = ("origin", "journal", "sample", "raw_missing", "acknowledged_at", "acknowledged_by", "acknowledged_why")
    for name in columns:
        op.drop_column("audits", name)
