"""Budgets of programmes.

Revision: 0015, after 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("limit_minor", sa.BigInteger(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("at_limit", sa.Text(), nullable=False),
        sa.Column("warned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reached_limit_minor", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("at_limit IN ('stop', 'review', 'tell')", name=op.f("budget_at_limit_check")),
        sa.CheckConstraint(
            "limit_minor > 0 AND (ends_at IS NULL OR ends_at > starts_at)", name=op.f("budget_limit_check")
        ),
        sa.CheckConstraint("(reached_at IS NULL) = (reached_limit_minor IS NULL)", name=op.f("budget_reached_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "program_id"],
            ["program.merchant_id", "program.id"],
            name=op.f("budget_merchant_id_program_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("budget_pk")),
        sa.UniqueConstraint("merchant_id", "external_id", name=op.f("budget_merchant_id_external_id_key")),
    )
    op.create_index("budget_open_ix", "budget", ["merchant_id"], postgresql_where=sa.text("closed_at IS NULL"))


def downgrade() -> None:
    op.drop_table("budget")
