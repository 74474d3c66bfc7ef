"""Orders that have to wait for each other: those of one customer, where a merchant's terms look at other orders."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.commissions.facts import OrderKey
from service.domain.attribution import Reason, placed_order
from service.domain.customer import REORDERED_WITHIN, History, PlacedOrder, customer_key, histories
from service.domain.dated import DatedInputs
from service.domain.ledger import MerchantTime
from service.domain.order import OrderFacts, TouchKind
from service.infra.db import execute, fetch

_Scope = tuple[UUID, str]


@dataclass(slots=True)
class Customers:
    """What the orders of a batch may know of their customers' other orders; of those that may know nothing, nothing.

    changed: orders outside the batch whose answer may have changed.
    """

    histories: dict[OrderKey, History] = field(default_factory=dict)
    changed: list[OrderKey] = field(default_factory=list)


def look_around(
    session: Session,
    known: Mapping[OrderKey, OrderFacts],
    before: Mapping[OrderKey, str | None],
    identities: Mapping[OrderKey, Mapping[str, bool]],
    inputs: Mapping[UUID, DatedInputs],
    *,
    shown: Collection[OrderKey],
) -> Customers:
    """Lock the customers of a batch's orders, after the orders themselves, and read their other orders.

    before: whose order it was, as it was last assessed. identities: stored matches. shown: orders of the batch that the
    shop showed anew. Only for merchants whose terms ask.
    """
    owners = {order: _owner(order, facts) for order, facts in known.items()}
    scopes = {scope for scope in owners.values() if scope is not None}
    scopes |= {(merchant_id, customer) for (merchant_id, _), customer in before.items() if customer is not None}
    asking = asking_merchants(session, {merchant_id for merchant_id, _ in scopes})
    scopes = {scope for scope in scopes if scope[0] in asking}
    found = Customers()
    if not scopes:
        return found
    _lock(session, scopes)
    orders = {order: scope for order, scope in owners.items() if scope is not None and scope in scopes}
    names = _names(session, list(orders))
    placed: dict[_Scope, list[PlacedOrder]] = {scope: [] for scope in scopes}
    for order, scope in orders.items():
        facts, matches = known[order], identities.get(order, {})
        placed[scope].append(placed_order(order[1], names[order], facts, inputs[order[0]], matches))
    since = min((each.placed_at for own in placed.values() for each in own), default=None)
    near = _Near([order_id for _, order_id in known], len(known) + 1, since and since - REORDERED_WITHIN)
    stored = _as_shown_before(_stored(session, scopes, near), shown)
    # A customer may have thousands of orders; all are read only where something changes for the others.
    turned = {scope for scope in scopes if _others_change(stored.get(scope, ()), placed[scope], known)}
    stored |= _as_shown_before(_stored(session, turned), shown) if turned else {}
    for scope in scopes:
        others = [each for each in stored.get(scope, ()) if (scope[0], each.order_id) not in known]
        was, now = histories(stored.get(scope, ())), histories([*others, *placed[scope]])
        found.histories |= {(scope[0], each.order_id): now[each.order_id] for each in placed[scope]}
        if scope in turned:
            found.changed += [(scope[0], each.order_id) for each in others if was[each.order_id] != now[each.order_id]]
    return found


@dataclass(frozen=True, slots=True)
class _Near:
    """Which of a customer's orders are read: those of the batch, so many that stand first, and what was cancelled of late.

    since: when the oldest of those cancelled was placed, at the earliest; None: none of them.
    """

    order_ids: list[UUID]
    standing: int
    since: datetime | None


def _as_shown_before(
    stored: Mapping[_Scope, Sequence[PlacedOrder]], shown: Collection[OrderKey]
) -> dict[_Scope, list[PlacedOrder]]:
    """Stored orders, those shown anew without their products: what is kept of these is what is shown now.

    So whatever a cancelled order held before, the orders after it are assessed again.
    """
    return {
        scope: [
            replace(each, skus=frozenset({""})) if each.cancelled and (scope[0], each.order_id) in shown else each
            for each in orders
        ]
        for scope, orders in stored.items()
    }


def _others_change(stored: Sequence[PlacedOrder], placed: Sequence[PlacedOrder], known: Collection[OrderKey]) -> bool:
    """Whether the answer of any order outside the batch may change. stored: what is near, as it was."""
    ids = {order_id for _, order_id in known}
    others = [each for each in stored if each.order_id not in ids]

    def first(orders: Iterable[PlacedOrder]) -> tuple[UUID, datetime] | None:
        standing = [each for each in orders if not each.cancelled]
        earliest = min(standing, key=lambda each: each.place, default=None)
        return None if earliest is None else (earliest.order_id, earliest.placed_at)

    def gone(orders: Iterable[PlacedOrder]) -> set[PlacedOrder]:
        return {each for each in orders if each.cancelled and each.affiliate_id is not None}

    own_before = [each for each in stored if each.order_id in ids]
    return first(stored) != first([*others, *placed]) or gone(own_before) != gone(placed)


def histories_of(session: Session, orders: Collection[OrderKey], *, always: bool = False) -> dict[OrderKey, History]:
    """What assessed orders know of their customers' other orders, as it stands; without a lock, for whoever looks on.

    always: also where a merchant's terms do not ask, for whoever tries others.
    """
    rows = fetch(
        session,
        """
        SELECT assessment.merchant_id, assessment.order_id, customer
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[])) AS asked (merchant_id, order_id)
        JOIN assessment ON assessment.merchant_id = asked.merchant_id AND assessment.order_id = asked.order_id
        WHERE customer IS NOT NULL
        """,
        {"merchant_ids": [each for each, _ in orders], "order_ids": [each for _, each in orders]},
    )
    merchants = {row.merchant_id for row in rows}
    asking = merchants if always else asking_merchants(session, merchants)
    scopes = {(row.merchant_id, row.customer) for row in rows if row.merchant_id in asking}
    if not scopes:
        return {}
    found = {scope: histories(placed) for scope, placed in _stored(session, scopes).items()}
    return {
        (row.merchant_id, row.order_id): found[row.merchant_id, row.customer][row.order_id]
        for row in rows
        if row.merchant_id in asking
    }


def have_assessed_again(session: Session, orders: Sequence[OrderKey], when: Mapping[UUID, MerchantTime]) -> None:
    """Leave word that orders have to be assessed again; in the unit of work that changed their answer."""
    if not orders:
        return
    wanted = sorted(orders)
    execute(
        session,
        """
        INSERT INTO reassess (merchant_id, order_id, created_at)
        SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[]), CAST(:moments AS timestamptz[]))
        ON CONFLICT DO NOTHING
        """,
        {
            "merchant_ids": [each for each, _ in wanted],
            "order_ids": [each for _, each in wanted],
            "moments": [when[each].now for each, _ in wanted],
        },
    )


def _owner(order: OrderKey, facts: OrderFacts) -> _Scope | None:
    customer = None if facts.snapshot is None else customer_key(facts.snapshot.customer)
    return None if customer is None else (order[0], customer)


def asking_merchants(session: Session, merchants: set[UUID]) -> set[UUID]:
    """Merchants of whose terms any, in force or to come, look at other orders.

    Terms begin at least five minutes after they are recorded, so no unit of work that did not see them yet is still
    under way when an order they hold for arrives.
    """
    if not merchants:
        return set()
    rows = fetch(
        session,
        """
        SELECT DISTINCT merchant_id FROM program_version
        WHERE merchant_id = ANY(CAST(:merchant_ids AS uuid[])) AND asks_about_customers
        """,
        {"merchant_ids": sorted(merchants)},
    )
    return {row.merchant_id for row in rows}


def _lock(session: Session, scopes: set[_Scope]) -> None:
    wanted = sorted(scopes)
    execute(
        session,
        """
        INSERT INTO customer_scope AS known (merchant_id, customer, version)
        SELECT merchant_id, customer, 1
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:customers AS text[])) AS asked (merchant_id, customer)
        ORDER BY merchant_id, customer COLLATE "C"
        ON CONFLICT (merchant_id, customer) DO UPDATE SET version = known.version + 1
        """,
        {"merchant_ids": [each for each, _ in wanted], "customers": [each for _, each in wanted]},
    )


def _stored(session: Session, scopes: set[_Scope], near: _Near | None = None) -> dict[_Scope, list[PlacedOrder]]:
    """The customers' orders as they were last assessed: what the last holder of each lock committed. near: only those."""
    wanted = sorted(scopes)
    rows = fetch(
        session,
        """
        WITH theirs AS (
            SELECT assessment.merchant_id, assessment.customer, assessment.order_id, assessment.placed_at, cancelled,
                   affiliate_id, program_id, attribution_reason, touch, orders.source_id, orders.external_id,
                   row_number() OVER (PARTITION BY assessment.merchant_id, assessment.customer, cancelled
                                      ORDER BY assessment.placed_at, orders.source_id, orders.external_id COLLATE "C")
                       AS place
            FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:customers AS text[])) AS asked (merchant_id, customer)
            JOIN assessment ON assessment.merchant_id = asked.merchant_id AND assessment.customer = asked.customer
            JOIN orders ON orders.merchant_id = assessment.merchant_id AND orders.id = assessment.order_id
        )
        SELECT theirs.*, fact.payload
        FROM theirs
        LEFT JOIN fact ON fact.merchant_id = theirs.merchant_id AND fact.order_id = theirs.order_id
                      AND fact.kind = 'order' AND fact.key = '' AND cancelled
        WHERE CAST(:standing AS bigint) IS NULL OR theirs.order_id = ANY(CAST(:order_ids AS uuid[]))
           OR CASE WHEN cancelled THEN placed_at >= :since ELSE place <= :standing END
        """,
        {
            "merchant_ids": [each for each, _ in wanted],
            "customers": [each for _, each in wanted],
            "standing": near.standing if near else None,
            "order_ids": near.order_ids if near else [],
            "since": near.since if near else None,
        },
    )
    found: dict[_Scope, list[PlacedOrder]] = defaultdict(list)
    for row in rows:
        # As `placed_order`: neither what it was credited for as an order placed again, nor as one of a bound product.
        own = row.attribution_reason == Reason.DECIDED or row.touch not in (TouchKind.REORDER, TouchKind.PRODUCT)
        skus = (
            frozenset(line[1] for line in row.payload["lines"] if line[5] and line[1]) if row.payload else frozenset()
        )
        found[row.merchant_id, row.customer].append(
            PlacedOrder(
                row.order_id,
                (str(row.source_id), row.external_id),
                row.placed_at,
                row.cancelled,
                skus if row.cancelled else frozenset(),
                row.affiliate_id if row.cancelled and own else None,
                row.program_id if row.cancelled and own else None,
            )
        )
    return found


def _names(session: Session, orders: Sequence[OrderKey]) -> dict[OrderKey, tuple[str, str]]:
    rows = fetch(
        session,
        """
        SELECT orders.merchant_id, orders.id, source_id, external_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[])) AS asked (merchant_id, id)
        JOIN orders ON orders.merchant_id = asked.merchant_id AND orders.id = asked.id
        """,
        {"merchant_ids": [each for each, _ in orders], "order_ids": [each for _, each in orders]},
    )
    return {(row.merchant_id, row.id): (str(row.source_id), row.external_id) for row in rows}
