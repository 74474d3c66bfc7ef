"""Freeze a run, let a second person approve exactly that, and hand it to the worker."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Forbidden
from service.domain.ledger import MerchantTime
from service.domain.payout import RunState, item_hash, run_hash
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute
from service.outbox.emit import emit
from service.payouts import tell
from service.payouts.find import demand, live_items, lock_run
from service.payouts.wake import wake
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


def submit(session: Session, *, merchant_id: UUID, run_id: UUID, by: UUID, when: MerchantTime) -> PayoutRunRow:
    """Freeze a draft: from now on its content can only lose items. by: the key that asks for approval."""
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.DRAFT)
    items = live_items(session, run)
    if not items:
        raise EmptyRun(f"Payout run {ids.encode('run', run_id)} has no items; cancel it.")
    hashes = hashes_of(run, items)
    execute(
        session,
        """
        UPDATE payout_item SET content_hash = made.content_hash
        FROM unnest(CAST(:ids AS uuid[]), CAST(:hashes AS text[])) AS made (id, content_hash)
        WHERE payout_item.merchant_id = :merchant_id AND payout_item.id = made.id
        """,
        {"merchant_id": merchant_id, "ids": list(hashes), "hashes": list(hashes.values())},
    )
    run.status = RunState.SUBMITTED
    run.content_hash = run_hash(hashes.values())
    run.submitted_by, run.submitted_at = by, when.now
    session.add(run)
    emit(session, [tell.of_run(run, "submitted", at=when.now, content_hash=run.content_hash)])
    crash_point(CrashPoint.SUBMIT_BEFORE_COMMIT)
    return run


def approve(session: Session, *, merchant_id: UUID, run_id: UUID, approver: UUID, when: MerchantTime) -> PayoutRunRow:
    """Approve a submitted run, if its content is still what was submitted less released items.

    Raises SelfApproval when the approver submitted it, RunChanged.
    """
    run = lock_run(session, merchant_id, run_id)
    demand(run, RunState.SUBMITTED)
    if approver == run.submitted_by:
        raise SelfApproval(f"Key {ids.encode('key', approver)} submitted run {ids.encode('run', run_id)}.")
    items = live_items(session, run)
    if not items:
        raise EmptyRun(f"Payout run {ids.encode('run', run_id)} has no items left; cancel it.")
    hashes = hashes_of(run, items)
    if any(item.content_hash != hashes[item.id] for item in items):
        raise RunChanged("An item differs from what was submitted. Cancel the run and make a new one.")
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
            tax_rule=item.tax_rule,
            rail=run.rail,
            destination_fingerprint=item.fingerprint,
            pay_on=run.pay_on,
            from_version=item.from_version,
            to_version=item.to_version,
        )
        for item in items
    }
