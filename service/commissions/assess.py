"""From facts to booked differences: merge, attribute, compute targets, post what is missing.

The statements come in the order of the design's table, each sorted by key, and locks are never taken backwards: the
caller holds the orders; then commissions, balances, the booking day. `settle` keeps to the same order.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.commissions import facts as stored_facts
from service.commissions import inputs as stored_inputs
from service.commissions.customers import have_assessed_again, look_around
from service.commissions.facts import OrderKey, Told
from service.commissions.periods import Changes, book_periods
from service.commissions.rows import Commission, Entry, store_entries
from service.domain.assessment import Assessment, assess
from service.domain.attribution import Reason
from service.domain.commission import CommissionReason, EntryKind, Places, Target, difference, standing_reason
from service.domain.customer import customer_key
from service.domain.events import EventType
from service.domain.ledger import MerchantTime, Posting, touches_payable
from service.domain.order import FactKind, OrderFacts
from service.domain.payout import Interval, freezable
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import DatabaseContended, execute, fetch
from service.infra.ids import encode, new_id
from service.ledger.post import post
from service.outbox.emit import Event, emit

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """An order locked by the caller, and what was newly told about it.

    seen: the order's counter after the lock; 1 means nothing was known before.
    """

    merchant_id: UUID
    order_id: UUID
    seen: int
    told: Sequence[Told] = ()

    @property
    def key(self) -> OrderKey:
        return (self.merchant_id, self.order_id)


def assess_orders(
    session: Session, updates: Sequence[OrderUpdate], *, when: Mapping[UUID, MerchantTime]
) -> dict[OrderKey, OrderFacts]:
    """Store new facts and book the differences they make. Returns all that is now known, by order.

    updates: one per order, each locked by the caller's unit of work. when: the present of each merchant.
    """
    known = _merge(session, updates)
    crash_point(CrashPoint.INTAKE_FACTS)
    before = _load_state(session, [update.key for update in updates if update.seen > 1])
    inputs = stored_inputs.load(session, known)
    customers = look_around(
        session,
        known,
        {order: state.customer for order, state in before.items()},
        {order: state.identities for order, state in before.items()},
        inputs,
        shown={update.key for update in updates if any(each.fact.kind is FactKind.ORDER for each in update.told)},
    )
    stored_inputs.load_credited(session, customers.histories, inputs)
    results: dict[OrderKey, Assessment] = {}
    targets: list[tuple[Commission, Target]] = []
    for update in sorted(updates, key=lambda each: each.key):
        state = before.get(update.key, _NOTHING)
        result = assess(
            known.get(update.key, OrderFacts()),
            inputs[update.merchant_id],
            identities=state.identities,
            known=list(state.commissions),
            history=customers.histories.get(update.key),
        )
        results[update.key] = result
        for target in result.targets:
            commission = state.commissions.get((target.payee_id, target.currency)) or Commission(
                new_id(), update.merchant_id, update.order_id, target.payee_id, target.currency, Places()
            )
            targets.append((commission, target))
    frozen = [each for each, _ in targets if results[_order_of(each)].frozen and each.places.settled_minor > 0]
    settled_here = _freezable(session, frozen)
    periods = Changes()
    for commission, target in targets:
        periods.leave(commission)
        commission.moves = difference(
            commission.places,
            target_minor=target.target_minor,
            frozen=results[_order_of(commission)].frozen is not None,
            freezable_minor=settled_here.get(commission.id, 0),
        )
        commission.places = commission.places.after(commission.moves)
        commission.target_minor = target.target_minor
        snapshot = known[_order_of(commission)].snapshot
        placed_at = None if snapshot is None else snapshot.placed_at
        periods.enter(commission, target, placed_at, inputs[commission.merchant_id])
    _store_assessments(session, updates, known, results, when)
    have_assessed_again(session, customers.changed, when)
    of_periods = book_periods(session, periods, when)
    _store_commissions(session, targets, known, when)
    seen = {update.key: update.seen for update in updates}
    postings, entries = _book(targets, seen)
    kept = post(session, [*postings, *of_periods.postings], when=when)
    crash_point(CrashPoint.INTAKE_POSTED)
    _still_here(session, targets, settled_here)
    store_entries(session, [*entries, *of_periods.entries], kept, when)
    emit(session, [*_events(targets, updates, results, before, when), *of_periods.events])
    return known


@dataclass(slots=True)
class _State:
    commissions: dict[tuple[UUID, str], Commission] = field(default_factory=dict)
    identities: dict[str, bool] = field(default_factory=dict)
    customer: str | None = None
    attribution: tuple[UUID | None, str] | None = None
    verdicts: dict[UUID, tuple[int | None, str]] = field(default_factory=dict)
    """(approved_minor, reason_code) by commission id."""


_NOTHING = _State()


def _order_of(commission: Commission) -> OrderKey:
    assert commission.order_id is not None
    return (commission.merchant_id, commission.order_id)


def _merge(session: Session, updates: Sequence[OrderUpdate]) -> dict[OrderKey, OrderFacts]:
    merged = {update.key: stored_facts.merged(update.told) for update in updates}
    stored_facts.store(session, {key: list(each.values()) for key, each in merged.items()})
    # An order made by this unit of work has no facts but these; of others, read what the last lock holder committed.
    known = stored_facts.load(session, [update.key for update in updates if update.seen > 1])
    for update in updates:
        if update.seen == 1:
            known[update.key] = OrderFacts.of(each.fact for each in merged[update.key].values())
        else:
            known.setdefault(update.key, OrderFacts())
    return known


def _load_state(session: Session, orders: Sequence[OrderKey]) -> dict[OrderKey, _State]:
    if not orders:
        return {}
    asked = {"merchant_ids": [each for each, _ in orders], "order_ids": [each for _, each in orders]}
    state: dict[OrderKey, _State] = defaultdict(_State)
    for row in fetch(
        session,
        """
        SELECT commission.merchant_id, commission.order_id, id, payee_id, currency, pending_minor, held_minor,
               settled_minor, entry_seq, approved_minor, reason_code, volume_minor, periods
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[])) AS asked (merchant_id, order_id)
        JOIN commission ON commission.merchant_id = asked.merchant_id AND commission.order_id = asked.order_id
        """,
        asked,
    ):
        commission = Commission(
            row.id,
            row.merchant_id,
            row.order_id,
            row.payee_id,
            row.currency,
            Places(row.pending_minor, row.held_minor, row.settled_minor),
            entry_seq=row.entry_seq,
            is_new=False,
            volume_minor=row.volume_minor,
            periods=row.periods,
        )
        state[_order_of(commission)].commissions[row.payee_id, row.currency] = commission
        state[_order_of(commission)].verdicts[row.id] = (row.approved_minor, row.reason_code)
    for row in fetch(
        session,
        """
        SELECT assessment.merchant_id, assessment.order_id, identities, affiliate_id, attribution_reason, customer
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[])) AS asked (merchant_id, order_id)
        JOIN assessment ON assessment.merchant_id = asked.merchant_id AND assessment.order_id = asked.order_id
        """,
        asked,
    ):
        each = state[row.merchant_id, row.order_id]
        each.identities = row.identities
        each.customer = row.customer
        each.attribution = (row.affiliate_id, row.attribution_reason)
    return state


def _freezable(session: Session, asked: Sequence[Commission]) -> dict[UUID, int]:
    """How much of each commission's settled money is still here, by commission id."""
    if not asked:
        return {}
    entries: dict[UUID, list[tuple[int, int]]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT commission_id, payable_version,
               CASE WHEN destination = 'payable' THEN amount_minor ELSE -amount_minor END AS change
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        JOIN commission_entry AS entry
          ON entry.merchant_id = asked.merchant_id AND entry.commission_id = asked.id
        WHERE payable_version IS NOT NULL
        """,
        {"merchant_ids": [each.merchant_id for each in asked], "ids": [each.id for each in asked]},
    ):
        entries[row.commission_id].append((row.payable_version, row.change))
    intervals = load_intervals(session, {(each.merchant_id, each.payee_id, each.currency) for each in asked})
    return {
        each.id: freezable(entries[each.id], intervals.get((each.merchant_id, each.payee_id, each.currency), ()))
        for each in asked
    }


def load_intervals(
    session: Session, payees: set[tuple[UUID, UUID, str]]
) -> dict[tuple[UUID, UUID, str], list[Interval]]:
    """Payout items by (merchant, payee, currency) as the versions they own."""
    asked = sorted(payees)
    intervals: dict[tuple[UUID, UUID, str], list[Interval]] = defaultdict(list)
    for row in fetch(
        session,
        """
        SELECT item.merchant_id, item.payee_id, item.currency, id, from_version, to_version, handed_over_at,
               gave_back_version
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:payee_ids AS uuid[]), CAST(:currencies AS text[]))
             AS asked (merchant_id, payee_id, currency)
        JOIN payout_item AS item ON item.merchant_id = asked.merchant_id AND item.payee_id = asked.payee_id
                                AND item.currency = asked.currency
        """,
        {
            "merchant_ids": [each for each, _, _ in asked],
            "payee_ids": [each for _, each, _ in asked],
            "currencies": [each for _, _, each in asked],
        },
    ):
        intervals[row.merchant_id, row.payee_id, row.currency].append(
            Interval(
                row.id,
                row.from_version,
                row.to_version,
                handed_over=row.handed_over_at is not None,
                gave_back_version=row.gave_back_version,
            )
        )
    return intervals


def _still_here(
    session: Session, targets: Sequence[tuple[Commission, Target]], settled_here: Mapping[UUID, int]
) -> None:
    """Start over when money that was frozen out of payable has been handed to a rail meanwhile.

    Planning a payout holds the payable balance, which is ours only since `post`: what was read before may be stale.
    """
    taken = [
        commission
        for commission, _ in targets
        if any(move.kind is EntryKind.FREEZE and touches_payable(move) for move in commission.moves)
    ]
    if taken and any(
        amount_minor != settled_here[commission_id]
        for commission_id, amount_minor in _freezable(session, taken).items()
    ):
        raise DatabaseContended("Money was handed to a rail while its order was being frozen.")


def _book(
    targets: Sequence[tuple[Commission, Target]], seen: Mapping[OrderKey, int]
) -> tuple[list[Posting], list[Entry]]:
    """One posting and one entry per move; the event is numbered by the order's counter, so it can exist only once."""
    postings: list[Posting] = []
    entries: list[Entry] = []
    numbers: dict[OrderKey, int] = defaultdict(int)
    for commission, _ in targets:
        order = _order_of(commission)
        first_seq = commission.entry_seq - len(commission.moves)
        for number, move in enumerate(commission.moves, start=1):
            posting = Posting(
                new_id(),
                event=f"order/{encode('ord', order[1])}/assessment/{seen[order]}",
                seq=numbers[order],
                debit=commission.account(move.source),
                credit=commission.account(move.destination),
                amount_minor=move.amount_minor,
            )
            numbers[order] += 1
            postings.append(posting)
            entries.append(Entry(commission, first_seq + number, move, posting.id))
    return postings, entries


