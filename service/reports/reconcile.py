"""Lay the files of a reconciliation beside our books, page by page, and store what differs. Books nothing."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.commissions import reconciliations
from service.commissions.reconciliations import Found, JsonObject, Reconciliation
from service.commissions.simulations import unpack
from service.domain.order import Fact, OrderFacts
from service.domain.payout import MAY_HAVE_PAID, Outcome, ProviderSays, RunState, item_state
from service.domain.reconciliation import (
    About,
    BankLine,
    DifferenceKind,
    Explanation,
    Hint,
    LineKind,
    OrderFigures,
    PayoutFigures,
    Told,
    compare_commission,
    compare_line,
    compare_order,
    compare_payout,
    figures_of,
)
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session, run_unit
from service.infra.ids import encode
from service.tables.reconciliations import ReconciliationStage

ORDERS_AT_ONCE = 500
PAYOUTS_AT_ONCE = 500
LINES_MAX = 1000
"""Most lines that are compared of one payout; nobody is paid in so many."""
PARKED_MAX, PARKED_BYTES_MAX = 200, 64 * 1024
"""Newest parked deliveries that are searched for an order that is missing here, and how long one may be."""
NAME_MIN = 3
"""Shorter ids of orders stand in many bodies and mean nothing there."""
_WORD = re.compile(r"[\w-]+")
ROWS_KEPT = 10


@dataclass(frozen=True, slots=True)
class _Page:
    """What one page came to. then: where the reconciliation goes on; None: all is done."""

    found: list[Found]
    compared: int
    then: ReconciliationStage | None
    cursor: JsonObject
    left_out: int = 0


def advance(
    engine: Engine,
    merchant_id: UUID,
    reconciliation_id: UUID,
    go_on: Callable[[], bool],
    *,
    clock: Callable[[], datetime] = utc_now,
) -> bool:
    """Compare until all is done, or until `go_on` says to pause. Returns whether something is left to do.

    Safe to repeat and to break off: each page is added once, in a unit of work of its own.
    """
    while True:
        with read_session(engine) as session:
            known = reconciliations.load(session, merchant_id, reconciliation_id)
            if known is None:
                return False
            if not go_on():
                return True
            if known.stage in {ReconciliationStage.ORDERS_FILE, ReconciliationStage.BANK_FILE}:
                # Reading its files is another's work, and not done.
                return True
            page = _PAGES[known.stage](session, known)
        run_unit(engine, partial(_keep, known=known, page=page, now=clock()))


def _keep(session: Session, known: Reconciliation, page: _Page, now: datetime) -> None:
    if page.then is None:
        reconciliations.finish(session, known, now=now)
        return
    is_new = reconciliations.move_on(
        session,
        known,
        stage=page.then,
        cursor=page.cursor,
        now=now,
        compared=page.compared,
        left_out=page.left_out,
    )
    if is_new:
        reconciliations.add(session, known, page.found)


# Orders.


@dataclass(frozen=True, slots=True)
class _Ours:
    """What we have of an order: figures, and what its commissions come to by currency."""

    order_id: UUID
    figures: OrderFigures | None
    commissions: Mapping[str, int]

    def as_json(self) -> JsonObject | None:
        return None if self.figures is None else self.figures.as_json() | {"commissions": dict(self.commissions)}


def _orders(session: Session, known: Reconciliation) -> _Page:
    rows = fetch(
        session,
        """
        SELECT name, facts, times, is_same, rows, commission_minor FROM reconciliation_order
        WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND name > :after
        ORDER BY name LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "after": known.cursor.get("after", ""),
            "limit": ORDERS_AT_ONCE,
        },
    )
    if not rows:
        return _Page([], 0, ReconciliationStage.EXTRA_ORDERS, {})
    names = [row.name for row in rows]
    ours = _ours_named(session, known, names)
    missing = [name for name in names if name not in ours or ours[name].figures is None]
    hints = _hints(session, known, names, missing)
    found: list[Found] = []
    for row in rows:
        theirs = figures_of(OrderFacts.of(unpack(bytes(row.facts))))
        own = ours.get(row.name)
        differences = compare_order(
            theirs,
            own.figures if own else None,
            known.span,
            told=Told(row.times, is_same=row.is_same),
            hint=hints.get(row.name),
        )
        found += [
            Found(
                About.ORDER,
                row.name,
                difference,
                order_id=own.order_id if own else None,
                theirs=theirs.as_json() if theirs else None,
                ours=own.as_json() if own else None,
                rows=tuple(row.rows),
            )
            for difference in differences
        ]
        if theirs is not None and own is not None:
            differs = any(each.kind is not DifferenceKind.DUPLICATE for each in differences)
            found += _commission(known, row, theirs, own, order_differs=differs)
    return _Page(found, len(rows), ReconciliationStage.ORDERS, {"after": names[-1]})


