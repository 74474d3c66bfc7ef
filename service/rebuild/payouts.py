"""Second half: money out, booked again from items, attempts and the rail's own words, in the order items were made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.ledger import MerchantTime, Posting
from service.domain.payout import FactKind, Outcome
from service.infra import ids
from service.infra.db import fetch, unit_of_work
from service.ledger.post import post
from service.payouts import book
from service.payouts.find import Known, known_of
from service.rebuild.differences import Differences, RebuiltCode, apply_all
from service.rebuild.snapshot import ROWS_AT_ONCE
from service.tables.payouts import PayoutItemRow


@dataclass(frozen=True, slots=True)
class _Payout:
    """An item with all that is known of it. told: by number of attempt, whether the rail said that it accepted it."""

    item: PayoutItemRow
    known: Known
    told: Mapping[int, bool]


def replay_payouts(
    live: Session, into: Engine, differences: Differences, *, time_zone: str, tell: Callable[[int], None]
) -> int:
    """Move a merchant's payouts again, from payable as far as each item came. Returns how many items there are.

    tell: is given each number of items booked.
    """
    merchant_id = differences.merchant_id
    # A payee's items follow each other: what one carries forward, the next takes along.
    items = (
        select(PayoutItemRow)
        .where(col(PayoutItemRow.merchant_id) == merchant_id)
        .order_by(col(PayoutItemRow.payee_id), col(PayoutItemRow.currency), col(PayoutItemRow.reserve_version))
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    count = 0
    for some in live.exec(items).partitions():
        known = known_of(live, merchant_id, [item.id for item in some])
        told = _told(live, merchant_id, [item.id for item in some])
        payouts = [_Payout(item, known[item.id], told.get(item.id, {})) for item in some]
        for each in payouts:
            _unheard(each, differences)
        work = partial(_book, into, time_zone=time_zone)
        apply_all(payouts, work, partial(_refused, differences=differences))
        count += len(payouts)
        tell(len(payouts))
    return count


def _told(live: Session, merchant_id: UUID, item_ids: Sequence[UUID]) -> dict[UUID, dict[int, bool]]:
    """Accepted attempts by item and number, and whether the rail's word that it accepted just that is there."""
    told: dict[UUID, dict[int, bool]] = {}
    for row in fetch(
        live,
        """
        SELECT attempt.item_id, attempt.number, fact.item_id IS NOT NULL AS heard
        FROM payout_attempt AS attempt
        LEFT JOIN provider_fact AS fact
          ON fact.merchant_id = attempt.merchant_id AND fact.item_id = attempt.item_id AND fact.rail = attempt.rail
         AND fact.object_id = attempt.reference AND fact.kind = :told
        WHERE attempt.merchant_id = :merchant_id AND attempt.item_id = ANY(CAST(:item_ids AS uuid[]))
          AND attempt.outcome = :accepted
        """,
        {
            "merchant_id": merchant_id,
            "item_ids": list(item_ids),
            "told": FactKind.ACCEPTED.value,
            "accepted": Outcome.ACCEPTED.value,
        },
    ):
        told.setdefault(row.item_id, {})[row.number] = row.heard
    return told


def _unheard(payout: _Payout, differences: Differences) -> None:
    for number, heard in payout.told.items():
        if not heard:
            differences.add(
                RebuiltCode.PAYOUT,
                ids.encode("pay", payout.item.id),
                f"attempt {number} of {payout.item.net_minor} {payout.item.currency}, payee {_payee(payout.item)}",
                expected="in transit: no word of the rail that it was accepted",
                found="accepted",
            )


def _book(into: Engine, payouts: Sequence[_Payout], *, time_zone: str) -> None:
    postings = [posting for each in payouts for posting in _postings(each)]
    item = payouts[-1].item
    when = {item.merchant_id: MerchantTime(item.created_at, time_zone)}
    # Not to be repeated: what was posted once would be refused, so after a lost connection the caller begins anew.
    with unit_of_work(into) as session:
        post(session, postings, when=when)


def _postings(payout: _Payout) -> list[Posting]:
    """Everything an item's state says must have been booked for it, oldest first."""
    item = payout.item
    postings = book.reserved(item)
    for number, outcome in enumerate(payout.known.outcomes, start=1):
        postings += book.planned(item, number=number)
        match outcome:
            case Outcome.ACCEPTED if payout.told.get(number):
                postings += book.accepted(item, number=number)
            case Outcome.REFUSED | Outcome.ABSENT:
                postings += book.not_sent(item, number=number)
            case _:
                # Planned, on its way, or not heard of: the money is between us and the rail.
                pass
    if item.released_at is not None:
        postings += book.released(item)
    postings += book.came_back(item, before_minor=0, now_minor=payout.known.came_back_minor(item.net_minor))
    return postings


def _refused(payout: _Payout, error: Exception, *, differences: Differences) -> None:
    differences.add(
        RebuiltCode.PAYOUT,
        ids.encode("pay", payout.item.id),
        f"payee {_payee(payout.item)}, {payout.item.gross_minor} + {payout.item.carried_minor} {payout.item.currency}",
        expected=f"refused by the books; {str(error).splitlines()[0][:200]}",
        found="booked",
    )


def _payee(item: PayoutItemRow) -> str:
    return ids.encode("aff", item.payee_id)
