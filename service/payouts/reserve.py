"""Make a run: find whom to pay, take their balances, and say why the others are left out."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, Invalid, InvariantBroken
from service.domain.ledger import AccountKind, MerchantTime
from service.domain.payout import Excluded, Payee, RunState, lowest_minimum, why_excluded
from service.domain.withholding.model import Decision, Refused
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.ledger.balance import lock
from service.ledger.post import post
from service.outbox.emit import emit
from service.payouts import book, tell
from service.payouts.accounts import not_ready
from service.payouts.control import fee_on, largest_of
from service.payouts.minimums import promised_minimums
from service.payouts.providers.model import Payable, RailNotAvailable
from service.payouts.withhold import Taxed, split, taxed
from service.tables.payouts import PayoutItemRow, PayoutRunRow

PAY_ON_DAYS_AHEAD_MAX = 60


class NothingToPay(Conflict):
    code = "payout-run-empty"
    title = "Nobody can be paid now"


class PayOnOutOfRange(Invalid):
    code = "payout-pay-on"
    title = "The pay day cannot be that day"


@dataclass(frozen=True, slots=True)
class Asked:
    """A run somebody wants. pay_on: by the merchant's calendar. payee_ids: only these, if any are named."""

    merchant_id: UUID
    currency: str
    pay_on: date
    by: UUID
    external_id: str | None = None
    payee_ids: Sequence[UUID] = ()


def reserve(
    session: Session, asked: Asked, *, rail: Payable, when: MerchantTime, elsewhere: Collection[str] = ()
) -> PayoutRunRow:
    """Make a draft run of everybody who can be paid, and move what they are owed to reserved.

    elsewhere: the merchant's other rails that pay the currency.
    A fixed number of statements, however many payees there are.
    Raises RailNotAvailable, PayOnOutOfRange, NothingToPay.
    """
    step_minor = rail.step_minor(asked.currency)
    if step_minor is None:
        raise RailNotAvailable(f"The rail {rail.name} does not pay in {asked.currency}.")
    if not when.day <= asked.pay_on <= when.day + timedelta(days=PAY_ON_DAYS_AHEAD_MAX):
        raise PayOnOutOfRange(
            f"pay_on must be from {when.day} (today, by the merchant's calendar) to {PAY_ON_DAYS_AHEAD_MAX} days later."
        )
    owed = _owed(session, asked, rail.name, elsewhere, when)
    promised = promised_minimums(session, asked.merchant_id, [payee.id for payee in owed], at=when.now)
    minimums = {payee.id: lowest_minimum(promised[payee.id], asked.currency) for payee in owed}
    fee_minor = fee_on(session, asked.merchant_id, rail=rail.name, currency=asked.currency, on=asked.pay_on)
    limit_minor = largest_of(session, asked.merchant_id, asked.currency)
    excluded: dict[UUID, tuple[Payee, Excluded]] = {}
    chosen: list[Payee] = []
    taxes = taxed(session, asked.merchant_id, [payee.id for payee in owed], pay_on=asked.pay_on)
    for read in owed:
        payee, _ = _after_tax(read, taxes[read.id], asked.currency, fee_minor=fee_minor)
        reason = why_excluded(payee, minimum_minor=minimums[payee.id], step_minor=step_minor, limit_minor=limit_minor)
        if reason is None:
            chosen.append(payee)
        else:
            excluded[payee.id] = (payee, reason)
    # Again, and held: nobody adds to what is summed of them until this is committed.
    taxes = taxed(session, asked.merchant_id, [payee.id for payee in chosen], pay_on=asked.pay_on, hold=True)
    # Whoever holds the two balances is the only one to make an item of them: what counts is what is read from now on.
    kept = lock(
        session,
        asked.merchant_id,
        owner_ids=sorted(payee.id for payee in chosen),
        kinds=(AccountKind.PAYABLE, AccountKind.TAXED_CARRY),
        currency=asked.currency,
    )
    before = _before(session, asked, [payee.id for payee in chosen])
    run = _draft(asked, rail.name, when)
    items: list[PayoutItemRow] = []
    for read in chosen:
        item = _item(run, read, when)
        payable, carry = kept.get(book.payable(item)), kept.get(book.account(item, AccountKind.TAXED_CARRY))
        payee, tax = _after_tax(
            replace(
                read,
                payable_minor=payable.amount_minor if payable else 0,
                carried_minor=carry.amount_minor if carry else 0,
                has_live_item=before[read.id].has_live_item,
                has_live_elsewhere=before[read.id].has_live_elsewhere,
            ),
            taxes[read.id],
            asked.currency,
            fee_minor=fee_minor,
        )
        reason = why_excluded(payee, minimum_minor=minimums[payee.id], step_minor=step_minor, limit_minor=limit_minor)
        if reason is not None or tax is None:
            excluded[payee.id] = (payee, reason or Excluded.NO_TAX_RULE)
            continue
        item.gross_minor, item.carried_minor = payee.payable_minor, payee.carried_minor
        if not split(item, tax, step_minor=step_minor, fee_minor=fee_minor):
            raise InvariantBroken(f"the rail cannot pay {read.id} what was found enough")
        item.from_version = before[payee.id].reserve_version
        item.to_version = payable.version if payable else 0
        items.append(item)
    if not items:
        raise NothingToPay(_why_nobody(excluded))
    session.add(run)
    session.flush()
    _leave_out(session, run, excluded)
    _hold(session, items, when)
    emit(session, [tell.of_run(run, "created", at=when.now, items=len(items))])
    crash_point(CrashPoint.RESERVE_BEFORE_COMMIT)
    return run


