"""Closed books, accounting's names of accounts, and files laid beside our books.

Revision: 0020, after 0017.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0017"
branch_labels = None
depends_on = None


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


def downgrade() -> None:
    op.drop_table("accounting_chart")
    op.drop_table("book_close")