def _store_assessments(
    session: Session,
    updates: Sequence[OrderUpdate],
    known: Mapping[OrderKey, OrderFacts],
    results: Mapping[OrderKey, Assessment],
    when: Mapping[UUID, MerchantTime],
) -> None:
    ordered = sorted(updates, key=lambda update: update.key)
    snapshots = [known[update.key].snapshot for update in ordered]
    found = [results[update.key] for update in ordered]
    execute(
        session,
        """
        INSERT INTO assessment (merchant_id, order_id, seq, placed_at, currency, number, goods_minor, net_minor,
                                cancelled, affiliate_id, program_id, attribution_reason, touch, customer, candidates,
                                identities, frozen_reason, assessed_at)
        SELECT merchant_id, order_id, seq, placed_at, currency, number, goods_minor, net_minor, cancelled,
               affiliate_id, program_id, attribution_reason, touch, customer, CAST(candidates AS jsonb),
               CAST(identities AS jsonb), frozen_reason, assessed_at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:order_ids AS uuid[]), CAST(:seqs AS bigint[]),
                    CAST(:placed AS timestamptz[]), CAST(:currencies AS text[]), CAST(:numbers AS text[]),
                    CAST(:goods AS bigint[]), CAST(:nets AS bigint[]), CAST(:cancelled AS boolean[]),
                    CAST(:affiliates AS uuid[]), CAST(:programs AS uuid[]), CAST(:reasons AS text[]),
                    CAST(:touches AS text[]), CAST(:customers AS text[]), CAST(:candidates AS text[]),
                    CAST(:identities AS text[]), CAST(:frozen AS text[]),
                    CAST(:assessed AS timestamptz[]))
             AS made (merchant_id, order_id, seq, placed_at, currency, number, goods_minor, net_minor, cancelled,
                      affiliate_id, program_id, attribution_reason, touch, customer, candidates, identities,
                      frozen_reason, assessed_at)
        ON CONFLICT (merchant_id, order_id) DO UPDATE
        SET seq = excluded.seq, placed_at = excluded.placed_at, currency = excluded.currency,
            number = excluded.number, goods_minor = excluded.goods_minor, net_minor = excluded.net_minor,
            cancelled = excluded.cancelled, affiliate_id = excluded.affiliate_id, program_id = excluded.program_id,
            attribution_reason = excluded.attribution_reason, touch = excluded.touch,
            customer = excluded.customer, candidates = excluded.candidates,
            identities = excluded.identities, frozen_reason = excluded.frozen_reason,
            assessed_at = excluded.assessed_at
        """,
        {
            "merchant_ids": [update.merchant_id for update in ordered],
            "order_ids": [update.order_id for update in ordered],
            "seqs": [update.seen for update in ordered],
            "placed": [snapshot.placed_at if snapshot else None for snapshot in snapshots],
            "currencies": [snapshot.currency if snapshot else None for snapshot in snapshots],
            "numbers": [snapshot.number if snapshot else "" for snapshot in snapshots],
            "goods": [snapshot.goods_minor if snapshot else None for snapshot in snapshots],
            "nets": [result.net_minor if snapshot else None for snapshot, result in zip(snapshots, found, strict=True)],
            "cancelled": [bool(snapshot and snapshot.cancelled) for snapshot in snapshots],
            "affiliates": [result.attribution.affiliate_id for result in found],
            "programs": [result.attribution.program_id for result in found],
            "reasons": [result.attribution.reason.value for result in found],
            "touches": [result.attribution.touch.kind.value if result.attribution.touch else None for result in found],
            "customers": [customer_key(snapshot.customer) if snapshot else None for snapshot in snapshots],
            "candidates": [json.dumps(result.trace, separators=(",", ":")) for result in found],
            "identities": [json.dumps(result.attribution.identities) for result in found],
            "frozen": [result.frozen.value if result.frozen else None for result in found],
            "assessed": [when[update.merchant_id].now for update in ordered],
        },
    )