def _draft(asked: Asked, rail: str, when: MerchantTime) -> PayoutRunRow:
    return PayoutRunRow(
        merchant_id=asked.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        status=RunState.DRAFT,
        rail=rail,
        currency=asked.currency,
        pay_on=asked.pay_on,
        created_by=asked.by,
        created_at=when.now,
    )


def _leave_out(session: Session, run: PayoutRunRow, excluded: Mapping[UUID, tuple[Payee, Excluded]]) -> None:
    """Write down whom a run leaves out, why, and what they are owed."""
    told = [excluded[payee_id] for payee_id in sorted(excluded)]
    execute(
        session,
        """
        INSERT INTO payout_left_out (merchant_id, run_id, payee_id, reason_code, payable_minor, carried_minor)
        SELECT :merchant_id, :run_id, left_out.*
        FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:reasons AS text[]), CAST(:payable AS bigint[]),
                    CAST(:carried AS bigint[])) AS left_out
        """,
        {
            "merchant_id": run.merchant_id,
            "run_id": run.id,
            "payee_ids": [payee.id for payee, _ in told],
            "reasons": [reason.value for _, reason in told],
            "payable": [payee.payable_minor for payee, _ in told],
            "carried": [payee.carried_minor for payee, _ in told],
        },
    )


def _hold(session: Session, items: Sequence[PayoutItemRow], when: MerchantTime) -> None:
    """Move what items pay to reserved, under the locks of their balances, and store them."""
    after = post(
        session,
        [posting for item in items for posting in book.reserved(item)],
        when={items[0].merchant_id: when},
        touched=[book.payable(item) for item in items],
    )
    for item in items:
        item.reserve_version = after[book.payable(item)].version
        if item.reserve_version != item.to_version + 1:
            raise InvariantBroken(f"payable of {item.payee_id} moved while it was locked")
    _insert(session, items)


def _after_tax(payee: Payee, tax: Taxed, currency: str, *, fee_minor: int) -> tuple[Payee, Decision | None]:
    """A payee with what tax and fee would take, and the decision; None where nothing can be decided."""
    decision = tax.decide(max(0, payee.payable_minor), currency)
    match decision:
        case Decision():
            accumulates = decision.accumulates and payee.has_live_elsewhere
            taken = replace(
                payee,
                deducted_minor=decision.withheld_minor + (fee_minor if payee.payable_minor > 0 else 0),
                has_live_item=payee.has_live_item or accumulates,
                tax_refusal=None,
            )
            return taken, decision
        case Refused(reason=reason):
            return replace(payee, tax_refusal=reason), None
        case None:
            return payee, None


