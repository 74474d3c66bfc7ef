"""Close the books up to a day: seal its booking rows and those before it, and keep what every account came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.closing import FIRST, TrialLine, close_digest, out_of_balance
from service.domain.errors import Conflict, Invalid, InvariantBroken
from service.domain.ledger import SLOTS, MerchantTime, booking_day, next_day
from service.infra import ids
from service.infra.db import execute, fetch
from service.ledger.findings import FINDINGS_MAX, Check, Finding, FindingCode
from service.ledger.trial import trial_balance
from service.tables.books import BookCloseRow


class DayNotOver(Conflict):
    """Only days that are over by the merchant's clock can be closed."""

    code = "day-not-over"
    title = "The day is not over"


class BeforeTheBooks(Invalid):
    """The first close would end before there is anything to close; the next one then had all days between to seal."""

    code = "before-the-books"
    title = "The books begin later"


@dataclass(frozen=True, slots=True)
class Closed:
    """The close that holds the day asked for. is_new: made by this call."""

    row: BookCloseRow
    is_new: bool


def close(session: Session, merchant_id: UUID, *, until: date, when: MerchantTime, by: UUID) -> Closed:
    """Close every day up to one, from the day after the newest close, or from the day the merchant was made.

    What is closed already is not closed again. Who books on one of these days at this moment is waited for; who comes
    later finds the day sealed and books on the next open one. Raises DayNotOver, BeforeTheBooks.
    """
    if until >= when.day:
        raise DayNotOver(
            f"{until} is not over by the merchant's clock, whose day is {when.day}. Close up to the day before."
        )
    created_at, last = _hold(session, merchant_id)
    known = _holding(session, merchant_id, until)
    if known is not None:
        return Closed(known, is_new=False)
    begins_on = next_day(last.until) if last else _first_day(session, merchant_id, created_at, when.time_zone)
    if until < begins_on:
        raise BeforeTheBooks(f"The books begin on {begins_on}. Close up to that day or a later one.")
    _seal(session, merchant_id, begins_on, until, when)
    # In a new statement: it sees what was committed by those the sealing waited for.
    lines = trial_balance(session, merchant_id, begins_on=begins_on, until=until)
    wrong = out_of_balance(lines)
    if wrong:
        raise InvariantBroken(f"the books up to {until} do not balance: {wrong}")
    previous = last.digest if last else FIRST
    row = BookCloseRow(
        merchant_id=merchant_id,
        id=ids.new_id(),
        begins_on=begins_on,
        until=until,
        totals=[line.as_json() for line in lines],
        previous_digest=previous,
        digest=close_digest(previous, merchant_id=merchant_id, begins_on=begins_on, until=until, lines=lines),
        closed_by=by,
        closed_at=when.now,
    )
    session.add(row)
    session.flush()
    return Closed(row, is_new=True)


def _hold(session: Session, merchant_id: UUID) -> tuple[Any, Row[Any] | None]:
    """Lock the merchant, so that two who close do so one after the other. Returns its making and its newest close."""
    # Rows that name the merchant can still be added by others, and nobody who books wants this lock.
    [merchant] = fetch(session, "SELECT created_at FROM merchant WHERE id = :id FOR NO KEY UPDATE", {"id": merchant_id})
    newest = fetch(
        session,
        "SELECT until, digest FROM book_close WHERE merchant_id = :merchant_id ORDER BY until DESC LIMIT 1",
        {"merchant_id": merchant_id},
    )
    return merchant.created_at, newest[0] if newest else None


def _holding(session: Session, merchant_id: UUID, on: date) -> BookCloseRow | None:
    """The close that holds a day: the first one that ends on it or later."""
    rows = fetch(
        session,
        """
        SELECT id FROM book_close WHERE merchant_id = :merchant_id AND until >= :day ORDER BY until LIMIT 1
        """,
        {"merchant_id": merchant_id, "day": on},
    )
    return session.get(BookCloseRow, (merchant_id, rows[0].id)) if rows else None


def _first_day(session: Session, merchant_id: UUID, created_at: Any, time_zone: str) -> date:
    rows = fetch(
        session, "SELECT min(day) AS day FROM day_slot WHERE merchant_id = :merchant_id", {"merchant_id": merchant_id}
    )
    made_on = booking_day(created_at, time_zone)
    return made_on if rows[0].day is None else min(made_on, rows[0].day)


def _seal(session: Session, merchant_id: UUID, begins_on: date, until: date, when: MerchantTime) -> None:
    """Seal all booking rows of the days, also those that nobody has booked on.

    The upsert itself is the lock: it waits for whoever holds a row, in the order of the key, and a row that is not
    there yet is sealed before anybody can make it. Whoever books holds one open row of a merchant at a time, so nobody
    waits for the other in a circle.
    """
    execute(
        session,
        """
        INSERT INTO day_slot (merchant_id, day, slot, touched, sealed_at)
        SELECT :merchant_id, CAST(each.day AS date), each.slot, 0, :now
        FROM (SELECT day, slot
              FROM generate_series(CAST(:begins_on AS timestamp), CAST(:until AS timestamp), interval '1 day') AS day
              CROSS JOIN generate_series(0, :slots - 1) AS slot) AS each
        ORDER BY each.day, each.slot
        ON CONFLICT (merchant_id, day, slot) DO UPDATE SET sealed_at = excluded.sealed_at
        """,
        {"merchant_id": merchant_id, "begins_on": begins_on, "until": until, "slots": SLOTS, "now": when.now},
    )


