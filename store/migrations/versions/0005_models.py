"""The model registry: versions, requests, every change of stage, experiments."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ID = sa.String(length=64)
STAGE = sa.String(length=16)
PERSON = sa.String(length=255)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "model_versions",
        sa.Column("version", BIG, autoincrement=False, nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("stage", STAGE, nullable=False),
        sa.Column("per_mille", BIG, nullable=False),
        sa.Column("trained_at", BIG, nullable=False),
        sa.Column("registered_at", BIG, nullable=False),
        sa.Column("made_by", PERSON, nullable=False),
        sa.Column("fingerprint", ID, nullable=False),
        sa.Column("train_days", ID, nullable=False),
        sa.Column("test_days", ID, nullable=False),
        sa.Column("archive_digest", ID, nullable=False),
        sa.Column("seed", BIG, nullable=True),
        sa.Column("code_commit", ID, nullable=False),
        sa.Column("lock_sha256", ID, nullable=False),
        *(sa.Column(name, sa.JSON(), nullable=False) for name in ("rows", "metrics", "slices", "files")),
        sa.Column("gate", sa.JSON(), nullable=True),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_model_versions"),
    )
    op.create_table(
        "model_requests",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", STAGE, nullable=False),
        sa.Column("version", BIG, nullable=True),
        sa.Column("to_stage", STAGE, nullable=False),
        sa.Column("per_mille", BIG, nullable=False),
        sa.Column("arms", sa.JSON(), nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("over", sa.Boolean(), nullable=False),
        sa.Column("asked_by", PERSON, nullable=False),
        sa.Column("asked_at", BIG, nullable=False),
        sa.Column("expires_at", BIG, nullable=False),
        sa.Column("approved_by", PERSON, nullable=True),
        sa.Column("approved_at", BIG, nullable=True),
        sa.Column("state", STAGE, nullable=False),
        sa.Column("finished_at", BIG, nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["version"], ["model_versions.version"], name="fk_model_requests_version"),
        sa.PrimaryKeyConstraint("id", name="pk_model_requests"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_model_requests_state_id", "model_requests", ["state", "id"])
    op.create_table(
        "model_changes",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("kind", STAGE, nullable=False),
        sa.Column("from_stage", STAGE, nullable=False),
        sa.Column("to_stage", STAGE, nullable=False),
        sa.Column("per_mille", BIG, nullable=False),
        sa.Column("asked_by", PERSON, nullable=False),
        sa.Column("approved_by", PERSON, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("assignment", ID, nullable=False),
        sa.Column("experiment", ID, nullable=False),
        sa.Column("request_id", BIG, nullable=True),
        sa.ForeignKeyConstraint(["version"], ["model_versions.version"], name="fk_model_changes_version"),
        sa.ForeignKeyConstraint(["request_id"], ["model_requests.id"], name="fk_model_changes_request_id"),
        sa.PrimaryKeyConstraint("id", name="pk_model_changes"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_model_changes_version_id", "model_changes", ["version", "id"])
    op.create_table(
        "model_experiments",
        sa.Column("name", ID, nullable=False),
        sa.Column("champion", BIG, nullable=False),
        sa.Column("arms", sa.JSON(), nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("started_by", PERSON, nullable=False),
        sa.Column("approved_by", PERSON, nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("stopped_at", BIG, nullable=True),
        sa.Column("stopped_by", PERSON, nullable=True),
        sa.Column("winner", BIG, nullable=True),
        sa.Column("verdict", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_model_experiments"),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("model_experiments", "model_changes", "model_requests", "model_versions"):
        op.drop_table(name)
