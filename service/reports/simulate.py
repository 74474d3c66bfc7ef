"""Try draft terms on orders: assess each under the terms in force and under the draft, and add up what it costs.

Reads what the books read and writes nothing of theirs: only a simulation's own sums, in short units of work. Orders come
in pages, and sums are kept by the database, so that memory grows with neither.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions import facts as stored_facts
from service.commissions import inputs as stored_inputs
from service.commissions import simulations
from service.commissions.customers import asking_merchants, histories_of
from service.commissions.facts import OrderKey
from service.commissions.simulations import Simulation
from service.domain.assessment import assess
from service.domain.attribution import placed_order
from service.domain.customer import History, histories
from service.domain.dated import DatedInputs
from service.domain.order import OrderFacts
from service.domain.periods import Sum, period_rule_json, period_rule_of
from service.domain.simulation import Cost, PeriodName, PeriodSums, SumKey, Tally, drafted
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, run_unit
from service.tables.simulations import Stage

ORDERS_AT_ONCE = 250
PERIODS_AT_ONCE = 500

Tell = Callable[[int, int], bool]
"""Is given how many orders are done, of how many; says whether to go on."""
_Work = Callable[[Session], None]


def advance(
    engine: Engine, merchant_id: UUID, simulation_id: UUID, tell: Tell, *, clock: Callable[[], datetime] = utc_now
) -> bool:
    """Take a simulation on, page by page, until it is done or `tell` says to pause. Returns whether there is more to do.

    Safe to repeat after a crash on any line, and beside another that does the same. Nothing is done where the simulation
    is over or gone; where its file is not read yet, that has to come first.
    """
    while True:
        with read_session(engine) as session:
            known = simulations.load(session, merchant_id, simulation_id)
            if known is None or known.stage is Stage.FILE:
                return known is not None
            work: _Work
            if known.orders_total is None:
                work = partial(_begin, known=known, orders=_count(session, known), now=clock())
            elif known.stage is Stage.ORDERS:
                work = _orders(session, known, clock())
            else:
                work = _periods(session, known, clock())
        run_unit(engine, work)
        if not tell(known.orders_done, known.orders_total or 0):
            return True


def _begin(session: Session, known: Simulation, orders: int, now: datetime) -> None:
    simulations.move_on(session, known, stage=Stage.ORDERS, cursor={}, orders_total=orders, now=now)


def _orders(session: Session, known: Simulation, now: datetime) -> _Work:
    """Assess the next orders under both terms; return what adds them up."""
    page = _stored(session, known) if known.mapping is None else _of_file(session, known)
    then_inputs = drafted(page.inputs, known.program_id, known.terms)
    tally = Tally(known.program_id, known.time_zone)
    for order in page.orders:
        by_now, by_then = (
            (assess(order.facts, inputs, identities=order.identities, history=known_of.get(order.key)), inputs)
            for inputs, known_of in ((page.inputs, page.now_histories), (then_inputs, page.then_histories))
        )
        tally.add(order.placed_at, by_now, by_then)
    stage = Stage.ORDERS if page.looked_at else Stage.PERIODS

    def work(session: Session) -> None:
        if simulations.move_on(session, known, stage=stage, cursor=page.cursor, orders=page.looked_at, now=now):
            _add_sums(session, known, tally.sums)
            _add_periods(session, known, tally.periods)

    return work


def _periods(session: Session, known: Simulation, now: datetime) -> _Work:
    """Compute what the next periods give; return what adds that up and takes them away."""
    rows = fetch(
        session,
        """
        SELECT payee_id, program_id, rule, begins_on, currency, now_rules, now_commission_minor, now_sales_minor,
               now_orders, then_rules, then_commission_minor, then_sales_minor, then_orders
        FROM simulation_period WHERE merchant_id = :merchant_id AND simulation_id = :id
        ORDER BY payee_id, program_id, rule, begins_on, currency LIMIT :limit
        """,
        {"merchant_id": known.merchant_id, "id": known.id, "limit": PERIODS_AT_ONCE},
    )
    if not rows:
        return partial(simulations.finish, known=known, now=now)
    tally = Tally(known.program_id, known.time_zone)
    names = [PeriodName(row.payee_id, row.program_id, row.rule, row.begins_on, row.currency) for row in rows]
    for name, row in zip(names, rows, strict=True):
        period = PeriodSums(
            Sum(row.now_commission_minor, row.now_sales_minor, row.now_orders),
            Sum(row.then_commission_minor, row.then_sales_minor, row.then_orders),
            tuple(period_rule_of(rule) for rule in row.now_rules),
            tuple(period_rule_of(rule) for rule in row.then_rules),
        )
        tally.add_period(name, period)

    def work(session: Session) -> None:
        if simulations.move_on(session, known, stage=Stage.PERIODS, cursor={}, now=now):
            _add_sums(session, known, tally.sums)
            _delete_periods(session, known, names)

    return work


@dataclass(frozen=True, slots=True)
class _Order:
    key: OrderKey
    placed_at: datetime
    facts: OrderFacts
    identities: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class _Page:
    """Some orders, and what they depend on. looked_at: how many, also of those that do not count.

    now_histories, then_histories: of orders whose terms, in force or drafted, may ask.
    """

    orders: list[_Order]
    inputs: DatedInputs
    looked_at: int
    cursor: Mapping[str, str]
    now_histories: Mapping[OrderKey, History] = field(default_factory=dict)
    then_histories: Mapping[OrderKey, History] = field(default_factory=dict)


def _count(session: Session, known: Simulation) -> int:
    if known.mapping is not None:
        statement = """
            SELECT count(*) AS orders FROM simulation_order
            WHERE merchant_id = :merchant_id AND simulation_id = :id AND placed_at IS NOT NULL
            """
    else:
        statement = """
            SELECT count(*) AS orders FROM assessment
            WHERE merchant_id = :merchant_id AND placed_at >= :placed_from AND placed_at < :placed_before
              AND (CAST(:currency AS text) IS NULL OR currency = :currency)
            """
    [row] = fetch(session, statement, _asked(known))
    return int(row.orders)


def _asked(known: Simulation) -> dict[str, object]:
    return {
        "merchant_id": known.merchant_id,
        "id": known.id,
        "placed_from": known.placed_from,
        "placed_before": known.placed_before,
        "currency": known.currency,
        "limit": ORDERS_AT_ONCE,
    }


def _stored(session: Session, known: Simulation) -> _Page:
    """Orders of the books, in the order in which they were placed."""
    # Before every moment and id that an order can have.
    after_at = known.cursor.get("placed_at", datetime.min.replace(tzinfo=UTC).isoformat())
    after_id = known.cursor.get("order_id", str(UUID(int=0)))
    rows = fetch(
        session,
        """
        SELECT order_id, placed_at, identities FROM assessment
        WHERE merchant_id = :merchant_id AND placed_at >= :placed_from AND placed_at < :placed_before
          AND (placed_at, order_id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid))
          AND (CAST(:currency AS text) IS NULL OR currency = :currency)
        ORDER BY placed_at, order_id LIMIT :limit
        """,
        {**_asked(known), "after_at": after_at, "after_id": after_id},
    )
    keys = [(known.merchant_id, row.order_id) for row in rows]
    facts = stored_facts.load(session, keys)
    then_histories = histories_of(session, keys, always=known.terms.asks_about_customers)
    now_histories = histories_of(session, keys) if known.terms.asks_about_customers else then_histories
    return _Page(
        [
            _Order(key, row.placed_at, facts[key], row.identities)
            for key, row in zip(keys, rows, strict=True)
            if key in facts
        ],
        _inputs(session, known, facts, now_histories, then_histories),
        len(rows),
        {"placed_at": rows[-1].placed_at.isoformat(), "order_id": str(rows[-1].order_id)} if rows else {},
        now_histories,
        then_histories,
    )


def _inputs(
    session: Session,
    known: Simulation,
    facts: Mapping[OrderKey, OrderFacts],
    *histories: Mapping[OrderKey, History],
) -> DatedInputs:
    """What orders may depend on, and those that they may place again by these histories."""
    loaded = {known.merchant_id: DatedInputs(), **stored_inputs.load(session, facts)}
    for each in histories:
        stored_inputs.load_credited(session, each, loaded)
    return loaded[known.merchant_id]


def _of_file(session: Session, known: Simulation) -> _Page:
    """Orders of the simulation's file, by name; what it tells of a customer is all that is known of one."""
    rows = fetch(
        session,
        """
        SELECT name, order_id, placed_at, customer, facts FROM simulation_order
        WHERE merchant_id = :merchant_id AND simulation_id = :id AND placed_at IS NOT NULL AND name > :after
        ORDER BY name LIMIT :limit
        """,
        {**_asked(known), "after": known.cursor.get("name", "")},
    )
    facts = {(known.merchant_id, row.order_id): OrderFacts.of(simulations.unpack(bytes(row.facts))) for row in rows}
    customers = {row.customer for row in rows if row.customer is not None}
    asks_now = known.merchant_id in asking_merchants(session, {known.merchant_id})
    asks_then = asks_now or known.terms.asks_about_customers
    others = _of_customers(session, known, customers) if asks_then else {}
    inputs = _inputs(session, known, facts | {order.key: order.facts for each in others.values() for order in each})
    orders = [
        _Order(key, row.placed_at, facts[key], {})
        for row in rows
        if (snapshot := facts[key := (known.merchant_id, row.order_id)].snapshot) is not None
        and known.currency in {None, snapshot.currency}
    ]
    return _Page(
        orders,
        inputs,
        len(rows),
        {"name": rows[-1].name} if rows else {},
        _histories(known, others, inputs) if asks_now else {},
        _histories(known, others, drafted(inputs, known.program_id, known.terms)) if asks_then else {},
    )


