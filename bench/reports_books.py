"""Books for the reports: as many commissions as wanted, in every place, made by a few statements."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine

from bench import show
from service.infra.db import execute, let_statements_take, unit_of_work
from service.infra.ids import new_id
from service.tables.parties import MerchantRow, Platform, SourceRow
from service.tables.programs import ProgramRow

COMMISSIONS_PER_PAYEE = 500
RUNS_PER_PAYEE = 10
"""Payouts each payee had; all but one were accepted, and one gave its money back to the next."""

_STATEMENTS = (
    """
    INSERT INTO affiliate (merchant_id, id, external_id, name, profile, identities, status, tax_rule, created_at, updated_at)
    SELECT :merchant_id, gen_random_uuid(), 'koc-' || number, 'KOC 王 ' || number, '{}', '{}', 'approved', 'off', :now, :now
    FROM generate_series(1, :payees) AS number
    """,
    r"""
    INSERT INTO payout_method (merchant_id, id, affiliate_id, rail, destination, destination_hint, fingerprint, created_at)
    SELECT merchant_id, gen_random_uuid(), id, 'sandbox', '\x00', '…1234', CAST(id AS text), :now FROM affiliate
    WHERE merchant_id = :merchant_id
    """,
    """
    CREATE TEMPORARY TABLE made ON COMMIT DROP AS
    SELECT number, gen_random_uuid() AS order_id, gen_random_uuid() AS id,
           number / :payees % (:runs + 2) AS turn,
           -- Some are in another currency, which has no decimals.
           CASE WHEN number / :payees % 50 = 0 THEN 'VND' ELSE 'USD' END AS currency,
           1 + number * CAST(7919 AS bigint) % 100000 AS amount_minor,
           :now - interval '400 days' + number * (interval '399 days' / :commissions) AS placed_at, payee_id
    FROM generate_series(1, :commissions) AS number
    JOIN (SELECT id AS payee_id, row_number() OVER () - 1 AS place FROM affiliate WHERE merchant_id = :merchant_id) AS payee
      ON payee.place = number % :payees
    """,
    """
    INSERT INTO orders (merchant_id, id, source_id, external_id, seen, created_at)
    SELECT :merchant_id, order_id, :source_id, 'order-' || number, 1, placed_at FROM made
    """,
    """
    INSERT INTO assessment (merchant_id, order_id, seq, placed_at, currency, number, goods_minor, net_minor, cancelled,
                            affiliate_id, program_id, attribution_reason, touch, candidates, identities, assessed_at)
    SELECT :merchant_id, order_id, 1, placed_at, currency, '#' || number, amount_minor * 10, amount_minor * 10, false,
           payee_id, :program_id, 'coupon', 'coupon', '[]', '{}', placed_at
    FROM made
    """,
    """
    INSERT INTO commission (merchant_id, id, order_id, payee_id, currency, program_id, program_version, target_minor,
                            pending_minor, held_minor, settled_minor, settles_at, reason_code, entry_seq, receipt,
                            created_at, updated_at, placed_at)
    SELECT :merchant_id, id, order_id, payee_id, currency, :program_id, 1, amount_minor,
           CASE WHEN turn = :runs + 1 AND number % 3 > 0 THEN amount_minor ELSE 0 END,
           CASE WHEN turn = :runs + 1 AND number % 3 = 0 THEN amount_minor ELSE 0 END,
           CASE WHEN turn <= :runs THEN amount_minor ELSE 0 END,
           placed_at + interval '14 days', CASE WHEN turn <= :runs THEN 'settled' ELSE 'earned' END, 2, '{}',
           placed_at, placed_at, placed_at
    FROM made
    """,
    """
    CREATE TEMPORARY TABLE settled ON COMMIT DROP AS
    SELECT payee_id, currency, turn, gen_random_uuid() AS posting_id, sum(amount_minor) AS amount_minor
    FROM made WHERE turn <= :runs GROUP BY payee_id, currency, turn
    """,
    """
    INSERT INTO posting (merchant_id, id, event, seq, debit_kind, debit_owner_id, credit_kind, credit_owner_id, currency,
                         amount_minor, day, slot, booking, created_at)
    SELECT :merchant_id, posting_id, 'settle/' || posting_id, 0, 'pending', payee_id, 'payable', payee_id, currency,
           amount_minor, CURRENT_DATE, 0, 1, :now
    FROM settled
    """,
    """
    INSERT INTO commission_entry (merchant_id, commission_id, seq, kind, source, destination, amount_minor, posting_id,
                                  payable_version, created_at)
    SELECT :merchant_id, id, 2, 'settle', 'pending', 'payable', made.amount_minor, posting_id, 2 * turn + 1, :now
    FROM made JOIN settled USING (payee_id, currency, turn)
    """,
    """
    CREATE TEMPORARY TABLE run ON COMMIT DROP AS
    SELECT currency, turn, gen_random_uuid() AS id FROM settled WHERE turn < :runs GROUP BY currency, turn
    """,
    """
    INSERT INTO payout_run (merchant_id, id, status, rail, currency, pay_on, excluded, created_by, submitted_by, approved_by,
                            created_at)
    SELECT :merchant_id, id, 'executing', 'sandbox', currency, CURRENT_DATE - CAST(10 - turn AS integer), '[]',
           gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), :now
    FROM run
    """,
    """
    INSERT INTO payout_item (merchant_id, id, run_id, payee_id, currency, payout_method_id, fingerprint, tax_rule, gross_minor,
                             carried_minor, net_minor, tax_minor, fee_minor, remainder_minor, from_version, to_version,
                             reserve_version, gave_back_version, live, released_at, release_reason, content_hash, created_at)
    SELECT :merchant_id, gen_random_uuid(), run.id, payee_id, settled.currency, method.id, method.fingerprint, 'off',
           amount_minor, 0, amount_minor, 0, 0, 0, 2 * turn, 2 * turn + 1, 2 * turn + 2,
           -- What the fourth released settled again under the fifth.
           CASE WHEN turn = 3 THEN 2 * turn + 3 END, turn = :runs - 1, CASE WHEN turn = 3 THEN :now END,
           CASE WHEN turn = 3 THEN 'released_by_person' END, repeat('0', 64), :now
    FROM settled
    JOIN run USING (currency, turn)
    JOIN payout_method AS method ON method.merchant_id = :merchant_id AND method.affiliate_id = settled.payee_id
    """,
)


def fill(engine: Engine, commissions: int, *, now: datetime) -> UUID:
    """Make a merchant with so many commissions, of which a report reads all that it reads of real ones; return its id.

    Only what reports read is there: no deliveries, facts, receipts or balances.
    """
    merchant_id, source_id, program_id = new_id(), new_id(), new_id()
    given: dict[str, object] = {
        "merchant_id": merchant_id,
        "source_id": source_id,
        "program_id": program_id,
        "commissions": commissions,
        "payees": max(2, commissions // COMMISSIONS_PER_PAYEE),
        "runs": RUNS_PER_PAYEE,
        "now": now,
    }
    with unit_of_work(engine) as session:
        let_statements_take(session, 0)
        session.add(
            MerchantRow(id=merchant_id, name="Bench", is_test=True, time_zone="Asia/Ho_Chi_Minh", created_at=now)
        )
        session.flush()
        session.add(
            SourceRow(id=source_id, merchant_id=merchant_id, platform=Platform.GENERIC, name="shop", created_at=now)
        )
        session.add(ProgramRow(merchant_id=merchant_id, id=program_id, name="Programme", created_at=now))
        session.flush()
        with show.progress(f"Making {commissions:,} commissions", len(_STATEMENTS)) as tell:
            for done, statement in enumerate(_STATEMENTS, 1):
                execute(session, statement, {name: value for name, value in given.items() if f":{name}" in statement})
                tell(done)
        execute(session, "ANALYZE")
    return merchant_id
