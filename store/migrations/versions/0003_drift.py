"""Drift runs, and the figures of each: what features and scores look like against training."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "drift_runs",
        sa.Column("id", BIG, nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("finished_at", BIG, nullable=False),
        sa.Column("since_ms", BIG, nullable=False),
        sa.Column("until_ms", BIG, nullable=False),
        sa.Column("model_version", BIG, nullable=False),
        sa.Column("trained", sa.String(length=255), nullable=False),
        sa.Column("compared", BIG, nullable=False),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_drift_runs"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "drift_figures",
        sa.Column("run_id", BIG, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("psi", sa.Double(), nullable=True),
        sa.Column("level", sa.String(length=8), nullable=False),
        sa.Column("missing_then", sa.Double(), nullable=False),
        sa.Column("missing_now", sa.Double(), nullable=False),
        sa.Column("bins", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["drift_runs.id"], name="fk_drift_figures_run_id_drift_runs", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "kind", "name", name="pk_drift_figures"),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("drift_figures")
    op.drop_table("drift_runs")
