"""Another attempt for an item whose last one did nothing: only a person may ask for it."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.payout import UNEXPECTED_TRANSFER, Outcome, RunState
from service.infra import ids
from service.payouts.find import demand, known_of, lock_run_of
from service.payouts.wake import wake
from service.tables.payouts import PayoutItemRow


class NothingToRetry(Conflict):
    code = "payout-not-retryable"
    title = "The payout cannot be sent again now"


def retry(session: Session, *, merchant_id: UUID, item_id: UUID, by: UUID, now: datetime) -> PayoutItemRow:
    """Ask for another attempt after the rail's definite refusal."""
    return _again(session, merchant_id, item_id, after=Outcome.REFUSED, by=by, now=now)


def confirm_resend(session: Session, *, merchant_id: UUID, item_id: UUID, by: UUID, now: datetime) -> PayoutItemRow:
    """Ask for another attempt after the proof that no earlier one did anything: the money might else go twice."""
    return _again(session, merchant_id, item_id, after=Outcome.ABSENT, by=by, now=now)


def _again(
    session: Session, merchant_id: UUID, item_id: UUID, *, after: Outcome, by: UUID, now: datetime
) -> PayoutItemRow:
    run, item = lock_run_of(session, merchant_id, item_id)
    demand(run, RunState.EXECUTING)
    outcomes = known_of(session, merchant_id, [item_id])[item_id].outcomes
    if not item.live or not outcomes or outcomes[-1] is not after:
        last = outcomes[-1].value if outcomes else "not attempted"
        raise NothingToRetry(
            f"Payout {ids.encode('pay', item_id)} is {last}{'' if item.live else ' and released or sent'}; "
            f"this needs an item whose last attempt is {after.value}."
        )
    if item.frozen_code == UNEXPECTED_TRANSFER:
        raise NothingToRetry(
            f"Payout {ids.encode('pay', item_id)} is frozen: its rail lists a transfer for it that we have no record of. "
            "Release it, and record that transfer as paid outside with POST /v1/corrections."
        )
    item.retry_by, item.frozen_code = by, None
    session.add(item)
    wake(session, merchant_id=merchant_id, run_id=run.id, at=now)
    return item
