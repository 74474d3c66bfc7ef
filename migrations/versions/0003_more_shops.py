"""More platforms, settings of a source by which its bodies are read, and how each delivery was read.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BEFORE = "platform IN ('generic', 'shopify', 'desk')"
_PLATFORMS = "('generic', 'shopify', 'woocommerce', 'haravan', 'stripe', 'tiktok_shop', 'desk')"


def upgrade() -> None:
    op.drop_constraint(op.f("source_platform_check"), "source", type_="check")
    op.create_check_constraint(op.f("source_platform_check"), "source", f"platform IN {_PLATFORMS}")
    op.create_table(
        "source_settings",
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("version > 0", name=op.f("source_settings_version_check")),
        sa.ForeignKeyConstraint(["source_id"], ["source.id"], name=op.f("source_settings_source_id_fk")),
        sa.PrimaryKeyConstraint("source_id", "version", name=op.f("source_settings_pk")),
    )
    op.add_column("inbox", sa.Column("grammar", sa.Text(), nullable=True))
    # A constant default is kept in the catalogue: no row is written, and none is locked for longer than a moment.
    op.add_column("inbox", sa.Column("settings_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    # Every row there is has no grammar, so the check is true of all of them and need not be looked up in each.
    op.execute(f"ALTER TABLE inbox ADD CONSTRAINT inbox_grammar_check CHECK (grammar IN {_PLATFORMS}) NOT VALID")
    op.execute("ALTER TABLE inbox VALIDATE CONSTRAINT inbox_grammar_check")


def downgrade() -> None:
    op.drop_constraint(op.f("inbox_grammar_check"), "inbox", type_="check")
    op.drop_column("inbox", "settings_version")
    op.drop_column("inbox", "grammar")
    op.drop_table("source_settings")
    op.drop_constraint(op.f("source_platform_check"), "source", type_="check")
    op.create_check_constraint(op.f("source_platform_check"), "source", _BEFORE)