def verify_closes(session: Session, merchant_id: UUID | None) -> list[Finding]:
    """Compute the digests of closes anew. Returns those that are not what was kept, or do not follow the one before."""
    rows = fetch(
        session,
        """
        SELECT merchant_id, id, begins_on, until, totals, previous_digest, digest FROM book_close
        WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
        ORDER BY merchant_id, until
        """,
        {"merchant_id": merchant_id},
    )
    before: Row[Any] | None = None
    findings: list[Finding] = []
    for row in rows:
        follows = before is not None and before.merchant_id == row.merchant_id
        findings += _wrong_with(row, before if follows else None)
        before = row
    return findings[:FINDINGS_MAX]


def _wrong_with(row: Row[Any], before: Row[Any] | None) -> list[Finding]:
    lines = [TrialLine.of_json(each) for each in row.totals]
    digest = close_digest(
        row.previous_digest, merchant_id=row.merchant_id, begins_on=row.begins_on, until=row.until, lines=lines
    )
    compared: Sequence[tuple[str, str, str]] = [
        ("digest", digest, row.digest),
        ("digest of the close before", before.digest if before else "none", row.previous_digest or "none"),
        ("its first day", str(next_day(before.until)) if before else str(row.begins_on), str(row.begins_on)),
    ]
    return [
        Finding(
            FindingCode.CLOSE_DIGEST,
            row.merchant_id,
            ids.encode("bcl", row.id),
            f"{row.until}, {what}",
            expected,
            found,
        )
        for what, expected, found in compared
        if expected != found
    ]


_CLOSE_SUM = """
WITH kept AS (
    SELECT close.merchant_id, close.id, close.until, line.*
    FROM book_close AS close
    CROSS JOIN LATERAL jsonb_to_recordset(close.totals)
         AS line (account text, currency text, opening_minor bigint, debit_minor bigint, credit_minor bigint,
                  closing_minor bigint)
    WHERE CAST(:merchant_id AS uuid) IS NULL OR close.merchant_id = :merchant_id
), days AS (
    SELECT merchant_id, day, kind AS account, currency, sum(debit_minor) AS debit_minor, sum(credit_minor) AS credit_minor
    FROM day_sum WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, day, kind, currency
), summed AS (
    SELECT close.merchant_id, close.id, close.until, account, currency,
           coalesce(sum(debit_minor - credit_minor) FILTER (WHERE day < begins_on), 0) AS opening_minor,
           coalesce(sum(debit_minor) FILTER (WHERE day >= begins_on), 0) AS debit_minor,
           coalesce(sum(credit_minor) FILTER (WHERE day >= begins_on), 0) AS credit_minor
    FROM book_close AS close JOIN days ON days.merchant_id = close.merchant_id AND days.day <= close.until
    GROUP BY close.merchant_id, close.id, close.until, account, currency
)
SELECT merchant_id, id, concat_ws(' ', until, account, currency) AS detail,
       concat_ws(' / ', coalesce(summed.opening_minor, 0), coalesce(summed.debit_minor, 0),
                 coalesce(summed.credit_minor, 0),
                 coalesce(summed.opening_minor + summed.debit_minor - summed.credit_minor, 0)) AS expected,
       concat_ws(' / ', coalesce(kept.opening_minor, 0), coalesce(kept.debit_minor, 0), coalesce(kept.credit_minor, 0),
                 coalesce(kept.closing_minor, 0)) AS found
FROM summed FULL JOIN kept USING (merchant_id, id, until, account, currency)
WHERE (coalesce(summed.opening_minor, 0), coalesce(summed.debit_minor, 0), coalesce(summed.credit_minor, 0),
       coalesce(summed.opening_minor + summed.debit_minor - summed.credit_minor, 0))
      <> (coalesce(kept.opening_minor, 0), coalesce(kept.debit_minor, 0), coalesce(kept.credit_minor, 0),
          coalesce(kept.closing_minor, 0))
"""

_CLOSE_OPEN = """
SELECT close.merchant_id, close.id, CAST(closed.day AS text) AS detail, concat(:slots, ' sealed booking rows') AS expected,
       CAST(count(slot.sealed_at) AS text) AS found
FROM book_close AS close
CROSS JOIN LATERAL (
    SELECT CAST(each AS date) AS day
    FROM generate_series(CAST(begins_on AS timestamp), CAST(until AS timestamp), interval '1 day') AS each
) AS closed
LEFT JOIN day_slot AS slot ON slot.merchant_id = close.merchant_id AND slot.day = closed.day
WHERE CAST(:merchant_id AS uuid) IS NULL OR close.merchant_id = :merchant_id
GROUP BY close.merchant_id, close.id, closed.day
HAVING count(slot.sealed_at) <> :slots
"""

_CLOSE_GONE = """
SELECT merchant_id, merchant_id AS id, CAST(day AS text) AS detail, 'a close that holds the day' AS expected,
       concat(count(*), ' sealed booking rows and no close') AS found
FROM day_slot
WHERE sealed_at IS NOT NULL AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
  AND NOT EXISTS (SELECT FROM book_close AS close
                  WHERE close.merchant_id = day_slot.merchant_id
                    AND day_slot.day BETWEEN close.begins_on AND close.until)
GROUP BY merchant_id, day
"""

CHECKS: tuple[Check, ...] = (
    Check(FindingCode.CLOSE_SUM, "bcl", _CLOSE_SUM),
    Check(FindingCode.CLOSE_OPEN, "bcl", _CLOSE_OPEN),
    Check(FindingCode.CLOSE_OPEN, "mer", _CLOSE_GONE),
)

PARAMETERS: Mapping[str, object] = {"slots": SLOTS}
"""What the checks want to know besides the merchant."""
