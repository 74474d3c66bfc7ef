"""What check-books sees: nothing in books that agree, and each thing that is wrong by its own name."""

from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session

from service.domain.ledger import MerchantTime
from service.infra.clock import utc_now
from service.infra.db import read_session
from service.ledger.audit import check
from service.ledger.chain import chain
from service.ledger.close import close
from service.ledger.findings import Finding, FindingCode
from tests.support.full_books import Books, full_books


def test_books_in_which_everything_happened_agree(engine: Engine) -> None:
    full_books(engine)

    with read_session(engine) as session:
        findings = check(session, None)

    assert findings == []


def test_books_without_a_row_agree(engine: Engine) -> None:
    with read_session(engine) as session:
        assert check(session, None) == []


def test_the_books_of_one_merchant_are_checked_alone(engine: Engine) -> None:
    wrong, right = full_books(engine), Books(engine).open()

    findings = _findings_after(engine, "UPDATE orders SET seen = seen + 1", merchant=right)
    all_findings = _findings_after(engine, "UPDATE orders SET seen = seen + 1")

    assert findings == []
    assert {finding.merchant_id for finding in all_findings} == {wrong.merchant_id}


@dataclass(frozen=True)
class Tampering:
    """Statements that spoil the books, the code this is about, and others that cannot but come with it."""

    code: FindingCode
    statements: tuple[str, ...]
    besides: frozenset[FindingCode] = frozenset()


def _tampering(code: FindingCode, *statements: str, besides: tuple[FindingCode, ...] = ()) -> Tampering:
    return Tampering(code, statements, frozenset(besides))


_COMMISSION_OF = """
    (SELECT commission.id FROM commission JOIN orders ON orders.id = order_id WHERE external_id = '{}')
"""
_PAID_OUT, _HELD, _PENDING = (_COMMISSION_OF.format(name) for name in ("paid out", "held", "pending"))
_SENT = "(SELECT item_id FROM payout_attempt WHERE outcome = 'accepted')"
_UNDERWAY = "(SELECT item_id FROM payout_attempt WHERE outcome = 'in_flight')"
_RESERVED = "(SELECT id FROM payout_item WHERE live AND handed_over_at IS NULL)"

C = FindingCode

CHAINED = "chained"
"""Stands among the statements for the job that chains what was booked."""
CLOSED = "closed"
"""Stands among the statements for closing all days so far."""

