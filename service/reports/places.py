"""Where commissions stand, in SQL: the places behind payable, and the status, as `domain` defines both."""

from service.domain.commission import CommissionReason, CommissionStatus

# The item that holds a payable version, as domain.payout.holder finds it: an item that gave all its money back hands
# its versions on to the item that covers the giving-back, and so on.
_HOLDER = """
    SELECT item.live, item.gave_back_version
    FROM payout_item AS item
    WHERE item.merchant_id = commission.merchant_id AND item.payee_id = commission.payee_id
      AND item.currency = commission.currency AND item.from_version < {version} AND item.to_version >= {version}
    ORDER BY item.from_version DESC LIMIT 1
"""

STANDING = f"""
LEFT JOIN LATERAL (
    SELECT CAST(coalesce(sum(part.amount_minor) FILTER (WHERE part.live), 0) AS bigint) AS in_payout_minor,
           CAST(coalesce(sum(part.amount_minor) FILTER (WHERE NOT part.live), 0) AS bigint) AS paid_minor
    FROM (
        SELECT CASE WHEN entry.destination = 'payable' THEN entry.amount_minor ELSE -entry.amount_minor END
                   AS amount_minor,
               CASE WHEN first.gave_back_version IS NULL THEN first.live
                    ELSE (WITH RECURSIVE handed AS (
                              SELECT first.live, first.gave_back_version
                              UNION ALL
                              SELECT holder.live, holder.gave_back_version
                              FROM handed
                              JOIN LATERAL ({_HOLDER.format(version="handed.gave_back_version")}) AS holder
                                ON handed.gave_back_version IS NOT NULL
                          )
                          SELECT live FROM handed WHERE gave_back_version IS NULL)
                    END AS live
        FROM commission_entry AS entry
        JOIN LATERAL ({_HOLDER.format(version="entry.payable_version")}) AS first ON true
        WHERE entry.merchant_id = commission.merchant_id AND entry.commission_id = commission.id
          AND entry.payable_version IS NOT NULL
    ) AS part
) AS placed ON true
"""  # noqa: S608 - put together from our own constants
"""Joins `placed` (in_payout_minor, paid_minor) to `commission`: settled money in items not yet accepted, and accepted.

What is settled and in neither is payable. A part may be below zero: something taken back after it was paid.
"""

PAYABLE_MINOR = "(commission.settled_minor - placed.in_payout_minor - placed.paid_minor)"

STATUS = f"""
CASE WHEN commission.target_minor = 0
     THEN CASE WHEN commission.reason_code = '{CommissionReason.REJECTED.value}' THEN '{CommissionStatus.REJECTED.value}'
               ELSE '{CommissionStatus.REVERSED.value}' END
     WHEN commission.held_minor <> 0 THEN '{CommissionStatus.HELD.value}'
     WHEN commission.pending_minor <> 0
     THEN CASE WHEN commission.reason_code = '{CommissionReason.AWAITING_APPROVAL.value}'
                    OR commission.approved_minor <= commission.settled_minor THEN '{CommissionStatus.PENDING.value}'
               ELSE '{CommissionStatus.APPROVED.value}' END
     WHEN {PAYABLE_MINOR} <> 0 THEN '{CommissionStatus.PAYABLE.value}'
     WHEN placed.in_payout_minor <> 0 THEN '{CommissionStatus.IN_PAYOUT.value}'
     ELSE '{CommissionStatus.PAID.value}' END
"""
"""The status of `commission` beside `placed`: what domain.commission.status_of says of the same numbers."""
