"""Releases: the one row of who owns them, and what was published for a request before it was sent."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables; the one row of the first is made here, so that no two processes can make it at once."""
    owner = op.create_table(
        "release_owner",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("doing", sa.String(length=64), nullable=False),
        sa.Column("urgent", sa.Boolean(), nullable=False),
        sa.Column("acquired_at_ms", BIG, nullable=False),
        sa.Column("expires_at_ms", BIG, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("active", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_release_owner"),
    )
    op.bulk_insert(
        owner,
        [
            {
                "id": 1, "owner": "", "doing": "", "urgent": False, "acquired_at_ms": 0, "expires_at_ms": 0,
                "sequence": -1, "active": None,
            }
        ],
    )  # fmt: skip
    op.create_table(
        "release_publications",
        sa.Column("id", BIG, nullable=False),
        sa.Column("assignment", sa.String(length=64), nullable=False),
        sa.Column("request_id", BIG, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("made_by", sa.String(length=255), nullable=False),
        sa.Column("made_at", BIG, nullable=False),
        sa.Column("ended_at", BIG, nullable=True),
        sa.ForeignKeyConstraint(["request_id"], ["model_requests.id"], name="fk_release_publications_request_id"),
        sa.PrimaryKeyConstraint("id", name="pk_release_publications"),
        sa.UniqueConstraint("assignment", name="uq_release_publications_assignment"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_release_publications_state", "release_publications", ["state"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("release_publications")
    op.drop_table("release_owner")
