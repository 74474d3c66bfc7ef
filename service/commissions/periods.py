"""Let periods follow what their orders do: ladders, milestones and caps, each one commission per payee, rule and period."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlmodel import Session

from service.commissions.rows import Commission, Entry
from service.domain.commission import CommissionReason, Places, Target, shift
from service.domain.dated import DatedInputs
from service.domain.events import EventType
from service.domain.ledger import MerchantTime, Posting
from service.domain.periods import (
    Cap,
    PeriodKey,
    PeriodRule,
    Sum,
    Sums,
    contribution,
    gives,
    period_receipt,
    period_rule_json,
    period_rule_of,
    periods_of,
)
from service.domain.program import period_rules
from service.infra.db import execute, fetch
from service.infra.ids import encode, new_id
from service.outbox.emit import Event

JsonObject = dict[str, Any]


class PeriodName(NamedTuple):
    """The key of one period of one payee."""

    merchant_id: UUID
    payee_id: UUID
    program_id: UUID
    rule: str
    begins_on: date
    currency: str


@dataclass(slots=True)
class Changes:
    """What a unit of work changes in periods. rules: those of a period that it may be the first to reach."""

    sums: dict[PeriodName, Sums] = field(default_factory=dict)
    rules: dict[PeriodName, tuple[PeriodRule, ...]] = field(default_factory=dict)

    def leave(self, commission: Commission) -> None:
        """Take out what a commission counted for, as it was stored; call before it moves."""
        for name in _stored_names(commission):
            self.sums[name] = self.sums.get(name, Sums()) - _counts(commission)

    def enter(self, commission: Commission, target: Target, placed_at: datetime | None, inputs: DatedInputs) -> None:
        """Put in what it counts for now; call after it moved. Sets what is to be stored with it."""
        commission.volume_minor = target.volume_minor
        found = rules_of(target, placed_at, inputs)
        commission.periods = tuple((str(target.program_id), key.rule, key.begins_on.isoformat()) for key in found)
        for key, name in zip(found, _stored_names(commission), strict=True):
            self.rules[name] = found[key]
        self.move(commission)

    def move(self, commission: Commission) -> None:
        """Put in what a commission counts for where it is now."""
        for name in _stored_names(commission):
            self.sums[name] = self.sums.get(name, Sums()) + _counts(commission)


def rules_of(
    target: Target, placed_at: datetime | None, inputs: DatedInputs
) -> Mapping[PeriodKey, tuple[PeriodRule, ...]]:
    """The periods that a target counts in, each with its rules; none where its payee did not bring the order."""
    program_id, payee_id = target.program_id, target.payee_id
    if not target.is_affiliate or program_id is None or placed_at is None:
        return {}
    return periods_of(
        period_rules(inputs.versions.get(program_id, ())),
        placed_at=placed_at,
        enrolled_since=lambda at: inputs.enrolled_since(program_id, payee_id, at),
        time_zone=inputs.time_zone,
    )


def _stored_names(commission: Commission) -> list[PeriodName]:
    return [
        PeriodName(
            commission.merchant_id,
            commission.payee_id,
            UUID(program_id),
            rule,
            date.fromisoformat(begins_on),
            commission.currency,
        )
        for program_id, rule, begins_on in commission.periods
    ]


def _counts(commission: Commission) -> Sums:
    places = commission.places
    return contribution(
        pending_minor=places.pending_minor,
        held_minor=places.held_minor,
        settled_minor=places.settled_minor,
        sales_minor=commission.volume_minor,
    )


@dataclass(slots=True)
class Booked:
    """What periods' commissions moved: to be posted and entered with what their orders moved."""

    postings: list[Posting] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


def book_periods(session: Session, changes: Changes, when: Mapping[UUID, MerchantTime]) -> Booked:
    """Add changes to the periods' sums, and let each period's commission be what they come to.

    Locks the periods in key order, after their orders. The caller posts and enters what is returned.
    """
    changed = {name: sums for name, sums in sorted(changes.sums.items()) if sums != Sums()}
    booked = Booked()
    if not changed:
        return booked
    rows = _add(session, changed, changes.rules, when)
    kept = _kept(session, rows)
    moved: list[_Moved] = []
    for row in rows:
        sums = sums_of(row)
        rules = [period_rule_of(rule) for rule in row.rules]
        given = gives(rules, sums, row.currency)
        want = Places(given.pending_minor, given.held_minor, given.settled_minor)
        commission = kept.get(row.id)
        if commission is None:
            if want == Places():
                continue
            commission = Commission(row.id, row.merchant_id, None, row.payee_id, row.currency, Places())
        commission.moves = shift(commission.places, want)
        commission.places = want
        commission.target_minor = given.target_minor
        each = _Moved(
            commission,
            row,
            CommissionReason.PERIOD_CAP if isinstance(rules[0], Cap) else CommissionReason.PERIOD_BONUS,
            period_receipt(rules, sums, row.currency),
        )
        _book(booked, each, when[row.merchant_id])
        moved.append(each)
    _store(session, moved, when)
    return booked


