"""Reports that a worker writes.

Revision: 0022, after 0021.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "report_job",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("filters", postgresql.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("snapshot_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'done', 'failed')", name=op.f("report_job_status_check")),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("report_job_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("report_job_pk")),
    )
    op.create_table(
        "report_chunk",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("report_job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["merchant_id", "report_job_id"],
            ["report_job.merchant_id", "report_job.id"],
            name=op.f("report_chunk_merchant_id_report_job_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "report_job_id", "number", name=op.f("report_chunk_pk")),
    )


def downgrade() -> None:
    op.drop_table("report_chunk")
    op.drop_table("report_job")
