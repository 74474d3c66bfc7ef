"""Prove that the books agree with themselves: what `koc check-books` asks of the database."""

from uuid import UUID

from sqlmodel import Session

from service.domain.ledger import MAY_BE_NEGATIVE, MERCHANT_ACCOUNTS, NEVER_POSITIVE
from service.infra.db import execute, let_statements_take
from service.ledger import close
from service.ledger.audit_payouts import PAYOUT_CHECKS
from service.ledger.findings import Check, Finding, FindingCode, run_checks
from service.ledger.verify import verify


def take_snapshot(session: Session) -> None:
    """Let all statements of a session see one moment. The session must be fresh."""
    execute(session, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    # A full check of big books takes longer than any request may.
    let_statements_take(session, 0)


def check(session: Session, merchant_id: UUID | None) -> list[Finding]:
    """Everything that is wrong with the books of one merchant, or of all; empty when they agree.

    session: fresh, of its own: all statements see one moment, so the service may run meanwhile. At most FINDINGS_MAX
    findings of a kind.
    """
    take_snapshot(session)
    accounts = {
        "merchant_accounts": sorted(MERCHANT_ACCOUNTS),
        "may_be_negative": sorted(MAY_BE_NEGATIVE),
        "never_positive": sorted(NEVER_POSITIVE),
    }
    return (
        run_checks(session, (*CHECKS, *PAYOUT_CHECKS), merchant_id, accounts)
        + verify(session, merchant_id)
        + run_checks(session, close.CHECKS, merchant_id, close.PARAMETERS)
        + close.verify_closes(session, merchant_id)
    )


_BALANCE = """
WITH moved AS (
    SELECT merchant_id, owner_id, kind, currency, sum(amount_minor) AS amount_minor
    FROM (
        SELECT merchant_id, debit_owner_id AS owner_id, debit_kind AS kind, currency, -amount_minor AS amount_minor
        FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
        UNION ALL
        SELECT merchant_id, credit_owner_id, credit_kind, currency, amount_minor
        FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    ) AS side
    WHERE kind <> ALL(CAST(:merchant_accounts AS text[]))
    GROUP BY merchant_id, owner_id, kind, currency
), kept AS (
    SELECT * FROM balance WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
)
SELECT merchant_id, owner_id AS id, kind || ' ' || currency AS detail,
       CAST(coalesce(moved.amount_minor, 0) AS text) AS expected, CAST(coalesce(kept.amount_minor, 0) AS text) AS found
FROM moved FULL JOIN kept USING (merchant_id, owner_id, kind, currency)
WHERE coalesce(moved.amount_minor, 0) <> coalesce(kept.amount_minor, 0)
"""

_BALANCE_NEGATIVE = """
SELECT merchant_id, owner_id AS id, kind || ' ' || currency AS detail,
       CASE WHEN amount_minor < 0 THEN '0 or more' ELSE '0 or less' END AS expected, CAST(amount_minor AS text) AS found
FROM balance
WHERE (amount_minor < 0 AND kind <> ALL(CAST(:may_be_negative AS text[]))
       OR amount_minor > 0 AND kind = ANY(CAST(:never_positive AS text[])))
  AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
"""

_DAY_SUM = """
WITH booked AS (
    SELECT merchant_id, day, slot, kind, currency, sum(debit_minor) AS debit_minor, sum(credit_minor) AS credit_minor
    FROM (
        SELECT merchant_id, day, slot, debit_kind AS kind, currency, amount_minor AS debit_minor, 0 AS credit_minor
        FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
        UNION ALL
        SELECT merchant_id, day, slot, credit_kind, currency, 0, amount_minor
        FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    ) AS side
    GROUP BY merchant_id, day, slot, kind, currency
), kept AS (
    SELECT * FROM day_sum WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
)
SELECT merchant_id, merchant_id AS id, concat_ws(' ', day, 'slot', slot, kind, currency) AS detail,
       concat(coalesce(booked.debit_minor, 0), ' / ', coalesce(booked.credit_minor, 0)) AS expected,
       concat(coalesce(kept.debit_minor, 0), ' / ', coalesce(kept.credit_minor, 0)) AS found
FROM booked FULL JOIN kept USING (merchant_id, day, slot, kind, currency)
WHERE coalesce(booked.debit_minor, 0) <> coalesce(kept.debit_minor, 0)
   OR coalesce(booked.credit_minor, 0) <> coalesce(kept.credit_minor, 0)
"""

_DAY_SLOT = """
SELECT merchant_id, merchant_id AS id, concat_ws(' ', day, 'slot', slot) AS detail, 'a booking row' AS expected,
       concat(booked.number, ' postings and no row') AS found
FROM (
    SELECT merchant_id, day, slot, count(*) AS number
    FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, day, slot
) AS booked
LEFT JOIN day_slot USING (merchant_id, day, slot)
WHERE day_slot.merchant_id IS NULL
"""

_POSTING_DAY = """
SELECT posting.merchant_id, posting.id, posting.event AS detail,
       concat(made.day, CASE WHEN sealed.day IS NULL THEN '' ELSE ' or later, since it is sealed' END) AS expected,
       CAST(posting.day AS text) AS found
FROM posting
JOIN merchant ON merchant.id = posting.merchant_id
CROSS JOIN LATERAL (SELECT CAST(posting.created_at AT TIME ZONE merchant.time_zone AS date) AS day) AS made
LEFT JOIN day_slot AS sealed
  ON sealed.merchant_id = posting.merchant_id AND sealed.day = made.day AND sealed.slot = posting.slot
 AND sealed.sealed_at IS NOT NULL
WHERE (CAST(:merchant_id AS uuid) IS NULL OR posting.merchant_id = :merchant_id)
  AND posting.day <> made.day AND (posting.day < made.day OR sealed.day IS NULL)
"""

_POSTING_ACCOUNT = """
SELECT posting.merchant_id, posting.id, posting.event AS detail, 'two accounts of those who may own them' AS expected,
       concat(debit_kind, ' of ', debit_owner_id, ' to ', credit_kind, ' of ', credit_owner_id) AS found
FROM posting
LEFT JOIN affiliate AS debited ON debited.merchant_id = posting.merchant_id AND debited.id = debit_owner_id
LEFT JOIN affiliate AS credited ON credited.merchant_id = posting.merchant_id AND credited.id = credit_owner_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR posting.merchant_id = :merchant_id)
  AND ((debit_kind, debit_owner_id) = (credit_kind, credit_owner_id)
       OR amount_minor <= 0
       OR CASE WHEN debit_kind = ANY(CAST(:merchant_accounts AS text[])) THEN debit_owner_id <> posting.merchant_id
               ELSE debited.id IS NULL END
       OR CASE WHEN credit_kind = ANY(CAST(:merchant_accounts AS text[])) THEN credit_owner_id <> posting.merchant_id
               ELSE credited.id IS NULL END)
"""

_POSTING_ENTRIES = """
SELECT posting.merchant_id, posting.id, posting.event AS detail, CAST(coalesce(told.amount_minor, 0) AS text) AS expected,
       CAST(posting.amount_minor AS text) AS found
FROM posting
LEFT JOIN (
    SELECT merchant_id, posting_id, sum(amount_minor) AS amount_minor
    FROM commission_entry WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, posting_id
) AS told ON told.merchant_id = posting.merchant_id AND told.posting_id = posting.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR posting.merchant_id = :merchant_id)
  AND debit_kind IN ('commission_expense', 'pending', 'held', 'payable')
  AND credit_kind IN ('commission_expense', 'pending', 'held', 'payable')
  AND posting.amount_minor <> coalesce(told.amount_minor, 0)
"""

_ENTRY_POSTING = """
SELECT entry.merchant_id, entry.commission_id AS id, concat('entry ', entry.seq) AS detail,
       concat(entry.source, ' to ', entry.destination, ' of ', commission.payee_id, ' ', commission.currency) AS expected,
       concat(posting.debit_kind, ' to ', posting.credit_kind, ' of ',
              coalesce(nullif(posting.debit_owner_id, posting.merchant_id), posting.credit_owner_id), ' ',
              posting.currency) AS found
FROM commission_entry AS entry
JOIN commission ON commission.merchant_id = entry.merchant_id AND commission.id = entry.commission_id
LEFT JOIN posting ON posting.merchant_id = entry.merchant_id AND posting.id = entry.posting_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR entry.merchant_id = :merchant_id)
  AND (posting.id IS NULL OR posting.debit_kind <> entry.source OR posting.credit_kind <> entry.destination
       OR posting.currency <> commission.currency
       OR (debit_kind <> ALL(CAST(:merchant_accounts AS text[])) AND debit_owner_id <> commission.payee_id)
       OR (credit_kind <> ALL(CAST(:merchant_accounts AS text[])) AND credit_owner_id <> commission.payee_id))
"""

_ENTRY_MOVE = """
SELECT merchant_id, commission_id AS id, concat('entry ', seq) AS detail, concat('a move of kind ', kind) AS expected,
       concat(source, ' to ', destination) AS found
FROM commission_entry
WHERE (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
  AND (kind <> 'period' OR source = destination)
  AND (kind, source, destination) NOT IN (
      ('accrue', 'commission_expense', 'pending'), ('accrue', 'commission_expense', 'held'),
      ('reduce', 'pending', 'commission_expense'), ('reduce', 'held', 'commission_expense'),
      ('reduce', 'payable', 'commission_expense'),
      ('freeze', 'pending', 'held'), ('freeze', 'payable', 'held'), ('unfreeze', 'held', 'pending'),
      ('settle', 'pending', 'payable'))
"""

_ENTRY_SEQUENCE = """
SELECT commission.merchant_id, commission.id, 'numbers of its entries' AS detail,
       concat('1 to ', entry_seq) AS expected,
       CASE WHEN told.number IS NULL THEN 'none' ELSE concat(told.number, ' from ', told.first, ' to ', told.last) END
           AS found
FROM commission
LEFT JOIN (
    SELECT merchant_id, commission_id, count(*) AS number, min(seq) AS first, max(seq) AS last
    FROM commission_entry WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, commission_id
) AS told ON told.merchant_id = commission.merchant_id AND told.commission_id = commission.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR commission.merchant_id = :merchant_id)
  AND (coalesce(told.number, 0) <> entry_seq OR coalesce(told.last, 0) <> entry_seq OR coalesce(told.first, 1) <> 1)
"""

_ENTRY_VERSION = """
SELECT entry.merchant_id, entry.commission_id AS id, concat('entry ', entry.seq, ', version of payable') AS detail,
       CASE WHEN 'payable' NOT IN (source, destination) THEN 'none'
            WHEN item.id IS NOT NULL THEN 'not that of a reserve'
            ELSE concat('1 to ', coalesce(kept.version, 0)) END AS expected,
       coalesce(CAST(entry.payable_version AS text), 'none') AS found
FROM commission_entry AS entry
JOIN commission ON commission.merchant_id = entry.merchant_id AND commission.id = entry.commission_id
LEFT JOIN balance AS kept
  ON kept.merchant_id = commission.merchant_id AND kept.owner_id = commission.payee_id AND kept.kind = 'payable'
 AND kept.currency = commission.currency
LEFT JOIN payout_item AS item
  ON item.merchant_id = commission.merchant_id AND item.payee_id = commission.payee_id
 AND item.currency = commission.currency AND item.reserve_version = entry.payable_version
WHERE (CAST(:merchant_id AS uuid) IS NULL OR entry.merchant_id = :merchant_id)
  AND CASE WHEN 'payable' NOT IN (source, destination) THEN entry.payable_version IS NOT NULL
           ELSE item.id IS NOT NULL
                OR coalesce(entry.payable_version NOT BETWEEN 1 AND coalesce(kept.version, 0), true) END
"""

_COMMISSION_TARGET = """
SELECT merchant_id, id, 'target, and pending + held + settled' AS detail, CAST(target_minor AS text) AS expected,
       concat(pending_minor, ' + ', held_minor, ' + ', settled_minor) AS found
FROM commission
WHERE (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
  AND (pending_minor + held_minor + settled_minor <> target_minor
       -- A cap takes back of a period's orders, so its own parts lie below zero.
       OR (period_id IS NULL AND least(pending_minor, held_minor, settled_minor) < 0))
"""

_COMMISSION_ENTRIES = """
SELECT commission.merchant_id, commission.id, 'pending / held / settled' AS detail,
       concat_ws(' / ', coalesce(told.pending, 0), coalesce(told.held, 0), coalesce(told.settled, 0)) AS expected,
       concat_ws(' / ', pending_minor, held_minor, settled_minor) AS found
FROM commission
LEFT JOIN (
    SELECT merchant_id, commission_id,
           coalesce(sum(amount_minor) FILTER (WHERE destination = 'pending'), 0)
               - coalesce(sum(amount_minor) FILTER (WHERE source = 'pending'), 0) AS pending,
           coalesce(sum(amount_minor) FILTER (WHERE destination = 'held'), 0)
               - coalesce(sum(amount_minor) FILTER (WHERE source = 'held'), 0) AS held,
           coalesce(sum(amount_minor) FILTER (WHERE destination = 'payable'), 0)
               - coalesce(sum(amount_minor) FILTER (WHERE source = 'payable'), 0) AS settled
    FROM commission_entry WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, commission_id
) AS told ON told.merchant_id = commission.merchant_id AND told.commission_id = commission.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR commission.merchant_id = :merchant_id)
  AND (pending_minor, held_minor, settled_minor)
      <> (coalesce(told.pending, 0), coalesce(told.held, 0), coalesce(told.settled, 0))
"""

_COMMISSION_FROZEN = """
SELECT commission.merchant_id, commission.id, coalesce('frozen: ' || frozen_reason, 'not frozen') AS detail,
       CASE WHEN frozen_reason IS NULL THEN 'nothing held' ELSE 'nothing pending' END AS expected,
       concat(pending_minor, ' pending, ', held_minor, ' held') AS found
FROM commission
JOIN assessment ON assessment.merchant_id = commission.merchant_id AND assessment.order_id = commission.order_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR commission.merchant_id = :merchant_id)
  AND CASE WHEN frozen_reason IS NULL THEN held_minor ELSE pending_minor END <> 0
"""

_EARNED = """
WITH earned AS (
    SELECT merchant_id, payee_id, currency, sum(target_minor) AS amount_minor
    FROM commission WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, payee_id, currency
), stands AS (
    -- What the merchant bears or gave up stands below zero, so that all of a payee's accounts add up to what was earned.
    SELECT merchant_id, owner_id AS payee_id, currency, sum(amount_minor) AS amount_minor
    FROM balance WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, owner_id, currency
)
SELECT merchant_id, payee_id AS id, currency AS detail, CAST(coalesce(earned.amount_minor, 0) AS text) AS expected,
       CAST(coalesce(stands.amount_minor, 0) AS text) AS found
FROM earned FULL JOIN stands USING (merchant_id, payee_id, currency)
WHERE coalesce(earned.amount_minor, 0) <> coalesce(stands.amount_minor, 0)
"""

_ADVANCE = """
WITH told AS (
    SELECT merchant_id, posting_id AS id, payee_id, currency,
           CASE kind WHEN 'given' THEN amount_minor ELSE -amount_minor END AS amount_minor
    FROM advance WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
), booked AS (
    SELECT merchant_id, id, debit_owner_id AS payee_id, currency,
           CASE debit_kind WHEN 'advance' THEN amount_minor ELSE -amount_minor END AS amount_minor
    FROM posting
    WHERE (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
      AND (debit_kind, credit_kind) IN (('advance', 'payable'), ('payable', 'advance'))
      AND debit_owner_id = credit_owner_id
), touching AS (
    SELECT merchant_id, id FROM posting
    WHERE (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
      AND (debit_kind = 'advance' OR credit_kind = 'advance')
)
SELECT merchant_id, id, 'an advance and its posting' AS detail,
       coalesce(nullif(concat_ws(' ', told.amount_minor, told.currency, told.payee_id), ''), 'none') AS expected,
       coalesce(nullif(concat_ws(' ', booked.amount_minor, booked.currency, booked.payee_id), ''), 'none') AS found
FROM told FULL JOIN booked USING (merchant_id, id) FULL JOIN touching USING (merchant_id, id)
WHERE (told.payee_id, told.currency, told.amount_minor)
      IS DISTINCT FROM (booked.payee_id, booked.currency, booked.amount_minor)
   OR told.payee_id IS NULL
"""

_ADVANCE_REPAID = """
SELECT advance.merchant_id, posting_id AS id, 'netted of what was settled with it' AS detail,
       concat('at most ', coalesce(settled.amount_minor, 0)) AS expected, CAST(advance.amount_minor AS text) AS found
FROM advance
JOIN posting ON posting.merchant_id = advance.merchant_id AND posting.id = advance.posting_id
LEFT JOIN posting AS settled
  ON settled.merchant_id = posting.merchant_id AND settled.event = left(posting.event, -length('/repay'))
 AND settled.seq = posting.seq AND settled.credit_kind = 'payable'
 AND settled.credit_owner_id = advance.payee_id AND settled.currency = advance.currency
WHERE advance.kind = 'repaid' AND (CAST(:merchant_id AS uuid) IS NULL OR advance.merchant_id = :merchant_id)
  AND advance.amount_minor > coalesce(settled.amount_minor, 0)
"""

_INBOX_STATE = """
SELECT inbox.merchant_id, inbox.id, inbox.state AS detail,
       CASE inbox.state WHEN 'waiting' THEN 'an order that is not here yet' WHEN 'applied' THEN 'an order that is here'
                        ELSE 'a reason' END AS expected,
       CASE WHEN inbox.state IN ('parked', 'ignored') THEN 'none' WHEN orders.id IS NULL THEN 'no order'
            WHEN fact.order_id IS NULL THEN 'an order without a snapshot' ELSE 'an order with a snapshot' END AS found
FROM inbox
LEFT JOIN orders ON orders.merchant_id = inbox.merchant_id AND orders.source_id = inbox.order_source_id
                AND orders.external_id = inbox.order_external_id
LEFT JOIN fact ON fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id AND fact.kind = 'order'
WHERE (CAST(:merchant_id AS uuid) IS NULL OR inbox.merchant_id = :merchant_id)
  AND CASE inbox.state
          WHEN 'waiting' THEN orders.id IS NULL OR fact.order_id IS NOT NULL
          WHEN 'applied' THEN fact.order_id IS NULL
               -- A bonus has no order to come.
               AND NOT EXISTS (SELECT FROM fact AS told
                               WHERE told.merchant_id = orders.merchant_id AND told.order_id = orders.id
                                 AND told.kind = 'decision' AND starts_with(told.key, 'adjust:'))
          ELSE coalesce(inbox.reason_code, '') = '' END
"""

_FACT_INBOX = """
SELECT fact.merchant_id, fact.order_id AS id, concat_ws(' ', fact.kind, nullif(fact.key, '')) AS detail,
       concat('a delivery about ', orders.external_id, ' that counts') AS expected,
       CASE WHEN inbox.id IS NULL THEN 'none' ELSE concat(inbox.state, ', about ', inbox.order_external_id) END AS found
FROM fact
JOIN orders ON orders.merchant_id = fact.merchant_id AND orders.id = fact.order_id
LEFT JOIN inbox ON inbox.merchant_id = fact.merchant_id AND inbox.id = fact.inbox_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR fact.merchant_id = :merchant_id)
  AND (inbox.id IS NULL OR inbox.state NOT IN ('applied', 'waiting')
       OR (inbox.order_source_id, inbox.order_external_id) IS DISTINCT FROM (orders.source_id, orders.external_id))
"""

_ASSESSMENT = """
SELECT orders.merchant_id, orders.id, 'number of its newest assessment' AS detail, CAST(orders.seen AS text) AS expected,
       coalesce(CAST(assessment.seq AS text), 'never assessed') AS found
FROM orders
JOIN fact ON fact.merchant_id = orders.merchant_id AND fact.order_id = orders.id AND fact.kind = 'order'
LEFT JOIN assessment ON assessment.merchant_id = orders.merchant_id AND assessment.order_id = orders.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR orders.merchant_id = :merchant_id)
  AND assessment.seq IS DISTINCT FROM orders.seen
"""

CHECKS: tuple[Check, ...] = (
    Check(FindingCode.BALANCE, "aff", _BALANCE),
    Check(FindingCode.BALANCE_NEGATIVE, "aff", _BALANCE_NEGATIVE),
    Check(FindingCode.DAY_SUM, "mer", _DAY_SUM),
    Check(FindingCode.DAY_SLOT, "mer", _DAY_SLOT),
    Check(FindingCode.POSTING_DAY, "pst", _POSTING_DAY),
    Check(FindingCode.POSTING_ACCOUNT, "pst", _POSTING_ACCOUNT),
    Check(FindingCode.POSTING_ENTRIES, "pst", _POSTING_ENTRIES),
    Check(FindingCode.ENTRY_POSTING, "com", _ENTRY_POSTING),
    Check(FindingCode.ENTRY_MOVE, "com", _ENTRY_MOVE),
    Check(FindingCode.ENTRY_SEQUENCE, "com", _ENTRY_SEQUENCE),
    Check(FindingCode.ENTRY_VERSION, "com", _ENTRY_VERSION),
    Check(FindingCode.COMMISSION_TARGET, "com", _COMMISSION_TARGET),
    Check(FindingCode.COMMISSION_ENTRIES, "com", _COMMISSION_ENTRIES),
    Check(FindingCode.COMMISSION_FROZEN, "com", _COMMISSION_FROZEN),
    Check(FindingCode.EARNED, "aff", _EARNED),
    Check(FindingCode.ADVANCE, "pst", _ADVANCE),
    Check(FindingCode.ADVANCE, "pst", _ADVANCE_REPAID),
    Check(FindingCode.INBOX_STATE, "inb", _INBOX_STATE),
    Check(FindingCode.FACT_INBOX, "ord", _FACT_INBOX),
    Check(FindingCode.ASSESSMENT, "ord", _ASSESSMENT),
)