def _commission(
    known: Reconciliation, row: Row[Any], theirs: OrderFigures, own: _Ours, *, order_differs: bool
) -> list[Found]:
    return [
        Found(
            About.COMMISSION,
            row.name,
            difference,
            order_id=own.order_id,
            theirs=theirs.as_json() | {"commission_minor": row.commission_minor},
            ours=own.as_json(),
            rows=tuple(row.rows),
        )
        for difference in compare_commission(
            row.commission_minor,
            theirs.currency,
            own.figures,
            own.commissions,
            known.span,
            order_differs=order_differs,
        )
    ]


def _ours_named(session: Session, known: Reconciliation, names: Sequence[str]) -> dict[str, _Ours]:
    rows = fetch(
        session,
        """
        SELECT id, external_id FROM orders
        WHERE merchant_id = :merchant_id AND source_id = :source_id AND external_id = ANY(CAST(:names AS text[]))
        """,
        {"merchant_id": known.merchant_id, "source_id": known.source_id, "names": list(names)},
    )
    ours = _ours(session, known.merchant_id, [row.id for row in rows])
    return {row.external_id: ours[row.id] for row in rows}


def _ours(session: Session, merchant_id: UUID, order_ids: Sequence[UUID]) -> dict[UUID, _Ours]:
    """What shops told of orders, and what commissions of them come to."""
    asked = {"merchant_id": merchant_id, "order_ids": list(order_ids)}
    facts: dict[UUID, list[Fact]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT * FROM fact
        WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
          AND kind IN ('order', 'refund', 'dispute', 'cancellation')
        """,
        asked,
    ):
        facts[row.order_id].append(
            Fact.stored(
                kind=row.kind,
                key=row.key,
                version_at=row.version_at,
                version_amount=row.version_amount,
                payload=row.payload,
                body_hash=bytes(row.body_hash),
                conflicting=row.conflicting,
                provisional=row.provisional,
            )
        )
    commissions: dict[UUID, dict[str, int]] = defaultdict(dict)
    for row in fetch(
        session,
        """
        SELECT order_id, currency, CAST(sum(target_minor) AS bigint) AS target_minor FROM commission
        WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
        GROUP BY order_id, currency ORDER BY order_id, currency
        """,
        asked,
    ):
        commissions[row.order_id][row.currency] = row.target_minor
    return {
        order_id: _Ours(order_id, figures_of(OrderFacts.of(facts[order_id])), commissions[order_id])
        for order_id in order_ids
    }


def _hints(session: Session, known: Reconciliation, names: Sequence[str], missing: Sequence[str]) -> dict[str, Hint]:
    """Deliveries about orders that do not count: parked, waiting, ignored; of several the one that says most."""
    asked = {"merchant_id": known.merchant_id, "source_id": known.source_id, "names": list(names)}
    hints = {
        row.order_external_id: Hint(_BY_STATE[row.state], encode("inb", row.id))
        for row in fetch(
            session,
            """
            SELECT DISTINCT ON (order_external_id) order_external_id, id, state FROM inbox
            WHERE merchant_id = :merchant_id AND order_source_id = :source_id
              AND order_external_id = ANY(CAST(:names AS text[]))
              AND (state IN ('parked', 'waiting') OR (state = 'ignored' AND order_external_id = ANY(CAST(:missing AS text[]))))
            ORDER BY order_external_id, array_position(ARRAY['parked', 'waiting', 'ignored'], state), id DESC
            """,
            asked | {"missing": list(missing)},
        )
    }
    unknown = {name for name in missing if name not in hints and len(name) >= NAME_MIN}
    return {**_named_by_parked(session, known, unknown), **hints} if unknown else hints


def _named_by_parked(session: Session, known: Reconciliation, names: Set[str]) -> dict[str, Hint]:
    """Orders whose id stands in the body of a parked delivery: what was not understood names no order by itself."""
    rows = fetch(
        session,
        """
        SELECT id, body FROM inbox
        WHERE merchant_id = :merchant_id AND source_id = :source_id AND state = 'parked'
          AND octet_length(body) <= :bytes_max
        ORDER BY id DESC LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "source_id": known.source_id,
            "bytes_max": PARKED_BYTES_MAX,
            "limit": PARKED_MAX,
        },
    )
    found: dict[str, Hint] = {}
    for row in rows:
        words = set(_WORD.findall(bytes(row.body).decode("utf-8", "replace")))
        for name in names & words:
            found.setdefault(name, Hint(Explanation.PARKED_IN_INBOX, encode("inb", row.id)))
    return found


