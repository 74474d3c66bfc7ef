"""Rules over periods and over a customer's orders, and the work that follows when their answers change.

Revision: 0011, after 0010.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KINDS = ("accrue", "reduce", "freeze", "unfreeze", "settle")


def _kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("commission_entry_kind_check"), "commission_entry", type_="check")
    values = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint(op.f("commission_entry_kind_check"), "commission_entry", f"kind IN ({values})")


def upgrade() -> None:
    op.create_table(
        "rule_period",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("rules", postgresql.JSONB(), nullable=False),
        sa.Column("pending_commission_minor", sa.BigInteger(), nullable=False),
        sa.Column("pending_sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("pending_orders", sa.BigInteger(), nullable=False),
        sa.Column("held_commission_minor", sa.BigInteger(), nullable=False),
        sa.Column("held_sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("held_orders", sa.BigInteger(), nullable=False),
        sa.Column("settled_commission_minor", sa.BigInteger(), nullable=False),
        sa.Column("settled_sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("settled_orders", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id", "payee_id"], ["affiliate.merchant_id", "affiliate.id"]),
        sa.ForeignKeyConstraint(["merchant_id", "program_id"], ["program.merchant_id", "program.id"]),
        sa.PrimaryKeyConstraint("merchant_id", "id"),
        sa.UniqueConstraint("merchant_id", "payee_id", "program_id", "rule", "begins_on", "currency"),
    )
    op.create_table(
        "customer_scope",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"]),
        sa.PrimaryKeyConstraint("merchant_id", "customer"),
    )
    op.create_table(
        "reassess",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id", "order_id"], ["orders.merchant_id", "orders.id"]),
        sa.PrimaryKeyConstraint("merchant_id", "order_id"),
    )
    op.create_index("reassess_created_ix", "reassess", ["merchant_id", "created_at", "order_id"])
    op.alter_column("commission", "order_id", nullable=True)
    op.add_column("commission", sa.Column("period_id", sa.Uuid(), nullable=True))
    op.add_column("commission", sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("commission", sa.Column("volume_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column(
        "commission", sa.Column("periods", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False)
    )
    op.create_foreign_key(None, "commission", "rule_period", ["merchant_id", "period_id"], ["merchant_id", "id"])
    op.create_check_constraint(
        op.f("commission_subject_check"),
        "commission",
        "(order_id IS NULL) <> (period_id IS NULL) AND (period_id IS NULL OR period_id = id)",
    )
    op.create_index("commission_program_ix", "commission", ["merchant_id", "program_id", "placed_at"])
    op.add_column("assessment", sa.Column("touch", sa.Text(), nullable=True))
    op.add_column("assessment", sa.Column("customer", sa.Text(), nullable=True))
    op.create_index(
        "assessment_customer_ix",
        "assessment",
        ["merchant_id", "customer", "order_id"],
        postgresql_where=sa.text("customer IS NOT NULL"),
    )
    op.add_column(
        "program_version",
        sa.Column("asks_about_customers", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.create_index(
        "program_version_customers_ix",
        "program_version",
        ["merchant_id"],
        postgresql_where=sa.text("asks_about_customers"),
    )
    _kinds((*_KINDS, "period"))


def downgrade() -> None:
    _kinds(_KINDS)
    op.drop_index("program_version_customers_ix", "program_version")
    op.drop_column("program_version", "asks_about_customers")
    op.drop_index("assessment_customer_ix", "assessment")
    op.drop_column("assessment", "customer")
    op.drop_column("assessment", "touch")
    op.drop_index("commission_program_ix", "commission")
    op.drop_constraint(op.f("commission_subject_check"), "commission", type_="check")
    op.drop_constraint(op.f("commission_merchant_id_period_id_fk"), "commission", type_="foreignkey")
    for column in ("periods", "volume_minor", "placed_at", "period_id"):
        op.drop_column("commission", column)
    op.alter_column("commission", "order_id", nullable=False)
    op.drop_table("reassess")
    op.drop_table("customer_scope")
    op.drop_table("rule_period")
