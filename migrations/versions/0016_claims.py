"""Claims of KOCs, and the numbers by which they name orders.

A new table, and an index that is built beside the writers. Servers of the release before go on beside it; what it decides
about claims they cannot read, since decisions of a kind they do not know are in it, so all servers are to be changed
before the first claim or bonus is given.

Revision: 0016, after 0015.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Orders come in meanwhile, so the index is built without stopping them; one that broke off before is made anew.
    # First, and outside the transaction of the rest: where it fails nothing else is there yet, and all is tried again.
    with op.get_context().autocommit_block():
        op.drop_index("assessment_number_ix", "assessment", postgresql_concurrently=True, if_exists=True)
        op.create_index(
            "assessment_number_ix",
            "assessment",
            ["merchant_id", "number"],
            unique=False,
            postgresql_where=sa.text("number <> ''"),
            postgresql_concurrently=True,
        )
    op.create_table(
        "claim",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("order_number", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("click_id", sa.Text(), nullable=True),
        sa.Column("coupon", sa.Text(), nullable=True),
        sa.Column("claimed_minor", sa.BigInteger(), nullable=True),
        sa.Column("claimed_currency", sa.Text(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decide_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("overdue_told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Uuid(), nullable=True),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("decision_note", sa.Text(), nullable=False),
        sa.Column("decision_evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("commission_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("(claimed_minor IS NULL) = (claimed_currency IS NULL)", name=op.f("claim_claimed_check")),
        sa.CheckConstraint("(state = 'open') = (closed_at IS NULL)", name=op.f("claim_closed_check")),
        sa.CheckConstraint("kind IN ('missing_order', 'wrong_amount', 'wrong_koc')", name=op.f("claim_kind_check")),
        sa.CheckConstraint(
            "state IN ('open', 'answered', 'accepted', 'rejected', 'withdrawn')", name=op.f("claim_state_check")
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("claim_merchant_id_affiliate_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "commission_id"],
            ["commission.merchant_id", "commission.id"],
            name=op.f("claim_merchant_id_commission_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "order_id"], ["orders.merchant_id", "orders.id"], name=op.f("claim_merchant_id_order_id_fk")
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("claim_pk")),
    )
    op.create_index("claim_affiliate_ix", "claim", ["merchant_id", "affiliate_id", "id"], unique=False)
    op.create_index(
        "claim_due_ix",
        "claim",
        ["merchant_id", "decide_by"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "claim_open_key",
        "claim",
        ["merchant_id", "affiliate_id", "subject"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )


def downgrade() -> None:
    op.drop_index("assessment_number_ix", "assessment")
    op.drop_table("claim")
