"""Bindings: a customer's orders, or the sales of a product, belong to a KOC from a moment on, without click or coupon."""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from fastapi import APIRouter, Query
from sqlmodel import Session, select, tuple_

from service.api.customers import Customer
from service.api.dated import check_follows, has_no_order, start_of
from service.api.deps import Admin, Caller, Reader, ReadSession, Services, WriteSession
from service.api.paging import Page, PageQuery, Paging, page
from service.api.traceable import koc_of, program_of
from service.api.views import AffiliateId, Body, Moment, Name, ProgramId, View
from service.domain.errors import Conflict, Invalid
from service.tables.bindings import CustomerBindingRow, ProductBindingRow

router = APIRouter(tags=["bindings"])

_Row = TypeVar("_Row", CustomerBindingRow, ProductBindingRow)


class BindingUnchanged(Conflict):
    """What is bound to nobody cannot be let go."""

    code = "binding-unchanged"
    title = "It is bound to nobody"


class _Binding(Body):
    affiliate_id: AffiliateId | None
    """The KOC; null: nobody any more."""
    program_id: ProgramId | None = None
    """By which the KOC earns; it takes part in it, or earns nothing. Needed but where affiliate_id is null."""
    valid_from: Moment | None = None
    """At least five minutes ahead, but the first may lie in the past until the merchant's first order. Null: as early as
    allowed."""
    until: Moment | None = None
    """From when it no longer holds, for orders placed; null: for as long as nothing follows."""


class CustomerBindingCreate(_Binding):
    customer: Customer


class ProductBindingCreate(_Binding):
    sku: Name
    """As the shop's orders write it."""


class _BindingView(View):
    affiliate_id: AffiliateId | None
    """Null: to nobody from then on."""
    program_id: ProgramId | None
    valid_from: Moment
    until: Moment | None
    recorded_at: Moment


class CustomerBindingView(_BindingView):
    """It holds for orders placed from valid_from on, until it is over or another of the same customer begins."""

    customer_kind: str
    """By what the customer was named: email, phone or id."""
    customer_hash: str
    """The same for all bindings of one customer. Nobody can read from it who that is."""

    @classmethod
    def of(cls, row: CustomerBindingRow) -> Self:
        return cls(customer_kind=row.kind, customer_hash=row.hash, **_parts(row))


class ProductBindingView(_BindingView):
    """It holds for orders placed from valid_from on, until it is over or another of the same SKU begins."""

    sku: str

    @classmethod
    def of(cls, row: ProductBindingRow) -> Self:
        return cls(sku=row.sku, **_parts(row))


ByAffiliate = Annotated[AffiliateId | None, Query(description="Only bindings to this KOC.")]
ByProgram = Annotated[ProgramId | None, Query(description="Only bindings in this programme.")]


@router.post("/v1/customer-bindings", status_code=201)
def create_customer_binding(
    asked: CustomerBindingCreate, caller: Admin, session: WriteSession, service: Services
) -> CustomerBindingView:
    """Bind a customer to a KOC from a moment on, or to nobody. An earlier binding of the customer ends with it.

    The customer is kept as a keyed hash, by which orders are compared; what you sent is neither stored nor logged.
    """
    kind, keyed = asked.customer.hashed(caller.merchant_id, service.security)
    row = _bind(session, caller, asked, CustomerBindingRow, {"kind": kind, "hash": keyed})
    return CustomerBindingView.of(row)


@router.get("/v1/customer-bindings")
def list_customer_bindings(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: ByAffiliate = None,
    program_id: ByProgram = None,
) -> Page[CustomerBindingView]:
    """List the bindings of customers, past and to come, the latest first."""
    rows = _listed(session, caller, paging, CustomerBindingRow, "hash", affiliate_id, program_id)
    return page(rows, paging, key=lambda row: (row.valid_from, row.hash), view=CustomerBindingView.of)


@router.post("/v1/product-bindings", status_code=201)
def create_product_binding(asked: ProductBindingCreate, caller: Admin, session: WriteSession) -> ProductBindingView:
    """Bind a product to a KOC from a moment on, or to nobody. An earlier binding of the product ends with it."""
    return ProductBindingView.of(_bind(session, caller, asked, ProductBindingRow, {"sku": asked.sku}))


@router.get("/v1/product-bindings")
def list_product_bindings(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: ByAffiliate = None,
    program_id: ByProgram = None,
) -> Page[ProductBindingView]:
    """List the bindings of products, past and to come, the latest first."""
    rows = _listed(session, caller, paging, ProductBindingRow, "sku", affiliate_id, program_id)
    return page(rows, paging, key=lambda row: (row.valid_from, row.sku), view=ProductBindingView.of)


def _parts(row: CustomerBindingRow | ProductBindingRow) -> dict[str, Any]:
    return {
        "affiliate_id": row.affiliate_id,
        "program_id": row.program_id,
        "valid_from": row.valid_from,
        "until": row.until,
        "recorded_at": row.recorded_at,
    }


def _bind(session: Session, caller: Caller, asked: _Binding, table: type[_Row], what: Mapping[str, str]) -> _Row:
    """Record what is bound to whom from when on. what: the columns that name it, with their values."""
    if asked.program_id is not None:
        program_of(session, caller.merchant_id, asked.program_id)
    if asked.affiliate_id is not None:
        koc_of(session, caller.merchant_id, asked.affiliate_id)
        if asked.program_id is None:
            raise Invalid(
                "program_id says by which programme the KOC earns; it may be left out only to bind to nobody."
            )
    # The lock on the merchant also keeps two requests from binding one thing at a time.
    has_no_order(session, caller.merchant_id)
    known: Any = table
    newest: _Row | None = session.exec(
        select(table)
        .where(known.merchant_id == caller.merchant_id, *(getattr(known, name) == each for name, each in what.items()))
        .order_by(known.valid_from.desc())
        .limit(1)
    ).one_or_none()
    if asked.affiliate_id is None and (newest is None or newest.affiliate_id is None):
        raise BindingUnchanged("Nothing to end: it was never bound, or is let go already.")
    valid_from = start_of(
        session, caller.merchant_id, asked=asked.valid_from, recorded_at=caller.now, is_first=newest is None
    )
    check_follows(valid_from, newest.valid_from if newest else None)
    if asked.until is not None and asked.until <= valid_from:
        raise Invalid(f"until has to lie after valid_from, which is {valid_from.isoformat()}.")
    row = table(
        merchant_id=caller.merchant_id,
        **what,
        valid_from=valid_from,
        affiliate_id=asked.affiliate_id,
        program_id=asked.program_id,
        until=asked.until,
        recorded_at=caller.now,
    )
    session.add(row)
    session.flush()
    return row


def _listed(
    session: Session,
    caller: Caller,
    paging: PageQuery,
    table: type[_Row],
    name: str,
    affiliate_id: UUID | None,
    program_id: UUID | None,
) -> list[_Row]:
    """One page and one more, the latest first; among equal times by the column `name`."""
    known: Any = table
    bindings = select(table).where(known.merchant_id == caller.merchant_id)
    if affiliate_id is not None:
        bindings = bindings.where(known.affiliate_id == affiliate_id)
    if program_id is not None:
        bindings = bindings.where(known.program_id == program_id)
    after = paging.after_moment_text()
    if after is not None:
        bindings = bindings.where(tuple_(known.valid_from, getattr(known, name)) < tuple_(*after))
    ordered = bindings.order_by(known.valid_from.desc(), getattr(known, name).desc()).limit(paging.limit + 1)
    return list(session.exec(ordered).all())
