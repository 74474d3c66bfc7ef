"""Webhooks out: endpoints, what waits to be told to them, deliveries and their attempts.

Only new tables, so servers of the release before go on beside it. What they tell meanwhile reaches no endpoint by
itself, since they queue nothing; it can be replayed.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RESULTS = "'delivered', 'refused', 'gone', 'busy', 'redirected', 'timeout', 'unreachable', 'tls', 'address_refused', 'protocol'"


def upgrade() -> None:
    op.create_table(
        "webhook_endpoint",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("events", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("rests_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "disabled_reason IN ('by_person', 'gone', 'failing')",
            name=op.f("webhook_endpoint_disabled_reason_check"),
        ),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)", name=op.f("webhook_endpoint_disabled_check")
        ),
        sa.CheckConstraint(
            "deleted_at IS NULL OR disabled_at IS NOT NULL", name=op.f("webhook_endpoint_deleted_check")
        ),
        sa.ForeignKeyConstraint(["merchant_id"], ["merchant.id"], name=op.f("webhook_endpoint_merchant_id_fk")),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("webhook_endpoint_pk")),
    )
    op.create_table(
        "webhook_queue",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("merchant_id", "event_id", name=op.f("webhook_queue_pk")),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_result", sa.Text(), nullable=True),
        sa.Column("replays", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'sending', 'delivered', 'failed')", name=op.f("webhook_delivery_state_check")
        ),
        sa.CheckConstraint(f"last_result IN ({RESULTS})", name=op.f("webhook_delivery_last_result_check")),
        sa.CheckConstraint(
            "(next_at IS NULL) = (state IN ('delivered', 'failed'))", name=op.f("webhook_delivery_next_check")
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "endpoint_id"],
            ["webhook_endpoint.merchant_id", "webhook_endpoint.id"],
            name=op.f("webhook_delivery_merchant_id_endpoint_id_fk"),
        ),
        sa.ForeignKeyConstraint(
            ["merchant_id", "event_id"],
            ["outbox.merchant_id", "outbox.id"],
            name=op.f("webhook_delivery_merchant_id_event_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("webhook_delivery_pk")),
        sa.UniqueConstraint(
            "merchant_id",
            "endpoint_id",
            "event_id",
            name=op.f("webhook_delivery_merchant_id_endpoint_id_event_id_key"),
        ),
    )
    op.create_index(
        "webhook_delivery_due_ix",
        "webhook_delivery",
        ["merchant_id", "endpoint_id", "next_at"],
        postgresql_where=sa.text("next_at IS NOT NULL"),
    )
    op.create_index("webhook_delivery_endpoint_ix", "webhook_delivery", ["merchant_id", "endpoint_id", "id"])
    op.create_table(
        "webhook_attempt",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("took_ms", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(f"result IN ({RESULTS})", name=op.f("webhook_attempt_result_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "delivery_id"],
            ["webhook_delivery.merchant_id", "webhook_delivery.id"],
            name=op.f("webhook_attempt_merchant_id_delivery_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "delivery_id", "number", name=op.f("webhook_attempt_pk")),
    )


def downgrade() -> None:
    op.drop_table("webhook_attempt")
    op.drop_table("webhook_delivery")
    op.drop_table("webhook_queue")
    op.drop_table("webhook_endpoint")
