"""What statements tell, read from the books: of many payees at once, in a fixed number of statements."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.errors import InvariantBroken
from service.domain.ledger import AccountKind, booking_day
from service.domain.statement import Movement, MovementKind, Subject, receipt_told, subject_of
from service.infra import ids
from service.infra.db import fetch

JsonObject = dict[str, Any]


class Account(NamedTuple):
    """One payee's money in one currency."""

    payee_id: UUID
    currency: str


@dataclass(frozen=True, slots=True)
class Days:
    """Booking days, both included."""

    begins_on: date
    ends_on: date

    def as_parameters(self) -> dict[str, object]:
        return {"begins_on": self.begins_on, "ends_on": self.ends_on}


@dataclass(slots=True)
class Standing:
    """What an account held when the days began. legs: how often it was moved in the days; legs_before: before them."""

    opening: dict[AccountKind, int] = field(default_factory=dict)
    legs: int = 0
    legs_before: int = 0


@dataclass(slots=True)
class Told:
    """All that moved on an account in the days, and what it was about."""

    movements: list[Movement] = field(default_factory=list)
    commissions: list[JsonObject] = field(default_factory=list)
    payouts: list[JsonObject] = field(default_factory=list)
    others: list[JsonObject] = field(default_factory=list)


def standings(session: Session, merchant_id: UUID, payee_ids: Iterable[UUID], days: Days) -> Mapping[Account, Standing]:
    """Return what the payees' accounts held when the days began; those that were never moved until their end are absent."""
    rows = fetch(
        session,
        """
        SELECT payee_id, currency, kind,
               CAST(coalesce(sum(amount_minor) FILTER (WHERE day < :begins_on), 0) AS bigint) AS opening_minor,
               count(*) FILTER (WHERE day < :begins_on) AS legs_before,
               count(*) FILTER (WHERE day >= :begins_on) AS legs
        FROM (
            SELECT credit_owner_id AS payee_id, currency, credit_kind AS kind, amount_minor, day FROM posting
            WHERE merchant_id = :merchant_id AND credit_owner_id = ANY(CAST(:payee_ids AS uuid[]))
            UNION ALL
            SELECT debit_owner_id, currency, debit_kind, -amount_minor, day FROM posting
            WHERE merchant_id = :merchant_id AND debit_owner_id = ANY(CAST(:payee_ids AS uuid[]))
              AND debit_owner_id <> merchant_id
        ) AS leg
        WHERE day <= :ends_on
        GROUP BY payee_id, currency, kind
        """,
        {"merchant_id": merchant_id, "payee_ids": sorted(set(payee_ids)), **days.as_parameters()},
    )
    found: dict[Account, Standing] = defaultdict(Standing)
    for row in rows:
        standing = found[Account(row.payee_id, row.currency)]
        standing.opening[AccountKind(row.kind)] = row.opening_minor
        standing.legs += row.legs
        standing.legs_before += row.legs_before
    return dict(found)


def told_of(
    session: Session, merchant_id: UUID, accounts: Sequence[Account], days: Days, *, time_zone: str
) -> Mapping[Account, Told]:
    """Return what moved on each of the accounts in the days; each asked for is in the answer."""
    found: dict[Account, _Found] = {account: _Found() for account in accounts}
    postings = [row for row in _postings(session, merchant_id, accounts, days) if _account(row) in found]
    entries = _entries(session, merchant_id, postings)
    for row in postings:
        found[_account(row)].add(row, entries.get(row.id, ()))
    details = _Details.load(session, merchant_id, found.values(), days, time_zone)
    return {account: each.told(details, str(account.payee_id)) for account, each in found.items()}


def _account(row: Row[Any]) -> Account:
    return Account(row.payee_id, row.currency)


