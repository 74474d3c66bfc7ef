"""The trial balance: what every account came to over some days, from the sums of days. No posting is read for it."""

from datetime import date
from uuid import UUID

from sqlmodel import Session

from service.domain.closing import TrialLine
from service.infra.db import fetch


def trial_balance(
    session: Session, merchant_id: UUID, *, begins_on: date | None, until: date | None
) -> list[TrialLine]:
    """One line for each account and currency that has anything, in that order. Their closings add up to nothing.

    begins_on, until: booking days, both included; None: from the beginning, to the newest. What was before begins_on
    is taken from the newest close that ended by then, and from days only since.
    """
    rows = fetch(
        session,
        """
        WITH base AS (
            SELECT until, totals FROM book_close
            WHERE merchant_id = :merchant_id AND until < CAST(:begins_on AS date)
            ORDER BY until DESC LIMIT 1
        ), part AS (
            SELECT line.account, line.currency, line.closing_minor AS opening_minor, 0 AS debit_minor, 0 AS credit_minor
            FROM base
            CROSS JOIN LATERAL jsonb_to_recordset(base.totals)
                 AS line (account text, currency text, closing_minor bigint)
            UNION ALL
            SELECT kind, currency, debit_minor - credit_minor, 0, 0 FROM day_sum
            WHERE merchant_id = :merchant_id AND day < CAST(:begins_on AS date)
              AND day > coalesce((SELECT until FROM base), DATE '-infinity')
            UNION ALL
            SELECT kind, currency, 0, debit_minor, credit_minor FROM day_sum
            WHERE merchant_id = :merchant_id AND day >= coalesce(CAST(:begins_on AS date), DATE '-infinity')
              AND day <= coalesce(CAST(:until AS date), DATE 'infinity')
        )
        SELECT account, currency, CAST(sum(opening_minor) AS bigint) AS opening_minor,
               CAST(sum(debit_minor) AS bigint) AS debit_minor, CAST(sum(credit_minor) AS bigint) AS credit_minor
        FROM part
        GROUP BY account, currency
        HAVING sum(opening_minor) <> 0 OR sum(debit_minor) <> 0 OR sum(credit_minor) <> 0
        ORDER BY account COLLATE "C", currency COLLATE "C"
        """,
        {"merchant_id": merchant_id, "begins_on": begins_on, "until": until},
    )
    return [TrialLine(row.account, row.currency, row.opening_minor, row.debit_minor, row.credit_minor) for row in rows]
