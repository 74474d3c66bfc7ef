"""What tells a copy of the database, an account's failing list, and one rail's bank statement from the others.

Columns that may be empty. Servers of the release before go on beside it: they leave the columns as they are, and a worker
of that release compares a bank's file with the payouts of all rails.

Revision: 0028, after 0027.
"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("database_mark", sa.Column("database_oid", sa.BigInteger(), nullable=True))
    op.add_column("database_mark", sa.Column("table_oid", sa.BigInteger(), nullable=True))
    op.add_column("reconciliation", sa.Column("rail", sa.Text(), nullable=True))
    op.add_column("reconciliation", sa.Column("currency", sa.Text(), nullable=True))
    op.add_column("stripe_account", sa.Column("events_tried_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("stripe_account", "events_tried_at")
    op.drop_column("reconciliation", "currency")
    op.drop_column("reconciliation", "rail")
    op.drop_column("database_mark", "table_oid")
    op.drop_column("database_mark", "database_oid")
