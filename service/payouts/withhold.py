"""Decide what is withheld from payouts: from what the merchant declared, who payees are, and what was decided before."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from sqlmodel import Session

from service.domain.ledger import MerchantTime
from service.domain.payout import split_for_rail
from service.domain.withholding.decide import decide, keys_wanted
from service.domain.withholding.model import (
    Decision,
    Declared,
    Duty,
    Key,
    Mode,
    PayeeKind,
    Payment,
    Profile,
    Refusal,
    Refused,
    Regime,
    Sum,
)
from service.domain.withholding.stored import of_json, to_json
from service.infra.db import execute, fetch
from service.infra.ids import new_id
from service.tables.parties import TaxRule
from service.tables.payouts import PayoutItemRow
from service.tables.taxes import TaxEntryKind


def split(item: PayoutItemRow, decision: Decision, *, step_minor: int, fee_minor: int) -> bool:
    """Write on an item what is withheld, what goes out, and what is carried. Returns whether the rail can pay that.

    step_minor: the smallest amount the rail pays. fee_minor: of a payout that pays anything settled; what is only
    carried has borne its own.
    """
    item.fee_minor = fee_minor if item.gross_minor else 0
    item.tax_rule = decision.rule
    item.tax_minor, item.tax_borne_minor = decision.withheld_minor, decision.borne_minor
    item.tax_accumulates = decision.accumulates
    item.tax_decision = to_json(decision) if decision.parts else None
    available_minor = item.gross_minor + item.carried_minor - item.tax_minor - item.fee_minor
    if available_minor < step_minor:
        return False
    item.net_minor, item.remainder_minor = split_for_rail(available_minor, step_minor=step_minor)
    return True


def decided(item: PayoutItemRow) -> Decision:
    """What was decided on an item, as it was last split."""
    if item.tax_decision is not None:
        return of_json(item.tax_decision)
    return Decision(
        rule=item.tax_rule,
        gross_minor=item.gross_minor,
        withheld_minor=item.tax_minor,
        borne_minor=item.tax_borne_minor,
        accumulates=item.tax_accumulates,
    )


@dataclass(frozen=True, slots=True)
class Taxed:
    """A payee for tax. choice: what was chosen for it, None where nothing was. history: what was decided before."""

    choice: TaxRule | None
    profile: Profile | None
    declared: Declared | None
    history: Mapping[Key, Sum]
    pay_on: date

    def decide(self, gross_minor: int, currency: str) -> Decision | Refused | None:
        """What is withheld of a payout of settled commission; None where nobody chose anything."""
        if self.choice is None:
            return None
        if self.choice is not TaxRule.REGIME:
            return Decision(rule=self.choice.value, gross_minor=gross_minor, withheld_minor=0, borne_minor=0)
        if self.profile is None:
            return Refused(Refusal.DETAILS_MISSING, "It has no tax profile; give one with its country and kind.")
        payment = Payment(gross_minor=gross_minor, currency=currency, pay_on=self.pay_on)
        return decide(payment, declared=self.declared, profile=self.profile, history=self.history)


def taxed(
    session: Session, merchant_id: UUID, payee_ids: Sequence[UUID], *, pay_on: date, hold: bool = False
) -> Mapping[UUID, Taxed]:
    """Return who payees are for tax on a day; each asked for is in the answer. A fixed number of statements.

    hold: also lock what is summed of them, so that nobody adds to it until the unit of work ends. These locks come
    before those of balances.
    """
    declared = declared_on(session, merchant_id, pay_on)
    people = _people(session, merchant_id, payee_ids)
    wanted: dict[UUID, tuple[Key, ...]] = {}
    for payee_id, (choice, profile) in people.items():
        if choice is TaxRule.REGIME and profile is not None:
            wanted[payee_id] = keys_wanted(declared.get(profile.country), profile, pay_on)
    if hold:
        lock_bases(session, merchant_id, ((payee_id, key.rule) for payee_id, keys in wanted.items() for key in keys))
    history = _sums(session, merchant_id, wanted)
    return {
        payee_id: Taxed(
            choice=choice,
            profile=profile,
            declared=None if profile is None else declared.get(profile.country),
            history=history.get(payee_id, {}),
            pay_on=pay_on,
        )
        for payee_id, (choice, profile) in people.items()
    }


def declared_on(session: Session, merchant_id: UUID, on: date) -> Mapping[str, Declared]:
    """What a merchant has declared, in force on a day, by country."""
    rows = fetch(
        session,
        """
        SELECT DISTINCT ON (country) country, regime, mode, gross_up, vat FROM tax_regime
        WHERE merchant_id = :merchant_id AND valid_from <= :on
        ORDER BY country, valid_from DESC, id DESC
        """,
        {"merchant_id": merchant_id, "on": on},
    )
    return {
        row.country: Declared(regime=Regime(row.regime), mode=Mode(row.mode), gross_up=row.gross_up, vat=row.vat)
        for row in rows
    }


def _people(
    session: Session, merchant_id: UUID, payee_ids: Sequence[UUID]
) -> Mapping[UUID, tuple[TaxRule | None, Profile | None]]:
    rows = fetch(
        session,
        """
        SELECT affiliate.id, affiliate.tax_rule, profile.kind, profile.country, profile.details,
               profile.tax_code_hint IS NOT NULL AS has_tax_code
        FROM affiliate
        LEFT JOIN tax_profile AS profile
          ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
        WHERE affiliate.merchant_id = :merchant_id AND affiliate.id = ANY(CAST(:payee_ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "payee_ids": list(payee_ids)},
    )
    return {
        row.id: (
            None if row.tax_rule is None else TaxRule(row.tax_rule),
            None
            if row.kind is None
            else Profile(
                kind=PayeeKind(row.kind), country=row.country, has_tax_code=row.has_tax_code, details=row.details
            ),
        )
        for row in rows
    }