_BY_STATE = {
    "parked": Explanation.PARKED_IN_INBOX,
    "waiting": Explanation.WAITING_IN_INBOX,
    "ignored": Explanation.IGNORED_IN_INBOX,
}


def _extra_orders(session: Session, known: Reconciliation) -> _Page:
    rows = fetch(
        session,
        """
        SELECT assessment.order_id, assessment.placed_at, orders.external_id, told.name IS NOT NULL AS is_told
        FROM assessment
        JOIN orders ON orders.merchant_id = assessment.merchant_id AND orders.id = assessment.order_id
        LEFT JOIN reconciliation_order AS told
          ON told.merchant_id = assessment.merchant_id AND told.reconciliation_id = :id
         AND told.name = orders.external_id
        WHERE assessment.merchant_id = :merchant_id AND orders.source_id = :source_id
          AND assessment.placed_at >= :since AND assessment.placed_at < :before
          AND (assessment.placed_at, assessment.order_id)
              > (coalesce(CAST(:after_at AS timestamptz), '-infinity'), CAST(:after_id AS uuid))
        ORDER BY assessment.placed_at, assessment.order_id LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "source_id": known.source_id,
            "since": known.span.since,
            "before": known.span.before,
            "after_at": known.cursor.get("at"),
            "after_id": known.cursor.get("id", str(UUID(int=0))),
            "limit": ORDERS_AT_ONCE,
        },
    )
    if not rows:
        return _Page([], 0, ReconciliationStage.PAYOUTS if known.bank_format else None, {})
    extra = [row for row in rows if not row.is_told]
    ours = _ours(session, known.merchant_id, [row.order_id for row in extra])
    found = [
        Found(
            About.ORDER,
            row.external_id,
            difference,
            order_id=row.order_id,
            ours=ours[row.order_id].as_json(),
        )
        for row in extra
        for difference in compare_order(None, ours[row.order_id].figures, known.span)
    ]
    cursor = {"at": rows[-1].placed_at.isoformat(), "id": str(rows[-1].order_id)}
    return _Page(found, len(rows), ReconciliationStage.EXTRA_ORDERS, cursor)


# Payouts.


def _payouts(session: Session, known: Reconciliation) -> _Page:
    rows = fetch(
        session,
        """
        SELECT DISTINCT item_id FROM reconciliation_line
        WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND item_id > CAST(:after AS uuid)
        ORDER BY item_id LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "after": known.cursor.get("after", str(UUID(int=0))),
            "limit": PAYOUTS_AT_ONCE,
        },
    )
    if not rows:
        return _Page([], 0, ReconciliationStage.LINES, {})
    item_ids = [row.item_id for row in rows]
    lines = _lines_of(session, known, item_ids)
    found = _compared_payouts(session, known, item_ids, lines)
    return _Page(found, len(item_ids), ReconciliationStage.PAYOUTS, {"after": str(item_ids[-1])})


