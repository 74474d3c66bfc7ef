"""Terms that affiliates accepted, whether a programme asks for that, and how long ahead it tells of cuts.

Revision: 0015, after 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Constant defaults are kept in the catalogue: no row is written, and none is locked for longer than a moment.
    op.add_column(
        "program", sa.Column("requires_acceptance", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("program", sa.Column("min_notice_hours", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "terms_acceptance",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("terms_hash", sa.Text(), nullable=False),
        sa.Column("disclosure", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "program_id", "version"],
            ["program_version.merchant_id", "program_version.program_id", "program_version.number"],
            name=op.f("terms_acceptance_merchant_id_program_id_version_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "affiliate_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("terms_acceptance_merchant_id_affiliate_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("terms_acceptance_pk")),
        sa.UniqueConstraint("merchant_id", "affiliate_id", "program_id", "version", name="terms_acceptance_once_key"),
    )
    op.create_index("terms_acceptance_program_ix", "terms_acceptance", ["merchant_id", "program_id", "id"])


def downgrade() -> None:
    op.drop_index("terms_acceptance_program_ix", table_name="terms_acceptance")
    op.drop_table("terms_acceptance")
    op.drop_column("program", "min_notice_hours")
    op.drop_column("program", "requires_acceptance")
