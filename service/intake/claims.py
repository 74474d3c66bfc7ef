"""Claims of KOCs: opened with an answer, decided by a person, told when overdue.

What a person decides for a claim goes through the desk, in the same unit of work as the claim's state: so it is a fact of
the order like any other, and survives replays and rebuilds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session, col, select

from service.domain.claim import (
    AnswerCode,
    ClaimKind,
    ClaimOutcome,
    ClaimState,
    answer_code,
    bare_number,
    settles_itself,
)
from service.domain.errors import Conflict, Missing
from service.domain.events import EventType
from service.domain.ledger import booking_day
from service.domain.order import TouchKind, folded
from service.infra.db import fetch
from service.infra.ids import encode, new_id
from service.intake import desk
from service.intake.desk import Adjustment, OrderNotHere, Person, UnknownOrder
from service.outbox.emit import Event, emit
from service.tables.claims import ClaimRow
from service.tracking.find import ClickSigner

JsonObject = dict[str, Any]

OPEN_MAX = 100
"""Most open claims of one KOC."""
TOLD_MAX = 500
"""Most claims told as overdue in one unit of work."""


class UnknownClaim(Missing):
    code = "unknown-claim"
    title = "There is no such claim"


class ClaimClosed(Conflict):
    """Somebody decided it, or its claimant took it back."""

    code = "claim-closed"
    title = "The claim is no longer open"


class ClaimIsOpen(Conflict):
    """One order is looked into once at a time."""

    code = "claim-is-open"
    title = "You have an open claim about this order"


class TooManyClaims(Conflict):
    code = "too-many-claims"
    title = "Too many of your claims are open"


class ObjectionOver(Conflict):
    """A statement stands once the time for objections is over."""

    code = "objection-over"
    title = "The time to object is over"


class ClaimEarnsNothing(Conflict):
    """Credited, the claimant would earn nothing: no programme it was enrolled in had terms when the order was placed."""

    code = "claim-earns-nothing"
    title = "The claimant earns nothing on this order by any terms"


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a KOC claims. order_id or order_number names the order; claimed: (minor units, currency) it should earn."""

    affiliate_id: UUID
    kind: ClaimKind
    order_id: UUID | None
    order_number: str
    note: str = ""
    evidence: tuple[str, ...] = ()
    click_id: str | None = None
    coupon: str | None = None
    claimed: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class TouchFound:
    """The click or coupon that a claim names. yours: it is the claimant's. carried: the order carried it; None: no order."""

    kind: TouchKind
    yours: bool
    carried: bool | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the books say of a claim's order now, without a word about other KOCs.

    order_id: None where no such order has come, or the claimant has nothing to do with it. commission_ids: the claimant's
    own. candidates: the claimant's own touches on the order, as attribution stored them.
    """

    code: AnswerCode
    order_id: UUID | None
    placed_at: datetime | None
    commission_ids: tuple[UUID, ...]
    candidates: tuple[JsonObject, ...]
    touch: TouchFound | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the merchant decides. An accepted claim is credited with the order, or given an amount: one of the two."""

    outcome: ClaimOutcome
    reason_code: str
    note: str = ""
    evidence: tuple[str, ...] = ()
    amount: tuple[int, str] | None = None
    """(minor units, currency), added to what the claimant earns; None: the claimant is credited with the order."""


def open_claim(session: Session, merchant_id: UUID, claimed: Claimed, *, now: datetime, days: int) -> ClaimRow:
    """Keep a claim, open or answered already. Breaks the constraint `claim_open_key` where one is open about that order.

    now: by the merchant's clock. days: how long the merchant has. Raises UnknownOrder, ObjectionOver, TooManyClaims.
    """
    _link(session, merchant_id, claimed.affiliate_id)
    order_id = claimed.order_id
    if order_id is None:
        order_id = find_orders(session, merchant_id, [claimed.order_number]).get(claimed.order_number)
    order = _order(session, merchant_id, claimed.affiliate_id, order_id)
    if claimed.order_id is not None and not order.concerns_claimant:
        # An id is given to those whom the order concerns; whoever has another one learns nothing by it.
        raise UnknownOrder(f"There is no order {encode('ord', claimed.order_id)} of yours.")
    [merchant] = fetch(session, "SELECT time_zone FROM merchant WHERE id = :id", {"id": merchant_id})
    today = booking_day(now, merchant.time_zone)
    if not all(may_still_object(commission, today) for commission in order.commissions):
        raise ObjectionOver("The statement with this order was open to objections until objection_until.")
    settled = settles_itself(claimed.kind, order.code)
    if not settled and _open_count(session, merchant_id, claimed.affiliate_id) >= OPEN_MAX:
        raise TooManyClaims(f"{OPEN_MAX} of your claims are open. Wait for some of them, or take some back.")
    row = ClaimRow(
        merchant_id=merchant_id,
        id=new_id(),
        affiliate_id=claimed.affiliate_id,
        kind=claimed.kind,
        state=ClaimState.ANSWERED if settled else ClaimState.OPEN,
        subject=_subject(order_id, claimed.order_number),
        order_id=order_id,
        order_number=claimed.order_number,
        note=claimed.note,
        evidence=list(claimed.evidence),
        click_id=claimed.click_id,
        coupon=claimed.coupon,
        claimed_minor=claimed.claimed[0] if claimed.claimed else None,
        claimed_currency=claimed.claimed[1] if claimed.claimed else None,
        opened_at=now,
        decide_by=now + timedelta(days=days),
        closed_at=now if settled else None,
    )
    session.add(row)
    session.flush()
    if not settled:
        emit(session, [_event(EventType.CLAIM_OPENED, row, now)])
    return row


