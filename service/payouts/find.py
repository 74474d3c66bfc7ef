"""Runs and items, locked for those who decide on them, and what is known of each item."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.errors import Conflict, InvariantBroken, Missing
from service.domain.ledger import MerchantTime
from service.domain.payout import FactKind, ItemState, Outcome, ProviderSays, RunState, item_state
from service.infra import ids
from service.infra.db import fetch
from service.tables.parties import MerchantRow
from service.tables.payouts import PayoutItemRow, PayoutRunRow


class RunMissing(Missing):
    code = "payout-run-not-found"
    title = "There is no such payout run"


class PayoutMissing(Missing):
    code = "payout-not-found"
    title = "There is no such payout"


class WrongRunState(Conflict):
    code = "payout-run-state"
    title = "The payout run's state does not allow this"


def lock_run(session: Session, merchant_id: UUID, run_id: UUID) -> PayoutRunRow:
    """Return a run whose row is ours until the unit of work ends. Raises RunMissing.

    It is the first lock of every verb on a run and its items: two of them never decide on the same item at once.
    """
    run = session.exec(
        select(PayoutRunRow)
        .where(col(PayoutRunRow.merchant_id) == merchant_id, col(PayoutRunRow.id) == run_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if run is None:
        raise RunMissing(f"No payout run {ids.encode('run', run_id)} here.")
    return run


def lock_run_of(session: Session, merchant_id: UUID, item_id: UUID) -> tuple[PayoutRunRow, PayoutItemRow]:
    """Lock the run of an item, then read the item. Raises PayoutMissing."""
    found = session.exec(
        select(PayoutItemRow.run_id).where(
            col(PayoutItemRow.merchant_id) == merchant_id, col(PayoutItemRow.id) == item_id
        )
    ).one_or_none()
    if found is None:
        raise PayoutMissing(f"No payout {ids.encode('pay', item_id)} here.")
    run = lock_run(session, merchant_id, found)
    return run, items_of(session, merchant_id, [item_id])[0]


def items_of(
    session: Session, merchant_id: UUID, item_ids: Collection[UUID], *, hold: bool = False
) -> Sequence[PayoutItemRow]:
    """Return items as they are now, in the order of their ids. hold: ours until the unit of work ends."""
    items = (
        select(PayoutItemRow)
        .where(col(PayoutItemRow.merchant_id) == merchant_id, col(PayoutItemRow.id).in_(item_ids))
        .order_by(col(PayoutItemRow.id))
        .execution_options(populate_existing=True)
    )
    return session.exec(items.with_for_update() if hold else items).all()


def live_items(session: Session, run: PayoutRunRow) -> Sequence[PayoutItemRow]:
    """Return a run's items that still hold their money, in the order of their ids."""
    return session.exec(
        select(PayoutItemRow)
        .where(
            col(PayoutItemRow.merchant_id) == run.merchant_id,
            col(PayoutItemRow.run_id) == run.id,
            col(PayoutItemRow.live).is_(True),
        )
        .order_by(col(PayoutItemRow.id))
        .execution_options(populate_existing=True)
    ).all()


def demand(run: PayoutRunRow, *states: RunState) -> None:
    """Raise WrongRunState unless the run is in one of the states."""
    if run.status not in states:
        wanted = " or ".join(states)
        raise WrongRunState(f"Payout run {ids.encode('run', run.id)} is {run.status}; this needs {wanted}.")


def merchant_time(session: Session, merchant_id: UUID, *, now: datetime) -> tuple[MerchantRow, MerchantTime]:
    """Return a merchant and its present. now: by our clock."""
    merchant = session.get(MerchantRow, merchant_id)
    if merchant is None:
        raise InvariantBroken(f"there is no merchant {merchant_id}")
    return merchant, MerchantTime(now + timedelta(seconds=merchant.clock_offset_s), merchant.time_zone)


@dataclass(slots=True)
class Known:
    """What is known of one item. outcomes: by attempt, oldest first."""

    outcomes: list[Outcome] = field(default_factory=list)
    reversed_minor: int = 0
    returned_minor: int = 0
    booked: bool = False

    @property
    def has_open_attempt(self) -> bool:
        """Whether an attempt may have paid, or may still pay."""
        return bool(self.outcomes) and self.outcomes[-1] not in {Outcome.REFUSED, Outcome.ABSENT}

    def came_back_minor(self, net_minor: int) -> int:
        """All of a sent amount that came back, never more than was sent."""
        return min(net_minor, self.reversed_minor + self.returned_minor)

    def says(self, net_minor: int) -> ProviderSays:
        return ProviderSays(
            sent_minor=net_minor,
            # A part that a bank returned is gone like one that was reversed: only a whole return has a state of its own.
            reversed_minor=self.came_back_minor(net_minor),
            booked=self.booked,
            returned=self.returned_minor >= net_minor,
        )


