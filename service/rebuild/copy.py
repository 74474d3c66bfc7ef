"""What made-again books take over from the live ones as it is: who is who, and every dated input. No result of them."""

from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import psycopg
from sqlmodel import Session, SQLModel

from service.tables import bindings, orders, parties, programs


@dataclass(frozen=True, slots=True)
class _Taken:
    """Rows of one table. instead: column → SQL expression for what is not taken over as it is."""

    row: type[SQLModel]
    instead: dict[str, str] = field(default_factory=dict)
    merchant: str = "merchant_id"
    """The column that names the merchant."""
    having: str = "true"


# In the order of their foreign keys. Names, addresses and secrets of people and shops move no amount, so they stay behind.
_TAKEN = (
    _Taken(parties.MerchantRow, merchant="id"),
    _Taken(parties.SourceRow, {"secret": "NULL"}),
    _Taken(programs.ProgramRow),
    _Taken(programs.ProgramVersionRow),
    _Taken(programs.ProgramPauseRow),
    _Taken(parties.AffiliateRow, {"name": "''", "email": "NULL", "country": "NULL", "profile": "CAST('{}' AS jsonb)"}),
    _Taken(parties.AffiliateApprovalRow),
    _Taken(parties.AffiliateGradeRow),
    # Without the offers: what a KOC consented to stands in the roster.
    _Taken(parties.RosterRow),
    _Taken(programs.EnrollmentRow),
    _Taken(programs.LinkRow),
    _Taken(programs.LinkOwnerRow),
    _Taken(programs.LinkLabelRow),
    _Taken(programs.CouponRow),
    _Taken(programs.CouponOwnerRow),
    _Taken(bindings.CustomerBindingRow),
    _Taken(bindings.ProductBindingRow),
    _Taken(bindings.CustomerListingRow),
    # Whether a buyer was the KOC is a fact of the order, found out once: whom the shop has erased since must not matter.
    # The order's row comes along to carry it; every other order is made by its first delivery.
    _Taken(
        orders.OrderRow,
        {"seen": "1"},
        having="""
        EXISTS (SELECT FROM assessment WHERE assessment.merchant_id = orders.merchant_id
                AND assessment.order_id = orders.id AND assessment.identities <> CAST('{}' AS jsonb))
        """,
    ),
    _Taken(
        orders.AssessmentRow,
        {
            "seq": "1",
            "placed_at": "NULL",
            "currency": "NULL",
            "number": "''",
            "goods_minor": "NULL",
            "net_minor": "NULL",
            "cancelled": "false",
            "affiliate_id": "NULL",
            "program_id": "NULL",
            "attribution_reason": "''",
            "touch": "NULL",
            "customer": "NULL",
            "candidates": "CAST('[]' AS jsonb)",
            "frozen_reason": "NULL",
        },
        having="identities <> CAST('{}' AS jsonb)",
    ),
)


def take_over(live: Session, into: Session, merchant_id: UUID) -> None:
    """Copy one merchant's parties, programmes, links, coupons, bindings and identity matches, in blocks as they come."""
    source, destination = _driver(live), _driver(into)
    for each in _TAKEN:
        table = SQLModel.metadata.tables[str(each.row.__tablename__)]
        names = ", ".join(column.name for column in table.columns)
        values = ", ".join(each.instead.get(column.name, column.name) for column in table.columns)
        read = f"COPY (SELECT {values} FROM {table.name} WHERE {each.merchant} = %s AND {each.having}) TO STDOUT"  # noqa: S608 - our own names
        with (
            source.cursor() as reading,
            destination.cursor() as writing,
            reading.copy(read.encode(), (merchant_id,)) as rows,
            writing.copy(f"COPY {table.name} ({names}) FROM STDIN".encode()) as made,
        ):
            for block in rows:
                made.write(block)


def _driver(session: Session) -> psycopg.Connection:
    return cast("psycopg.Connection", session.connection().connection.driver_connection)