def _store_commissions(
    session: Session,
    targets: Sequence[tuple[Commission, Target]],
    known: Mapping[OrderKey, OrderFacts],
    when: Mapping[UUID, MerchantTime],
) -> None:
    if not targets:
        return
    snapshots = [known[_order_of(commission)].snapshot for commission, _ in targets]
    for commission, _ in targets:
        commission.entry_seq += len(commission.moves)
    # The order's lock makes these absolute values right; nobody else writes a commission without it.
    execute(
        session,
        """
        INSERT INTO commission (merchant_id, id, order_id, payee_id, currency, program_id, program_version,
                                target_minor, pending_minor, held_minor, settled_minor, approved_minor, settles_at,
                                reason_code, entry_seq, receipt, outlook, advance_at, placed_at, volume_minor, periods,
                                created_at, updated_at)
        SELECT merchant_id, id, order_id, payee_id, currency, program_id, program_version, target_minor,
               pending_minor, held_minor, settled_minor, approved_minor, settles_at, reason_code, entry_seq,
               CAST(receipt AS jsonb), CAST(outlook AS jsonb), advance_at, placed_at, volume_minor,
               CAST(periods AS jsonb), at, at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:order_ids AS uuid[]),
                    CAST(:payee_ids AS uuid[]), CAST(:currencies AS text[]), CAST(:program_ids AS uuid[]),
                    CAST(:program_versions AS integer[]), CAST(:targets AS bigint[]), CAST(:pending AS bigint[]),
                    CAST(:held AS bigint[]), CAST(:settled AS bigint[]), CAST(:approved AS bigint[]),
                    CAST(:settle AS timestamptz[]), CAST(:reasons AS text[]), CAST(:entry_seqs AS bigint[]),
                    CAST(:receipts AS text[]), CAST(:outlooks AS text[]), CAST(:advances AS timestamptz[]),
                    CAST(:placed AS timestamptz[]), CAST(:volumes AS bigint[]), CAST(:periods AS text[]),
                    CAST(:moments AS timestamptz[]))
             AS made (merchant_id, id, order_id, payee_id, currency, program_id, program_version, target_minor,
                      pending_minor, held_minor, settled_minor, approved_minor, settles_at, reason_code, entry_seq,
                      receipt, outlook, advance_at, placed_at, volume_minor, periods, at)
        ON CONFLICT (merchant_id, order_id, payee_id, currency) DO UPDATE
        -- What earns nothing any more shows the programme by which it once did. Whom people gave something shows none.
        SET program_id = CASE WHEN excluded.receipt = CAST('{}' AS jsonb)
                              THEN commission.program_id ELSE excluded.program_id END,
            program_version = CASE WHEN excluded.receipt = CAST('{}' AS jsonb)
                                   THEN commission.program_version ELSE excluded.program_version END,
            target_minor = excluded.target_minor, pending_minor = excluded.pending_minor,
            held_minor = excluded.held_minor, settled_minor = excluded.settled_minor,
            approved_minor = excluded.approved_minor, settles_at = excluded.settles_at,
            reason_code = excluded.reason_code, entry_seq = excluded.entry_seq, receipt = excluded.receipt,
            outlook = excluded.outlook, advance_at = excluded.advance_at,
            placed_at = coalesce(excluded.placed_at, commission.placed_at), volume_minor = excluded.volume_minor,
            periods = excluded.periods, updated_at = excluded.updated_at
        """,
        {
            "merchant_ids": [commission.merchant_id for commission, _ in targets],
            "ids": [commission.id for commission, _ in targets],
            "order_ids": [commission.order_id for commission, _ in targets],
            "payee_ids": [commission.payee_id for commission, _ in targets],
            "currencies": [commission.currency for commission, _ in targets],
            "program_ids": [target.program_id for _, target in targets],
            "program_versions": [target.program_version for _, target in targets],
            "targets": [target.target_minor for _, target in targets],
            "pending": [commission.places.pending_minor for commission, _ in targets],
            "held": [commission.places.held_minor for commission, _ in targets],
            "settled": [commission.places.settled_minor for commission, _ in targets],
            "approved": [target.approved_minor for _, target in targets],
            "settle": [target.settles_at for _, target in targets],
            "reasons": [standing_reason(target, commission.places).value for commission, target in targets],
            "entry_seqs": [commission.entry_seq for commission, _ in targets],
            "receipts": [json.dumps(target.receipt, separators=(",", ":")) for _, target in targets],
            "outlooks": [
                json.dumps(target.outlook.as_json(), separators=(",", ":"))
                if target.outlook is not None and target.target_minor
                else None
                for _, target in targets
            ],
            "advances": [
                target.outlook.advance_at if target.outlook is not None and target.target_minor else None
                for _, target in targets
            ],
            "placed": [snapshot.placed_at if snapshot else None for snapshot in snapshots],
            "volumes": [commission.volume_minor for commission, _ in targets],
            "periods": [json.dumps(commission.periods) for commission, _ in targets],
            "moments": [when[commission.merchant_id].now for commission, _ in targets],
        },
    )


