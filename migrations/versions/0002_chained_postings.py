"""Number the bookings of a slot, and chain them.

It holds `posting` locked while it numbers all its rows, so nobody can read or book postings meanwhile: end the
servers before it runs.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("posting", sa.Column("booking", sa.Integer(), nullable=True))
    # What is there was not numbered as it was booked. A unit of work gave all its postings of a merchant one moment, so
    # postings of one slot and moment become one booking, in the order of the moments.
    op.execute(
        """
        UPDATE posting SET booking = numbered.booking
        FROM (
            SELECT merchant_id, id,
                   dense_rank() OVER (PARTITION BY merchant_id, day, slot ORDER BY created_at) AS booking
            FROM posting
        ) AS numbered
        WHERE posting.merchant_id = numbered.merchant_id AND posting.id = numbered.id
        """
    )
    # Half of the postings leave this index, which pays for the one they enter.
    op.drop_index("posting_debit_ix", table_name="posting")
    op.create_index(
        "posting_debit_ix",
        "posting",
        ["merchant_id", "debit_owner_id", "id"],
        postgresql_where=sa.text("debit_owner_id <> merchant_id"),
    )
    op.create_index("posting_booking_ix", "posting", ["merchant_id", "day", "slot", "booking"])
    op.execute(
        """
        UPDATE day_slot SET touched = coalesce(
            (SELECT max(booking) FROM posting
             WHERE posting.merchant_id = day_slot.merchant_id AND posting.day = day_slot.day
               AND posting.slot = day_slot.slot), 0)
        """
    )
    # From here on a server of the release before, which does not number its postings, cannot book: it answers 5xx and
    # shops send again. So end the old servers first.
    op.alter_column("posting", "booking", nullable=False)
    op.create_check_constraint(op.f("posting_booking_check"), "posting", "booking > 0")
    op.create_table(
        "chain_block",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("slot", sa.SmallInteger(), nullable=False),
        sa.Column("first_booking", sa.Integer(), nullable=False),
        sa.Column("last_booking", sa.Integer(), nullable=False),
        sa.Column("postings", sa.BigInteger(), nullable=False),
        sa.Column("previous_digest", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("chained_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "number > 0 AND first_booking > 0 AND last_booking >= first_booking",
            name=op.f("chain_block_bookings_check"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "number", name=op.f("chain_block_pk")),
        sa.UniqueConstraint(
            "merchant_id",
            "day",
            "slot",
            "first_booking",
            name=op.f("chain_block_merchant_id_day_slot_first_booking_key"),
        ),
    )
    op.create_table(
        "chain_head",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", name=op.f("chain_head_pk")),
    )


def downgrade() -> None:
    op.drop_table("chain_head")
    op.drop_table("chain_block")
    op.drop_index("posting_booking_ix", table_name="posting")
    op.drop_index("posting_debit_ix", table_name="posting")
    op.create_index("posting_debit_ix", "posting", ["merchant_id", "debit_owner_id", "id"])
    op.drop_constraint(op.f("posting_booking_check"), "posting", type_="check")
    op.drop_column("posting", "booking")
