"""Who brought an order: all candidates, the winner, and why each of the others lost."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from service.domain.dated import DatedInputs, Traceable
from service.domain.order import OrderFacts, OrderSnapshot, Touch, TouchKind
from service.domain.program import AttributionTerms, Model, Precedence, SelfPurchase, in_force

JsonObject = dict[str, object]


class Reason(StrEnum):
    """Why a candidate won or lost, or why nobody was found; shown to affiliates, so never renamed."""

    WON = "won"
    DECIDED = "decided"
    """A person at the merchant decided."""
    BAD_SIGNATURE = "bad_signature"
    """The click id was not made by us, or was changed on the way."""
    UNKNOWN_LINK = "unknown_link"
    UNKNOWN_COUPON = "unknown_coupon"
    NO_OWNER = "no_owner"
    NOT_APPROVED = "affiliate_not_approved"
    NOT_ENROLLED = "affiliate_not_enrolled"
    NO_TERMS = "no_terms_in_force"
    AFTER_ORDER = "click_after_order"
    OUTSIDE_WINDOW = "outside_window"
    SELF_PURCHASE = "self_purchase"
    OTHER_KIND_FIRST = "other_kind_has_precedence"
    NOT_LAST = "later_touch_won"
    NOT_FIRST = "earlier_touch_won"
    OVERRULED = "overruled_by_decision"
    NO_TOUCH = "no_touch"
    """The order carried neither a click id nor a coupon code."""
    NO_CANDIDATE = "no_eligible_touch"
    """It carried some, and each lost for its own reason."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One touch, whom it speaks for, and how it fared. at: when it happened, None if unreadable."""

    touch: Touch
    reason: Reason
    at: datetime | None = None
    affiliate_id: UUID | None = None
    program_id: UUID | None = None

    def as_json(self) -> JsonObject:
        return {
            "kind": self.touch.kind.value,
            "ref": self.touch.ref,
            "at": self.at.isoformat() if self.at else None,
            "link_id": str(self.touch.link_id) if self.touch.link_id else None,
            "affiliate_id": str(self.affiliate_id) if self.affiliate_id else None,
            "program_id": str(self.program_id) if self.program_id else None,
            "reason_code": self.reason.value,
        }


Identities = Mapping[str, bool]
"""Stored identity matches of an order: "<affiliate id>:<customer key>" → is the same person. Computed once."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The outcome: at most one affiliate until splits exist. candidates: in the order the shop listed the touches.

    touch: by which the affiliate won; of one a person decided for, its own first. None where it has none.
    identities: every match that had to be computed now or was known before; the caller stores it with the order.
    """

    reason: Reason
    affiliate_id: UUID | None = None
    program_id: UUID | None = None
    candidates: tuple[Candidate, ...] = ()
    identities: Identities = field(default_factory=dict)
    touch: Touch | None = None


def identity_key(affiliate_id: UUID, customer: tuple[tuple[str, str], ...]) -> str:
    """The key of a stored match; names the customer by the keyed hashes the order carries."""
    return f"{affiliate_id}:" + ",".join(f"{kind}={value}" for kind, value in sorted(customer))


def attribute(facts: OrderFacts, inputs: DatedInputs, identities: Identities) -> Attribution:
    """Decide who brought an order.

    A person's decision wins over every touch. Each touch is judged by its own programme's version in force at
    placed_at; among those left, that of the latest touch's programme says which kind and which end of time wins.
    identities: matches stored with the order earlier; they are used as they are, whatever the affiliate is called now.
    """
    snapshot = facts.snapshot
    if snapshot is None:
        return Attribution(Reason.NO_TOUCH, identities=identities)
    matches = dict(identities)
    candidates = [_judge(touch, snapshot, inputs, matches) for touch in snapshot.touches]
    decision = facts.decisions.get("attribute")
    if decision is not None:
        overruled = tuple(
            replace(candidate, reason=Reason.OVERRULED) if candidate.reason is Reason.WON else candidate
            for candidate in candidates
        )
        program_id = _program_of(decision.payee_id, snapshot, inputs, candidates)
        own = (
            each.touch
            for each in candidates
            if each.affiliate_id is not None and each.affiliate_id == decision.payee_id
        )
        return Attribution(Reason.DECIDED, decision.payee_id, program_id, overruled, matches, next(own, None))
    eligible = [index for index, candidate in enumerate(candidates) if candidate.reason is Reason.WON]
    if not eligible:
        reason = Reason.NO_CANDIDATE if candidates else Reason.NO_TOUCH
        return Attribution(reason, candidates=tuple(candidates), identities=matches)
    winner = _choose(candidates, eligible, snapshot, inputs)
    won = candidates[winner]
    return Attribution(Reason.WON, won.affiliate_id, won.program_id, tuple(candidates), matches, won.touch)