def _events(
    targets: Sequence[tuple[Commission, Target]],
    updates: Sequence[OrderUpdate],
    results: Mapping[OrderKey, Assessment],
    before: Mapping[OrderKey, _State],
    when: Mapping[UUID, MerchantTime],
) -> list[Event]:
    events = []
    for update in updates:
        attribution = results[update.key].attribution
        now = (attribution.affiliate_id, attribution.reason.value)
        told = before.get(update.key, _NOTHING).attribution
        credited_before = told[0] if told is not None else None
        payload: JsonObject = {
            "order_id": encode("ord", update.order_id),
            "reason_code": attribution.reason.value,
        }
        at = when[update.merchant_id].now
        if attribution.affiliate_id is None:
            # An order without a touch is most orders of most shops: told only where somebody loses it.
            if told != now and (attribution.reason is not Reason.NO_TOUCH or credited_before is not None):
                events.append(Event(update.merchant_id, EventType.ORDER_UNATTRIBUTED, update.order_id, payload, at))
        elif attribution.affiliate_id != credited_before:
            program_id = attribution.program_id
            payload["affiliate_id"] = encode("aff", attribution.affiliate_id)
            payload["program_id"] = encode("prg", program_id) if program_id else None
            events.append(Event(update.merchant_id, EventType.ORDER_ATTRIBUTED, update.order_id, payload, at))
    events.extend(
        _commission_event(kind, commission, target, when[commission.merchant_id].now)
        for commission, target in targets
        for kind in [
            *_what_happened(commission),
            *_what_was_decided(commission, target, before.get(_order_of(commission), _NOTHING)),
        ]
    )
    return events