def may_still_object(commission: Row[Any], today: date) -> bool:
    """Whether what a commission comes to may still be objected to. commission: its row. today: by the merchant's calendar.

    Terms that settle by statements may close a statement to objections: its last day for them is in the outlook.
    """
    statement = (commission.outlook or {}).get("statement", {})
    until = statement.get("objection_until")
    return until is None or today <= date.fromisoformat(until)


def withdraw(session: Session, merchant_id: UUID, affiliate_id: UUID, claim_id: UUID, *, now: datetime) -> ClaimRow:
    """Take a claim back. Raises UnknownClaim, ClaimClosed."""
    row = _open_row(session, merchant_id, claim_id, affiliate_id=affiliate_id)
    row.state, row.closed_at = ClaimState.WITHDRAWN, now
    session.flush()
    return row


def decide(session: Session, person: Person, claim_id: UUID, ruling: Ruling) -> ClaimRow:
    """Accept or reject a claim. Accepting books what follows, in this unit of work.

    Raises UnknownClaim, ClaimClosed, OrderNotHere where an order that has not come is to be credited, ClaimEarnsNothing.
    """
    row = _open_row(session, person.merchant_id, claim_id)
    if row.order_id is None:
        row.order_id = find_orders(session, person.merchant_id, [row.order_number]).get(row.order_number)
    if ruling.outcome is ClaimOutcome.ACCEPT:
        row.commission_id = _accept(session, person, row, ruling)
    row.state = ClaimState.ACCEPTED if ruling.outcome is ClaimOutcome.ACCEPT else ClaimState.REJECTED
    row.closed_at, row.decided_by, row.reason_code = person.now, person.key_id, ruling.reason_code
    row.decision_note, row.decision_evidence = ruling.note, list(ruling.evidence)
    session.flush()
    decided: JsonObject = {
        "outcome": ruling.outcome.value,
        "reason_code": ruling.reason_code,
        "commission_id": encode("com", row.commission_id) if row.commission_id else None,
    }
    emit(session, [_event(EventType.CLAIM_DECIDED, row, person.now, **decided)])
    return row


def _accept(session: Session, person: Person, row: ClaimRow, ruling: Ruling) -> UUID:
    """Book what an accepted claim is given. Returns the commission it earns."""
    order = _order(session, person.merchant_id, row.affiliate_id, row.order_id)
    if ruling.amount is not None:
        amount_minor, currency = ruling.amount
        adjustment = Adjustment(
            row.affiliate_id,
            amount_minor,
            currency,
            ruling.reason_code,
            # Where the order itself has not come the amount stands alone, and stays when the order comes.
            order_id=row.order_id if order.is_here else None,
            external_id=encode("clm", row.id),
            note=ruling.note,
            evidence=ruling.evidence,
        )
        return desk.adjust(session, person, adjustment).commission_id
    if row.order_id is None or order.placed_at is None:
        raise OrderNotHere("No such order has come. Give an amount, or wait for the order.")
    desk.attribute(
        session,
        person,
        row.order_id,
        affiliate_id=row.affiliate_id,
        reason_code=ruling.reason_code,
        note=ruling.note,
        evidence=ruling.evidence,
    )
    after = _order(session, person.merchant_id, row.affiliate_id, row.order_id)
    if not after.commissions:
        raise ClaimEarnsNothing("It was in no programme with terms then. Give an amount instead.")
    return after.commission_ids[-1]


