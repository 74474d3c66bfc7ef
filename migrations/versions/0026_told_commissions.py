"""Commissions that a shop's own file tells of orders, compared with what was computed.

A column that may be empty, and two lists of words that grow. Servers of the release before go on beside it: a worker of
that release compares no commissions, and a server of it cannot show a difference of one.

Revision: 0026, after 0025.
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_ABOUT = "'order', 'payout'"
_ABOUT_NOW = "'order', 'commission', 'payout'"
_EXPLAINED = (
    "'parked_in_inbox', 'waiting_in_inbox', 'ignored_in_inbox', 'period_boundary', 'outside_period',"
    " 'refund_not_in_file', 'refund_not_here', {}'newer_here', 'newer_in_file', 'nothing_left', 'same_twice',"
    " 'newest_counts', 'payout_unknown', 'payout_returned', 'bank_fee', 'earlier_difference'"
)


def upgrade() -> None:
    op.add_column("reconciliation_order", sa.Column("commission_minor", sa.BigInteger(), nullable=True))
    _let_words_be(about=_ABOUT_NOW, explained_by=_EXPLAINED.format("'order_differs', "))


def downgrade() -> None:
    # The release before knows no such differences; they are found again when their files are compared again.
    op.execute("DELETE FROM reconciliation_difference WHERE about = 'commission'")
    _let_words_be(about=_ABOUT, explained_by=_EXPLAINED.format(""))
    op.drop_column("reconciliation_order", "commission_minor")


def _let_words_be(**columns: str) -> None:
    for column, words in columns.items():
        name = f"reconciliation_difference_{column}_check"
        op.drop_constraint(op.f(name), "reconciliation_difference", type_="check")
        # Others wait while every row is looked at: there are as many as files differed from the books.
        op.create_check_constraint(op.f(name), "reconciliation_difference", f"{column} IN ({words})")
