"""Freeze a run, let a second person approve exactly that, and hand it to the worker."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Forbidden
from service.domain.ledger import MerchantTime
from service.domain.payout import Excluded, RunState, item_hash, run_hash
from service.domain.withholding.model import Decision, Refused
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute
from service.ledger.post import post
from service.outbox.emit import Event, emit
from service.payouts import book, tell
from service.payouts.control import check_approval, check_run, fee_on
from service.payouts.find import demand, live_items, lock_run
from service.payouts.persons import is_same_person
from service.payouts.release import store_released
from service.payouts.wake import wake
from service.payouts.withhold import decided, split, taxed
from service.tables.payouts import PayoutItemRow, PayoutRunRow


class SelfApproval(Forbidden):
    code = "payout-run-self-approval"
    title = "A payout run needs a second approver"


class RunChanged(Conflict):
    code = "payout-run-changed"
    title = "The payout run is not what was submitted"


class EmptyRun(Conflict):
    code = "payout-run-without-items"
    title = "The payout run has nothing left to pay"


def submit(
    session: Session, *, merchant_id: UUID, run_id: UUID, step_minor: int, by: UUID, when: MerchantTime
) -> PayoutRunRow:
    """Freeze a draft: its tax is decided for the day it pays on, and from now on its content can only lose items.

    Items whose tax cannot be decided any more, or that leave nothing to pay, give their money back. step_minor: the
    smallest amount the run's rail pays. by: the key that asks for approval.
    """
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.DRAFT)
    items, released = _decide(session, run, live_items(session, run), step_minor=step_minor, when=when)
    if not items:
        raise EmptyRun(f"Payout run {ids.encode('run', run_id)} has no items; cancel it.")
    check_run(session, run, items)
    hashes = hashes_of(run, items)
    execute(
        session,
        """
        UPDATE payout_item
        SET content_hash = made.content_hash, tax_rule = made.tax_rule, tax_minor = made.tax_minor,
            tax_borne_minor = made.tax_borne_minor, fee_minor = made.fee_minor, net_minor = made.net_minor, remainder_minor = made.remainder_minor,
            tax_accumulates = made.tax_accumulates, tax_decision = CAST(made.tax_decision AS jsonb)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:hashes AS text[]), CAST(:tax_rules AS text[]),
                    CAST(:taxes AS bigint[]), CAST(:borne AS bigint[]), CAST(:nets AS bigint[]),
                    CAST(:fees AS bigint[]), CAST(:remainders AS bigint[]), CAST(:accumulate AS boolean[]), CAST(:decisions AS text[]))
             AS made (id, content_hash, tax_rule, tax_minor, tax_borne_minor, net_minor, fee_minor,
                      remainder_minor, tax_accumulates, tax_decision)
        WHERE payout_item.merchant_id = :merchant_id AND payout_item.id = made.id
        """,
        {
            "merchant_id": merchant_id,
            "ids": [item.id for item in items],
            "hashes": [hashes[item.id] for item in items],
            "tax_rules": [item.tax_rule for item in items],
            "taxes": [item.tax_minor for item in items],
            "borne": [item.tax_borne_minor for item in items],
            "nets": [item.net_minor for item in items],
            "fees": [item.fee_minor for item in items],
            "remainders": [item.remainder_minor for item in items],
            "accumulate": [item.tax_accumulates for item in items],
            "decisions": [None if item.tax_decision is None else json.dumps(item.tax_decision) for item in items],
        },
    )
    run.status = RunState.SUBMITTED
    run.content_hash = run_hash(hashes.values())
    run.submitted_by, run.submitted_at = by, when.now
    session.add(run)
    emit(session, [*released, tell.of_run(run, "submitted", at=when.now, content_hash=run.content_hash)])
    crash_point(CrashPoint.SUBMIT_BEFORE_COMMIT)
    return run


def _decide(
    session: Session, run: PayoutRunRow, items: Sequence[PayoutItemRow], *, step_minor: int, when: MerchantTime
) -> tuple[list[PayoutItemRow], list[Event]]:
    """Split items anew by what is withheld on the run's pay day. Returns those that stay, and what to tell of the others."""
    taxes = taxed(session, run.merchant_id, [item.payee_id for item in items], pay_on=run.pay_on, hold=True)
    fee_minor = fee_on(session, run.merchant_id, rail=run.rail, currency=run.currency, on=run.pay_on)
    stay: list[PayoutItemRow] = []
    dropped: dict[UUID, Excluded] = {}
    for item in items:
        # What is computed here is written by the one statement that freezes, not by the session, row by row.
        session.expunge(item)
        tax = taxes[item.payee_id].decide(item.gross_minor, item.currency)
        match tax:
            case Decision() if split(item, tax, step_minor=step_minor, fee_minor=fee_minor):
                stay.append(item)
            case Decision():
                dropped[item.id] = Excluded.BELOW_RAIL_STEP
            case Refused(reason=reason):
                dropped[item.id] = Excluded(reason)
            case None:
                dropped[item.id] = Excluded.NO_TAX_RULE
    gone = [item for item in items if item.id in dropped]
    kept = post(
        session,
        [posting for item in gone for posting in book.released(item)],
        when={run.merchant_id: when},
        touched=[book.payable(item) for item in gone],
    )
    return stay, store_released(session, dropped, gone, kept, at=when.now)


