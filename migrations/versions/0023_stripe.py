"""Accounts at Stripe, what providers tell of their own accord, and days compared with theirs.

New tables, and an index that is built beside the writers. Servers of the release before go on beside it.

Revision: 0023, after 0022.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Payouts are sent meanwhile, so the index is built without stopping them; one that broke off before is made anew.
    # First, and outside the transaction of the rest: where it fails nothing else is there yet, and all is tried again.
    with op.get_context().autocommit_block():
        op.drop_index("provider_fact_told_ix", "provider_fact", postgresql_concurrently=True, if_exists=True)
        op.create_index("provider_fact_told_ix", "provider_fact", ["rail", "told_at"], postgresql_concurrently=True)
    op.create_table(
        "stripe_account",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("agreement", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("charges_enabled", sa.Boolean(), nullable=False),
        sa.Column("payouts_enabled", sa.Boolean(), nullable=False),
        sa.Column("details_submitted", sa.Boolean(), nullable=False),
        sa.Column("capabilities", postgresql.JSONB(), nullable=False),
        sa.Column("requirements", postgresql.JSONB(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("events_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("agreement IN ('full', 'recipient')", name=op.f("stripe_account_agreement_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("stripe_account_merchant_id_affiliate_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "affiliate_id", name=op.f("stripe_account_pk")),
        sa.UniqueConstraint("merchant_id", "account_id", name=op.f("stripe_account_merchant_id_account_id_key")),
    )
    op.create_index("stripe_account_account_ix", "stripe_account", ["account_id"])
    op.create_index("stripe_account_listed_ix", "stripe_account", ["events_until"])
    op.create_table(
        "bank_payout",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('paid', 'failed')", name=op.f("bank_payout_status_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["stripe_account.merchant_id", "stripe_account.affiliate_id"],
            name=op.f("bank_payout_merchant_id_affiliate_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("bank_payout_pk")),
    )
    op.create_index("bank_payout_newest_ix", "bank_payout", ["merchant_id", "affiliate_id", "made_at", "id"])
    op.create_table(
        "provider_event",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("merchant_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "subject IN ('account', 'transfer', 'bank_payout', 'outbound_payment')",
            name=op.f("provider_event_subject_check"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'applied', 'foreign', 'parked')", name=op.f("provider_event_state_check")
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("provider_event_merchant_id_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("provider_event_pk")),
    )
    op.create_index(
        "provider_event_due_ix", "provider_event", ["due_at"], postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_index(
        "provider_event_account_ix", "provider_event", ["account"], postgresql_where=sa.text("state = 'foreign'")
    )
    op.create_index("provider_event_merchant_ix", "provider_event", ["merchant_id", "happened_at"])
    op.create_table(
        "service_job",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name=op.f("service_job_pk")),
    )
    op.create_table(
        "provider_reconciliation",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("provider_minor", sa.BigInteger(), nullable=False),
        sa.Column("ledger_minor", sa.BigInteger(), nullable=False),
        sa.Column("matched", sa.BigInteger(), nullable=False),
        sa.Column("unexplained", sa.BigInteger(), nullable=False),
        sa.Column("differences", postgresql.JSONB(), nullable=False),
        sa.Column("differences_total", sa.BigInteger(), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("provider_reconciliation_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "rail", "day", "currency", name=op.f("provider_reconciliation_pk")),
    )


def downgrade() -> None:
    for table in ("provider_reconciliation", "service_job", "provider_event", "bank_payout", "stripe_account"):
        op.drop_table(table)
    op.drop_index("provider_fact_told_ix", "provider_fact")