def known_of(session: Session, merchant_id: UUID, item_ids: Sequence[UUID]) -> Mapping[UUID, Known]:
    """Return what attempts and provider facts tell of items; each asked for is in the answer."""
    known = {item_id: Known() for item_id in item_ids}
    asked = {"merchant_id": merchant_id, "item_ids": list(item_ids)}
    for row in fetch(
        session,
        """
        SELECT item_id, outcome FROM payout_attempt
        WHERE merchant_id = :merchant_id AND item_id = ANY(CAST(:item_ids AS uuid[]))
        ORDER BY item_id, number
        """,
        asked,
    ):
        known[row.item_id].outcomes.append(Outcome(row.outcome))
    for row in fetch(
        session,
        """
        SELECT item_id, kind, max(amount_minor) AS amount_minor FROM provider_fact
        WHERE merchant_id = :merchant_id AND item_id = ANY(CAST(:item_ids AS uuid[]))
        GROUP BY item_id, kind
        """,
        asked,
    ):
        match FactKind(row.kind):
            case FactKind.REVERSED:
                known[row.item_id].reversed_minor = row.amount_minor
            case FactKind.RETURNED:
                known[row.item_id].returned_minor = row.amount_minor
            case FactKind.PAID:
                known[row.item_id].booked = True
            case FactKind.ACCEPTED | FactKind.FAILED:
                # Accepted is the attempt's outcome already; failed is between the payee and their bank.
                pass
    return known


def state_of(item: PayoutItemRow, *, run_status: str, known: Known) -> ItemState:
    """Return an item's state; it is computed, never stored."""
    return item_state(
        released=item.released_at is not None,
        run=RunState(run_status),
        outcomes=known.outcomes,
        says=known.says(item.net_minor),
    )


@dataclass(frozen=True, slots=True)
class InState:
    """How many of a run's items are in a state, and what they send, in minor units."""

    state: ItemState
    items: int
    net_minor: int


def states_in(session: Session, run: PayoutRunRow) -> list[InState]:
    """Count a run's items by state, from one statement and a handful of rows, however many items it has."""
    rows = fetch(
        session,
        """
        SELECT released, last, booked, returned_minor >= net_minor AS returned,
               -- In halves: none, some or all of it came back, in whichever way, as Known.came_back_minor has it.
               CASE WHEN reversed_minor + returned_minor >= net_minor THEN 2
                    WHEN reversed_minor + returned_minor > 0 THEN 1 ELSE 0 END AS came_back,
               count(*) AS items, CAST(sum(net_minor) AS bigint) AS net_minor
        FROM (
            -- Laid one below the other rather than joined, which takes a database without statistics for ever.
            SELECT item_id, max(net_minor) AS net_minor, bool_or(released) AS released,
                   (array_agg(outcome ORDER BY number DESC) FILTER (WHERE number IS NOT NULL))[1] AS last,
                   coalesce(max(amount_minor) FILTER (WHERE kind = 'reversed'), 0) AS reversed_minor,
                   coalesce(max(amount_minor) FILTER (WHERE kind = 'returned'), 0) AS returned_minor,
                   coalesce(bool_or(kind = 'paid'), false) AS booked
            FROM (
                SELECT id AS item_id, net_minor, released_at IS NOT NULL AS released, CAST(NULL AS integer) AS number,
                       CAST(NULL AS text) AS outcome, CAST(NULL AS text) AS kind, CAST(NULL AS bigint) AS amount_minor
                FROM payout_item WHERE merchant_id = :merchant_id AND run_id = :run_id
                UNION ALL
                SELECT item.id, NULL, NULL, attempt.number, attempt.outcome, NULL, NULL
                FROM payout_item AS item
                JOIN payout_attempt AS attempt
                  ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
                WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id
                UNION ALL
                SELECT item.id, NULL, NULL, NULL, NULL, fact.kind, fact.amount_minor
                FROM payout_item AS item
                JOIN provider_fact AS fact ON fact.merchant_id = item.merchant_id AND fact.item_id = item.id
                WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id
            ) AS told
            GROUP BY item_id
        ) AS one
        GROUP BY released, last, came_back, returned, booked
        """,
        {"merchant_id": run.merchant_id, "run_id": run.id},
    )
    found: dict[ItemState, InState] = {}
    for row in rows:
        state = item_state(
            released=row.released,
            run=RunState(run.status),
            outcomes=[] if row.last is None else [Outcome(row.last)],
            says=ProviderSays(sent_minor=2, reversed_minor=row.came_back, booked=row.booked, returned=row.returned),
        )
        before = found.get(state, InState(state, 0, 0))
        found[state] = InState(state, before.items + row.items, before.net_minor + row.net_minor)
    return [found[state] for state in sorted(found)]
