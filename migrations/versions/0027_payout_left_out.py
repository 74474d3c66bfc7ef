"""Whom a payout run leaves out gets rows: a list within the run's row had to be read whole to find one payee in it.

A new table, filled from the lists that there are. The lists stay for servers of the release before, which go on beside
it; whom a run leaves out that one of them makes meanwhile is not shown by servers of this one.

Revision: 0027, after 0026.
"""

from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# Every reason there is.
_REASONS = (
    "'in_debt', 'below_minimum', 'below_rail_step', 'other_rail', 'no_payout_method', 'no_tax_rule', 'no_tax_regime',"
    " 'no_tax_rule_in_force', 'tax_currency', 'tax_details_missing', 'live_item', 'over_limit', 'affiliate_suspended',"
    " 'affiliate_not_approved', 'method_cooling', 'shared_account', 'method_changed', 'tax_rule_changed', 'tax_changed',"
    " 'content_changed', 'account_not_ready'"
)
# A public id ends in 128 bits, five to a letter of Crockford's alphabet.
_TO_PYTHON = str.maketrans("0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv")


def upgrade() -> None:
    op.create_table(
        "payout_left_out",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("payable_minor", sa.BigInteger(), nullable=False),
        sa.Column("carried_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(f"reason_code IN ({_REASONS})", name=op.f("payout_left_out_reason_code_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "payee_id"],
            ["affiliate.merchant_id", "affiliate.id"],
            name=op.f("payout_left_out_merchant_id_payee_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "run_id"],
            ["payout_run.merchant_id", "payout_run.id"],
            name=op.f("payout_left_out_merchant_id_run_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "run_id", "payee_id", name=op.f("payout_left_out_pk")),
        if_not_exists=True,
    )
    op.create_index(
        "payout_left_out_payee_ix", "payout_left_out", ["merchant_id", "payee_id", "run_id"], if_not_exists=True
    )
    # Run by run, each by itself, so that runs and payees are not kept from others meanwhile; where it breaks off, all of
    # it is done again.
    with op.get_context().autocommit_block():
        _fill()


def downgrade() -> None:
    # The release before reads the lists, which lack whom later runs left out.
    op.drop_table("payout_left_out")


def _fill() -> None:
    database = op.get_bind()
    runs = database.execute(sa.text("SELECT merchant_id, id FROM payout_run WHERE excluded <> '[]'")).all()
    for run in runs:
        told = database.execute(
            sa.text("SELECT excluded FROM payout_run WHERE merchant_id = :merchant_id AND id = :id"),
            {"merchant_id": run.merchant_id, "id": run.id},
        ).scalar_one()
        database.execute(
            sa.text(
                """
                INSERT INTO payout_left_out (merchant_id, run_id, payee_id, reason_code, payable_minor, carried_minor)
                SELECT :merchant_id, :run_id, left_out.*
                FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:reasons AS text[]), CAST(:payable AS bigint[]),
                            CAST(:carried AS bigint[])) AS left_out
                ON CONFLICT DO NOTHING
                """
            ),
            {
                "merchant_id": run.merchant_id,
                "run_id": run.id,
                "payee_ids": [_decoded(each["affiliate_id"]) for each in told],
                "reasons": [each["reason_code"] for each in told],
                "payable": [each["payable_minor"] for each in told],
                "carried": [each["carried_minor"] for each in told],
            },
        )


def _decoded(public_id: str) -> UUID:
    return UUID(int=int(public_id.removeprefix("aff_").translate(_TO_PYTHON), 32))