TAMPERINGS = {
    "a balance was raised": _tampering(
        C.BALANCE,
        "UPDATE balance SET amount_minor = amount_minor + 1 WHERE kind = 'payable'",
        besides=(C.EARNED,),
    ),
    "a balance is gone": _tampering(
        C.BALANCE, "DELETE FROM balance WHERE kind = 'held' AND amount_minor > 0", besides=(C.EARNED,)
    ),
    "a paid balance is below zero": _tampering(
        C.BALANCE_NEGATIVE,
        "UPDATE balance SET amount_minor = -1 WHERE kind = 'held'",
        besides=(C.BALANCE, C.EARNED),
    ),
    "a day's sum was changed": _tampering(
        C.DAY_SUM, "UPDATE day_sum SET debit_minor = debit_minor + 1 WHERE kind = 'pending'"
    ),
    "a day's sums are gone": _tampering(C.DAY_SUM, "DELETE FROM day_sum"),
    "a posting was moved to another day": _tampering(
        C.DAY_SUM,
        "UPDATE posting SET day = day + 1 WHERE id = (SELECT id FROM posting LIMIT 1)",
        besides=(C.DAY_SLOT, C.POSTING_BOOKING, C.POSTING_DAY),
    ),
    "a posting was dated to another day": _tampering(
        C.POSTING_DAY,
        "UPDATE posting SET created_at = created_at - INTERVAL '2 days' WHERE id = (SELECT id FROM posting LIMIT 1)",
    ),
    "a close keeps another sum": _tampering(
        C.CLOSE_SUM, CLOSED, "UPDATE book_close SET totals = jsonb_set(totals, '{0,closing_minor}', '1')"
    ),
    "a closed day was opened again": _tampering(
        C.CLOSE_OPEN, CLOSED, "UPDATE day_slot SET sealed_at = NULL WHERE slot = 7"
    ),
    "a close has another digest": _tampering(C.CLOSE_DIGEST, CLOSED, "UPDATE book_close SET digest = 'x'"),
    "a booking row is gone": _tampering(C.DAY_SLOT, "DELETE FROM day_slot", besides=(C.POSTING_BOOKING,)),
    "a booking has no posting": _tampering(C.POSTING_BOOKING, "UPDATE day_slot SET touched = touched + 1"),
    "a posting is of a booking that never was": _tampering(
        C.POSTING_BOOKING, "UPDATE posting SET booking = 99 WHERE id = (SELECT id FROM posting LIMIT 1)"
    ),
    "a posting in the chain was made a little earlier": _tampering(
        C.CHAIN_DIGEST, CHAINED, "UPDATE posting SET created_at = created_at - INTERVAL '1 microsecond'"
    ),
    "a block covers a booking that another covers": _tampering(
        C.CHAIN_GAP,
        CHAINED,
        """INSERT INTO chain_block SELECT merchant_id, number + 1, day, slot, last_booking, last_booking, 0, digest, digest,
                                           chained_at FROM chain_block""",
        besides=(C.CHAIN_DIGEST, C.CHAIN_LINK),
    ),
    "the newest block is gone": _tampering(C.CHAIN_LINK, CHAINED, "DELETE FROM chain_block"),
    "a posting is of nobody we know": _tampering(
        C.POSTING_ACCOUNT,
        "UPDATE posting SET debit_owner_id = gen_random_uuid() WHERE debit_kind = 'commission_expense'",
    ),
    "a posting debits what it credits": _tampering(
        C.POSTING_ACCOUNT,
        "UPDATE posting SET debit_kind = credit_kind, debit_owner_id = credit_owner_id WHERE debit_kind = 'in_transit'",
        besides=(C.BALANCE, C.DAY_SUM),
    ),
    "a posting of a settlement was raised": _tampering(
        C.POSTING_ENTRIES,
        "UPDATE posting SET amount_minor = amount_minor + 1 WHERE event LIKE 'settle/%'",
        besides=(C.BALANCE, C.DAY_SUM),
    ),
    "a posting of a payout was raised": _tampering(
        C.BALANCE,
        "UPDATE posting SET amount_minor = amount_minor + 1 WHERE debit_kind = 'reserved'",
        besides=(C.DAY_SUM,),
    ),
    "an entry names another posting": _tampering(
        C.ENTRY_POSTING,
        f"""UPDATE commission_entry SET posting_id = (SELECT id FROM posting WHERE debit_kind = 'reserved' LIMIT 1)
            WHERE kind = 'accrue' AND commission_id = {_PENDING}""",
        besides=(C.POSTING_ENTRIES,),
    ),
    "an entry is of another kind than its places": _tampering(
        C.ENTRY_MOVE, f"UPDATE commission_entry SET kind = 'settle' WHERE kind = 'freeze' AND commission_id = {_HELD}"
    ),
    "an entry's number was skipped": _tampering(
        C.ENTRY_SEQUENCE, f"UPDATE commission_entry SET seq = 3 WHERE seq = 2 AND commission_id = {_PAID_OUT}"
    ),
    "the newest entry is gone": _tampering(
        C.ENTRY_SEQUENCE,
        f"DELETE FROM commission_entry WHERE seq = 2 AND commission_id = {_HELD}",
        besides=(C.COMMISSION_ENTRIES, C.POSTING_ENTRIES),
    ),
    "an entry's amount was raised": _tampering(
        C.COMMISSION_ENTRIES,
        f"UPDATE commission_entry SET amount_minor = amount_minor + 1 WHERE commission_id = {_PENDING}",
        besides=(C.POSTING_ENTRIES,),
    ),
    "an entry that did not move payable names a version": _tampering(
        C.ENTRY_VERSION, f"UPDATE commission_entry SET payable_version = 99 WHERE commission_id = {_PENDING}"
    ),
    "an entry that moved payable names no version": _tampering(
        C.ENTRY_VERSION,
        f"UPDATE commission_entry SET payable_version = NULL WHERE seq = 2 AND commission_id = {_PAID_OUT}",
        besides=(C.ITEM_GROSS,),
    ),
    "an entry names a version that never was": _tampering(
        C.ENTRY_VERSION,
        f"UPDATE commission_entry SET payable_version = 999 WHERE seq = 2 AND commission_id = {_PAID_OUT}",
        besides=(C.ITEM_GROSS,),
    ),
    "an entry names the version of a reserve": _tampering(
        C.ENTRY_VERSION,
        f"""UPDATE commission_entry SET payable_version = (SELECT max(reserve_version) FROM payout_item WHERE id = {_SENT})
            WHERE seq = 2 AND commission_id = {_PAID_OUT}""",
        besides=(C.ITEM_GROSS,),
    ),
    "a target does not add up": _tampering(
        C.COMMISSION_TARGET,
        "ALTER TABLE commission DROP CONSTRAINT commission_posted_check",
        f"UPDATE commission SET target_minor = target_minor + 1 WHERE id = {_PENDING}",
        besides=(C.EARNED,),
    ),
    "a commission's places were swapped": _tampering(
        C.COMMISSION_ENTRIES,
        f"UPDATE commission SET pending_minor = settled_minor, settled_minor = pending_minor WHERE id = {_PENDING}",
    ),
    "money of a frozen order is not held": _tampering(
        C.COMMISSION_FROZEN,
        "UPDATE assessment SET frozen_reason = NULL WHERE frozen_reason IS NOT NULL",
    ),
    "money of a free order is held": _tampering(
        C.COMMISSION_FROZEN,
        "UPDATE assessment SET frozen_reason = 'hold_open' WHERE number = '#pending'",
    ),
    "a commission is gone from the books of its payee": _tampering(
        C.EARNED,
        f"""UPDATE commission SET target_minor = 0, pending_minor = 0, held_minor = 0, entry_seq = 0
            WHERE id = {_PENDING}""",
        f"DELETE FROM commission_entry WHERE commission_id = {_PENDING}",
        besides=(C.POSTING_ENTRIES,),
    ),
    "an advance was never posted": _tampering(
        C.ADVANCE,
        """INSERT INTO advance (merchant_id, id, kind, payee_id, currency, amount_minor, commission_id, cut_off_on, posting_id,
                                payable_version, created_at)
           SELECT merchant_id, gen_random_uuid(), 'given', payee_id, currency, 1, id, '2026-01-31', gen_random_uuid(), 999,
                  created_at
           FROM commission LIMIT 1""",
    ),
    "two items overlap": _tampering(
        C.ITEM_INTERVAL,
        f"UPDATE payout_item SET from_version = from_version - 1 WHERE id = {_RESERVED}",
    ),
    "an item's interval ends too early": _tampering(
        C.ITEM_INTERVAL,
        f"UPDATE payout_item SET to_version = to_version - 1 WHERE id = {_RESERVED}",
        besides=(C.ITEM_GROSS,),
    ),
    "an item was given back at a version that never was": _tampering(
        C.ITEM_INTERVAL,
        "UPDATE payout_item SET gave_back_version = 999 WHERE released_at IS NOT NULL",
        besides=(C.ITEM_GROSS,),
    ),
    "an item took more than was there": _tampering(
        C.ITEM_GROSS,
        f"UPDATE payout_item SET gross_minor = gross_minor + 1, net_minor = net_minor + 1 WHERE id = {_RESERVED}",
        besides=(C.PAYOUT_BALANCE,),
    ),
    "an item is split into more than it has": _tampering(
        C.ITEM_SPLIT,
        "ALTER TABLE payout_item DROP CONSTRAINT payout_item_split_check",
        f"UPDATE payout_item SET net_minor = net_minor + 1 WHERE id = {_RESERVED}",
    ),
    "an accepted item is live": _tampering(
        C.ITEM_LIVE,
        "DROP INDEX payout_item_live_ix",
        f"UPDATE payout_item SET live = true WHERE id = {_SENT}",
        besides=(C.PAYOUT_BALANCE,),
    ),
    "a reserved item is not live": _tampering(
        C.ITEM_LIVE, f"UPDATE payout_item SET live = false WHERE id = {_RESERVED}", besides=(C.PAYOUT_BALANCE,)
    ),
    "a released item does not say when it gave back": _tampering(
        C.ITEM_GAVE_BACK,
        "UPDATE payout_item SET gave_back_version = NULL WHERE released_at IS NOT NULL",
        besides=(C.ITEM_GROSS,),
    ),
    "an item that kept its money says that it gave it back": _tampering(
        C.ITEM_GAVE_BACK,
        f"UPDATE payout_item SET gave_back_version = reserve_version + 1 WHERE id = {_SENT}",
    ),
    "an item whose money all came back does not say when": _tampering(
        C.ITEM_GAVE_BACK,
        f"""UPDATE provider_fact SET amount_minor = (SELECT net_minor FROM payout_item WHERE id = {_SENT})
            WHERE kind = 'reversed'""",
        besides=(C.PAYOUT_BALANCE,),
    ),
    "an item underway is not marked as handed over": _tampering(
        C.ITEM_HANDED_OVER,
        f"UPDATE payout_item SET handed_over_at = NULL WHERE id = {_UNDERWAY}",
        besides=(C.PAYOUT_BALANCE,),
    ),
    "two attempts may have paid": _tampering(
        C.ITEM_HANDED_OVER,
        "DROP INDEX payout_attempt_one_open_ix",
        f"""INSERT INTO payout_attempt
            SELECT (jsonb_populate_record(attempt, jsonb_build_object('id', gen_random_uuid(), 'number', 2))).*
            FROM payout_attempt AS attempt WHERE item_id = {_UNDERWAY}""",
    ),
    "an item was sent without approval": _tampering(
        C.ITEM_RUN,
        f"""UPDATE payout_run SET status = 'submitted', approved_by = NULL
            WHERE id = (SELECT run_id FROM payout_item WHERE id = {_UNDERWAY})""",
    ),
    "a closed run keeps an item": _tampering(
        C.ITEM_RUN,
        f"UPDATE payout_run SET status = 'closed' WHERE id = (SELECT run_id FROM payout_item WHERE id = {_RESERVED})",
    ),
    "the rail says more came back than was booked": _tampering(
        C.PAYOUT_BALANCE, "UPDATE provider_fact SET amount_minor = amount_minor + 1 WHERE kind = 'reversed'"
    ),
    "tax was counted that nobody withheld": _tampering(
        C.ITEM_TAX,
        f"""INSERT INTO tax_base SELECT merchant_id, payee_id, 'vn_2026_07', 1 FROM payout_item WHERE id = {_SENT}""",
        f"""INSERT INTO tax_entry (merchant_id, id, kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
                                   borne_minor, booked_on, item_id, created_at)
            SELECT merchant_id, gen_random_uuid(), 'accepted', payee_id, 'vn_2026_07', 'income_tax', '2026-07', currency,
                   100, 10, 0, '2026-07-01', id, created_at
            FROM payout_item WHERE id = {_SENT}""",
    ),
    "tax that was withheld is counted nowhere": _tampering(
        C.ITEM_TAX,
        f"UPDATE payout_item SET tax_minor = 1, net_minor = net_minor - 1 WHERE id = {_SENT}",
        besides=(C.PAYOUT_BALANCE, C.ATTEMPT_FACT),
    ),
    "a correction was never posted as it says": _tampering(
        C.CORRECTION,
        f"""INSERT INTO correction (merchant_id, id, kind, state, payee_id, currency, amount_minor, base_minor, reason,
                                    asked_by, decided_by, posting_id, payable_version, created_at, decided_at)
            SELECT merchant_id, gen_random_uuid(), 'write_off', 'booked', payee_id, currency, 5, 0, 'agreed',
                   gen_random_uuid(), gen_random_uuid(), (SELECT id FROM posting LIMIT 1), 1000000, created_at, created_at
            FROM payout_item WHERE id = {_SENT}""",
        besides=(C.PAYOUT_BALANCE,),
    ),
    "a remittance names more than its payees' shares": _tampering(
        C.CORRECTION,
        """INSERT INTO tax_remittance (merchant_id, id, rule, duty, period, currency, amount_minor, payees, reference,
                                       paid_on, recorded_by, created_at)
           SELECT id, gen_random_uuid(), 'vn_2026_07', 'income_tax', '2026-07', 'VND', 5, 1, 'T-1', '2026-08-01',
                  gen_random_uuid(), created_at
           FROM merchant""",
    ),
    "an approved run's hash was changed": _tampering(
        C.RUN_HASH,
        f"UPDATE payout_run SET content_hash = 'x' WHERE id = (SELECT run_id FROM payout_item WHERE id = {_SENT})",
    ),
    "an item was slipped into an approved run": _tampering(
        C.RUN_HASH, f"UPDATE payout_item SET content_hash = 'x' WHERE id = {_RESERVED}"
    ),
    "the rail told another amount": _tampering(
        C.ATTEMPT_FACT, "UPDATE provider_fact SET amount_minor = amount_minor + 1 WHERE kind = 'accepted'"
    ),
    "the rail never told": _tampering(C.ATTEMPT_FACT, "DELETE FROM provider_fact WHERE kind = 'accepted'"),
    "the rail accepted what we did not send": _tampering(
        C.ATTEMPT_FACT,
        f"""INSERT INTO provider_fact
            SELECT (jsonb_populate_record(told, jsonb_build_object('object_id', 'tr_other', 'item_id', {_UNDERWAY}))).*
            FROM provider_fact AS told WHERE kind = 'accepted'""",
    ),
    "a delivery waits for an order that is here": _tampering(
        C.INBOX_STATE, "UPDATE inbox SET state = 'waiting' WHERE order_external_id = 'pending'"
    ),
    "a delivery is applied to an order that never came": _tampering(
        C.INBOX_STATE, "UPDATE inbox SET state = 'applied' WHERE state = 'waiting'"
    ),
    "a delivery is parked without a reason": _tampering(
        C.INBOX_STATE, "UPDATE inbox SET reason_code = NULL WHERE state = 'parked'"
    ),
    "a fact comes from nowhere": _tampering(
        C.FACT_INBOX, "UPDATE fact SET inbox_id = gen_random_uuid() WHERE kind = 'milestone'"
    ),
    "a fact comes from a delivery about another order": _tampering(
        C.FACT_INBOX,
        """UPDATE fact SET inbox_id = (SELECT id FROM inbox WHERE order_external_id = 'pending') WHERE kind = 'hold'""",
    ),
    "an order was never assessed": _tampering(C.ASSESSMENT, "DELETE FROM assessment WHERE number = '#pending'"),
    "an assessment is old": _tampering(C.ASSESSMENT, "UPDATE orders SET seen = seen + 1 WHERE external_id = 'held'"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS.values(), ids=list(TAMPERINGS))
def test_what_is_wrong_is_found_by_its_name(engine: Engine, tampering: Tampering) -> None:
    full_books(engine)

    findings = _findings_after(engine, *tampering.statements)

    assert {finding.code for finding in findings} == {tampering.code} | tampering.besides


def test_every_finding_has_been_seen() -> None:
    # What was noted outside is not in the books, and is asked for on its own.
    assert {tampering.code for tampering in TAMPERINGS.values()} == set(FindingCode) - {FindingCode.CHAIN_HEAD}


def test_a_finding_says_what_it_is_about(engine: Engine) -> None:
    books = full_books(engine)

    [finding] = [
        finding
        for finding in _findings_after(
            engine, "UPDATE balance SET amount_minor = 7 WHERE kind = 'reserved' AND amount_minor = 0"
        )
        if finding.code is FindingCode.BALANCE
    ]

    assert finding.merchant_id == books.merchant_id
    assert finding.subject.startswith("aff_")
    assert (finding.detail, finding.expected, finding.found) == ("reserved USD", "0", "7")


def _findings_after(engine: Engine, *statements: str, merchant: Books | None = None) -> list[Finding]:
    """Spoil the books, check them, and leave them as they were."""
    # Nothing is committed, so that even constraints can be dropped; foreign keys do not fire for a replica.
    with Session(engine) as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        session.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in statements:
            if statement == CHAINED:
                for merchant_id in session.scalars(text("SELECT DISTINCT merchant_id FROM posting")).all():
                    chain(session, merchant_id, now=utc_now())
            elif statement == CLOSED:
                when = MerchantTime(utc_now() + timedelta(days=2), "UTC")
                for merchant_id in session.scalars(text("SELECT DISTINCT merchant_id FROM posting")).all():
                    close(session, merchant_id, until=when.day - timedelta(days=1), when=when, by=merchant_id)
            else:
                session.execute(text(statement))
        return check(session, merchant.merchant_id if merchant else None)
