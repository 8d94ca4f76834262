"""The first tables: decisions and what stands around them, the outbox, audits, log-ins."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table in an empty database."""
    op.create_table(
        "audits",
        sa.Column("id", BIG, nullable=False),
        sa.Column("started_at", BIG, nullable=False),
        sa.Column("finished_at", BIG, nullable=False),
        sa.Column("first_sequence", BIG, nullable=False),
        sa.Column("last_sequence", BIG, nullable=False),
        sa.Column("compared", BIG, nullable=False),
        sa.Column("different", BIG, nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audits"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "conflicts",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("identical", sa.Boolean(), nullable=False),
        sa.Column("transaction", sa.JSON(), nullable=False),
        sa.Column("source_partition", BIG, nullable=False),
        sa.Column("source_offset", BIG, nullable=False),
        sa.Column("journaled_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_conflicts"),
    )
    op.create_index("ix_conflicts_transaction_id", "conflicts", ["transaction_id"])
    op.create_table(
        "decisions",
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("occurred_at", BIG, nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("amount_minor", BIG, nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("mcc", sa.String(length=4), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.Column("latitude_e6", BIG, nullable=True),
        sa.Column("longitude_e6", BIG, nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("model_version", BIG, nullable=True),
        sa.Column("policy_version", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("history", sa.JSON(), nullable=False),
        sa.Column("source_partition", BIG, nullable=False),
        sa.Column("source_offset", BIG, nullable=False),
        sa.Column("received_at_ms", BIG, nullable=False),
        sa.Column("journaled_at_ms", BIG, nullable=False),
        sa.Column("decided_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("transaction_id", name="pk_decisions"),
        sa.UniqueConstraint("sequence", name="uq_decisions_sequence"),
    )
    op.create_index("ix_decisions_account_id_sequence", "decisions", ["account_id", "sequence"])
    op.create_index("ix_decisions_outcome_journaled_at_ms", "decisions", ["outcome", "journaled_at_ms"])
    op.create_table(
        "labels",
        sa.Column("label_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=64), nullable=False),
        sa.Column("merchant_id", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("known_at", BIG, nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("effect", sa.String(length=32), nullable=False),
        sa.Column("journaled_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("label_id", name="pk_labels"),
        sa.UniqueConstraint("sequence", name="uq_labels_sequence"),
    )
    op.create_index("ix_labels_transaction_id", "labels", ["transaction_id"])
    op.create_table(
        "ledger_position",
        sa.Column("topic", sa.String(length=255), nullable=False),
        sa.Column("partition", BIG, autoincrement=False, nullable=False),
        sa.Column("next_offset", BIG, nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", name="pk_ledger_position"),
    )
    op.create_table(
        "policies",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("journaled_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_policies"),
    )
    op.create_index("ix_policies_version", "policies", ["version"])
    op.create_table(
        "rejected",
        sa.Column("sequence", BIG, autoincrement=False, nullable=False),
        sa.Column("source_topic", sa.String(length=255), nullable=False),
        sa.Column("source_partition", BIG, nullable=False),
        sa.Column("source_offset", BIG, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("journaled_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_rejected"),
    )
    op.create_table(
        "roles",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("permissions", sa.UnicodeText(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
        sa.UniqueConstraint("name", name="uq_roles_name"),
    )
    op.create_table(
        "tallies",
        sa.Column("second", BIG, autoincrement=False, nullable=False),
        sa.Column("approve", BIG, nullable=False),
        sa.Column("review", BIG, nullable=False),
        sa.Column("decline", BIG, nullable=False),
        sa.PrimaryKeyConstraint("second", name="pk_tallies"),
    )
    op.create_table(
        "users",
        sa.Column("id", BIG, nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("password", sa.String(length=255), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("fs_uniquifier", sa.String(length=64), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(), nullable=True),
        sa.Column("last_login_at", sa.DateTime(), nullable=True),
        sa.Column("current_login_at", sa.DateTime(), nullable=True),
        sa.Column("last_login_ip", sa.String(length=64), nullable=True),
        sa.Column("current_login_ip", sa.String(length=64), nullable=True),
        sa.Column("login_count", BIG, nullable=True),
        sa.Column("locale", sa.String(length=16), nullable=False),
        sa.Column("theme", sa.String(length=8), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("email", name="uq_users_email"),
        sa.UniqueConstraint("fs_uniquifier", name="uq_users_fs_uniquifier"),
    )
    op.create_table(
        "alerts",
        sa.Column("id", BIG, nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("expected_loss_minor", BIG, nullable=False),
        sa.Column("opened_at", BIG, nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("closed_at", BIG, nullable=True),
        sa.Column("closed_by", sa.String(length=128), nullable=True),
        sa.ForeignKeyConstraint(["transaction_id"], ["decisions.transaction_id"], name="fk_alerts_transaction_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        sa.UniqueConstraint("transaction_id", name="uq_alerts_transaction_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alerts_status_expected_loss_minor", "alerts", ["status", "expected_loss_minor"])
    op.create_table(
        "user_roles",
        sa.Column("user_id", BIG, nullable=False),
        sa.Column("role_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["roles.id"], name="fk_user_roles_role_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_user_roles_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "role_id", name="pk_user_roles"),
    )
    op.create_table(
        "verdicts",
        sa.Column("label_id", sa.String(length=64), nullable=False),
        sa.Column("alert_id", BIG, nullable=False),
        sa.Column("transaction_id", sa.String(length=64), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("known_at", BIG, nullable=False),
        sa.Column("by", sa.String(length=128), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("published_at", BIG, nullable=True),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name="fk_verdicts_alert_id"),
        sa.PrimaryKeyConstraint("label_id", name="pk_verdicts"),
    )
    op.create_index("ix_verdicts_alert_id", "verdicts", ["alert_id"])
    op.create_index("ix_verdicts_transaction_id", "verdicts", ["transaction_id"])
    op.create_index(
        "ix_verdicts_waiting",
        "verdicts",
        ["known_at"],
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )


def downgrade() -> None:
    """Drop every table, with all that is in them; indexes go with their tables."""
    op.drop_table("verdicts")
    op.drop_table("user_roles")
    op.drop_table("alerts")
    op.drop_table("users")
    op.drop_table("tallies")
    op.drop_table("roles")
    op.drop_table("rejected")
    op.drop_table("policies")
    op.drop_table("ledger_position")
    op.drop_table("labels")
    op.drop_table("decisions")
    op.drop_table("conflicts")
    op.drop_table("audits")