def tell_overdue(session: Session, *, merchant_id: UUID, now: datetime) -> int:
    """Tell of open claims that nobody decided in time, each once. Returns how many. now: by our clock.

    They stay open: silence decides nothing. Safe to repeat and to run twice at once.
    """
    rows = fetch(
        session,
        """
        UPDATE claim SET overdue_told_at = due.now
        FROM (SELECT claim.id, CAST(:now AS timestamptz) + make_interval(secs => merchant.clock_offset_s) AS now
              FROM claim JOIN merchant ON merchant.id = claim.merchant_id
              WHERE claim.merchant_id = :merchant_id AND claim.state = 'open' AND claim.overdue_told_at IS NULL
                AND claim.decide_by <= CAST(:now AS timestamptz) + make_interval(secs => merchant.clock_offset_s)
              ORDER BY claim.id LIMIT :limit FOR UPDATE OF claim SKIP LOCKED) AS due
        WHERE claim.merchant_id = :merchant_id AND claim.id = due.id
        RETURNING claim.merchant_id, claim.id, claim.affiliate_id, claim.kind, claim.order_id, claim.decide_by, due.now
        """,
        {"merchant_id": merchant_id, "now": now, "limit": TOLD_MAX},
    )
    emit(session, [_event(EventType.CLAIM_OVERDUE, row, row.now) for row in sorted(rows, key=lambda row: row.id)])
    return len(rows)


def answer(session: Session, row: ClaimRow, signer: ClickSigner, *, now: datetime) -> Answer:
    """What the books say now of what a claim is about; worked out anew each time, since orders may come late."""
    order_id = row.order_id
    if order_id is None:
        order_id = find_orders(session, row.merchant_id, [row.order_number]).get(row.order_number)
    order = _order(session, row.merchant_id, row.affiliate_id, order_id)
    return Answer(
        order.code,
        order_id if order.concerns_claimant else None,
        order.placed_at if order.concerns_claimant else None,
        order.commission_ids,
        order.own_candidates,
        _touch(session, row, order, signer, now=now),
    )


def find_orders(session: Session, merchant_id: UUID, numbers: Sequence[str]) -> dict[str, UUID]:
    """Orders by a number as told: the one shown to the shop's customer, or the shop's own id. Of several the newest."""
    wanted = [(told, written) for told in numbers if (bare := bare_number(told)) for written in (bare, f"#{bare}")]
    if not wanted:
        return {}
    rows = fetch(
        session,
        """
        WITH wanted AS (
            SELECT * FROM unnest(CAST(:told AS text[]), CAST(:written AS text[])) AS wanted (told, written)
        )
        SELECT DISTINCT ON (told) told, id FROM (
            SELECT told, assessment.order_id AS id
            FROM wanted JOIN assessment ON assessment.merchant_id = :merchant_id AND assessment.number = wanted.written
                                       AND assessment.number <> ''
            UNION ALL
            SELECT told, orders.id
            FROM wanted CROSS JOIN (SELECT id FROM source WHERE merchant_id = :merchant_id AND platform <> 'desk')
                 AS shop
            JOIN orders ON orders.merchant_id = :merchant_id AND orders.source_id = shop.id
                       AND orders.external_id = wanted.written
        ) AS found
        ORDER BY told, id DESC
        """,
        {
            "merchant_id": merchant_id,
            "told": [told for told, _ in wanted],
            "written": [written for _, written in wanted],
        },
    )
    return {row.told: row.id for row in rows}


@dataclass(frozen=True, slots=True)
class _Order:
    """A claim's order as far as its claimant is concerned. is_here: it may be adjusted."""

    code: AnswerCode
    placed_at: datetime | None = None
    commissions: tuple[Row[Any], ...] = ()
    candidates: tuple[JsonObject, ...] = ()
    own_candidates: tuple[JsonObject, ...] = ()

    @property
    def commission_ids(self) -> tuple[UUID, ...]:
        return tuple(row.id for row in self.commissions)

    @property
    def concerns_claimant(self) -> bool:
        return bool(self.own_candidates or self.commissions) or self.code is AnswerCode.CREDITED_TO_YOU

    @property
    def is_here(self) -> bool:
        # A bonus has no order, and a commission all the same.
        return self.placed_at is not None or bool(self.commissions)


def _order(session: Session, merchant_id: UUID, affiliate_id: UUID, order_id: UUID | None) -> _Order:
    """An order as it stands; one that is not known where order_id is None."""
    if order_id is None:
        return _Order(answer_code(known=False, arrived=False, yours=False, credited=False))
    asked = {"merchant_id": merchant_id, "order_id": order_id, "affiliate_id": affiliate_id}
    rows = fetch(
        session,
        """
        SELECT placed_at, affiliate_id, candidates FROM assessment
        WHERE merchant_id = :merchant_id AND order_id = :order_id
        """,
        asked,
    )
    commissions = fetch(
        session,
        """
        SELECT commission.* FROM commission
        WHERE merchant_id = :merchant_id AND order_id = :order_id AND payee_id = :affiliate_id
        ORDER BY id
        """,
        asked,
    )
    placed_at = rows[0].placed_at if rows else None
    credited_to = rows[0].affiliate_id if rows else None
    candidates: tuple[JsonObject, ...] = tuple(rows[0].candidates) if rows else ()
    # What an order earned while it was credited to them is nothing now, and not theirs any more.
    earns = any(row.target_minor for row in commissions)
    code = answer_code(
        known=True,
        arrived=placed_at is not None,
        yours=credited_to == affiliate_id or earns,
        credited=credited_to is not None,
    )
    own = tuple(each for each in candidates if each["affiliate_id"] == str(affiliate_id))
    return _Order(code, placed_at, tuple(commissions), candidates, own)


