"""Withholding, corrections and remittances, and the accounts they move.

Revision: 0018, after 0017.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_BEFORE = (
    "'commission_expense', 'pending', 'held', 'payable', 'reserved', 'in_transit', 'paid', 'taxed_carry', 'advance'"
)
_AFTER = f"{_BEFORE}, 'tax_withheld', 'remitted', 'platform_fee', 'tax_cost', 'write_off'"
_KINDS = (("balance", "kind"), ("day_sum", "kind"), ("posting", "debit_kind"), ("posting", "credit_kind"))
_RULES_BEFORE = "'none_company', 'off'"
_RULES_AFTER = f"{_RULES_BEFORE}, 'regime'"


def upgrade() -> None:
    for table, column in _KINDS:
        _let_be(table, column, _AFTER)
    _let_be("affiliate", "tax_rule", _RULES_AFTER)
    op.create_table(
        "tax_regime",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("valid_from", sa.Date(), nullable=False),
        sa.Column("regime", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("gross_up", sa.Boolean(), nullable=False),
        sa.Column("vat", sa.Boolean(), nullable=False),
        sa.Column("declared_by", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('withhold', 'warn', 'off')", name=op.f("tax_regime_mode_check")),
        sa.CheckConstraint(
            "regime IN ('vn', 'vn_platform', 'cn_labour', 'cn_platform', 'us_nec', 'eu_none')",
            name=op.f("tax_regime_regime_check"),
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("tax_regime_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("tax_regime_pk")),
    )
    op.create_index("tax_regime_country_ix", "tax_regime", ["merchant_id", "country", "valid_from", "id"], unique=False)
    op.create_table(
        "tax_remittance",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("duty", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("payees", sa.BigInteger(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("paid_on", sa.Date(), nullable=False),
        sa.Column("recorded_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "duty IN ('income_tax', 'vat', 'backup', 'non_resident')", name=op.f("tax_remittance_duty_check")
        ),
        sa.CheckConstraint("amount_minor > 0 AND payees > 0", name=op.f("tax_remittance_amount_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("tax_remittance_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("tax_remittance_pk")),
        sa.UniqueConstraint("merchant_id", "external_id", name=op.f("tax_remittance_merchant_id_external_id_key")),
    )
    op.create_index(
        "tax_remittance_period_ix", "tax_remittance", ["merchant_id", "rule", "duty", "period"], unique=False
    )
    op.create_table(
        "correction",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("duty", sa.Text(), nullable=True),
        sa.Column("period", sa.Text(), nullable=True),
        sa.Column("base_minor", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=True),
        sa.Column("asked_by", sa.Uuid(), nullable=False),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("posting_id", sa.Uuid(), nullable=True),
        sa.Column("payable_version", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(kind = 'untax') = (rule IS NOT NULL AND duty IS NOT NULL AND period IS NOT NULL)",
            name=op.f("correction_untax_check"),
        ),
        sa.CheckConstraint("(state = 'booked') = (posting_id IS NOT NULL)", name=op.f("correction_booked_check")),
        sa.CheckConstraint(
            "decided_by IS NULL OR decided_by <> asked_by OR state = 'withdrawn'",
            name=op.f("correction_two_persons_check"),
        ),
        sa.CheckConstraint(
            "kind IN ('untax', 'recover', 'write_off', 'paid_outside')", name=op.f("correction_kind_check")
        ),
        sa.CheckConstraint("state IN ('asked', 'booked', 'withdrawn')", name=op.f("correction_state_check")),
        sa.CheckConstraint("amount_minor > 0 AND base_minor >= 0", name=op.f("correction_amount_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("correction_merchant_id_payee_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "posting_id"],
            ["posting.merchant_id", "posting.id"],
            name=op.f("correction_merchant_id_posting_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("correction_pk")),
        sa.UniqueConstraint("merchant_id", "external_id", name=op.f("correction_merchant_id_external_id_key")),
    )
    op.create_index(
        "correction_payee_ix", "correction", ["merchant_id", "payee_id", "currency", "payable_version"], unique=False
    )
    op.create_table(
        "tax_base",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("tax_base_merchant_id_payee_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "payee_id", "rule", name=op.f("tax_base_pk")),
    )
    op.create_table(
        "tax_profile",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=False),
        sa.Column("person", sa.LargeBinary(), nullable=True),
        sa.Column("tax_code_hint", sa.Text(), nullable=True),
        sa.Column("recorded_by", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('individual', 'household', 'company')", name=op.f("tax_profile_kind_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("tax_profile_merchant_id_affiliate_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("tax_profile_pk")),
    )
    op.create_index("tax_profile_affiliate_ix", "tax_profile", ["merchant_id", "affiliate_id", "id"], unique=False)
    op.create_table(
        "tax_remittance_line",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("remittance_id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("posting_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("tax_remittance_line_amount_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("tax_remittance_line_merchant_id_payee_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "posting_id"],
            ["posting.merchant_id", "posting.id"],
            name=op.f("tax_remittance_line_merchant_id_posting_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "remittance_id"],
            ["tax_remittance.merchant_id", "tax_remittance.id"],
            name=op.f("tax_remittance_line_merchant_id_remittance_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "remittance_id", "payee_id", name=op.f("tax_remittance_line_pk")),
    )
    op.create_index("tax_remittance_line_payee_ix", "tax_remittance_line", ["merchant_id", "payee_id"], unique=False)
    op.create_table(
        "tax_entry",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("duty", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("base_minor", sa.BigInteger(), nullable=False),
        sa.Column("tax_minor", sa.BigInteger(), nullable=False),
        sa.Column("borne_minor", sa.BigInteger(), nullable=False),
        sa.Column("booked_on", sa.Date(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=True),
        sa.Column("correction_id", sa.Uuid(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("recorded_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(kind = 'accepted') = (item_id IS NOT NULL)", name=op.f("tax_entry_item_check")),
        sa.CheckConstraint(
            "(kind = 'corrected') = (correction_id IS NOT NULL)", name=op.f("tax_entry_correction_check")
        ),
        sa.CheckConstraint(
            "duty IN ('income_tax', 'vat', 'backup', 'non_resident')", name=op.f("tax_entry_duty_check")
        ),
        sa.CheckConstraint(
            "kind = 'corrected' OR least(base_minor, tax_minor, borne_minor) >= 0", name=op.f("tax_entry_amount_check")
        ),
        sa.CheckConstraint("kind IN ('accepted', 'opening', 'corrected')", name=op.f("tax_entry_kind_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "correction_id"],
            ["correction.merchant_id", "correction.id"],
            name=op.f("tax_entry_merchant_id_correction_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "item_id"],
            ["payout_item.merchant_id", "payout_item.id"],
            name=op.f("tax_entry_merchant_id_item_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id", "rule"],
            ["tax_base.merchant_id", "tax_base.payee_id", "tax_base.rule"],
            name=op.f("tax_entry_merchant_id_payee_id_rule_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("tax_entry_pk")),
        sa.UniqueConstraint(
            "merchant_id", "item_id", "duty", "period", name=op.f("tax_entry_merchant_id_item_id_duty_period_key")
        ),
    )
    op.create_index(
        "tax_entry_sums_ix", "tax_entry", ["merchant_id", "payee_id", "rule", "duty", "period"], unique=False
    )
    op.add_column("affiliate", sa.Column("tax_profile_id", sa.Uuid(), nullable=True))
    op.add_column(
        "payout_item", sa.Column("tax_borne_minor", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "payout_item", sa.Column("tax_accumulates", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("payout_item", sa.Column("tax_decision", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_index(
        "payout_item_live_tax_ix",
        "payout_item",
        ["merchant_id", "payee_id"],
        unique=True,
        postgresql_where=sa.text("live AND tax_accumulates"),
    )


def downgrade() -> None:

    op.drop_index(
        "payout_item_live_tax_ix", table_name="payout_item", postgresql_where=sa.text("live AND tax_accumulates")
    )
    op.drop_column("payout_item", "tax_decision")
    op.drop_column("payout_item", "tax_accumulates")
    op.drop_column("payout_item", "tax_borne_minor")
    op.drop_column("affiliate", "tax_profile_id")
    op.drop_index("tax_entry_sums_ix", table_name="tax_entry")
    op.drop_table("tax_entry")
    op.drop_index("tax_remittance_line_payee_ix", table_name="tax_remittance_line")
    op.drop_table("tax_remittance_line")
    op.drop_index("tax_profile_affiliate_ix", table_name="tax_profile")
    op.drop_table("tax_profile")
    op.drop_table("tax_base")
    op.drop_index("correction_payee_ix", table_name="correction")
    op.drop_table("correction")
    op.drop_index("tax_remittance_period_ix", table_name="tax_remittance")
    op.drop_table("tax_remittance")
    op.drop_index("tax_regime_country_ix", table_name="tax_regime")
    op.drop_table("tax_regime")
    _let_be("affiliate", "tax_rule", _RULES_BEFORE)
    for table, column in _KINDS:
        _let_be(table, column, _BEFORE)


def _let_be(table: str, column: str, values: str) -> None:
    name = f"{table}_{column}_check"
    op.drop_constraint(op.f(name), table, type_="check")
    # PostgreSQL cannot know that every row fits: it looks without keeping writers out.
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({column} IN ({values})) NOT VALID")
    op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")
