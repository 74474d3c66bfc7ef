"""Customers as a merchant names them, hashed at once, and its lists of them, such as its staff."""

from collections.abc import Sequence
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import ConfigDict, Field, SkipValidation, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import Row
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import Session, col, select, tuple_

from service.api import trail
from service.api.bulk import Batch, BulkView
from service.api.dated import check_follows, has_no_order, starts_of
from service.api.deps import Admin, Reader, ReadSession, Services, WriteSession
from service.api.paging import Page, Paging, page
from service.api.terms import Label
from service.api.views import Body, Moment, View
from service.domain.errors import Invalid
from service.infra.db import fetch
from service.infra.security import Security
from service.tables.bindings import CustomerListingRow

router = APIRouter(tags=["customers"])

CUSTOMERS_MAX = 1000

Hashed = tuple[str, str]
"""(kind, keyed hash), as in an order's snapshot."""


class Customer(Body):
    """A customer by one of what orders tell of it. Kept as a keyed hash; it cannot be read back."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "examples": [{"email": "mai@example.com"}]})

    email: Annotated[str, Strict(), Field(min_length=3, max_length=320)] | None = None
    phone: Annotated[str, Strict(), Field(min_length=3, max_length=40)] | None = None
    """With its country code."""
    id: Annotated[str, Strict(), Field(min_length=1, max_length=200)] | None = None
    """The shop's own id of the customer."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise PydanticCustomError("customer", "Must name one of email, phone and id")
        return self

    def hashed(self, merchant_id: UUID, security: Security) -> Hashed:
        """Return what is kept of it. Raises Invalid where nothing is left to hash."""
        [(kind, value)] = self.model_dump(exclude_none=True).items()
        keyed = security.identity(merchant_id, kind, value)
        if not keyed:
            raise Invalid(f"The {kind} tells nobody from another.")
        return (kind, keyed)


class ListEntries(Body):
    customers: Annotated[list[SkipValidation[Customer]], Field(min_length=1, max_length=CUSTOMERS_MAX)]
    """Name a customer by each address it may order with: one that fits is enough."""
    listed: Annotated[bool, Strict()]
    """True: on the list; false: no longer."""
    valid_from: Moment | None = None
    """At least five minutes ahead, but a customer's first entry may lie in the past until the merchant's first order. Null:
    as early as allowed."""


class CustomerListView(View):
    name: str
    listed: int
    """E-mail addresses, phone numbers and ids on the list at this moment."""
    listed_later: int
    """As many once all that was recorded so far has begun."""

    @classmethod
    def of(cls, row: Row[tuple[str, int, int]]) -> Self:
        return cls(name=row.name, listed=row.listed, listed_later=row.listed_later)


@router.post("/v1/customer-lists/{name}/entries")
def put_customer_list_entries(
    name: Label, asked: ListEntries, caller: Admin, session: WriteSession, service: Services
) -> BulkView:
    """Put up to 1000 customers on a list, or take them off it, from a moment on. A list is there once it is named.

    Each gets a result of its own, 201 if that changes something and 200 if it was so already.
    """
    batch = Batch(asked.customers, Customer, named="customers")
    hashes = batch.each(lambda item: item.hashed(caller.merchant_id, service.security))
    # The lock on the merchant also keeps two requests from writing one list at a time.
    has_no_order(session, caller.merchant_id)
    newest = _newest(session, caller.merchant_id, name, list(hashes.values()))
    first = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=True)
    later = starts_of(session, caller.merchant_id, recorded_at=caller.now, is_first=False)
    seen: set[Hashed] = set()

    def row_of(item: Customer) -> CustomerListingRow | None:
        hashed = item.hashed(caller.merchant_id, service.security)
        before = newest.get(hashed)
        if hashed in seen or asked.listed is (before is not None and before.listed):
            return None
        valid_from = (first if before is None else later)(asked.valid_from)
        check_follows(valid_from, before.valid_from if before else None)
        seen.add(hashed)
        kind, keyed = hashed
        return CustomerListingRow(
            merchant_id=caller.merchant_id,
            kind=kind,
            hash=keyed,
            name=name,
            valid_from=valid_from,
            listed=asked.listed,
            recorded_at=caller.now,
        )

    rows = batch.each(row_of)
    written = [row for row in rows.values() if row is not None]
    session.add_all(written)
    session.flush()
    for place, row in rows.items():
        batch.done(place, status=200 if row is None else 201)
    if written:
        trail.note(
            session,
            merchant_id=caller.merchant_id,
            kind="customer_listing",
            subject=name,
            after={"listed": asked.listed, "entries": len(written)},
        )
    return batch.view()


@router.get("/v1/customer-lists")
def list_customer_lists(caller: Reader, session: ReadSession, paging: Paging) -> Page[CustomerListView]:
    """List the merchant's lists of customers by name, with how many entries each has. Whom it names cannot be read."""
    rows = fetch(
        session,
        """
        SELECT name, count(*) FILTER (WHERE now_listed) AS listed, count(*) FILTER (WHERE then_listed) AS listed_later
        FROM (
            SELECT name, kind, hash,
                   (array_agg(listed ORDER BY valid_from DESC))[1] AS then_listed,
                   (array_agg(listed ORDER BY valid_from DESC) FILTER (WHERE valid_from <= :now))[1] AS now_listed
            FROM customer_listing
            WHERE merchant_id = :merchant_id AND (CAST(:after AS text) IS NULL OR name > :after)
            GROUP BY name, kind, hash
        ) AS entry
        GROUP BY name ORDER BY name LIMIT :limit
        """,
        {
            "merchant_id": caller.merchant_id,
            "now": caller.now,
            "after": paging.after_text(),
            "limit": paging.limit + 1,
        },
    )
    return page(rows, paging, key=lambda row: (row.name,), view=CustomerListView.of)


def _newest(
    session: Session, merchant_id: UUID, name: str, hashes: Sequence[Hashed]
) -> dict[Hashed, CustomerListingRow]:
    """Maps customer to the newest of its entries on a list, be it for later; those without one are left out."""
    rows = session.exec(
        select(CustomerListingRow)
        .where(
            col(CustomerListingRow.merchant_id) == merchant_id,
            col(CustomerListingRow.name) == name,
            tuple_(col(CustomerListingRow.kind), col(CustomerListingRow.hash)).in_(hashes),
        )
        .ext(distinct_on(col(CustomerListingRow.kind), col(CustomerListingRow.hash)))
        .order_by(col(CustomerListingRow.kind), col(CustomerListingRow.hash), col(CustomerListingRow.valid_from).desc())
    )
    return {(row.kind, row.hash): row for row in rows}
