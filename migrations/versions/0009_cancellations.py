"""Cancellations that are told apart from the order.

Revision: 0009, after 0008.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BEFORE = "'order', 'refund', 'dispute', 'hold', 'milestone', 'decision'"
_AFTER = "'order', 'refund', 'dispute', 'hold', 'milestone', 'cancellation', 'decision'"


def upgrade() -> None:
    op.drop_constraint(op.f("fact_kind_check"), "fact", type_="check")
    # Every row there is passes the narrower check, but PostgreSQL cannot know that: it looks without keeping writers out.
    op.execute(f"ALTER TABLE fact ADD CONSTRAINT fact_kind_check CHECK (kind IN ({_AFTER})) NOT VALID")
    op.execute("ALTER TABLE fact VALIDATE CONSTRAINT fact_kind_check")


def downgrade() -> None:
    op.drop_constraint(op.f("fact_kind_check"), "fact", type_="check")
    op.execute(f"ALTER TABLE fact ADD CONSTRAINT fact_kind_check CHECK (kind IN ({_BEFORE})) NOT VALID")
    op.execute("ALTER TABLE fact VALIDATE CONSTRAINT fact_kind_check")