def _touch(session: Session, row: ClaimRow, order: _Order, signer: ClickSigner, *, now: datetime) -> TouchFound | None:
    """Whether the click or coupon that a claim names is the claimant's, and whether the order carried it."""
    if row.click_id:
        touch = signer.read(row.click_id)
        kind, ref, at = TouchKind.CLICK, row.click_id, touch.at
        owners = fetch(
            session,
            """
            SELECT affiliate_id FROM link_owner
            WHERE merchant_id = :merchant_id AND link_id = :link_id AND valid_from <= :at
            ORDER BY valid_from DESC LIMIT 1
            """,
            {"merchant_id": row.merchant_id, "link_id": touch.link_id, "at": at},
        )
    elif row.coupon:
        kind, ref = TouchKind.COUPON, folded(row.coupon)
        owners = fetch(
            session,
            """
            SELECT affiliate_id FROM coupon
            JOIN coupon_owner AS owner ON owner.merchant_id = coupon.merchant_id AND owner.coupon_id = coupon.id
            WHERE coupon.merchant_id = :merchant_id AND coupon.folded = :code AND owner.valid_from <= :at
            ORDER BY owner.valid_from DESC LIMIT 1
            """,
            {"merchant_id": row.merchant_id, "code": ref, "at": order.placed_at or now},
        )
    else:
        return None
    yours = bool(owners) and owners[0].affiliate_id == row.affiliate_id
    carried = any(each["kind"] == kind and each["ref"] == ref for each in order.own_candidates)
    # What others brought is nobody else's business: not even whether it was there.
    return TouchFound(kind, yours, carried if yours and order.placed_at is not None else None)


def _subject(order_id: UUID | None, number: str) -> str:
    return f"number:{bare_number(number).casefold()}" if order_id is None else encode("ord", order_id)


def _link(session: Session, merchant_id: UUID, affiliate_id: UUID) -> None:
    """Bind open claims of a KOC to orders that have come since, so that one order has one of them."""
    unbound = session.exec(
        select(ClaimRow)
        .where(
            col(ClaimRow.merchant_id) == merchant_id,
            col(ClaimRow.affiliate_id) == affiliate_id,
            col(ClaimRow.state) == ClaimState.OPEN,
            col(ClaimRow.order_id).is_(None),
        )
        .order_by(col(ClaimRow.id))
        .with_for_update()
    ).all()
    found = find_orders(session, merchant_id, [row.order_number for row in unbound])
    taken = {
        row.subject
        for row in fetch(
            session,
            """
            SELECT subject FROM claim
            WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id AND state = 'open'
            """,
            {"merchant_id": merchant_id, "affiliate_id": affiliate_id},
        )
    }
    for row in unbound:
        order_id = found.get(row.order_number)
        if order_id is not None and encode("ord", order_id) not in taken:
            row.order_id, row.subject = order_id, encode("ord", order_id)
            taken.add(row.subject)
    session.flush()


def _open_count(session: Session, merchant_id: UUID, affiliate_id: UUID) -> int:
    [row] = fetch(
        session,
        """
        SELECT count(*) AS number FROM claim
        WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id AND state = 'open'
        """,
        {"merchant_id": merchant_id, "affiliate_id": affiliate_id},
    )
    return int(row.number)


def _open_row(session: Session, merchant_id: UUID, claim_id: UUID, *, affiliate_id: UUID | None = None) -> ClaimRow:
    """An open claim, locked: of two that close it one comes too late. Raises UnknownClaim, ClaimClosed."""
    row = session.exec(
        select(ClaimRow)
        .where(col(ClaimRow.merchant_id) == merchant_id, col(ClaimRow.id) == claim_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None or affiliate_id not in {None, row.affiliate_id}:
        raise UnknownClaim(f"There is no claim {encode('clm', claim_id)} here.")
    if row.state != ClaimState.OPEN:
        raise ClaimClosed(f"Claim {encode('clm', claim_id)} is {row.state}.")
    return row


def _event(kind: EventType, row: Any, at: datetime, **more: Any) -> Event:
    payload = {
        "claim_id": encode("clm", row.id),
        "affiliate_id": encode("aff", row.affiliate_id),
        "kind": str(row.kind),
        "order_id": encode("ord", row.order_id) if row.order_id else None,
        "decide_by": row.decide_by.isoformat(),
        **more,
    }
    return Event(row.merchant_id, kind, row.id, payload, at)
