"""What is left when everybody has gone home, compared with what the shop, the visitors and the rail were told."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from bench.chaos_world import World
from service.infra import ids

SHOWN_MAX = 20

Books = psycopg.Connection[tuple[Any, ...]]


@dataclass(slots=True)
class Verdict:
    """Sentences about what is not as it must be; all kinds empty when nothing is."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged and not there, or earned and not booked, or booked as paid and not sent."""
    doubled: list[str] = field(default_factory=list)
    """There twice, booked above what was earned, sent twice or above what is booked."""
    left: list[str] = field(default_factory=list)
    """What should be over by then."""

    def amount(self, what: str, *, wanted: int, found: int) -> None:
        if found < wanted:
            self.lost.append(f"{what}: {found} instead of {wanted}")
        elif found > wanted:
            self.doubled.append(f"{what}: {found} instead of {wanted}")


def judge(books: Books, world: World, transfers: Sequence[dict[str, Any]], accounts: dict[str, str]) -> Verdict:
    """Compare all that was acknowledged with the tables. accounts: the rail's account → affiliate id.

    transfers: as the rail itself lists them.
    """
    verdict = Verdict()
    _deliveries(verdict, books, world)
    _orders(verdict, books, world)
    _clicks(verdict, books, world)
    _payouts(verdict, books, world, transfers, accounts)
    return verdict


def _deliveries(verdict: Verdict, books: Books, world: World) -> None:
    kept: dict[str, list[str]] = defaultdict(list)
    for delivery_id, state in books.execute("SELECT delivery_id, state FROM inbox"):
        kept[delivery_id].append(state)
    for delivery_id in world.acknowledged:
        states = kept.get(delivery_id, [])
        if not states:
            verdict.lost.append(f"{delivery_id} was acknowledged and is not in the inbox")
        elif len(states) > 1:
            verdict.doubled.append(f"{delivery_id} is in the inbox {len(states)} times")
        elif states != ["applied"]:
            verdict.lost.append(f"{delivery_id} was acknowledged and is {states[0]}")


def _orders(verdict: Verdict, books: Books, world: World) -> None:
    """Sums of entries, not the targets kept beside them: an entry is there for every time something was booked."""
    earned = {
        (order_id, affiliate): int(minor)
        for order_id, affiliate, minor in books.execute(
            """
            SELECT orders.external_id, commission.payee_id,
                   coalesce(sum(CASE WHEN entry.source = 'commission_expense' THEN entry.amount_minor
                                     WHEN entry.destination = 'commission_expense' THEN -entry.amount_minor END), 0)
            FROM orders
            JOIN commission ON commission.merchant_id = orders.merchant_id AND commission.order_id = orders.id
            LEFT JOIN commission_entry AS entry
              ON entry.merchant_id = commission.merchant_id AND entry.commission_id = commission.id
            GROUP BY orders.external_id, commission.payee_id
            """
        )
    }
    known = Counter(name for (name,) in books.execute("SELECT external_id FROM orders"))
    for order in world.orders:
        if known[order.id] != 1:
            (verdict.doubled if known[order.id] else verdict.lost).append(
                f"{order.id} is there {known[order.id]} times"
            )
        found = earned.pop((order.id, ids.decode("aff", order.koc.id)), 0)
        verdict.amount(f"{order.id} earned", wanted=order.earns(), found=found)
    for (order_id, _), minor in earned.items():
        verdict.amount(f"{order_id} earned for somebody else", wanted=0, found=minor)


def _clicks(verdict: Verdict, books: Books, world: World) -> None:
    kept = {click_id for (click_id,) in books.execute("SELECT id FROM click")}
    verdict.lost += [f"click {each} was sent on and is not counted" for each in world.clicks if each not in kept]


def _payouts(
    verdict: Verdict, books: Books, world: World, transfers: Sequence[dict[str, Any]], accounts: dict[str, str]
) -> None:
    sent: Counter[str] = Counter()
    for item, count in Counter(each["transfer_group"] for each in transfers).items():
        if count > 1:
            verdict.doubled.append(f"{item} was sent {count} times")
    for each in transfers:
        sent[accounts[each["destination"]]] += each["amount"]
    for run_id, status, attempts in books.execute(
        """
        SELECT run.id, status, (
            SELECT string_agg(concat_ws(' ', outcome, code, sends, item.frozen_code), ', ')
            FROM payout_item AS item JOIN payout_attempt AS attempt ON attempt.item_id = item.id
            WHERE item.run_id = run.id AND item.live)
        FROM payout_run AS run WHERE status NOT IN ('closed', 'cancelled')
        """
    ):
        verdict.left.append(f"{ids.encode('run', run_id)} is {status}; what was not sent: {attempts}")
    places: dict[str, Counter[str]] = defaultdict(Counter)
    for owner, kind, minor in books.execute("SELECT owner_id, kind, amount_minor FROM balance"):
        places[ids.encode("aff", owner)][kind] = minor
    earned: Counter[str] = Counter()
    for order in world.orders:
        earned[order.koc.id] += order.earns()
    for koc in world.shop.kocs:
        has = places[koc.id]
        verdict.amount(f"{koc.code} was paid by the rail what the books say:", wanted=has["paid"], found=sent[koc.id])
        verdict.amount(f"{koc.code} has in all places", wanted=earned[koc.id], found=sum(has.values()))
        waiting = {kind: minor for kind, minor in has.items() if minor and kind != "paid"}
        # Only what a payee owes may stay: it is set against what is earned later.
        if any(kind != "payable" or minor > 0 for kind, minor in waiting.items()):
            verdict.left.append(f"{koc.code} still has {waiting}")