def _postings(session: Session, merchant_id: UUID, accounts: Sequence[Account], days: Days) -> Sequence[Row[Any]]:
    """Postings of the payees on the days in the order they were made; of one between two payees a row for each."""
    return fetch(
        session,
        """
        SELECT credit_owner_id AS payee_id, id, event, currency, amount_minor, day, credit_kind AS destination,
               CASE WHEN debit_owner_id = credit_owner_id OR debit_kind = 'commission_expense' THEN debit_kind END AS source
        FROM posting
        WHERE merchant_id = :merchant_id AND credit_owner_id = ANY(CAST(:payee_ids AS uuid[]))
          AND day BETWEEN :begins_on AND :ends_on
        UNION ALL
        SELECT debit_owner_id, id, event, currency, amount_minor, day,
               CASE WHEN credit_kind = 'commission_expense' THEN credit_kind END, debit_kind
        FROM posting
        WHERE merchant_id = :merchant_id AND debit_owner_id = ANY(CAST(:payee_ids AS uuid[]))
          AND debit_owner_id <> merchant_id AND credit_owner_id <> debit_owner_id
          AND day BETWEEN :begins_on AND :ends_on
        ORDER BY payee_id, id
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": sorted({account.payee_id for account in accounts}),
            **days.as_parameters(),
        },
    )


_OF_COMMISSIONS: Final = frozenset({"order", "settle", "period"})
_REPAID: Final = "/repay"


def _is_of_commissions(event: str) -> bool:
    return event.partition("/")[0] in _OF_COMMISSIONS and not event.endswith(_REPAID)


def _entries(session: Session, merchant_id: UUID, postings: Sequence[Row[Any]]) -> Mapping[UUID, Sequence[Row[Any]]]:
    """Maps posting id to its commission entries. Raises InvariantBroken where they are not what was posted."""
    amounts = {row.id: row.amount_minor for row in postings if _is_of_commissions(row.event)}
    rows = fetch(
        session,
        """
        SELECT posting_id, commission_id, source, destination, amount_minor FROM commission_entry
        WHERE merchant_id = :merchant_id AND posting_id = ANY(CAST(:posting_ids AS uuid[]))
        ORDER BY posting_id, commission_id, seq
        """,
        {"merchant_id": merchant_id, "posting_ids": list(amounts)},
    )
    found: dict[UUID, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[row.posting_id].append(row)
    for posting_id, entries in found.items():
        if sum(entry.amount_minor for entry in entries) != amounts[posting_id]:
            raise InvariantBroken(f"posting {posting_id} is not the sum of its entries")
    return found


@dataclass(slots=True)
class _Found:
    """The movements of one account by what they are about."""

    commissions: dict[UUID, list[tuple[date, Row[Any]]]] = field(default_factory=lambda: defaultdict(list))
    payouts: dict[UUID, list[Movement]] = field(default_factory=lambda: defaultdict(list))
    advances: list[tuple[UUID, Movement]] = field(default_factory=list)
    corrections: list[tuple[UUID, Movement]] = field(default_factory=list)
    remittances: list[tuple[UUID, Movement]] = field(default_factory=list)
    others: list[Movement] = field(default_factory=list)

    def add(self, row: Row[Any], entries: Sequence[Row[Any]]) -> None:
        """row: of a posting. entries: its commission entries."""
        for entry in entries:
            self.commissions[entry.commission_id].append((row.day, entry))
        if entries:
            return
        noun, _, rest = row.event.partition("/")
        if noun == "payout":
            self.payouts[UUID(rest.partition("/")[0])].append(_movement(row, Subject.PAYOUT))
        elif noun == "advance" or row.event.endswith(_REPAID):
            self.advances.append((row.id, _movement(row, Subject.ADVANCE)))
        elif noun == "correction":
            self.corrections.append((UUID(rest), _movement(row, Subject.CORRECTION)))
        elif noun == "remittance":
            self.remittances.append((UUID(rest), _movement(row, Subject.REMITTANCE)))
        else:
            self.others.append(_movement(row, Subject.OTHER))

    def told(self, details: "_Details", payee: str) -> Told:
        """payee: as receipts write it."""
        told = Told()
        for commission_id, entries in self.commissions.items():
            about = details.commissions[commission_id]
            subject = subject_of(about.receipt, is_period=about.period_id is not None)
            movements = [_of_entry(day, entry, subject) for day, entry in entries]
            told.movements += movements
            told.commissions.append(details.commission(about, subject, movements, payee))
        for item_id, movements in self.payouts.items():
            told.movements += movements
            told.payouts.append(details.payout(details.payouts[item_id], movements))
        for posting_id, movement in self.advances:
            told.others.append(details.advance(posting_id, movement))
        for correction_id, movement in self.corrections:
            told.others.append(_about(movement, **details.corrections[correction_id]))
        for remittance_id, movement in self.remittances:
            told.others.append(_about(movement, **details.remittances[remittance_id]))
        told.others += [_about(movement) for movement in self.others]
        told.movements += [movement for _, movement in (*self.advances, *self.corrections, *self.remittances)]
        told.movements += self.others
        told.commissions.sort(key=lambda each: (each["movements"][0]["day"], each["placed_on"] or "", each["id"]))
        told.payouts.sort(key=lambda each: (each["movements"][0]["day"], each["id"]))
        told.others.sort(key=lambda each: each["day"])
        return told


def _movement(row: Row[Any], subject: Subject) -> Movement:
    return Movement(row.day, subject, _kind(row.source), _kind(row.destination), row.amount_minor)


def _kind(name: str | None) -> AccountKind | None:
    return None if name is None else AccountKind(name)


def _of_entry(day: date, entry: Row[Any], subject: Subject) -> Movement:
    # A place is called as the account it stands on.
    return Movement(day, subject, AccountKind(entry.source), AccountKind(entry.destination), entry.amount_minor)


def _about(movement: Movement, **told: Any) -> JsonObject:
    return {"subject": movement.subject.value, **movement.as_json(), **told}


@dataclass(frozen=True, slots=True)
class _Details:
    """What the movements of many accounts are about."""

    time_zone: str
    commissions: Mapping[UUID, Row[Any]]
    totals: Mapping[UUID, int]
    """What each commission came to by the end of the days."""
    payouts: Mapping[UUID, Row[Any]]
    advances: Mapping[UUID, Row[Any]]
    """By posting."""
    corrections: Mapping[UUID, JsonObject]
    remittances: Mapping[UUID, JsonObject]

    @classmethod
    def load(
        cls, session: Session, merchant_id: UUID, found: Iterable[_Found], days: Days, time_zone: str
    ) -> "_Details":
        every = list(found)
        advances = {
            row.posting_id: row
            for row in fetch(
                session,
                """
                SELECT posting_id, commission_id FROM advance
                WHERE merchant_id = :merchant_id AND posting_id = ANY(CAST(:ids AS uuid[])) AND commission_id IS NOT NULL
                """,
                {"merchant_id": merchant_id, "ids": [each for one in every for each, _ in one.advances]},
            )
        }
        commission_ids = {each for one in every for each in one.commissions}
        asked = {
            "merchant_id": merchant_id,
            "ids": sorted(commission_ids | {row.commission_id for row in advances.values()}),
            "ends_on": days.ends_on,
        }
        return cls(
            time_zone,
            {row.id: row for row in fetch(session, _COMMISSIONS, asked)},
            {row.commission_id: row.total_minor for row in fetch(session, _TOTALS, asked)},
            {
                row.id: row
                for row in fetch(
                    session,
                    _PAYOUTS,
                    {"merchant_id": merchant_id, "ids": sorted({each for one in every for each in one.payouts})},
                )
            },
            advances,
            {
                row.id: {"correction_id": ids.encode("cor", row.id), "correction": row.kind, "period": row.period}
                for row in fetch(
                    session,
                    """
                    SELECT id, kind, period FROM correction
                    WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
                    """,
                    {"merchant_id": merchant_id, "ids": sorted({each for one in every for each, _ in one.corrections})},
                )
            },
            {
                row.id: {
                    "remittance_id": ids.encode("txr", row.id),
                    "rule": row.rule,
                    "duty": row.duty,
                    "period": row.period,
                    "reference": row.reference,
                }
                for row in fetch(
                    session,
                    """
                    SELECT id, rule, duty, period, reference FROM tax_remittance
                    WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
                    """,
                    {"merchant_id": merchant_id, "ids": sorted({each for one in every for each, _ in one.remittances})},
                )
            },
        )

    def commission(self, row: Row[Any], subject: Subject, movements: Sequence[Movement], payee: str) -> JsonObject:
        receipt = receipt_told(row.receipt, payee)
        total_minor = self.totals[row.id]
        return {
            "id": ids.encode("com", row.id),
            "subject": subject.value,
            **self._order(row),
            "rule": row.rule,
            "program": row.program,
            "placed_on": None if row.placed_at is None else booking_day(row.placed_at, self.time_zone).isoformat(),
            "movements": [movement.as_json() for movement in movements],
            "effect_minor": sum(movement.effect_minor for movement in movements),
            "settled_minor": sum(
                movement.amount_minor for movement in movements if movement.kind is MovementKind.SETTLED
            ),
            "total_minor": total_minor,
            # The receipt is that of the moment of issue: what came after the days may have made it another.
            "explained": receipt["target_minor"] == total_minor,
            "receipt": receipt,
        }

    def payout(self, row: Row[Any], movements: Sequence[Movement]) -> JsonObject:
        accepted = next((each for each in movements if each.kind in _ACCEPTED), None)
        return {
            "id": ids.encode("pay", row.id),
            "run_id": ids.encode("run", row.run_id),
            "pay_on": row.pay_on.isoformat(),
            "accepted_on": None if accepted is None else accepted.day.isoformat(),
            "gross_minor": row.gross_minor,
            "carried_minor": row.carried_minor,
            # What is taken and sent is certain once the rail has accepted.
            "split": None
            if accepted is None
            else {
                "fee_minor": row.fee_minor,
                "tax_minor": row.tax_minor,
                "tax_borne_minor": row.tax_borne_minor,
                "remainder_minor": row.remainder_minor,
                "net_minor": row.net_minor,
                "tax_rule": row.tax_rule,
                "tax": row.tax_decision,
            },
            "came_back_minor": sum(
                movement.amount_minor for movement in movements if movement.kind is MovementKind.CAME_BACK
            ),
            "movements": [movement.as_json() for movement in movements],
        }

    def advance(self, posting_id: UUID, movement: Movement) -> JsonObject:
        given = self.advances.get(posting_id)
        if given is None:
            return _about(movement)
        return _about(movement, **self._order(self.commissions[given.commission_id]))

    @staticmethod
    def _order(row: Row[Any]) -> JsonObject:
        return {
            "order_id": None if row.order_id is None else ids.encode("ord", row.order_id),
            "order_number": row.order_number,
        }


_ACCEPTED: Final = frozenset({MovementKind.SENT, MovementKind.TAX, MovementKind.FEE, MovementKind.REMAINDER})

_COMMISSIONS = """
    SELECT commission.id, commission.order_id, commission.period_id, commission.receipt, rule_period.rule,
           program.name AS program, coalesce(nullif(assessment.number, ''), orders.external_id) AS order_number,
           coalesce(assessment.placed_at, commission.placed_at) AS placed_at
    FROM commission
    LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
    LEFT JOIN assessment ON assessment.merchant_id = commission.merchant_id AND assessment.order_id = commission.order_id
    LEFT JOIN rule_period ON rule_period.merchant_id = commission.merchant_id AND rule_period.id = commission.period_id
    LEFT JOIN program ON program.merchant_id = commission.merchant_id AND program.id = commission.program_id
    WHERE commission.merchant_id = :merchant_id AND commission.id = ANY(CAST(:ids AS uuid[]))
    """
_TOTALS = """
    SELECT entry.commission_id,
           CAST(sum(CASE 'commission_expense' WHEN entry.source THEN entry.amount_minor
                                              WHEN entry.destination THEN -entry.amount_minor ELSE 0 END) AS bigint)
               AS total_minor
    FROM commission_entry AS entry
    JOIN posting ON posting.merchant_id = entry.merchant_id AND posting.id = entry.posting_id
    WHERE entry.merchant_id = :merchant_id AND entry.commission_id = ANY(CAST(:ids AS uuid[])) AND posting.day <= :ends_on
    GROUP BY entry.commission_id
    """
_PAYOUTS = """
    SELECT item.id, item.run_id, run.pay_on, item.gross_minor, item.carried_minor, item.fee_minor, item.tax_minor,
           item.tax_borne_minor, item.remainder_minor, item.net_minor, item.tax_rule, item.tax_decision
    FROM payout_item AS item
    JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
    WHERE item.merchant_id = :merchant_id AND item.id = ANY(CAST(:ids AS uuid[]))
    """