@dataclass(frozen=True, slots=True)
class _Moved:
    """A period's commission, moved to what it comes to. row: of the period."""

    commission: Commission
    row: Any
    reason: CommissionReason
    receipt: JsonObject


def _book(booked: Booked, moved: _Moved, when: MerchantTime) -> None:
    commission, row = moved.commission, moved.row
    for number, move in enumerate(commission.moves):
        posting = Posting(
            new_id(),
            event=f"period/{encode('com', row.id)}/{row.version}",
            seq=number,
            debit=commission.account(move.source),
            credit=commission.account(move.destination),
            amount_minor=move.amount_minor,
        )
        commission.entry_seq += 1
        booked.postings.append(posting)
        booked.entries.append(Entry(commission, commission.entry_seq, move, posting.id))
    if commission.moves:
        kind = EventType.COMMISSION_ACCRUED if commission.is_new else EventType.COMMISSION_ADJUSTED
        payload: JsonObject = {
            "commission_id": encode("com", commission.id),
            "order_id": None,
            "period": {"rule": row.rule, "begins_on": row.begins_on.isoformat()},
            "affiliate_id": encode("aff", commission.payee_id),
            "currency": commission.currency,
            "target_minor": commission.target_minor,
            "pending_minor": commission.places.pending_minor,
            "held_minor": commission.places.held_minor,
            "settled_minor": commission.places.settled_minor,
            "approved_minor": None,
            "reason_code": moved.reason.value,
        }
        booked.events.append(Event(commission.merchant_id, kind, commission.id, payload, when.now))


_COLUMNS = tuple(
    f"{place}_{part}"
    for place in ("pending", "held", "settled")
    for part in ("commission_minor", "sales_minor", "orders")
)


def _parts(sums: Sums) -> Iterable[int]:
    for each in (sums.pending, sums.held, sums.settled):
        yield from (each.commission_minor, each.sales_minor, each.orders)


def sums_of(row: Any) -> Sums:
    """The sums of a row of rule_period."""
    parts = [getattr(row, column) for column in _COLUMNS]
    return Sums(Sum(*parts[:3]), Sum(*parts[3:6]), Sum(*parts[6:]))


def _add(
    session: Session,
    changed: Mapping[PeriodName, Sums],
    rules: Mapping[PeriodName, tuple[PeriodRule, ...]],
    when: Mapping[UUID, MerchantTime],
) -> Sequence[Any]:
    names = list(changed)
    # The upsert itself is the lock: rows are met in key order.
    sets = ", ".join(f"{column} = known.{column} + excluded.{column}" for column in _COLUMNS)
    given = ", ".join(f"CAST(:{column} AS bigint[])" for column in _COLUMNS)
    columns = ", ".join(_COLUMNS)
    return fetch(
        session,
        f"""
        INSERT INTO rule_period AS known (merchant_id, id, payee_id, program_id, rule, begins_on, ends_on, currency,
                                          version, rules, created_at, updated_at, {columns})
        SELECT merchant_id, id, payee_id, program_id, rule, begins_on, ends_on, currency, 1, CAST(rules AS jsonb), at, at,
               {columns}
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:payee_ids AS uuid[]),
                    CAST(:program_ids AS uuid[]), CAST(:names AS text[]), CAST(:begins AS date[]),
                    CAST(:ends AS date[]), CAST(:currencies AS text[]), CAST(:rules AS text[]),
                    CAST(:moments AS timestamptz[]), {given})
             AS change (merchant_id, id, payee_id, program_id, rule, begins_on, ends_on, currency, rules, at, {columns})
        ORDER BY merchant_id, payee_id, program_id, rule COLLATE "C", begins_on, currency COLLATE "C"
        ON CONFLICT (merchant_id, payee_id, program_id, rule, begins_on, currency) DO UPDATE
        SET version = known.version + 1, updated_at = excluded.updated_at, {sets}
        RETURNING *
        """,  # noqa: S608 - put together from our own constants
        {
            "merchant_ids": [name.merchant_id for name in names],
            "ids": [new_id() for _ in names],
            "payee_ids": [name.payee_id for name in names],
            "program_ids": [name.program_id for name in names],
            "names": [name.rule for name in names],
            "begins": [name.begins_on for name in names],
            "ends": [rules[name][0].stretch.end_of(name.begins_on) if name in rules else None for name in names],
            "currencies": [name.currency for name in names],
            # A period that is only left is there already, with its rules.
            "rules": [json.dumps([period_rule_json(rule) for rule in rules.get(name, ())]) for name in names],
            "moments": [when[name.merchant_id].now for name in names],
            **{
                column: [parts[place] for parts in ([*_parts(changed[name])] for name in names)]
                for place, column in enumerate(_COLUMNS)
            },
        },
    )


