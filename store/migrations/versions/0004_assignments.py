"""Assignments: which model versions and declarations came into force, and when."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "assignments",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("fingerprints", sa.JSON(), nullable=False),
        sa.Column("declarations", sa.JSON(), nullable=False),
        sa.Column("journaled_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_assignments"),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("assignments")
