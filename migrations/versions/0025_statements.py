"""Statements: numbered documents of what was owed to payees, and what became of them.

New tables only; servers of the release before go on beside them. A worker of that release cannot do the job that issues
many statements: it logs that, and one of this release takes the job over.

Revision: 0025, after 0024.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "statement_settings",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("legal_name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("vat_id", sa.Text(), nullable=False),
        sa.Column("self_billing", sa.Boolean(), nullable=False),
        sa.Column("vat_note", sa.Text(), nullable=False),
        sa.Column("answer_days", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("answer_days >= 0", name=op.f("statement_settings_answer_days_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("statement_settings_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("statement_settings_pk")),
    )
    op.create_table(
        "self_billing_agreement",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("agreed", sa.Boolean(), nullable=False),
        sa.Column("agreed_on", sa.Date(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("recorded_by", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("self_billing_agreement_merchant_id_affiliate_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("self_billing_agreement_pk")),
    )
    op.create_index(
        "self_billing_agreement_affiliate_ix",
        "self_billing_agreement",
        ["merchant_id", "affiliate_id", "id"],
        unique=False,
    )
    op.create_table(
        "statement_counter",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("statement_counter_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("statement_counter_pk")),
    )
    op.create_table(
        "statement_run",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("affiliate_ids", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("after", postgresql.JSONB(), nullable=False),
        sa.Column("accounts_total", sa.BigInteger(), nullable=True),
        sa.Column("accounts_done", sa.BigInteger(), nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("left_out", postgresql.JSONB(), nullable=False),
        sa.Column("left_out_total", sa.BigInteger(), nullable=False),
        sa.Column("error_detail", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name=op.f("statement_run_state_check")),
        sa.CheckConstraint("ends_on >= begins_on", name=op.f("statement_run_days_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("statement_run_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("statement_run_pk")),
    )
    op.create_table(
        "statement",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("ends_on", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("replaces_id", sa.Uuid(), nullable=True),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("provisional", sa.Boolean(), nullable=False),
        sa.Column("legs", sa.BigInteger(), nullable=False),
        sa.Column("opening_minor", sa.BigInteger(), nullable=False),
        sa.Column("closing_minor", sa.BigInteger(), nullable=False),
        sa.Column("self_billed", sa.Boolean(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("supplier", sa.LargeBinary(), nullable=True),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("answer_by", sa.Date(), nullable=False),
        sa.Column("issued_by", sa.Uuid(), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("ends_on >= begins_on", name=op.f("statement_days_check")),
        sa.CheckConstraint("number > 0 AND revision > 0", name=op.f("statement_number_check")),
        sa.CheckConstraint("(revision = 1) = (replaces_id IS NULL)", name=op.f("statement_revision_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("statement_merchant_id_affiliate_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "run_id"],
            ["statement_run.merchant_id", "statement_run.id"],
            name=op.f("statement_merchant_id_run_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "replaces_id"],
            ["statement.merchant_id", "statement.id"],
            name=op.f("statement_merchant_id_replaces_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("statement_pk")),
        sa.UniqueConstraint("merchant_id", "year", "number", name=op.f("statement_merchant_id_year_number_key")),
        sa.UniqueConstraint(
            "merchant_id",
            "affiliate_id",
            "currency",
            "begins_on",
            "ends_on",
            "revision",
            name=op.f("statement_period_key"),
        ),
        sa.UniqueConstraint("merchant_id", "replaces_id", name=op.f("statement_merchant_id_replaces_id_key")),
    )
    op.create_index("statement_affiliate_ix", "statement", ["merchant_id", "affiliate_id", "id"], unique=False)
    op.create_index("statement_run_ix", "statement", ["merchant_id", "run_id", "id"], unique=False)
    op.create_table(
        "statement_mark",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("statement_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("marked_by", sa.Uuid(), nullable=False),
        sa.Column("marked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('confirmed', 'accepted', 'objected')", name=op.f("statement_mark_kind_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "statement_id"],
            ["statement.merchant_id", "statement.id"],
            name=op.f("statement_mark_merchant_id_statement_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "statement_id", "kind", name=op.f("statement_mark_pk")),
    )


def downgrade() -> None:
    op.drop_table("statement_mark")
    op.drop_index("statement_run_ix", table_name="statement")
    op.drop_index("statement_affiliate_ix", table_name="statement")
    op.drop_table("statement")
    op.drop_table("statement_run")
    op.drop_table("statement_counter")
    op.drop_index("self_billing_agreement_affiliate_ix", table_name="self_billing_agreement")
    op.drop_table("self_billing_agreement")
    op.drop_table("statement_settings")
