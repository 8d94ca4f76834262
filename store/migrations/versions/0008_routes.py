"""Routes: by which assignment and why a version decided, and what shadows said of decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the columns and the table; decisions of before have no assignment."""
    op.add_column(
        "decisions", sa.Column("assignment", sa.String(length=64), nullable=False, server_default=sa.text("''"))
    )
    op.add_column(
        "decisions", sa.Column("route", sa.String(length=16), nullable=False, server_default=sa.text("'newest'"))
    )
    op.create_table(
        "shadow_scores",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("version", BIG, autoincrement=False, nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("failure", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("sequence", "version", name="pk_shadow_scores"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("shadow_scores")
    op.drop_column("decisions", "route")
    op.drop_column("decisions", "assignment")
