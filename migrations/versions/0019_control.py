"""Limits and fees of payouts, rails that are stopped, and the gate after a restore.

Revision: 0019, after 0018.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "database_mark",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("system_identifier", sa.Text(), nullable=False),
        sa.Column("timeline", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("database_mark_pk")),
    )
    op.create_table(
        "payout_gate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("report", postgresql.JSONB(), nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_by", sa.Uuid(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("opened_at IS NULL OR checked_at IS NOT NULL", name=op.f("payout_gate_checked_check")),
        sa.CheckConstraint("opened_by IS NULL OR opened_by <> asked_by", name=op.f("payout_gate_two_persons_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("payout_gate_pk")),
    )
    op.create_table(
        "rail_switch",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("stopped_by", sa.Uuid(), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "rail", name=op.f("rail_switch_pk")),
    )
    op.create_table(
        "payout_fee",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("set_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("payout_fee_amount_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("payout_fee_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("payout_fee_pk")),
    )
    op.create_index(
        "payout_fee_rail_ix", "payout_fee", ["merchant_id", "rail", "currency", "valid_from", "id"], unique=False
    )
    op.create_table(
        "payout_limit",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "(kind = 'approval') OR key_id = '00000000-0000-0000-0000-000000000000'",
            name=op.f("payout_limit_key_check"),
        ),
        sa.CheckConstraint(
            "kind IN ('payout', 'run', 'approval', 'day', 'month')", name=op.f("payout_limit_kind_check")
        ),
        sa.CheckConstraint("amount_minor > 0", name=op.f("payout_limit_amount_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("payout_limit_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("payout_limit_pk")),
    )
    op.create_index(
        "payout_limit_active_ix",
        "payout_limit",
        ["merchant_id", "kind", "currency", "key_id"],
        unique=True,
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.add_column("payout_run", sa.Column("waits_for", sa.Text(), nullable=True))
    op.add_column("payout_run", sa.Column("funding", postgresql.JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:

    op.drop_column("payout_run", "funding")
    op.drop_column("payout_run", "waits_for")
    op.drop_index("payout_limit_active_ix", table_name="payout_limit", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_table("payout_limit")
    op.drop_index("payout_fee_rail_ix", table_name="payout_fee")
    op.drop_table("payout_fee")
    op.drop_table("rail_switch")
    op.drop_table("payout_gate")
    op.drop_table("database_mark")
