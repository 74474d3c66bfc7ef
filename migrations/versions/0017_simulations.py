"""Draft terms tried on orders.

Revision: 0017, after 0016.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_OF_SIMULATION = ["merchant_id", "simulation_id"]


def upgrade() -> None:
    op.create_table(
        "simulation",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("terms", postgresql.JSONB(), nullable=False),
        sa.Column("placed_from", sa.DateTime(timezone=True), nullable=True),
        sa.Column("placed_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("mapping", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("page", sa.BigInteger(), nullable=False),
        sa.Column("cursor", postgresql.JSONB(), nullable=False),
        sa.Column("orders_total", sa.BigInteger(), nullable=True),
        sa.Column("orders_done", sa.BigInteger(), nullable=False),
        sa.Column("rows_refused", sa.BigInteger(), nullable=False),
        sa.Column("refusals", postgresql.JSONB(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('awaiting_file', 'queued', 'running', 'done', 'failed')", name=op.f("simulation_state_check")
        ),
        sa.CheckConstraint("stage IN ('file', 'orders', 'periods')", name=op.f("simulation_stage_check")),
        sa.ForeignKeyConstraint(
            ["merchant_id", "program_id"],
            ["program.merchant_id", "program.id"],
            name=op.f("simulation_merchant_id_program_id_fk"),
        ),
        sa.PrimaryKeyConstraint("merchant_id", "id", name=op.f("simulation_pk")),
    )
    op.create_table(
        "simulation_sum",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("simulation_id", sa.Uuid(), nullable=False),
        sa.Column("dimension", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("now_minor", sa.BigInteger(), nullable=False),
        sa.Column("then_minor", sa.BigInteger(), nullable=False),
        sa.Column("now_orders", sa.BigInteger(), nullable=False),
        sa.Column("then_orders", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "dimension IN ('total', 'affiliate', 'category', 'day')", name=op.f("simulation_sum_dimension_check")
        ),
        _of_simulation("simulation_sum"),
        sa.PrimaryKeyConstraint(*_OF_SIMULATION, "dimension", "key", "currency", name=op.f("simulation_sum_pk")),
    )
    op.create_table(
        "simulation_period",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("simulation_id", sa.Uuid(), nullable=False),
        sa.Column("payee_id", sa.Uuid(), nullable=False),
        sa.Column("program_id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("begins_on", sa.Date(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("now_rules", postgresql.JSONB(), nullable=False),
        sa.Column("now_commission_minor", sa.BigInteger(), nullable=False),
        sa.Column("now_sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("now_orders", sa.BigInteger(), nullable=False),
        sa.Column("then_rules", postgresql.JSONB(), nullable=False),
        sa.Column("then_commission_minor", sa.BigInteger(), nullable=False),
        sa.Column("then_sales_minor", sa.BigInteger(), nullable=False),
        sa.Column("then_orders", sa.BigInteger(), nullable=False),
        _of_simulation("simulation_period"),
        sa.PrimaryKeyConstraint(
            *_OF_SIMULATION,
            "payee_id",
            "program_id",
            "rule",
            "begins_on",
            "currency",
            name=op.f("simulation_period_pk"),
        ),
    )
    op.create_table(
        "simulation_part",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("simulation_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        _of_simulation("simulation_part"),
        sa.PrimaryKeyConstraint(*_OF_SIMULATION, "number", name=op.f("simulation_part_pk")),
    )
    op.create_table(
        "simulation_order",
        sa.Column("merchant_id", sa.Uuid(), nullable=False),
        sa.Column("simulation_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("customer", sa.Text(), nullable=True),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        _of_simulation("simulation_order"),
        sa.PrimaryKeyConstraint(*_OF_SIMULATION, "name", name=op.f("simulation_order_pk")),
    )
    op.create_index(
        "simulation_order_customer_ix",
        "simulation_order",
        [*_OF_SIMULATION, "customer"],
        postgresql_where=sa.text("customer IS NOT NULL"),
    )


def _of_simulation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        _OF_SIMULATION,
        ["simulation.merchant_id", "simulation.id"],
        name=op.f(f"{table}_merchant_id_simulation_id_fk"),
    )


def downgrade() -> None:
    op.drop_index("simulation_order_customer_ix", table_name="simulation_order")
    for table in ("simulation_order", "simulation_part", "simulation_period", "simulation_sum", "simulation"):
        op.drop_table(table)
