"""What the watching process says: the continuous audit, conservation, and recomputations of single decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the three tables."""
    op.create_table(
        "balances",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.Column("imbalance", BIG, nullable=False),
        sa.Column("oldest_waiting_ms", BIG, nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_balances"),
    )
    op.create_table(
        "continuous_audit",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.Column("one_in", BIG, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("journal_end", BIG, nullable=False),
        sa.Column("behind_ms", BIG, nullable=False),
        sa.Column("compared", BIG, nullable=False),
        sa.Column("different", BIG, nullable=False),
        sa.Column("unverified", BIG, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_continuous_audit"),
    )
    op.create_table(
        "recomputations",
        sa.Column("id", BIG, nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("asked_by", sa.String(length=128), nullable=False),
        sa.Column("asked_at", BIG, nullable=False),
        sa.Column("answered_at", BIG, nullable=True),
        sa.Column("result", sa.String(length=16), nullable=True),
        sa.Column("body", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_recomputations"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_recomputations_transaction_id", "recomputations", ["transaction_id"])
    op.create_index(
        "ix_recomputations_waiting",
        "recomputations",
        ["asked_at"],
        sqlite_where=sa.text("answered_at IS NULL"),
        postgresql_where=sa.text("answered_at IS NULL"),
    )


def downgrade() -> None:
    """Drop the three tables, with all that is in them."""
    op.drop_table("recomputations")
    op.drop_table("continuous_audit")
    op.drop_table("balances")
