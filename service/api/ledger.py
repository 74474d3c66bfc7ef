"""The ledger: every amount that moved, from one account to one other, for ever."""

from datetime import date
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from sqlalchemy import Row

from service.api.deps import Reader, ReadSession
from service.api.paging import Page, Paging, page
from service.api.views import AffiliateId, CommissionId, Currency, Day, Moment, MoneyView, PostingId, Text, View
from service.domain.commission import EntryKind
from service.domain.errors import Missing
from service.domain.ledger import AccountKind, booking_day
from service.infra import ids
from service.infra.db import fetch

router = APIRouter(tags=["ledger"])

ENTRIES_MAX = 1000
"""Most commission entries shown of one posting; a settlement gathers no more than it settles at once."""


class PostingMissing(Missing):
    code = "unknown-posting"
    title = "There is no such posting"


class AccountView(View):
    kind: AccountKind
    affiliate_id: AffiliateId | None
    """Whose account; null: the merchant's own."""


class PostingView(View):
    id: PostingId
    event: str
    """What happened; event and seq are unique."""
    seq: int
    debit: AccountView
    """Where the amount came from."""
    credit: AccountView
    """Where it went."""
    amount: MoneyView
    """Above zero."""
    day: date
    """Booking day in the merchant's time zone."""
    meant_for: date | None
    """The day it was made, where that was closed already and it is booked on the next open one; else null."""
    created_at: Moment

    @classmethod
    def of(cls, row: Row[Any], time_zone: str) -> Self:
        made_on = booking_day(row.created_at, time_zone)

        def account(kind: str, owner_id: Any) -> AccountView:
            return AccountView(kind=AccountKind(kind), affiliate_id=None if owner_id == row.merchant_id else owner_id)

        return cls(
            id=row.id,
            event=row.event,
            seq=row.seq,
            debit=account(row.debit_kind, row.debit_owner_id),
            credit=account(row.credit_kind, row.credit_owner_id),
            amount=MoneyView(amount_minor=row.amount_minor, currency=row.currency),
            day=row.day,
            meant_for=None if made_on == row.day else made_on,
            created_at=row.created_at,
        )


class PostingEntryView(View):
    """A commission's part of a posting."""

    commission_id: CommissionId
    seq: int
    kind: EntryKind
    amount: MoneyView


class ChainBlockView(View):
    """A run of bookings, bound to all before it. Note `number` and `digest` elsewhere to tell later that nothing changed."""

    number: int
    """Place in your one chain, from 1 without gaps."""
    day: date
    """Booking day of its postings."""
    slot: int
    """Which of the day's 16 booking rows."""
    first_booking: int
    last_booking: int
    """Units of work, numbered within day and slot, whose postings it covers."""
    postings: int
    """How many postings those are."""
    previous_digest: str
    """Digest of the block before; zeros before the first. Hexadecimal."""
    digest: str
    """SHA-256 over the digest before, the fields above and every field of the postings. Hexadecimal."""
    chained_at: Moment

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        return cls(
            number=row.number,
            day=row.day,
            slot=row.slot,
            first_booking=row.first_booking,
            last_booking=row.last_booking,
            postings=row.postings,
            previous_digest=bytes(row.previous_digest).hex(),
            digest=bytes(row.digest).hex(),
            chained_at=row.chained_at,
        )


class PostingDetailView(View):
    posting: PostingView
    entries: list[PostingEntryView]
    """Commission entries that add up to the amount; none where a payout moved it."""


