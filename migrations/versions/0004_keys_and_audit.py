"""Let keys and secrets be rotated, limited and traced, and keep what people change.

Adds columns that may be empty and one table: safe beside the release before.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_PACE = "(rate_per_s IS NULL) = (burst IS NULL) AND (rate_per_s IS NULL OR (rate_per_s > 0 AND burst > 0))"


def upgrade() -> None:
    op.add_column("api_key", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("source", sa.Column("secret_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("source", sa.Column("previous_secret", sa.LargeBinary(), nullable=True))
    op.add_column("source", sa.Column("previous_secret_expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("source", sa.Column("last_delivery_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(
        op.f("source_previous_secret_check"),
        "source",
        "(previous_secret IS NULL) = (previous_secret_expires_at IS NULL)",
    )
    for table in ("api_key", "source"):
        op.add_column(table, sa.Column("rate_per_s", sa.BigInteger(), nullable=True))
        op.add_column(table, sa.Column("burst", sa.BigInteger(), nullable=True))
        op.create_check_constraint(op.f(f"{table}_pace_check"), table, _PACE)
    op.create_table(
        "audit",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("by_operator", sa.Boolean(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(), nullable=True),
        sa.Column("after", postgresql.JSONB(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("audit_pk")),
    )
    op.create_index("audit_subject_ix", "audit", ["merchant_id", "subject", "id"])
    op.create_index("audit_key_ix", "audit", ["merchant_id", "key_id", "id"])


def downgrade() -> None:
    op.drop_table("audit")
    # The release before knows no publishable keys: each look-up of one would fail.
    op.execute("DELETE FROM api_key WHERE scopes ? 'publishable'")
    for table in ("source", "api_key"):
        op.drop_constraint(op.f(f"{table}_pace_check"), table, type_="check")
        op.drop_column(table, "burst")
        op.drop_column(table, "rate_per_s")
    op.drop_constraint(op.f("source_previous_secret_check"), "source", type_="check")
    op.drop_column("source", "last_delivery_at")
    op.drop_column("source", "previous_secret_expires_at")
    op.drop_column("source", "previous_secret")
    op.drop_column("source", "secret_expires_at")
    op.drop_column("api_key", "last_used_at")
