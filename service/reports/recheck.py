"""Compute orders anew from their facts and compare with what is kept: the half of check-books that needs the rules."""

from collections import defaultdict
from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.commissions import facts as stored_facts
from service.commissions import inputs as stored_inputs
from service.commissions.customers import histories_of
from service.commissions.periods import rules_of, sums_of
from service.domain.assessment import Assessment, assess
from service.domain.commission import Places, Target, standing_reason
from service.domain.order import OrderFacts
from service.domain.periods import gives, period_rule_of
from service.infra import ids
from service.infra.db import fetch
from service.ledger.findings import FINDINGS_MAX, Finding, word

SAMPLE = 1000
"""Orders computed anew where not all are asked for; spread evenly over the merchant's orders."""

_ORDERS_AT_ONCE = 500


class RecheckCode(StrEnum):
    """What can differ when an order is computed anew. Codes are never renamed."""

    TARGET = "target"
    """A commission is not what its facts and terms give."""
    ATTRIBUTION = "attribution"
    """An order's affiliate, reason, freeze or net is not what its facts give."""
    PERIOD = "period"
    """A period's sums are not what its orders come to, or its commission is not what its rules give for them."""


def recheck(session: Session, merchant_id: UUID, *, sample: int | None = SAMPLE) -> list[Finding]:
    """Whatever differs when a merchant's orders are computed anew from facts and dated inputs; empty when nothing does.

    sample: how many orders, None for all. session: best one on which `audit.take_snapshot` was called, as `check` does.
    """
    findings: list[Finding] = []
    after = UUID(int=0)
    stride = _stride(session, merchant_id, sample)
    while len(findings) < FINDINGS_MAX:
        orders = _orders(session, merchant_id, after=after, stride=stride)
        if not orders:
            break
        findings += _compare(session, merchant_id, orders)
        after = orders[-1].id
    findings += _periods(session, merchant_id)
    return findings[:FINDINGS_MAX]


