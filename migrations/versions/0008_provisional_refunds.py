"""Refunds told by their total alone, until their lines are known; and whose a delivery said to be.

Revision: 0008, after 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # A constant default is kept in the catalogue: no row is written, and none is locked for longer than a moment.
    op.add_column("inbox", sa.Column("shop_domain", sa.Text(), nullable=True))
    op.add_column("fact", sa.Column("provisional", sa.Boolean(), server_default=sa.text("false"), nullable=False))


def downgrade() -> None:
    op.drop_column("fact", "provisional")
    op.drop_column("inbox", "shop_domain")
