"""Payout methods that wait, can be cancelled and are shared knowingly; and what merchants choose about them.

New columns have defaults, so servers of the release before go on beside it: what they store is a method at a provider
that does not wait. Fingerprints stay as they are. On the sandbox, where accounts were never anybody's, what is there is
taken as confirmed; accounts that several payees share on other rails are held until a person has looked.

Revision: 0020, after 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_TYPES = "'provider', 'iban', 'bank', 'alipay', 'wechat', 'paypal', 'wise'"
_CONSTRAINTS = (
    ("merchant", "merchant_method_wait_h_check", "CHECK (method_wait_h >= 0)"),
    ("merchant", "merchant_shared_accounts_check", "CHECK (shared_accounts IN ('hold', 'allow'))"),
    ("payout_method", "payout_method_account_type_check", f"CHECK (account_type IN ({_TYPES}))"),
    ("payout_method", "payout_method_cancelled_check", "CHECK (cancelled_at IS NULL OR replaced_at IS NOT NULL)"),
    (
        "payout_method",
        "payout_method_sharing_confirmed_check",
        "CHECK ((sharing_confirmed_at IS NULL) = (sharing_reason IS NULL))",
    ),
    (
        "payout_method",
        "payout_method_merchant_id_replaces_fk",
        "FOREIGN KEY (merchant_id, replaces) REFERENCES payout_method (merchant_id, id)",
    ),
)


def upgrade() -> None:
    # Methods are added meanwhile, so the indexes are built without stopping them; first, and outside the transaction of
    # the rest: where one breaks off nothing else is there yet, and all is tried again.
    with op.get_context().autocommit_block():
        for name, columns, where in (
            ("payout_method_affiliate_ix", ["merchant_id", "affiliate_id", "id"], None),
            ("payout_method_account_ix", ["merchant_id", "fingerprint"], sa.text("replaced_at IS NULL")),
        ):
            op.drop_index(name, "payout_method", postgresql_concurrently=True, if_exists=True)
            op.create_index(name, "payout_method", columns, postgresql_where=where, postgresql_concurrently=True)
    op.add_column("merchant", sa.Column("method_wait_h", sa.BigInteger(), server_default=sa.text("72"), nullable=False))
    op.add_column("merchant", sa.Column("shared_accounts", sa.Text(), server_default=sa.text("'hold'"), nullable=False))
    op.add_column(
        "payout_method", sa.Column("account_type", sa.Text(), server_default=sa.text("'provider'"), nullable=False)
    )
    op.add_column("payout_method", sa.Column("usable_from", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payout_method", sa.Column("replaces", sa.Uuid(), nullable=True))
    op.add_column("payout_method", sa.Column("created_by", sa.Uuid(), nullable=True))
    op.add_column(
        "payout_method", sa.Column("by_affiliate", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("payout_method", sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payout_method", sa.Column("sharing_confirmed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("payout_method", sa.Column("sharing_confirmed_by", sa.Uuid(), nullable=True))
    op.add_column("payout_method", sa.Column("sharing_reason", sa.Text(), nullable=True))
    op.execute(
        "UPDATE payout_method SET sharing_confirmed_at = created_at, sharing_reason = 'stand_in' WHERE rail = 'sandbox'"
    )
    # Every row there is passes, but PostgreSQL cannot know that: it looks without keeping writers out.
    for table, name, what in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {what} NOT VALID")
    for table, name, _ in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    for table, name, _ in reversed(_CONSTRAINTS):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for column in (
        "sharing_reason",
        "sharing_confirmed_by",
        "sharing_confirmed_at",
        "cancelled_at",
        "by_affiliate",
        "created_by",
        "replaces",
        "usable_from",
        "account_type",
    ):
        op.drop_column("payout_method", column)
    op.drop_column("merchant", "shared_accounts")
    op.drop_column("merchant", "method_wait_h")
    op.drop_index("payout_method_account_ix", "payout_method")
    op.drop_index("payout_method_affiliate_ix", "payout_method")
