"""Closed books, accounting's names of accounts, and files laid beside our books.

Revision: 0021, after 0020.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_OF_RECONCILIATION = ["merchant_id", "reconciliation_id"]


def upgrade() -> None:
    op.create_table(
        "book_close",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("until", sa.Date(), nullable=False),
        sa.Column("totals", postgresql.JSONB(), nullable=False),
        sa.Column("previous_digest", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("closed_by", sa.Uuid(), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("until >= begins_on", name=op.f("book_close_days_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("book_close_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("book_close_pk")),
        sa.UniqueConstraint("merchant_id", "begins_on", name=op.f("book_close_merchant_id_begins_on_key")),
        sa.UniqueConstraint("merchant_id", "until", name=op.f("book_close_merchant_id_until_key")),
    )
    op.create_table(
        "accounting_chart",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("accounts", postgresql.JSONB(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("accounting_chart_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("accounting_chart_pk")),
    )
    op.create_table(
        "reconciliation",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("until", sa.Date(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=True),
        sa.Column("mapping", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("bank_format", sa.Text(), nullable=True),
        sa.Column("only_payouts", sa.Boolean(), nullable=False),
        sa.Column("files", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("page", sa.BigInteger(), nullable=False),
        sa.Column("cursor", postgresql.JSONB(), nullable=False),
        sa.Column("read", sa.BigInteger(), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.Column("left_out", sa.BigInteger(), nullable=False),
        sa.Column("rows_refused", sa.BigInteger(), nullable=False),
        sa.Column("refusals", postgresql.JSONB(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('awaiting_files', 'queued', 'running', 'done', 'failed')",
            name=op.f("reconciliation_state_check"),
        ),
        sa.CheckConstraint(
            "stage IN ('orders_file', 'bank_file', 'orders', 'extra_orders', 'payouts', 'lines', 'extra_payouts')",
            name=op.f("reconciliation_stage_check"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("reconciliation_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("reconciliation_pk")),
    )
    op.create_table(
        "reconciliation_difference",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("theirs_minor", sa.BigInteger(), nullable=True),
        sa.Column("ours_minor", sa.BigInteger(), nullable=True),
        sa.Column("theirs", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("ours", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("rows", postgresql.JSONB(), nullable=False),
        sa.Column("explained_by", sa.Text(), nullable=True),
        sa.Column("explained_ref", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("note_by", sa.Uuid(), nullable=True),
        sa.Column("note_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("about IN ('order', 'payout')", name=op.f("reconciliation_difference_about_check")),
        sa.CheckConstraint(
            "kind IN ('missing', 'extra', 'amount', 'currency', 'status', 'duplicate')",
            name=op.f("reconciliation_difference_kind_check"),
        ),
        sa.CheckConstraint(
            "explained_by IN ('parked_in_inbox', 'waiting_in_inbox', 'ignored_in_inbox', 'period_boundary',"
            " 'outside_period', 'refund_not_in_file', 'refund_not_here', 'newer_here', 'newer_in_file', 'nothing_left',"
            " 'same_twice', 'newest_counts', 'payout_unknown', 'payout_returned', 'bank_fee', 'earlier_difference')",
            name=op.f("reconciliation_difference_explained_by_check"),
        ),
        _of_reconciliation("reconciliation_difference"),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("reconciliation_difference_pk")),
    )
    op.create_index(
        "reconciliation_difference_of_ix", "reconciliation_difference", ["merchant_id", "reconciliation_id", "id"]
    )
    op.create_index(
        "reconciliation_difference_open_ix",
        "reconciliation_difference",
        ["merchant_id", "about", "external_id"],
        postgresql_where=sa.text("explained_by IS NULL AND note_at IS NULL"),
    )
    op.create_table(
        "reconciliation_part",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("file IN ('orders', 'bank')", name=op.f("reconciliation_part_file_check")),
        _of_reconciliation("reconciliation_part"),
        sa.PrimaryKeyConstraint(*_OF_RECONCILIATION, "file", "number", name=op.f("reconciliation_part_pk")),
    )
    op.create_table(
        "reconciliation_order",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("times", sa.BigInteger(), nullable=False),
        sa.Column("is_same", sa.Boolean(), nullable=False),
        sa.Column("rows", postgresql.JSONB(), nullable=False),
        _of_reconciliation("reconciliation_order"),
        sa.PrimaryKeyConstraint(*_OF_RECONCILIATION, "name", name=op.f("reconciliation_order_pk")),
    )
    op.create_table(
        "reconciliation_line",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("reconciliation_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("booked_on", sa.Date(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("end_to_end_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('payment', 'returned', 'fee')", name=op.f("reconciliation_line_kind_check")),
        _of_reconciliation("reconciliation_line"),
        sa.PrimaryKeyConstraint(*_OF_RECONCILIATION, "number", name=op.f("reconciliation_line_pk")),
    )
    op.create_index("reconciliation_line_item_ix", "reconciliation_line", [*_OF_RECONCILIATION, "item_id"])


def _of_reconciliation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        _OF_RECONCILIATION,
        ["reconciliation.merchant_id", "reconciliation.id"],
        name=op.f(f"{table}_merchant_id_reconciliation_id_fk"),
    )


def downgrade() -> None:
    for table in ("reconciliation_line", "reconciliation_order", "reconciliation_part", "reconciliation_difference"):
        op.drop_table(table)
    op.drop_table("reconciliation")
    op.drop_table("accounting_chart")
    op.drop_table("book_close")