def _what_happened(commission: Commission) -> list[EventType]:
    kinds = {move.kind for move in commission.moves}
    told = []
    if EntryKind.REDUCE in kinds or EntryKind.ACCRUE in kinds:
        if commission.is_new:
            told.append(EventType.COMMISSION_ACCRUED)
        else:
            told.append(EventType.COMMISSION_ADJUSTED if commission.target_minor else EventType.COMMISSION_REVERSED)
    if EntryKind.FREEZE in kinds:
        told.append(EventType.COMMISSION_HELD)
    if EntryKind.UNFREEZE in kinds:
        told.append(EventType.COMMISSION_RELEASED)
    return told


def _what_was_decided(commission: Commission, target: Target, before: _State) -> list[EventType]:
    """What a person decided now; a decision that stands already is not told again."""
    approved_minor, reason = before.verdicts.get(commission.id, (None, ""))
    # 0 is what terms that demand an approval begin with.
    if target.approved_minor and target.approved_minor != approved_minor:
        return [EventType.COMMISSION_APPROVED]
    if target.reason is CommissionReason.REJECTED and reason != CommissionReason.REJECTED:
        return [EventType.COMMISSION_REJECTED]
    return []


def _commission_event(kind: EventType, commission: Commission, target: Target, at: datetime) -> Event:
    payload: JsonObject = {
        "commission_id": encode("com", commission.id),
        "order_id": encode("ord", _order_of(commission)[1]),
        "affiliate_id": encode("aff", commission.payee_id),
        "currency": commission.currency,
        "target_minor": target.target_minor,
        "pending_minor": commission.places.pending_minor,
        "held_minor": commission.places.held_minor,
        "settled_minor": commission.places.settled_minor,
        "approved_minor": target.approved_minor,
        "reason_code": standing_reason(target, commission.places).value,
    }
    return Event(commission.merchant_id, kind, commission.id, payload, at)