def _lines_of(
    session: Session, known: Reconciliation, item_ids: Sequence[UUID]
) -> Mapping[UUID, list[tuple[int, BankLine]]]:
    lines: dict[UUID, list[tuple[int, BankLine]]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT line.* FROM unnest(CAST(:item_ids AS uuid[])) AS asked (item_id)
        CROSS JOIN LATERAL (
            SELECT * FROM reconciliation_line
            WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND item_id = asked.item_id
            ORDER BY number LIMIT :limit
        ) AS line
        """,
        {"merchant_id": known.merchant_id, "id": known.id, "item_ids": list(item_ids), "limit": LINES_MAX},
    ):
        lines[row.item_id].append((row.number, _line(row)))
    return lines


def _line(row: Row[Any]) -> BankLine:
    return BankLine(row.booked_on, LineKind(row.kind), row.reference, row.end_to_end_id, row.currency, row.amount_minor)


def _compared_payouts(
    session: Session,
    known: Reconciliation,
    item_ids: Sequence[UUID],
    lines: Mapping[UUID, list[tuple[int, BankLine]]],
) -> list[Found]:
    ours = _payout_figures(session, known, item_ids)
    found: list[Found] = []
    for item_id in item_ids:
        numbered = lines.get(item_id, [])
        named = next((line.end_to_end_id or line.reference for _, line in numbered), encode("pay", item_id))
        found += [
            Found(
                About.PAYOUT,
                named,
                difference,
                item_id=item_id,
                theirs={"lines": [line.as_json() for _, line in numbered[:ROWS_KEPT]]} if numbered else None,
                ours=ours[item_id].as_json(),
                rows=tuple(number for number, _ in numbered[:ROWS_KEPT]),
            )
            for difference in compare_payout([line for _, line in numbered], ours[item_id], known.span)
        ]
    return found


def _payout_figures(session: Session, known: Reconciliation, item_ids: Sequence[UUID]) -> dict[UUID, PayoutFigures]:
    """What we know of payouts. The day one counts as paid is that of its posting, which the trial balance counts too."""
    rows = fetch(
        session,
        """
        SELECT item.id, item.currency, item.net_minor, item.released_at, run.status,
               coalesce(tried.outcomes, ARRAY[]::text[]) AS outcomes, told.reversed_minor, told.returned_minor, told.booked,
               tried.end_to_end_ids, paid.day AS accepted_on, coalesce(back.in_period, 0) AS came_back_minor,
               coalesce(back.ever, 0) AS came_back_ever_minor, coalesce(back.days, ARRAY[]::date[]) AS came_back_on
        FROM payout_item AS item
        JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
        LEFT JOIN LATERAL (
            SELECT array_agg(outcome ORDER BY number) AS outcomes,
                   max(number) FILTER (WHERE outcome = 'accepted') AS accepted,
                   array_remove(array_agg(in_file.end_to_end_id), NULL) AS end_to_end_ids
            FROM payout_attempt AS attempt
            LEFT JOIN payout_file_line AS in_file
              ON in_file.merchant_id = attempt.merchant_id AND in_file.attempt_id = attempt.id
            WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        ) AS tried ON true
        LEFT JOIN LATERAL (
            SELECT coalesce(max(amount_minor) FILTER (WHERE kind = 'reversed'), 0) AS reversed_minor,
                   coalesce(max(amount_minor) FILTER (WHERE kind = 'returned'), 0) AS returned_minor,
                   coalesce(bool_or(kind = 'paid'), false) AS booked
            FROM provider_fact AS fact
            WHERE fact.merchant_id = item.merchant_id AND fact.item_id = item.id
        ) AS told ON true
        LEFT JOIN posting AS paid
          ON paid.merchant_id = item.merchant_id AND paid.seq = 0
         AND paid.event = concat('payout/', item.id, '/attempt/', tried.accepted, '/accept')
        LEFT JOIN LATERAL (
            SELECT CAST(sum(amount_minor) AS bigint) AS ever,
                   CAST(sum(amount_minor) FILTER (WHERE day BETWEEN :begins_on AND :until) AS bigint) AS in_period,
                   array_agg(DISTINCT day ORDER BY day) AS days
            FROM posting
            WHERE posting.merchant_id = item.merchant_id AND posting.debit_owner_id = item.payee_id
              AND posting.debit_owner_id <> posting.merchant_id AND posting.debit_kind = 'paid'
              AND starts_with(posting.event, concat('payout/', item.id, '/'))
        ) AS back ON true
        WHERE item.merchant_id = :merchant_id AND item.id = ANY(CAST(:item_ids AS uuid[]))
        """,
        {
            "merchant_id": known.merchant_id,
            "item_ids": list(item_ids),
            "begins_on": known.span.begins_on,
            "until": known.span.until,
        },
    )
    return {row.id: _figures(row) for row in rows}


def _figures(row: Row[Any]) -> PayoutFigures:
    outcomes = [Outcome(each) for each in row.outcomes]
    says = ProviderSays(
        sent_minor=row.net_minor,
        reversed_minor=row.reversed_minor,
        booked=row.booked,
        returned=row.returned_minor >= row.net_minor,
    )
    return PayoutFigures(
        state=item_state(
            released=row.released_at is not None, run=RunState(row.status), outcomes=outcomes, says=says
        ).value,
        currency=row.currency,
        net_minor=row.net_minor,
        accepted_on=row.accepted_on,
        came_back_minor=row.came_back_minor,
        came_back_ever_minor=row.came_back_ever_minor,
        came_back_on=row.came_back_on,
        may_have_paid=bool(outcomes) and outcomes[-1] in MAY_HAVE_PAID - {Outcome.ACCEPTED},
        sent_along=frozenset({encode("pay", row.id), *(row.end_to_end_ids or ())}),
    )


def _lines(session: Session, known: Reconciliation) -> _Page:
    """Lines that name no payout of ours."""
    rows = fetch(
        session,
        """
        SELECT * FROM reconciliation_line
        WHERE merchant_id = :merchant_id AND reconciliation_id = :id AND item_id IS NULL AND number > :after
        ORDER BY number LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "after": known.cursor.get("after", 0),
            "limit": PAYOUTS_AT_ONCE,
        },
    )
    if not rows:
        return _Page([], 0, ReconciliationStage.EXTRA_PAYOUTS, {})
    cursor = {"after": rows[-1].number}
    if not known.only_payouts:
        return _Page([], 0, ReconciliationStage.LINES, cursor, left_out=len(rows))
    found = [
        Found(
            About.PAYOUT,
            row.end_to_end_id or row.reference,
            compare_line(_line(row)),
            theirs={"lines": [_line(row).as_json()]},
            rows=(row.number,),
        )
        for row in rows
    ]
    return _Page(found, len(rows), ReconciliationStage.LINES, cursor)