@dataclass(frozen=True, slots=True)
class _OfCustomer:
    key: OrderKey
    name: str
    facts: OrderFacts


def _of_customers(session: Session, known: Simulation, customers: set[str]) -> dict[str, list[_OfCustomer]]:
    """All orders that the file has of some customers."""
    found: dict[str, list[_OfCustomer]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT customer, name, order_id, facts FROM simulation_order
        WHERE merchant_id = :merchant_id AND simulation_id = :id AND customer = ANY(CAST(:customers AS text[]))
        """,
        {"merchant_id": known.merchant_id, "id": known.id, "customers": sorted(customers)},
    ):
        facts = OrderFacts.of(simulations.unpack(bytes(row.facts)))
        found[row.customer].append(_OfCustomer((known.merchant_id, row.order_id), row.name, facts))
    return found


def _histories(
    known: Simulation, others: Mapping[str, Sequence[_OfCustomer]], inputs: DatedInputs
) -> dict[OrderKey, History]:
    return {
        (known.merchant_id, order_id): history
        for orders in others.values()
        for order_id, history in histories(
            [placed_order(each.key[1], ("", each.name), each.facts, inputs, {}) for each in orders]
        ).items()
    }


def _add_sums(session: Session, known: Simulation, sums: Mapping[SumKey, Cost]) -> None:
    if not sums:
        return
    rows = sorted(sums.items())
    execute(
        session,
        """
        INSERT INTO simulation_sum AS known (merchant_id, simulation_id, dimension, key, currency, now_minor, then_minor,
                                             now_orders, then_orders)
        SELECT :merchant_id, :id, dimension, key, currency, now_minor, then_minor, now_orders, then_orders
        FROM unnest(CAST(:dimensions AS text[]), CAST(:keys AS text[]), CAST(:currencies AS text[]),
                    CAST(:nows AS bigint[]), CAST(:thens AS bigint[]), CAST(:now_orders AS bigint[]),
                    CAST(:then_orders AS bigint[]))
             AS added (dimension, key, currency, now_minor, then_minor, now_orders, then_orders)
        ON CONFLICT (merchant_id, simulation_id, dimension, key, currency) DO UPDATE
        SET now_minor = known.now_minor + excluded.now_minor, then_minor = known.then_minor + excluded.then_minor,
            now_orders = known.now_orders + excluded.now_orders,
            then_orders = known.then_orders + excluded.then_orders
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "dimensions": [name.dimension.value for name, _ in rows],
            "keys": [name.key for name, _ in rows],
            "currencies": [name.currency for name, _ in rows],
            "nows": [cost.now_minor for _, cost in rows],
            "thens": [cost.then_minor for _, cost in rows],
            "now_orders": [cost.now_orders for _, cost in rows],
            "then_orders": [cost.then_orders for _, cost in rows],
        },
    )