def _stride(session: Session, merchant_id: UUID, sample: int | None) -> int:
    """Every how manieth order is taken."""
    if sample is None:
        return 1
    [known] = fetch(session, "SELECT count(*) AS orders FROM orders WHERE merchant_id = :id", {"id": merchant_id})
    return max(1, -(-int(known.orders) // sample))


def _orders(session: Session, merchant_id: UUID, *, after: UUID, stride: int) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT id, affiliate_id, program_id, attribution_reason, frozen_reason, net_minor, identities
        FROM (
            SELECT id, row_number() OVER (ORDER BY id) AS place
            FROM orders WHERE merchant_id = :merchant_id AND id > :after
        ) AS numbered
        JOIN assessment ON assessment.merchant_id = :merchant_id AND assessment.order_id = numbered.id
        WHERE place % :stride = 0
          -- What waits to be assessed again is known to differ.
          AND NOT EXISTS (SELECT FROM reassess WHERE merchant_id = :merchant_id AND order_id = numbered.id)
        ORDER BY id LIMIT :limit
        """,
        {"merchant_id": merchant_id, "after": after, "stride": stride, "limit": _ORDERS_AT_ONCE},
    )


def _compare(session: Session, merchant_id: UUID, orders: Sequence[Row[Any]]) -> list[Finding]:
    known = stored_facts.load(session, [(merchant_id, order.id) for order in orders])
    loaded = stored_inputs.load(session, known)
    histories = histories_of(session, known)
    stored_inputs.load_credited(session, histories, loaded)
    inputs = loaded.get(merchant_id)
    commissions: dict[UUID, dict[tuple[UUID, str], Row[Any]]] = defaultdict(dict)
    for row in fetch(
        session,
        """
        SELECT id, order_id, payee_id, currency, target_minor, pending_minor, held_minor, settled_minor, approved_minor,
               settles_at, reason_code, volume_minor, periods
        FROM commission WHERE merchant_id = :merchant_id AND order_id = ANY(CAST(:order_ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "order_ids": [order.id for order in orders]},
    ):
        commissions[row.order_id][row.payee_id, row.currency] = row
    findings: list[Finding] = []
    for order in orders:
        if inputs is None:
            break
        kept = commissions[order.id]
        facts = known.get((merchant_id, order.id), OrderFacts())
        result = assess(
            facts,
            inputs,
            identities=order.identities,
            known=list(kept),
            history=histories.get((merchant_id, order.id)),
        )
        placed_at = None if facts.snapshot is None else facts.snapshot.placed_at
        findings += _compare_order(merchant_id, order, result)
        for target in result.targets:
            periods = [
                [str(target.program_id), key.rule, key.begins_on.isoformat()]
                for key in rules_of(target, placed_at, inputs)
            ]
            own = kept.get((target.payee_id, target.currency))
            findings += _compare_target(merchant_id, order.id, target, own, periods)
    return findings


def _compare_order(merchant_id: UUID, order: Row[Any], result: Assessment) -> list[Finding]:
    expected = _words(
        affiliate=result.attribution.affiliate_id,
        program=result.attribution.program_id,
        reason=result.attribution.reason.value,
        frozen=result.frozen.value if result.frozen else None,
        net=result.net_minor if order.net_minor is not None else None,
    )
    found = _words(
        affiliate=order.affiliate_id,
        program=order.program_id,
        reason=order.attribution_reason,
        frozen=order.frozen_reason,
        net=order.net_minor,
    )
    if expected == found:
        return []
    subject = ids.encode("ord", order.id)
    return [Finding(RecheckCode.ATTRIBUTION, merchant_id, subject, "computed anew", expected, found)]


def _compare_target(
    merchant_id: UUID, order_id: UUID, target: Target, kept: Row[Any] | None, periods: list[list[str]]
) -> list[Finding]:
    if kept is None:
        expected = f"a commission of {target.target_minor} {target.currency}"
        subject = ids.encode("ord", order_id)
        return [Finding(RecheckCode.TARGET, merchant_id, subject, "computed anew", expected, "none")]
    places = Places(kept.pending_minor, kept.held_minor, kept.settled_minor)
    expected = _words(
        target=target.target_minor,
        approved=target.approved_minor,
        settles_at=target.settles_at,
        reason=standing_reason(target, places).value,
        volume=target.volume_minor,
        periods=sorted(periods),
    )
    found = _words(
        target=kept.target_minor,
        approved=kept.approved_minor,
        settles_at=kept.settles_at,
        reason=kept.reason_code,
        volume=kept.volume_minor,
        periods=sorted(kept.periods),
    )
    if expected == found:
        return []
    return [Finding(RecheckCode.TARGET, merchant_id, ids.encode("com", kept.id), "computed anew", expected, found)]


def _periods(session: Session, merchant_id: UUID) -> list[Finding]:
    """Periods whose sums or whose commission do not follow from their orders."""
    findings = []
    for row in fetch(
        session,
        """
        WITH counted AS (
            SELECT payee_id, currency, CAST(period ->> 0 AS uuid) AS program_id, period ->> 1 AS rule,
                   CAST(period ->> 2 AS date) AS begins_on, pending_minor, held_minor, settled_minor, volume_minor,
                   CASE WHEN held_minor <> 0 THEN 'held' WHEN pending_minor <> 0 THEN 'pending' ELSE 'settled' END AS place,
                   CAST(target_minor <> 0 AS integer) AS one
            FROM commission CROSS JOIN LATERAL jsonb_array_elements(periods) AS period
            WHERE merchant_id = :merchant_id AND order_id IS NOT NULL
        ), told AS (
            SELECT payee_id, currency, program_id, rule, begins_on,
                   concat_ws(' / ', sum(pending_minor), coalesce(sum(one * volume_minor) FILTER (WHERE place = 'pending'), 0),
                             coalesce(sum(one) FILTER (WHERE place = 'pending'), 0),
                             sum(held_minor), coalesce(sum(one * volume_minor) FILTER (WHERE place = 'held'), 0),
                             coalesce(sum(one) FILTER (WHERE place = 'held'), 0),
                             sum(settled_minor), coalesce(sum(one * volume_minor) FILTER (WHERE place = 'settled'), 0),
                             coalesce(sum(one) FILTER (WHERE place = 'settled'), 0)) AS sums
            FROM counted GROUP BY payee_id, currency, program_id, rule, begins_on
        )
        SELECT rule_period.*, told.sums, commission.pending_minor, commission.held_minor, commission.settled_minor
        FROM rule_period
        LEFT JOIN told USING (payee_id, currency, program_id, rule, begins_on)
        LEFT JOIN commission ON commission.merchant_id = :merchant_id AND commission.id = rule_period.id
        WHERE rule_period.merchant_id = :merchant_id
        ORDER BY rule_period.id
        """,
        {"merchant_id": merchant_id},
    ):
        sums = sums_of(row)
        parts = [
            part
            for each in (sums.pending, sums.held, sums.settled)
            for part in (each.commission_minor, each.sales_minor, each.orders)
        ]
        kept = " / ".join(str(part) for part in parts)
        subject = ids.encode("com", row.id)
        expected = row.sums or " / ".join(["0"] * len(parts))
        if kept != expected:
            findings.append(Finding(RecheckCode.PERIOD, merchant_id, subject, f"{row.rule}: sums", expected, kept))
        given = gives([period_rule_of(rule) for rule in row.rules], sums, row.currency)
        expected = f"{given.pending_minor} / {given.held_minor} / {given.settled_minor}"
        kept = f"{row.pending_minor or 0} / {row.held_minor or 0} / {row.settled_minor or 0}"
        if kept != expected:
            what = f"{row.rule}: pending / held / settled"
            findings.append(Finding(RecheckCode.PERIOD, merchant_id, subject, what, expected, kept))
    return findings


def _words(**parts: object) -> str:
    return ", ".join(f"{name} {word(part)}" for name, part in parts.items())