def _extra_payouts(session: Session, known: Reconciliation) -> _Page:
    """Payouts booked as paid, or as come back, in the period, that no line names."""
    cursor: JsonObject = known.cursor
    rows = fetch(
        session,
        """
        SELECT posting.day, posting.slot, posting.booking, posting.id,
               CAST(split_part(posting.event, '/', 2) AS uuid) AS item_id
        FROM posting
        WHERE posting.merchant_id = :merchant_id AND posting.day BETWEEN :begins_on AND :until
          AND (posting.credit_kind = 'paid' OR posting.debit_kind = 'paid') AND posting.event LIKE 'payout/%'
          AND (posting.day, posting.slot, posting.booking, posting.id)
              > (CAST(:day AS date), :slot, :booking, CAST(:after AS uuid))
        ORDER BY posting.day, posting.slot, posting.booking, posting.id LIMIT :limit
        """,
        {
            "merchant_id": known.merchant_id,
            "begins_on": known.span.begins_on,
            "until": known.span.until,
            "day": date.fromisoformat(cursor["day"]) if cursor else date.min,
            "slot": cursor.get("slot", 0),
            "booking": cursor.get("booking", 0),
            "after": cursor.get("id", str(UUID(int=0))),
            "limit": PAYOUTS_AT_ONCE,
        },
    )
    if not rows:
        return _Page([], 0, None, {})
    named = _without_line(session, known, {row.item_id for row in rows})
    last = rows[-1]
    then = {"day": last.day.isoformat(), "slot": last.slot, "booking": last.booking, "id": str(last.id)}
    found = _compared_payouts(session, known, named, {})
    return _Page(found, len(named), ReconciliationStage.EXTRA_PAYOUTS, then)


def _without_line(session: Session, known: Reconciliation, item_ids: Iterable[UUID]) -> list[UUID]:
    """Those of the payouts that no line names and that no difference is stored of yet: two postings may be of one.

    Only of the rail and currency that the bank's file is of, where it was said: the others stand in other files.
    """
    rows = fetch(
        session,
        """
        SELECT asked.id FROM unnest(CAST(:item_ids AS uuid[])) AS asked (id)
        JOIN payout_item AS item ON item.merchant_id = :merchant_id AND item.id = asked.id
        JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
        WHERE run.rail = coalesce(:rail, run.rail) AND item.currency = coalesce(:currency, item.currency)
          AND NOT EXISTS (SELECT FROM reconciliation_line AS line
                          WHERE line.merchant_id = :merchant_id AND line.reconciliation_id = :id
                            AND line.item_id = asked.id)
          AND NOT EXISTS (SELECT FROM reconciliation_difference AS stored
                          WHERE stored.merchant_id = :merchant_id AND stored.reconciliation_id = :id
                            AND stored.item_id = asked.id)
        ORDER BY asked.id
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "item_ids": sorted(item_ids),
            "rail": known.rail,
            "currency": known.currency,
        },
    )
    return [row.id for row in rows]


_PAGES: Mapping[ReconciliationStage, Callable[[Session, Reconciliation], _Page]] = {
    ReconciliationStage.ORDERS: _orders,
    ReconciliationStage.EXTRA_ORDERS: _extra_orders,
    ReconciliationStage.PAYOUTS: _payouts,
    ReconciliationStage.LINES: _lines,
    ReconciliationStage.EXTRA_PAYOUTS: _extra_payouts,
}