def _judge(touch: Touch, snapshot: OrderSnapshot, inputs: DatedInputs, matches: dict[str, bool]) -> Candidate:
    """A candidate that may still win carries Reason.WON."""
    found: Traceable | None
    if touch.kind is TouchKind.CLICK:
        if touch.link_id is None or touch.at is None:
            return Candidate(touch, Reason.BAD_SIGNATURE)
        found, at = inputs.links.get(touch.link_id), touch.at
        if found is None:
            return Candidate(touch, Reason.UNKNOWN_LINK, at)
    else:
        found, at = inputs.coupons.get(touch.ref), snapshot.placed_at
        if found is None:
            return Candidate(touch, Reason.UNKNOWN_COUPON, at)
    affiliate_id = found.owner_at(at)
    if affiliate_id is None:
        return Candidate(touch, Reason.NO_OWNER, at, program_id=found.program_id)
    reason = _objection(touch, snapshot, inputs, matches, at=at, affiliate_id=affiliate_id, program_id=found.program_id)
    return Candidate(touch, reason or Reason.WON, at, affiliate_id, found.program_id)


def _objection(
    touch: Touch,
    snapshot: OrderSnapshot,
    inputs: DatedInputs,
    matches: dict[str, bool],
    *,
    at: datetime,
    affiliate_id: UUID,
    program_id: UUID,
) -> Reason | None:
    version = in_force(inputs.versions.get(program_id, ()), snapshot.placed_at)
    if version is None:
        return Reason.NO_TERMS
    if not inputs.is_approved(affiliate_id, snapshot.placed_at):
        return Reason.NOT_APPROVED
    if inputs.enrolled_since(program_id, affiliate_id, snapshot.placed_at) is None:
        return Reason.NOT_ENROLLED
    terms = version.terms.attribution
    if touch.kind is TouchKind.CLICK:
        if at > snapshot.placed_at:
            return Reason.AFTER_ORDER
        if snapshot.placed_at - at > timedelta(days=terms.window_days):
            return Reason.OUTSIDE_WINDOW
    if terms.self_purchase is SelfPurchase.REJECT and _same_person(affiliate_id, snapshot, inputs, matches):
        return Reason.SELF_PURCHASE
    return None


def _same_person(affiliate_id: UUID, snapshot: OrderSnapshot, inputs: DatedInputs, matches: dict[str, bool]) -> bool:
    if not snapshot.customer:
        return False
    key = identity_key(affiliate_id, snapshot.customer)
    if key not in matches:
        matches[key] = not set(snapshot.customer).isdisjoint(inputs.identities.get(affiliate_id, ()))
    return matches[key]


def _choose(candidates: list[Candidate], eligible: list[int], snapshot: OrderSnapshot, inputs: DatedInputs) -> int:
    """Place of the winner; marks the other eligible candidates with why they lost."""

    def when(index: int) -> tuple[datetime, str]:
        return (candidates[index].at or snapshot.placed_at, candidates[index].touch.ref)

    terms = _terms_of(candidates[max(eligible, key=when)], snapshot, inputs)
    first_kind = {Precedence.COUPON: TouchKind.COUPON, Precedence.CLICK: TouchKind.CLICK}.get(terms.precedence)
    of_kind = [index for index in eligible if candidates[index].touch.kind is first_kind]
    contenders = of_kind or eligible
    winner = max(contenders, key=when) if terms.model is Model.LAST else min(contenders, key=when)
    beaten = Reason.NOT_LAST if terms.model is Model.LAST else Reason.NOT_FIRST
    for index in eligible:
        if index != winner:
            reason = beaten if index in contenders else Reason.OTHER_KIND_FIRST
            candidates[index] = replace(candidates[index], reason=reason)
    return winner


def _terms_of(candidate: Candidate, snapshot: OrderSnapshot, inputs: DatedInputs) -> AttributionTerms:
    assert candidate.program_id is not None
    version = in_force(inputs.versions[candidate.program_id], snapshot.placed_at)
    assert version is not None
    return version.terms.attribution


def _program_of(
    affiliate_id: UUID | None, snapshot: OrderSnapshot, inputs: DatedInputs, candidates: list[Candidate]
) -> UUID | None:
    """The programme a decided affiliate is paid by: that of its own touch, else the first it was enrolled in."""
    if affiliate_id is None:
        return None
    own = [candidate.program_id for candidate in candidates if candidate.affiliate_id == affiliate_id]
    enrolled = sorted(
        (since, program_id)
        for program_id, enrolled_id in inputs.enrollments
        if enrolled_id == affiliate_id
        and (since := inputs.enrolled_since(program_id, affiliate_id, snapshot.placed_at)) is not None
        and in_force(inputs.versions.get(program_id, ()), snapshot.placed_at) is not None
    )
    return next((program_id for program_id in own if program_id), enrolled[0][1] if enrolled else None)