def _kept(session: Session, rows: Sequence[Any]) -> dict[UUID, Commission]:
    """The periods' commissions, read by a statement of its own: it sees what the last holder of each lock committed."""
    found = fetch(
        session,
        """
        SELECT commission.merchant_id, commission.id, payee_id, currency, pending_minor, held_minor, settled_minor, entry_seq
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        JOIN commission ON commission.merchant_id = asked.merchant_id AND commission.id = asked.id
        """,
        {"merchant_ids": [row.merchant_id for row in rows], "ids": [row.id for row in rows]},
    )
    return {
        row.id: Commission(
            row.id,
            row.merchant_id,
            None,
            row.payee_id,
            row.currency,
            Places(row.pending_minor, row.held_minor, row.settled_minor),
            entry_seq=row.entry_seq,
            is_new=False,
        )
        for row in found
    }


def _store(session: Session, moved: Sequence[_Moved], when: Mapping[UUID, MerchantTime]) -> None:
    if not moved:
        return

    def begins(row: Any) -> datetime:
        zone = ZoneInfo(when[row.merchant_id].time_zone)
        return datetime.combine(row.begins_on, time(), zone).astimezone(UTC)

    commissions = [each.commission for each in moved]
    execute(
        session,
        """
        INSERT INTO commission (merchant_id, id, period_id, payee_id, currency, program_id, target_minor, pending_minor,
                                held_minor, settled_minor, reason_code, entry_seq, receipt, placed_at, created_at,
                                updated_at)
        SELECT merchant_id, id, id, payee_id, currency, program_id, target_minor, pending_minor, held_minor,
               settled_minor, reason_code, entry_seq, CAST(receipt AS jsonb), placed_at, at, at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:payee_ids AS uuid[]),
                    CAST(:currencies AS text[]), CAST(:program_ids AS uuid[]), CAST(:targets AS bigint[]),
                    CAST(:pending AS bigint[]), CAST(:held AS bigint[]), CAST(:settled AS bigint[]),
                    CAST(:reasons AS text[]), CAST(:entry_seqs AS bigint[]), CAST(:receipts AS text[]),
                    CAST(:placed AS timestamptz[]), CAST(:moments AS timestamptz[]))
             AS made (merchant_id, id, payee_id, currency, program_id, target_minor, pending_minor, held_minor,
                      settled_minor, reason_code, entry_seq, receipt, placed_at, at)
        ON CONFLICT (merchant_id, id) DO UPDATE
        SET target_minor = excluded.target_minor, pending_minor = excluded.pending_minor,
            held_minor = excluded.held_minor, settled_minor = excluded.settled_minor,
            reason_code = excluded.reason_code, entry_seq = excluded.entry_seq, receipt = excluded.receipt,
            updated_at = excluded.updated_at
        """,
        {
            "merchant_ids": [commission.merchant_id for commission in commissions],
            "ids": [commission.id for commission in commissions],
            "payee_ids": [commission.payee_id for commission in commissions],
            "currencies": [commission.currency for commission in commissions],
            "program_ids": [each.row.program_id for each in moved],
            "targets": [commission.target_minor for commission in commissions],
            "pending": [commission.places.pending_minor for commission in commissions],
            "held": [commission.places.held_minor for commission in commissions],
            "settled": [commission.places.settled_minor for commission in commissions],
            "reasons": [each.reason.value for each in moved],
            "entry_seqs": [commission.entry_seq for commission in commissions],
            "receipts": [json.dumps(each.receipt, separators=(",", ":")) for each in moved],
            "placed": [begins(each.row) for each in moved],
            "moments": [when[commission.merchant_id].now for commission in commissions],
        },
    )
