"""What a commission waits for, kept with it, and advances on an account of their own.

Revision: 0014, after 0013.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_BEFORE = "'commission_expense', 'pending', 'held', 'payable', 'reserved', 'in_transit', 'paid', 'taxed_carry'"
_AFTER = f"{_BEFORE}, 'advance'"
_KINDS = (("balance", "kind"), ("day_sum", "kind"), ("posting", "debit_kind"), ("posting", "credit_kind"))


def upgrade() -> None:
    op.add_column("commission", sa.Column("outlook", postgresql.JSONB(none_as_null=True), nullable=True))
    op.add_column("commission", sa.Column("advance_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "commission_advance_ix",
        "commission",
        ["merchant_id", "advance_at"],
        unique=False,
        postgresql_where=sa.text("pending_minor > 0 AND advance_at IS NOT NULL"),
    )
    _let_kinds_be(_AFTER)
    op.create_table(
        "advance",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("commission_id", sa.Uuid(), nullable=True),
        sa.Column("cut_off_on", sa.Date(), nullable=True),
        sa.Column("posting_id", sa.Uuid(), nullable=False),
        sa.Column("payable_version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('given', 'repaid')", name=op.f("advance_kind_check")),
        sa.CheckConstraint("amount_minor > 0", name=op.f("advance_amount_check")),
        sa.CheckConstraint(
            "(kind = 'given') = (commission_id IS NOT NULL) AND (kind = 'given') = (cut_off_on IS NOT NULL)",
            name=op.f("advance_given_check"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("advance_merchant_id_payee_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "commission_id"],
            ["commission.merchant_id", "commission.id"],
            name=op.f("advance_merchant_id_commission_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "posting_id"],
            ["posting.merchant_id", "posting.id"],
            name=op.f("advance_merchant_id_posting_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("advance_pk")),
        sa.UniqueConstraint("merchant_id", "posting_id", name=op.f("advance_merchant_id_posting_id_key")),
        sa.UniqueConstraint(
            "merchant_id", "commission_id", "cut_off_on", name=op.f("advance_merchant_id_commission_id_cut_off_on_key")
        ),
    )
    op.create_index(
        "advance_payee_ix", "advance", ["merchant_id", "payee_id", "currency", "payable_version"], unique=False
    )


def downgrade() -> None:
    op.drop_table("advance")
    _let_kinds_be(_BEFORE)
    op.drop_index(
        "commission_advance_ix",
        table_name="commission",
        postgresql_where=sa.text("pending_minor > 0 AND advance_at IS NOT NULL"),
    )
    op.drop_column("commission", "advance_at")
    op.drop_column("commission", "outlook")


def _let_kinds_be(kinds: str) -> None:
    for table, column in _KINDS:
        name = f"{table}_{column}_check"
        op.drop_constraint(op.f(name), table, type_="check")
        # PostgreSQL cannot know that every row fits: it looks without keeping writers out.
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({column} IN ({kinds})) NOT VALID")
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