def _owed(session: Session, asked: Asked, rail: str, elsewhere: Collection[str], when: MerchantTime) -> list[Payee]:
    """Everybody with a balance that is not 0 in the currency, as read without a lock."""
    rows = fetch(
        session,
        """
        WITH owed AS (
            SELECT owner_id,
                   sum(amount_minor) FILTER (WHERE kind = 'payable') AS payable_minor,
                   sum(amount_minor) FILTER (WHERE kind = 'taxed_carry') AS carried_minor
            FROM balance
            WHERE merchant_id = :merchant_id AND currency = :currency AND kind IN ('payable', 'taxed_carry')
              AND amount_minor <> 0
              AND (CAST(:everybody AS boolean) OR owner_id = ANY(CAST(:payee_ids AS uuid[])))
            GROUP BY owner_id
        )
        SELECT affiliate.id, affiliate.status, affiliate.tax_rule, payout_method.id AS payout_method_id,
               -- All at once, as below: looked up one by one, a database without statistics reads everybody for each.
               affiliate.id IN (
                   SELECT affiliate_id FROM payout_method
                   WHERE merchant_id = :merchant_id AND rail = ANY(CAST(:elsewhere AS text[])) AND replaced_at IS NULL
               ) AS paid_elsewhere,
               payout_method.fingerprint, coalesce(payout_method.usable_from > :now, false) AS method_waits,
               payout_method.sharing_confirmed_at IS NULL AND payout_method.fingerprint IN (
                   SELECT fingerprint FROM payout_method WHERE merchant_id = :merchant_id AND replaced_at IS NULL
                   GROUP BY fingerprint HAVING count(DISTINCT affiliate_id) > 1
               ) AND (SELECT shared_accounts = 'hold' FROM merchant WHERE id = :merchant_id) AS account_shared,
               CAST(coalesce(owed.payable_minor, 0) AS bigint) AS payable_minor,
               CAST(coalesce(owed.carried_minor, 0) AS bigint) AS carried_minor, item.id IS NOT NULL AS has_live_item,
               EXISTS (SELECT FROM payout_item AS other
                       WHERE other.merchant_id = :merchant_id AND other.payee_id = affiliate.id AND other.live
                         AND other.currency <> :currency AND other.tax_accumulates) AS has_live_elsewhere
        FROM owed
        JOIN affiliate ON affiliate.merchant_id = :merchant_id AND affiliate.id = owed.owner_id
        LEFT JOIN payout_method ON payout_method.merchant_id = :merchant_id
             AND payout_method.affiliate_id = affiliate.id AND payout_method.rail = :rail
             AND payout_method.replaced_at IS NULL
        LEFT JOIN payout_item AS item ON item.merchant_id = :merchant_id AND item.payee_id = affiliate.id
             AND item.currency = :currency AND item.live
        ORDER BY affiliate.id
        """,
        {
            "merchant_id": asked.merchant_id,
            "currency": asked.currency,
            "rail": rail,
            "elsewhere": list(elsewhere),
            "now": when.now,
            "everybody": not asked.payee_ids,
            "payee_ids": list(asked.payee_ids),
        },
    )
    unready = not_ready(session, rail=rail, merchant_id=asked.merchant_id, payee_ids=[row.id for row in rows])
    return [
        Payee(
            id=row.id,
            status=row.status,
            tax_rule=row.tax_rule,
            payout_method_id=row.payout_method_id,
            fingerprint=row.fingerprint,
            payable_minor=row.payable_minor,
            carried_minor=row.carried_minor,
            has_live_item=row.has_live_item,
            has_live_elsewhere=row.has_live_elsewhere,
            method_waits=row.method_waits,
            account_shared=row.account_shared,
            account_ready=row.id not in unready,
            paid_elsewhere=row.paid_elsewhere,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class _Before:
    """Earlier items of a payee. reserve_version: of the newest, 0 without one."""

    reserve_version: int = 0
    has_live_item: bool = False
    has_live_elsewhere: bool = False


def _before(session: Session, asked: Asked, payee_ids: Sequence[UUID]) -> Mapping[UUID, _Before]:
    rows = fetch(
        session,
        """
        SELECT payee_id, coalesce(max(reserve_version) FILTER (WHERE currency = :currency), 0) AS reserve_version,
               coalesce(bool_or(live) FILTER (WHERE currency = :currency), false) AS has_live_item,
               coalesce(bool_or(live AND tax_accumulates) FILTER (WHERE currency <> :currency), false)
                   AS has_live_elsewhere
        FROM payout_item
        WHERE merchant_id = :merchant_id AND payee_id = ANY(CAST(:payee_ids AS uuid[]))
        GROUP BY payee_id
        """,
        {"merchant_id": asked.merchant_id, "currency": asked.currency, "payee_ids": list(payee_ids)},
    )
    found = {row.payee_id: _Before(row.reserve_version, row.has_live_item, row.has_live_elsewhere) for row in rows}
    return {payee_id: found.get(payee_id, _Before()) for payee_id in payee_ids}


def _item(run: PayoutRunRow, payee: Payee, when: MerchantTime) -> PayoutItemRow:
    assert payee.payout_method_id is not None
    assert payee.fingerprint is not None
    assert payee.tax_rule is not None
    return PayoutItemRow(
        merchant_id=run.merchant_id,
        id=ids.new_id(),
        run_id=run.id,
        payee_id=payee.id,
        currency=run.currency,
        payout_method_id=payee.payout_method_id,
        fingerprint=payee.fingerprint,
        tax_rule=payee.tax_rule,
        live=True,
        created_at=when.now,
    )


def _insert(session: Session, items: Sequence[PayoutItemRow]) -> None:
    execute(
        session,
        """
        INSERT INTO payout_item (merchant_id, id, run_id, payee_id, currency, payout_method_id, fingerprint, tax_rule,
                                 gross_minor, carried_minor, net_minor, tax_minor, tax_borne_minor, fee_minor,
                                 remainder_minor, from_version, to_version, reserve_version, live, created_at,
                                 tax_accumulates, tax_decision)
        SELECT :merchant_id, id, :run_id, payee_id, :currency, payout_method_id, fingerprint, tax_rule,
               gross_minor, carried_minor, net_minor, tax_minor, tax_borne_minor, fee_minor, remainder_minor,
               from_version, to_version, reserve_version, true, :created_at,
               tax_accumulates, CAST(tax_decision AS jsonb)
        FROM unnest(CAST(:ids AS uuid[]), CAST(:payee_ids AS uuid[]), CAST(:method_ids AS uuid[]),
                    CAST(:fingerprints AS text[]), CAST(:tax_rules AS text[]), CAST(:gross AS bigint[]),
                    CAST(:carried AS bigint[]), CAST(:net AS bigint[]), CAST(:remainders AS bigint[]),
                    CAST(:froms AS bigint[]), CAST(:tos AS bigint[]), CAST(:reserves AS bigint[]),
                    CAST(:taxes AS bigint[]), CAST(:borne AS bigint[]), CAST(:fees AS bigint[]),
                    CAST(:accumulate AS boolean[]), CAST(:decisions AS text[]))
             AS made (id, payee_id, payout_method_id, fingerprint, tax_rule, gross_minor, carried_minor, net_minor,
                      remainder_minor, from_version, to_version, reserve_version, tax_minor, tax_borne_minor,
                      fee_minor, tax_accumulates, tax_decision)
        """,
        {
            "merchant_id": items[0].merchant_id,
            "run_id": items[0].run_id,
            "currency": items[0].currency,
            "created_at": items[0].created_at,
            "ids": [item.id for item in items],
            "payee_ids": [item.payee_id for item in items],
            "method_ids": [item.payout_method_id for item in items],
            "fingerprints": [item.fingerprint for item in items],
            "tax_rules": [item.tax_rule for item in items],
            "gross": [item.gross_minor for item in items],
            "carried": [item.carried_minor for item in items],
            "net": [item.net_minor for item in items],
            "remainders": [item.remainder_minor for item in items],
            "froms": [item.from_version for item in items],
            "tos": [item.to_version for item in items],
            "reserves": [item.reserve_version for item in items],
            "taxes": [item.tax_minor for item in items],
            "borne": [item.tax_borne_minor for item in items],
            "fees": [item.fee_minor for item in items],
            "accumulate": [item.tax_accumulates for item in items],
            "decisions": [None if item.tax_decision is None else json.dumps(item.tax_decision) for item in items],
        },
    )


def _why_nobody(excluded: Mapping[UUID, tuple[Payee, Excluded]]) -> str:
    if not excluded:
        return "No affiliate has a balance in this currency."
    counts = Counter(reason.value for _, reason in excluded.values())
    return "Left out: " + ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items())) + "."