def lock_bases(session: Session, merchant_id: UUID, bases: Iterable[tuple[UUID, str]]) -> None:
    """Hold payees under rules until the unit of work ends, in key order; rows that are not there yet are made."""
    asked = sorted(set(bases))
    if not asked:
        return
    execute(
        session,
        """
        INSERT INTO tax_base AS known (merchant_id, payee_id, rule, version)
        SELECT :merchant_id, payee_id, rule, 0
        FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:rules AS text[])) AS asked (payee_id, rule)
        ORDER BY payee_id, rule COLLATE "C"
        -- Nothing changes: the upsert is the lock, met in key order by all who decide or add.
        ON CONFLICT (merchant_id, payee_id, rule) DO UPDATE SET version = known.version
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": [payee_id for payee_id, _ in asked],
            "rules": [rule for _, rule in asked],
        },
    )


def _sums(
    session: Session, merchant_id: UUID, wanted: Mapping[UUID, Sequence[Key]]
) -> Mapping[UUID, Mapping[Key, Sum]]:
    keys = {key for each in wanted.values() for key in each}
    if not keys:
        return {}
    rows = fetch(
        session,
        """
        SELECT entry.payee_id, entry.rule, entry.duty, entry.period, CAST(sum(base_minor) AS bigint) AS base_minor,
               CAST(sum(tax_minor) AS bigint) AS tax_minor, count(*) FILTER (WHERE kind = 'accepted' AND base_minor > 0) AS payments
        FROM tax_entry AS entry
        JOIN unnest(CAST(:rules AS text[]), CAST(:duties AS text[]), CAST(:periods AS text[]))
             AS asked (rule, duty, period)
          ON asked.rule = entry.rule AND asked.duty = entry.duty AND asked.period = entry.period
        WHERE entry.merchant_id = :merchant_id AND entry.payee_id = ANY(CAST(:payee_ids AS uuid[]))
        GROUP BY entry.payee_id, entry.rule, entry.duty, entry.period
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": list(wanted),
            "rules": [key.rule for key in keys],
            "duties": [key.duty.value for key in keys],
            "periods": [key.period for key in keys],
        },
    )
    found: dict[UUID, dict[Key, Sum]] = defaultdict(dict)
    for row in rows:
        key = Key(row.rule, Duty(row.duty), row.period)
        found[row.payee_id][key] = Sum(row.base_minor, row.tax_minor, row.payments)
    return found


def hold_bases_of(session: Session, merchant_id: UUID, items: Sequence[PayoutItemRow]) -> None:
    """Lock what accepting items adds to; before their balances."""
    lock_bases(
        session,
        merchant_id,
        (
            (item.payee_id, part.key.rule)
            for item in items
            if item.tax_decision is not None
            for part in of_json(item.tax_decision).parts
        ),
    )


def add_accepted(session: Session, items: Sequence[PayoutItemRow], *, when: MerchantTime) -> None:
    """Write down what accepted items add to what was decided; `hold_bases_of` them first."""
    entries = [
        (item, part) for item in items if item.tax_decision is not None for part in of_json(item.tax_decision).parts
    ]
    if not entries:
        return
    merchant_id = items[0].merchant_id
    execute(
        session,
        """
        INSERT INTO tax_entry (merchant_id, id, kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
                               borne_minor, booked_on, item_id, created_at)
        SELECT :merchant_id, id, :kind, payee_id, rule, duty, period, currency, base_minor, tax_minor,
               borne_minor, :booked_on, item_id, :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:payee_ids AS uuid[]), CAST(:rules AS text[]), CAST(:duties AS text[]),
                    CAST(:periods AS text[]), CAST(:currencies AS text[]), CAST(:bases AS bigint[]),
                    CAST(:taxes AS bigint[]), CAST(:borne AS bigint[]), CAST(:item_ids AS uuid[]))
             AS made (id, payee_id, rule, duty, period, currency, base_minor, tax_minor, borne_minor, item_id)
        """,
        {
            "merchant_id": merchant_id,
            "kind": TaxEntryKind.ACCEPTED.value,
            "booked_on": when.day,
            "now": when.now,
            "ids": [new_id() for _ in entries],
            "payee_ids": [item.payee_id for item, _ in entries],
            "rules": [part.key.rule for _, part in entries],
            "duties": [part.key.duty.value for _, part in entries],
            "periods": [part.key.period for _, part in entries],
            "currencies": [item.currency for item, _ in entries],
            "bases": [part.base_minor for _, part in entries],
            "taxes": [part.tax_minor for _, part in entries],
            # All of a decision is borne by one side: the payee, or the merchant.
            "borne": [part.tax_minor if item.tax_borne_minor else 0 for item, part in entries],
            "item_ids": [item.id for item, _ in entries],
        },
    )
    raise_bases(session, merchant_id, {(item.payee_id, part.key.rule) for item, part in entries})


def raise_bases(session: Session, merchant_id: UUID, bases: Iterable[tuple[UUID, str]]) -> None:
    """Count one more unit of work that added entries, on rows already held."""
    asked = sorted(set(bases))
    execute(
        session,
        """
        UPDATE tax_base SET version = version + 1
        FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:rules AS text[])) AS asked (payee_id, rule)
        WHERE tax_base.merchant_id = :merchant_id AND tax_base.payee_id = asked.payee_id AND tax_base.rule = asked.rule
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": [payee_id for payee_id, _ in asked],
            "rules": [rule for _, rule in asked],
        },
    )