def approve(session: Session, *, merchant_id: UUID, run_id: UUID, approver: UUID, when: MerchantTime) -> PayoutRunRow:
    """Approve a submitted run, if its content is still what was submitted less released items.

    Raises SelfApproval when the approver, or a key it took the place of, submitted it, RunChanged.
    """
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.SUBMITTED)
    assert run.submitted_by is not None
    if is_same_person(session, merchant_id, approver, run.submitted_by):
        raise SelfApproval(f"Key {ids.encode('key', approver)} submitted run {ids.encode('run', run_id)}.")
    items = live_items(session, run)
    if not items:
        raise EmptyRun(f"Payout run {ids.encode('run', run_id)} has no items left; cancel it.")
    hashes = hashes_of(run, items)
    if any(item.content_hash != hashes[item.id] for item in items):
        raise RunChanged("An item differs from what was submitted. Cancel the run and make a new one.")
    check_run(session, run, items)
    check_approval(session, run, items, approver=approver)
    run.status = RunState.APPROVED
    run.approved_by, run.approved_at = approver, when.now
    session.add(run)
    emit(session, [tell.of_run(run, "approved", at=when.now, items=len(items))])
    crash_point(CrashPoint.APPROVE_BEFORE_COMMIT)
    return run


def execute_run(
    session: Session, *, merchant_id: UUID, run_id: UUID, when: MerchantTime, now: datetime
) -> PayoutRunRow:
    """Let the worker send an approved run, or go on with one that had stopped. now: by our clock."""
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.APPROVED, RunState.EXECUTING)
    if run.status == RunState.APPROVED:
        run.status = RunState.EXECUTING
        run.executed_at = when.now
        emit(session, [tell.of_run(run, "executing", at=when.now)])
    run.stopped_at = run.stop_code = None
    session.add(run)
    wake(session, merchant_id=merchant_id, run_id=run_id, at=now)
    crash_point(CrashPoint.EXECUTE_BEFORE_COMMIT)
    return run


def hashes_of(run: PayoutRunRow, items: Sequence[PayoutItemRow]) -> Mapping[UUID, str]:
    """Maps item id to the hash of what a person approves about it, from the rows as they are now."""
    return {
        item.id: item_hash(
            item_id=item.id,
            payee_id=item.payee_id,
            currency=item.currency,
            gross_minor=item.gross_minor,
            carried_minor=item.carried_minor,
            net_minor=item.net_minor,
            tax_minor=item.tax_minor,
            tax_borne_minor=item.tax_borne_minor,
            fee_minor=item.fee_minor,
            tax=decided(item),
            rail=run.rail,
            destination_fingerprint=item.fingerprint,
            pay_on=run.pay_on,
            from_version=item.from_version,
            to_version=item.to_version,
        )
        for item in items
    }