def _add_periods(session: Session, known: Simulation, periods: Mapping[PeriodName, PeriodSums]) -> None:
    if not periods:
        return
    rows = sorted(periods.items())
    sides = [(side, getattr(period, side)) for _, period in rows for side in ("now", "then")]
    parts = {
        f"{side}_{part}": [getattr(total, part) for name, total in sides if name == side]
        for side in ("now", "then")
        for part in ("commission_minor", "sales_minor", "orders")
    }
    columns = ", ".join(parts)
    execute(
        session,
        f"""
        INSERT INTO simulation_period AS known (merchant_id, simulation_id, payee_id, program_id, rule, begins_on,
                                                currency, now_rules, then_rules, {columns})
        SELECT :merchant_id, :id, payee_id, program_id, rule, begins_on, currency, CAST(now_rules AS jsonb),
               CAST(then_rules AS jsonb), {columns}
        FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:program_ids AS uuid[]), CAST(:rules AS text[]),
                    CAST(:begins AS date[]), CAST(:currencies AS text[]), CAST(:now_rules AS text[]),
                    CAST(:then_rules AS text[]), {", ".join(f"CAST(:{column} AS bigint[])" for column in parts)})
             AS added (payee_id, program_id, rule, begins_on, currency, now_rules, then_rules, {columns})
        ON CONFLICT (merchant_id, simulation_id, payee_id, program_id, rule, begins_on, currency) DO UPDATE
        SET now_rules = CASE WHEN known.now_rules = '[]' THEN excluded.now_rules ELSE known.now_rules END,
            then_rules = CASE WHEN known.then_rules = '[]' THEN excluded.then_rules ELSE known.then_rules END,
            {", ".join(f"{column} = known.{column} + excluded.{column}" for column in parts)}
        """,  # noqa: S608 - put together from our own names
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            **_named([name for name, _ in rows]),
            "now_rules": [json.dumps([period_rule_json(rule) for rule in period.now_rules]) for _, period in rows],
            "then_rules": [json.dumps([period_rule_json(rule) for rule in period.then_rules]) for _, period in rows],
            **parts,
        },
    )


def _delete_periods(session: Session, known: Simulation, names: Sequence[PeriodName]) -> None:
    execute(
        session,
        """
        DELETE FROM simulation_period AS known
        USING unnest(CAST(:payee_ids AS uuid[]), CAST(:program_ids AS uuid[]), CAST(:rules AS text[]),
                     CAST(:begins AS date[]), CAST(:currencies AS text[]))
              AS done (payee_id, program_id, rule, begins_on, currency)
        WHERE known.merchant_id = :merchant_id AND simulation_id = :id AND known.payee_id = done.payee_id
          AND known.program_id = done.program_id AND known.rule = done.rule AND known.begins_on = done.begins_on
          AND known.currency = done.currency
        """,
        {"merchant_id": known.merchant_id, "id": known.id, **_named(names)},
    )


def _named(names: Sequence[PeriodName]) -> dict[str, list[Any]]:
    return {
        "payee_ids": [name.payee_id for name in names],
        "program_ids": [name.program_id for name in names],
        "rules": [name.rule for name in names],
        "begins": [name.begins_on for name in names],
        "currencies": [name.currency for name in names],
    }