@router.get("/v1/ledger/postings")
def list_postings(
    *,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    affiliate_id: Annotated[AffiliateId | None, Query(description="Postings on accounts of this affiliate.")] = None,
    account: Annotated[AccountKind | None, Query(description="Postings from or to accounts of this kind.")] = None,
    currency: Annotated[Currency | None, Query(description="Postings in this currency.")] = None,
    event: Annotated[Text | None, Query(description="Postings of exactly this event.")] = None,
    day_from: Annotated[Day | None, Query(description="Booked on this day or later.")] = None,
    day_to: Annotated[Day | None, Query(description="Booked on this day or before.")] = None,
) -> Page[PostingView]:
    """List postings, newest first."""
    asked: dict[str, tuple[str, object]] = {
        "account": ("(debit_kind = :account OR credit_kind = :account)", account),
        "currency": ("currency = :currency", currency),
        "event": ("event = :event", event),
        "day_from": ("day >= :day_from", day_from),
        "day_to": ("day <= :day_to", day_to),
        "after": ("id < :after", paging.after_id()),
    }
    given = {name: each for name, each in asked.items() if each[1] is not None}
    parameters = {
        "merchant_id": caller.merchant_id,
        "limit": paging.limit + 1,
        **{name: value for name, (_, value) in given.items()},
    }
    newest = f"""
        SELECT * FROM posting
        WHERE {" AND ".join(["merchant_id = :merchant_id", *(condition for condition, _ in given.values())])}
    """  # noqa: S608 - conditions are our own constants; values are parameters
    if affiliate_id is None:
        rows = fetch(session, f"{newest} ORDER BY id DESC LIMIT :limit", parameters)
    else:
        # Two short walks along two indexes instead of one along all of the merchant's postings. The index by debit
        # holds no posting that debits the merchant, so whoever wants it says so.
        rows = fetch(
            session,
            f"""
            SELECT * FROM (
                ({newest} AND debit_owner_id = :affiliate_id AND debit_owner_id <> merchant_id ORDER BY id DESC LIMIT :limit)
                UNION ALL
                ({newest} AND credit_owner_id = :affiliate_id AND debit_owner_id <> :affiliate_id
                 ORDER BY id DESC LIMIT :limit)
            ) AS side
            ORDER BY id DESC LIMIT :limit
            """,  # noqa: S608 - conditions are our own constants; values are parameters
            {**parameters, "affiliate_id": affiliate_id},
        )
    time_zone = caller.merchant.time_zone
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: PostingView.of(row, time_zone))


@router.get("/v1/ledger/postings/{posting_id}")
def get_posting(posting_id: PostingId, caller: Reader, session: ReadSession) -> PostingDetailView:
    """Return one posting with the commission entries it is made of."""
    asked = {"merchant_id": caller.merchant_id, "id": posting_id, "limit": ENTRIES_MAX}
    rows = fetch(session, "SELECT * FROM posting WHERE merchant_id = :merchant_id AND id = :id", asked)
    if not rows:
        raise PostingMissing(f"There is no posting {ids.encode('pst', posting_id)} here.")
    entries = fetch(
        session,
        """
        SELECT commission_id, seq, kind, amount_minor FROM commission_entry
        WHERE merchant_id = :merchant_id AND posting_id = :id
        ORDER BY commission_id, seq LIMIT :limit
        """,
        asked,
    )
    return PostingDetailView(
        posting=PostingView.of(rows[0], caller.merchant.time_zone),
        entries=[
            PostingEntryView(
                commission_id=entry.commission_id,
                seq=entry.seq,
                kind=EntryKind(entry.kind),
                amount=MoneyView(amount_minor=entry.amount_minor, currency=rows[0].currency),
            )
            for entry in entries
        ],
    )


@router.get("/v1/ledger/chain")
def list_chain_blocks(caller: Reader, session: ReadSession, paging: Paging) -> Page[ChainBlockView]:
    """List the blocks of the chain over your postings, newest first. The first of the first page is the head."""
    after = paging.after_number()
    rows = fetch(
        session,
        """
        SELECT * FROM chain_block
        WHERE merchant_id = :merchant_id AND (CAST(:after AS bigint) IS NULL OR number < :after)
        ORDER BY number DESC LIMIT :limit
        """,
        {"merchant_id": caller.merchant_id, "after": after, "limit": paging.limit + 1},
    )
    return page(rows, paging, key=lambda row: (str(row.number),), view=ChainBlockView.of)
