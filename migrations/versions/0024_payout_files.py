"""Files of payouts: who pays, by which column map, the files and their lines, and what banks and people say of those.

New tables only; servers of the release before go on beside them. A run on a rail of files waits until a new worker takes it.

Revision: 0024, after 0023.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "payer_account",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "rail IN ('sepa_file', 'alipay_file', 'wechat_file', 'vn_bank_file', 'paypal_file', 'wise_file')",
            name=op.f("payer_account_rail_check"),
        ),
        sa.CheckConstraint("version > 0", name=op.f("payer_account_version_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("payer_account_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "rail", "version", name=op.f("payer_account_pk")),
    )
    op.create_table(
        "payout_template",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("template", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "rail IN ('sepa_file', 'alipay_file', 'wechat_file', 'vn_bank_file', 'paypal_file', 'wise_file')",
            name=op.f("payout_template_rail_check"),
        ),
        sa.CheckConstraint("version > 0", name=op.f("payout_template_version_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("payout_template_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "rail", "version", name=op.f("payout_template_pk")),
    )
    op.create_table(
        "payout_file",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("rail", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("template_version", sa.BigInteger(), nullable=False),
        sa.Column("payer_version", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("control_sum_minor", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("built_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("handed_over_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("handed_over_by", sa.Uuid(), nullable=True),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.Column("voided_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'handed_over') = (handed_over_at IS NOT NULL) AND (state = 'handed_over') = (downloads > 0) AND (handed_over_at IS NULL) = (handed_over_by IS NULL)",
            name=op.f("payout_file_handed_over_check"),
        ),
        sa.CheckConstraint("(state = 'void') = (voided_at IS NOT NULL)", name=op.f("payout_file_voided_check")),
        sa.CheckConstraint("state IN ('built', 'handed_over', 'void')", name=op.f("payout_file_state_check")),
        sa.CheckConstraint("lines > 0 AND control_sum_minor > 0", name=op.f("payout_file_lines_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "run_id"],
            ["payout_run.merchant_id", "payout_run.id"],
            name=op.f("payout_file_merchant_id_run_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("payout_file_pk")),
        sa.UniqueConstraint("merchant_id", "message_id", name=op.f("payout_file_merchant_id_message_id_key")),
        sa.UniqueConstraint("merchant_id", "run_id", "number", name=op.f("payout_file_merchant_id_run_id_number_key")),
    )
    op.create_table(
        "payout_result",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("imported_by", sa.Uuid(), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "file_id"],
            ["payout_file.merchant_id", "payout_file.id"],
            name=op.f("payout_result_merchant_id_file_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("payout_result_pk")),
        sa.UniqueConstraint(
            "merchant_id", "file_id", "sha256", name=op.f("payout_result_merchant_id_file_id_sha256_key")
        ),
    )
    op.create_table(
        "payout_attestation",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("attested_by", sa.Uuid(), nullable=False),
        sa.Column("attested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_by", sa.Uuid(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("outcome IN ('paid', 'not_sent')", name=op.f("payout_attestation_outcome_check")),
        sa.CheckConstraint(
            "(confirmed_by IS NULL) = (confirmed_at IS NULL)", name=op.f("payout_attestation_confirmed_check")
        ),
        sa.CheckConstraint(
            "confirmed_at IS NULL OR withdrawn_at IS NULL", name=op.f("payout_attestation_withdrawn_check")
        ),
        sa.CheckConstraint(
            "confirmed_by IS NULL OR confirmed_by <> attested_by", name=op.f("payout_attestation_two_persons_check")
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "attempt_id"],
            ["payout_attempt.merchant_id", "payout_attempt.id"],
            name=op.f("payout_attestation_merchant_id_attempt_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("payout_attestation_pk")),
    )
    op.create_index(
        "payout_attestation_open_ix",
        "payout_attestation",
        ["merchant_id", "attempt_id"],
        unique=True,
        postgresql_where=sa.text("withdrawn_at IS NULL"),
    )
    op.create_table(
        "payout_file_line",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("item_id", sa.Uuid(), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("end_to_end_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "attempt_id"],
            ["payout_attempt.merchant_id", "payout_attempt.id"],
            name=op.f("payout_file_line_merchant_id_attempt_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "file_id"],
            ["payout_file.merchant_id", "payout_file.id"],
            name=op.f("payout_file_line_merchant_id_file_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "item_id"],
            ["payout_item.merchant_id", "payout_item.id"],
            name=op.f("payout_file_line_merchant_id_item_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "file_id", "line", name=op.f("payout_file_line_pk")),
        sa.UniqueConstraint("merchant_id", "attempt_id", name=op.f("payout_file_line_merchant_id_attempt_id_key")),
        sa.UniqueConstraint(
            "merchant_id", "end_to_end_id", name=op.f("payout_file_line_merchant_id_end_to_end_id_key")
        ),
    )
    op.create_table(
        "payout_line_fact",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("file_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("booked_on", sa.Date(), nullable=True),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "said IN ('accepted', 'rejected', 'booked', 'returned')", name=op.f("payout_line_fact_said_check")
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "file_id", "line"],
            ["payout_file_line.merchant_id", "payout_file_line.file_id", "payout_file_line.line"],
            name=op.f("payout_line_fact_merchant_id_file_id_line_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "result_id"],
            ["payout_result.merchant_id", "payout_result.id"],
            name=op.f("payout_line_fact_merchant_id_result_id_fk"),
        ),
        sa.PrimaryKeyConstraint(
            "merchant_id", "file_id", "line", "said", "amount_minor", name=op.f("payout_line_fact_pk")
        ),
    )


def downgrade() -> None:
    op.drop_table("payout_line_fact")
    op.drop_table("payout_file_line")
    op.drop_index(
        "payout_attestation_open_ix", table_name="payout_attestation", postgresql_where=sa.text("withdrawn_at IS NULL")
    )
    op.drop_table("payout_attestation")
    op.drop_table("payout_result")
    op.drop_table("payout_file")
    op.drop_table("payout_template")
    op.drop_table("payer_account")
