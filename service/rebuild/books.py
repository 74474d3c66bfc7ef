"""The whole of it for one merchant: take over, replay, compare."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from service.infra.db import fetch, unit_of_work
from service.infra.security import Security
from service.ledger.findings import Finding
from service.rebuild.advances import replay_advances
from service.rebuild.compare import compare_balances, compare_orders
from service.rebuild.copy import take_over
from service.rebuild.corrections import replay_corrections
from service.rebuild.differences import Differences, RebuiltCode
from service.rebuild.orders import replay_orders
from service.rebuild.payouts import replay_payouts
from service.rebuild.snapshot import snapshot


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of making a merchant's books again. findings: the first of each kind; counts: how many there are of it.

    parked_but_readable: parked deliveries that would be understood today; they wait for somebody to replay them.
    """

    findings: list[Finding]
    counts: Counter[RebuiltCode]
    deliveries: int
    payouts: int
    parked_but_readable: int


def rebuild(
    live: Engine, into: Engine, merchant_id: UUID, security: Security, *, tell: Callable[[int, int], None]
) -> Rebuilt:
    """Make one merchant's books again in a database that has none of it yet, and compare them with the live ones.

    Targets, receipts and posted amounts are equal exactly; places as of the last settle date, but for money that had
    left before its order was frozen; every account of every payee to the last unit. security: the service's own, which
    signed the click ids. tell: is given how far it is and how much there is to do, in deliveries and payouts, and called
    often also while it compares: what it raises ends the work.
    """
    differences = Differences(merchant_id)
    with snapshot(live) as session:
        [merchant] = fetch(
            session,
            """
            SELECT time_zone,
                   (SELECT count(*) FROM inbox WHERE merchant_id = merchant.id)
                   + (SELECT count(*) FROM payout_item WHERE merchant_id = merchant.id) AS to_do
            FROM merchant WHERE id = :id
            """,
            {"id": merchant_id},
        )
        done = 0

        def advance(by: int) -> None:
            nonlocal done
            done += by
            tell(done, merchant.to_do)

        with unit_of_work(into) as taking:
            take_over(session, taking, merchant_id)
        deliveries = replay_orders(
            session, into, differences, time_zone=merchant.time_zone, security=security, tell=advance
        )
        replay_advances(session, into, differences, time_zone=merchant.time_zone, tell=advance)
        payouts = replay_payouts(session, into, differences, time_zone=merchant.time_zone, tell=advance)
        replay_corrections(session, into, differences, time_zone=merchant.time_zone, tell=advance)
        with snapshot(into) as made:
            compare_orders(session, made, differences, tell=advance)
            compare_balances(session, made, differences, tell=advance)
    return Rebuilt(
        differences.findings,
        differences.counts,
        deliveries.booked,
        payouts,
        deliveries.parked_but_readable,
    )
