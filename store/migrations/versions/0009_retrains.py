"""Nights: one row a run of the retraining, for people to read; what counts is the run's own folder."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "retrain_runs",
        sa.Column("run", sa.String(length=64), nullable=False),
        sa.Column("cut_off", BIG, nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("updated_at", BIG, nullable=False),
        sa.Column("finished_at", BIG, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("attempts", BIG, nullable=False),
        sa.Column("version", BIG, nullable=True),
        sa.Column("champion", BIG, nullable=True),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("tensorboard", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("run", name="pk_retrain_runs"),
    )
    op.create_index("ix_retrain_runs_started_at", "retrain_runs", ["started_at"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("retrain_runs")
