"""When a dated input begins: the one rule of all of them, from programmes to pauses."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.errors import Conflict
from service.domain.program import CLOCK_TOLERANCE, check_start
from service.tables.parties import MerchantRow


class StartTooEarly(Conflict):
    """States of one thing follow each other: the newest begins last."""

    code = "start-before-last-change"
    title = "A change recorded before begins later"


def check_follows(valid_from: datetime, before: datetime | None) -> None:
    """Raise StartTooEarly unless a state begins after the one before it, if there is one."""
    if before is not None and valid_from <= before:
        raise StartTooEarly(f"The change before begins at {before.isoformat()}; give a valid_from after that.")


def start_of(
    session: Session, merchant_id: UUID, *, asked: datetime | None, recorded_at: datetime, is_first: bool
) -> datetime:
    """Return from when on a new dated input holds, and keep others of the merchant from being made meanwhile.

    asked: what the caller wants, or None: then as early as the rule allows, but not before the merchant was made.
    is_first: nothing of this kind was there before, so that it may reach back while the merchant has no order.
    Raises BackDated.
    """
    return starts_of(session, merchant_id, recorded_at=recorded_at, is_first=is_first)(asked)


def starts_of(
    session: Session, merchant_id: UUID, *, recorded_at: datetime, is_first: bool
) -> Callable[[datetime | None], datetime]:
    """Return what `start_of` does, for many of one kind, asking the database once."""
    may_reach_back = has_no_order(session, merchant_id) and is_first
    earliest = _made_at(session, merchant_id) if may_reach_back else recorded_at + CLOCK_TOLERANCE

    def start(asked: datetime | None) -> datetime:
        chosen = earliest if asked is None else asked
        check_start(chosen, recorded_at=recorded_at, may_reach_back=may_reach_back)
        return chosen

    return start


def has_no_order(session: Session, merchant_id: UUID) -> bool:
    """Whether no order has come yet, which stays so until this unit of work has ended.

    Locks the merchant's row. A first order sets `first_order_at` in the same row, so it waits for us, or we for it; without
    the lock it could be assessed by terms that this unit of work then dates back before it. The lock lets others
    insert rows that name the merchant.
    """
    first_order_at = session.exec(
        select(MerchantRow.first_order_at).where(col(MerchantRow.id) == merchant_id).with_for_update(key_share=True)
    ).one()
    return first_order_at is None


def _made_at(session: Session, merchant_id: UUID) -> datetime:
    made_at = session.exec(select(MerchantRow.created_at).where(col(MerchantRow.id) == merchant_id)).one()
    # Most shops tell times in whole seconds: an order of this very second must not seem older than what it is paid by.
    return made_at.replace(microsecond=0)
