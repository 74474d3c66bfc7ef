"""Agencies and their rosters, grades, bindings, lists of customers, labels of links, pauses of programmes.

Revision: 0012, after 0011.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_NEW = (
    "affiliate_grade",
    "roster_offer",
    "roster",
    "program_pause",
    "link_label",
    "customer_binding",
    "product_binding",
    "customer_listing",
)
_CONTENT = "content_type IN ('post', 'video', 'live', 'other')"


def upgrade() -> None:
    op.add_column("affiliate", sa.Column("kind", sa.Text(), server_default=sa.text("'koc'"), nullable=False))
    op.add_column("link", sa.Column("content_type", sa.Text(), nullable=True))
    op.add_column("link", sa.Column("channel", sa.Text(), server_default=sa.text("''"), nullable=False))
    # Every row there is passes, but PostgreSQL cannot know that: it looks without keeping writers out.
    op.execute(
        "ALTER TABLE affiliate ADD CONSTRAINT affiliate_kind_check CHECK (kind IN ('koc', 'agency', 'operator')) NOT VALID"
    )
    op.execute(f"ALTER TABLE link ADD CONSTRAINT link_content_type_check CHECK ({_CONTENT}) NOT VALID")
    op.execute("ALTER TABLE affiliate VALIDATE CONSTRAINT affiliate_kind_check")
    op.execute("ALTER TABLE link VALIDATE CONSTRAINT link_content_type_check")
    op.create_table(
        "affiliate_grade",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("groups", JSONB(), nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        _belongs_to("affiliate", "affiliate_grade", "affiliate_id"),
        sa.PrimaryKeyConstraint("merchant_id", "affiliate_id", "valid_from", name=op.f("affiliate_grade_pk")),
    )
    op.create_table(
        "roster_offer",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("agency_id", sa.Uuid(), nullable=False),
        sa.Column("share", sa.Text(), nullable=False),
        sa.Column("fee", sa.Text(), nullable=False),
        sa.Column("offered_at", _MOMENT, nullable=False),
        sa.Column("offered_by", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.CheckConstraint(
            "state IN ('offered', 'accepted', 'declined', 'withdrawn', 'ended')", name=op.f("roster_offer_state_check")
        ),
        _belongs_to("affiliate", "roster_offer", "affiliate_id"),
        _belongs_to("affiliate", "roster_offer", "agency_id"),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("roster_offer_pk")),
    )
    op.create_index("roster_offer_affiliate_ix", "roster_offer", ["merchant_id", "affiliate_id"])
    op.create_index("roster_offer_agency_ix", "roster_offer", ["merchant_id", "agency_id"])
    op.create_index(
        "roster_offer_open_ix",
        "roster_offer",
        ["merchant_id", "affiliate_id", "agency_id"],
        unique=True,
        postgresql_where=sa.text("state = 'offered'"),
    )
    op.create_index(
        "roster_offer_accepted_ix",
        "roster_offer",
        ["merchant_id", "affiliate_id"],
        unique=True,
        postgresql_where=sa.text("state = 'accepted'"),
    )
    op.create_table(
        "roster",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("affiliate_id", sa.Uuid(), nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("agency_id", sa.Uuid(), nullable=True),
        sa.Column("share", sa.Text(), nullable=False),
        sa.Column("fee", sa.Text(), nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        _belongs_to("affiliate", "roster", "affiliate_id"),
        _belongs_to("affiliate", "roster", "agency_id"),
        sa.PrimaryKeyConstraint("merchant_id", "affiliate_id", "valid_from", name=op.f("roster_pk")),
    )
    op.create_index("roster_agency_ix", "roster", ["merchant_id", "agency_id"])
    op.create_table(
        "program_pause",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.CheckConstraint("effect IN ('none', 'stop', 'review')", name=op.f("program_pause_effect_check")),
        _belongs_to("program", "program_pause", "program_id"),
        sa.PrimaryKeyConstraint("merchant_id", "program_id", "valid_from", name=op.f("program_pause_pk")),
    )
    op.create_table(
        "link_label",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("link_id", sa.Uuid(), nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("sub_ids", JSONB(), nullable=False),
        sa.CheckConstraint(_CONTENT, name=op.f("link_label_content_type_check")),
        _belongs_to("link", "link_label", "link_id"),
        sa.PrimaryKeyConstraint("merchant_id", "link_id", "valid_from", name=op.f("link_label_pk")),
    )
    for table, key in (("customer_binding", ("kind", "hash")), ("product_binding", ("sku",))):
        op.create_table(
            table,
            sa.Column("merchant_id", sa.Uuid(), nullable=False),
            *(sa.Column(name, sa.Text(), nullable=False) for name in key),
            sa.Column("valid_from", _MOMENT, nullable=False),
            sa.Column("affiliate_id", sa.Uuid(), nullable=True),
            sa.Column("program_id", sa.Uuid(), nullable=True),
            sa.Column("until", _MOMENT, nullable=True),
            sa.Column("recorded_at", _MOMENT, nullable=False),
            sa.CheckConstraint("affiliate_id IS NULL OR program_id IS NOT NULL", name=op.f(f"{table}_program_check")),
            _belongs_to("affiliate", table, "affiliate_id"),
            _belongs_to("program", table, "program_id"),
            sa.PrimaryKeyConstraint("merchant_id", *key, "valid_from", name=op.f(f"{table}_pk")),
        )
        op.create_index(f"{table}_affiliate_ix", table, ["merchant_id", "affiliate_id"])
    op.create_table(
        "customer_listing",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("valid_from", _MOMENT, nullable=False),
        sa.Column("listed", sa.Boolean(), nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("customer_listing_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "kind", "hash", "name", "valid_from", name=op.f("customer_listing_pk")),
    )
    # What links were marked with so far, they were marked with from their making.
    op.execute(
        """
        INSERT INTO link_label (merchant_id, link_id, valid_from, content_type, channel, sub_ids)
        SELECT merchant_id, id, created_at, NULL, '', sub_ids FROM link
        """
    )


def downgrade() -> None:
    for table in reversed(_NEW):
        op.drop_table(table)
    op.drop_constraint(op.f("link_content_type_check"), "link", type_="check")
    op.drop_column("link", "channel")
    op.drop_column("link", "content_type")
    op.drop_constraint(op.f("affiliate_kind_check"), "affiliate", type_="check")
    op.drop_column("affiliate", "kind")


def _belongs_to(table: str, of: str, column: str) -> sa.ForeignKeyConstraint:
    """A foreign key of the same merchant."""
    return sa.ForeignKeyConstraint(
        ["merchant_id", column],
        [f"{table}.merchant_id", f"{table}.id"],
        name=op.f(f"{of}_merchant_id_{column}_fk"),
    )
