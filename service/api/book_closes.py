"""Closed books: days that nothing is booked on any more, and the trial balance of any days."""

import calendar
import re
from collections.abc import Iterable
from datetime import date
from typing import Annotated, Self

from fastapi import APIRouter, Query, Response
from sqlmodel import col, select

from service.api.deps import FinanceChecker, Reader, ReadSession, WriteSession
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import Body, BookCloseId, Currency, Day, KeyId, Moment, MoneyView, Month, View
from service.domain.closing import TrialLine
from service.domain.errors import Invalid, Missing
from service.domain.ledger import AccountKind, MerchantTime
from service.infra.ids import encode
from service.ledger.close import close
from service.ledger.trial import trial_balance
from service.tables.books import BookCloseRow

router = APIRouter(tags=["ledger"])


class BookCloseMissing(Missing):
    code = "unknown-book-close"
    title = "There is no such close"


class BookCloseCreate(Body):
    """Up to which day. One of the two."""

    until: Day | None = None
    """The last day, included, by the merchant's calendar. All days before it are closed too."""
    month: Month | None = None
    """Instead: up to the end of this month."""

    def last_day(self) -> date:
        """Raises Invalid."""
        if (self.until is None) == (self.month is None):
            raise Invalid("Give until or month, one of them.")
        if self.until is not None:
            return self.until
        year, month = map(int, re.findall("[0-9]+", self.month or ""))
        return date(year, month, calendar.monthrange(year, month)[1])


class TrialLineView(View):
    """One account in one currency."""

    account: AccountKind
    opening: MoneyView
    """Debits less credits of all days before: a cost above zero, what is owed below it."""
    debits: MoneyView
    credits: MoneyView
    closing: MoneyView
    """Opening and debits, less credits."""

    @classmethod
    def of(cls, line: TrialLine) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=line.currency)

        return cls(
            account=AccountKind(line.account),
            opening=money(line.opening_minor),
            debits=money(line.debit_minor),
            credits=money(line.credit_minor),
            closing=money(line.closing_minor),
        )


class BookCloseView(View):
    """Days that were closed together."""

    id: BookCloseId
    begins_on: date
    until: date
    """The last day, included."""
    closed_at: Moment
    closed_by: KeyId
    previous_digest: str | None
    """Of the close before; null for the first."""
    digest: str
    """SHA-256 over the digest before, the days and every line. Note it elsewhere, to tell later that nothing changed."""
    lines: list[TrialLineView]
    """The trial balance of these days. For each currency its closings add up to nothing."""

    @classmethod
    def of(cls, row: BookCloseRow) -> Self:
        return cls(
            id=row.id,
            begins_on=row.begins_on,
            until=row.until,
            closed_at=row.closed_at,
            closed_by=row.closed_by,
            previous_digest=row.previous_digest or None,
            digest=row.digest,
            lines=_lines(map(TrialLine.of_json, row.totals)),
        )


class TrialBalanceView(View):
    begins_on: date | None
    """Null: from the beginning."""
    until: date | None
    """Null: to the newest booking."""
    closed_until: date | None
    """The last day that is closed; what is booked from then on still changes. Null: none is."""
    lines: list[TrialLineView]


def _lines(lines: Iterable[TrialLine]) -> list[TrialLineView]:
    return [TrialLineView.of(line) for line in lines]


@router.post("/v1/book-closes", status_code=201, responses={200: {"model": BookCloseView}})
def close_books(
    asked: BookCloseCreate, caller: FinanceChecker, session: WriteSession, response: Response
) -> BookCloseView:
    """Close all days up to one, from the day after the last close. Never opened again.

    What is told later of an order of these days is booked on the next open day, and names the one it was meant for. 200
    with the close that holds the day, where it is closed already. The day has to be over by the merchant's clock.
    """
    when = MerchantTime(caller.now, caller.merchant.time_zone)
    closed = close(session, caller.merchant_id, until=asked.last_day(), when=when, by=caller.key_id)
    if not closed.is_new:
        response.status_code = 200
    return BookCloseView.of(closed.row)


@router.get("/v1/book-closes")
def list_book_closes(caller: Reader, session: ReadSession, paging: Paging) -> Page[BookCloseView]:
    """List the closes, newest first. The first of the first page says up to which day the books are closed."""
    found = select(BookCloseRow).where(col(BookCloseRow.merchant_id) == caller.merchant_id)
    rows = session.exec(newest_first(found, paging, col(BookCloseRow.id))).all()
    return page(rows, paging, key=lambda row: (row.id,), view=BookCloseView.of)


@router.get("/v1/book-closes/{close_id}")
def get_book_close(close_id: BookCloseId, caller: Reader, session: ReadSession) -> BookCloseView:
    """Return one close with its trial balance, as it was kept."""
    row = session.get(BookCloseRow, (caller.merchant_id, close_id))
    if row is None:
        raise BookCloseMissing(f"There is no close {encode('bcl', close_id)} here.")
    return BookCloseView.of(row)


@router.get("/v1/ledger/trial-balance")
def get_trial_balance(
    caller: Reader,
    session: ReadSession,
    day_from: Annotated[Day | None, Query(alias="from", description="First booking day.")] = None,
    day_to: Annotated[Day | None, Query(alias="to", description="Last booking day, included.")] = None,
    currency: Annotated[Currency | None, Query(description="Only this one.")] = None,
) -> TrialBalanceView:
    """Return opening, debits, credits and closing of every account over some booking days.

    For each currency the closings add up to nothing. Read from the sums of days, however many postings there are.
    """
    if day_from is not None and day_to is not None and day_to < day_from:
        raise Invalid("from lies after to.")
    lines = trial_balance(session, caller.merchant_id, begins_on=day_from, until=day_to)
    newest = session.exec(
        select(BookCloseRow)
        .where(col(BookCloseRow.merchant_id) == caller.merchant_id)
        .order_by(col(BookCloseRow.until).desc())
        .limit(1)
    ).first()
    return TrialBalanceView(
        begins_on=day_from,
        until=day_to,
        closed_until=None if newest is None else newest.until,
        lines=_lines(line for line in lines if currency is None or line.currency == currency),
    )
