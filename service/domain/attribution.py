"""Who brought an order: all candidates, whom it is credited to, and why each of the others lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from uuid import UUID

from service.domain.customer import NO_HISTORY, History, PlacedOrder
from service.domain.dated import Binding, DatedInputs, Traceable
from service.domain.marks import Label
from service.domain.order import OrderFacts, OrderSnapshot, Touch, TouchKind
from service.domain.program import AttributionTerms, BindingRank, Model, Precedence, SelfPurchase, in_force

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
    BINDING_IGNORED = "binding_ignored"
    """The programme's terms give nothing for customers or products that are bound."""
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
    """One touch, whom it speaks for, and how it fared.

    at: when it happened, None if unreadable. weight: its part where several touches are credited. is_own: the buyer may
    be the affiliate.
    """

    touch: Touch
    reason: Reason
    at: datetime | None = None
    affiliate_id: UUID | None = None
    program_id: UUID | None = None
    label: Label | None = None
    weight: Fraction = Fraction(1)
    is_own: bool = False

    def as_json(self) -> JsonObject:
        return {
            "kind": self.touch.kind.value,
            "ref": self.touch.ref,
            "at": self.at.isoformat() if self.at else None,
            "link_id": str(self.touch.link_id) if self.touch.link_id else None,
            "affiliate_id": str(self.affiliate_id) if self.affiliate_id else None,
            "program_id": str(self.program_id) if self.program_id else None,
            "reason_code": self.reason.value,
            **({"weight": str(self.weight)} if self.weight != 1 else {}),
        }


@dataclass(frozen=True, slots=True)
class Credit:
    """A part of an order that one affiliate brought.

    touch: by which; the affiliate's latest, where several count. label: of its link. weight: part of each line.
    skus: the lines it is for; None: all that no other credit of the order has for itself. is_own: see Candidate.
    """

    affiliate_id: UUID
    program_id: UUID | None
    touch: Touch | None = None
    label: Label | None = None
    weight: Fraction = Fraction(1)
    skus: frozenset[str] | None = None
    is_own: bool = False


Identities = Mapping[str, bool]
"""Stored identity matches of an order: "<affiliate id>:<customer key>" → is the same person. Computed once."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """The outcome. candidates: in the order the shop listed the touches, then those that no order carries.

    credits: whom the order is credited to, in the order of their touches; their weights make 1 for each line, or 0.
    identities: every match that had to be computed now or was known before; the caller stores it with the order.
    """

    reason: Reason
    credits: tuple[Credit, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    identities: Identities = field(default_factory=dict)

    @property
    def leading(self) -> Credit | None:
        """The credit with the largest part, of equal ones that of the latest touch."""
        return max(reversed(self.credits), key=lambda credit: (credit.skus is None, credit.weight), default=None)

    @property
    def affiliate_id(self) -> UUID | None:
        return None if self.leading is None else self.leading.affiliate_id

    @property
    def program_id(self) -> UUID | None:
        return None if self.leading is None else self.leading.program_id

    @property
    def touch(self) -> Touch | None:
        return None if self.leading is None else self.leading.touch


def identity_key(affiliate_id: UUID, customer: tuple[tuple[str, str], ...]) -> str:
    """The key of a stored match; names the customer by the keyed hashes the order carries."""
    return f"{affiliate_id}:" + ",".join(f"{kind}={value}" for kind, value in sorted(customer))


def attribute(
    facts: OrderFacts, inputs: DatedInputs, identities: Identities, history: History = NO_HISTORY
) -> Attribution:
    """Decide who brought an order.

    A person's decision wins over everything. Each candidate is judged by its own programme's version in force at
    placed_at; among touches left, that of the latest one's programme says which kind and which end of time wins, or
    how several share. A bound customer counts before or after them, an order placed again after all of these. A bound
    product has its own lines for itself, or those of an order that nobody else brought.
    identities: matches stored with the order earlier; they are used as they are, whatever the affiliate is called now.
    """
    snapshot = facts.snapshot
    if snapshot is None:
        return Attribution(Reason.NO_TOUCH, identities=identities)
    judge = _Judge(snapshot, inputs, dict(identities))
    candidates = [judge.touched(touch) for touch in snapshot.touches]
    candidates += [*judge.customer(), *judge.reorders(history), *judge.products()]
    decision = facts.decisions.get("attribute")
    if decision is not None:
        overruled = tuple(
            replace(candidate, reason=Reason.OVERRULED) if candidate.reason is Reason.WON else candidate
            for candidate in candidates
        )
        if decision.payee_id is None:
            return Attribution(Reason.DECIDED, (), overruled, judge.matches)
        program_id = _program_of(decision.payee_id, snapshot, inputs, candidates)
        own = next((each for each in candidates if each.affiliate_id == decision.payee_id), None)
        credit = Credit(decision.payee_id, program_id, own.touch if own else None, own.label if own else None)
        return Attribution(Reason.DECIDED, (credit,), overruled, judge.matches)
    eligible = [index for index, candidate in enumerate(candidates) if candidate.reason is Reason.WON]
    if not eligible:
        reason = Reason.NO_CANDIDATE if candidates else Reason.NO_TOUCH
        return Attribution(reason, candidates=tuple(candidates), identities=judge.matches)
    credited = _choose(candidates, eligible, judge)
    return Attribution(Reason.WON, credited, tuple(candidates), judge.matches)


def placed_order(
    order_id: UUID, name: tuple[str, str], facts: OrderFacts, inputs: DatedInputs, identities: Identities
) -> PlacedOrder:
    """An order, which its shop showed, as its customer's later ones know it.

    Of a cancelled one whoever brought it by a touch, a binding of its customer or a person's word; not by another order
    that it places again. A bound product is bound for the order placed again too, by itself.
    """
    snapshot = facts.snapshot
    assert snapshot is not None
    if not snapshot.cancelled:
        return PlacedOrder(order_id, name, snapshot.placed_at, cancelled=False)
    credit = attribute(facts, inputs, identities).leading
    own = credit if credit is not None and credit.skus is None else None
    return PlacedOrder(
        order_id,
        name,
        snapshot.placed_at,
        cancelled=True,
        skus=frozenset(line.sku for line in snapshot.lines if line.goods and line.sku),
        affiliate_id=None if own is None else own.affiliate_id,
        program_id=None if own is None else own.program_id,
    )


@dataclass(slots=True)
class _Judge:
    """Judges what may have brought an order. A candidate that may still win carries Reason.WON."""

    snapshot: OrderSnapshot
    inputs: DatedInputs
    matches: dict[str, bool]

    def touched(self, touch: Touch) -> Candidate:
        found: Traceable | None
        if touch.kind is TouchKind.CLICK:
            if touch.link_id is None or touch.at is None:
                return Candidate(touch, Reason.BAD_SIGNATURE)
            found, at = self.inputs.links.get(touch.link_id), touch.at
            if found is None:
                return Candidate(touch, Reason.UNKNOWN_LINK, at)
        else:
            found, at = self.inputs.coupons.get(touch.ref), self.snapshot.placed_at
            if found is None:
                return Candidate(touch, Reason.UNKNOWN_COUPON, at)
        affiliate_id = found.owner_at(at)
        if affiliate_id is None:
            return Candidate(touch, Reason.NO_OWNER, at, program_id=found.program_id)
        return self._judged(touch, at, affiliate_id, found.program_id, found.label_at(at))

    def customer(self) -> list[Candidate]:
        """By the first of the buyer's hashes that is bound."""
        for kind, value in sorted(self.snapshot.customer):
            binding = self.inputs.bound_to(
                self.inputs.customer_bindings.get((kind, value), ()), self.snapshot.placed_at
            )
            if binding is not None:
                return [self._bound(Touch(TouchKind.CUSTOMER, kind), binding)]
        return []

    def products(self) -> list[Candidate]:
        skus = dict.fromkeys(line.sku for line in self.snapshot.lines if line.goods and line.sku)
        found = []
        for sku in skus:
            binding = self.inputs.bound_to(self.inputs.product_bindings.get(sku, ()), self.snapshot.placed_at)
            if binding is not None:
                found.append(self._bound(Touch(TouchKind.PRODUCT, sku), binding))
        return found

    def reorders(self, history: History) -> list[Candidate]:
        """The newest cancelled order of the buyer that this one places again, as far as the terms still ask."""
        placed_at = self.snapshot.placed_at
        skus = {line.sku for line in self.snapshot.lines if line.goods and line.sku}
        for gone in history.abandoned:
            program_id = gone.program_id
            terms = None if program_id is None else self.terms_of(program_id)
            if program_id is None or terms is None or not terms.reorder_days or skus.isdisjoint(gone.skus):
                continue
            if placed_at - gone.placed_at <= timedelta(days=terms.reorder_days):
                touch = Touch(TouchKind.REORDER, gone.number)
                return [self._judged(touch, gone.placed_at, gone.affiliate_id, program_id, None)]
        return []

    def terms_of(self, program_id: UUID) -> AttributionTerms | None:
        version = in_force(self.inputs.versions.get(program_id, ()), self.snapshot.placed_at)
        return None if version is None else version.terms.attribution

    def _bound(self, touch: Touch, binding: Binding) -> Candidate:
        assert binding.affiliate_id is not None
        if binding.program_id is None:
            return Candidate(touch, Reason.NO_TERMS, binding.valid_from, binding.affiliate_id)
        return self._judged(touch, binding.valid_from, binding.affiliate_id, binding.program_id, None)

    def _judged(
        self, touch: Touch, at: datetime, affiliate_id: UUID, program_id: UUID, label: Label | None
    ) -> Candidate:
        candidate = Candidate(touch, Reason.WON, at, affiliate_id, program_id, label)
        terms = self.terms_of(program_id)
        if terms is None:
            return replace(candidate, reason=Reason.NO_TERMS)
        placed_at = self.snapshot.placed_at
        if not self.inputs.is_approved(affiliate_id, placed_at):
            return replace(candidate, reason=Reason.NOT_APPROVED)
        if self.inputs.enrolled_since(program_id, affiliate_id, placed_at) is None:
            return replace(candidate, reason=Reason.NOT_ENROLLED)
        ranks = {TouchKind.CUSTOMER: terms.customer_binding, TouchKind.PRODUCT: terms.product_binding}
        if ranks.get(touch.kind) is BindingRank.IGNORED:
            return replace(candidate, reason=Reason.BINDING_IGNORED)
        if touch.kind is TouchKind.CLICK:
            if at > placed_at:
                return replace(candidate, reason=Reason.AFTER_ORDER)
            if placed_at - at > terms.window_for(label):
                return replace(candidate, reason=Reason.OUTSIDE_WINDOW)
        if terms.self_purchase is not SelfPurchase.ALLOW and self._same_person(affiliate_id, terms):
            if terms.self_purchase is SelfPurchase.REJECT:
                return replace(candidate, reason=Reason.SELF_PURCHASE)
            return replace(candidate, is_own=True)
        return candidate

    def _same_person(self, affiliate_id: UUID, terms: AttributionTerms) -> bool:
        customer = tuple(hashed for hashed in self.snapshot.customer if hashed[0] in terms.self_purchase_by)
        if not customer:
            return False
        key = identity_key(affiliate_id, customer)
        if key not in self.matches:
            self.matches[key] = not set(customer).isdisjoint(self.inputs.identities.get(affiliate_id, ()))
        return self.matches[key]


_TOUCHED = frozenset({TouchKind.CLICK, TouchKind.COUPON})


def _choose(candidates: list[Candidate], eligible: list[int], judge: _Judge) -> tuple[Credit, ...]:
    """Whom the order is credited to; marks the other eligible candidates with why they lost."""

    def of_kind(*kinds: TouchKind) -> list[int]:
        return [index for index in eligible if candidates[index].touch.kind in kinds]

    def ranked(kind: TouchKind, rank: BindingRank) -> list[int]:
        def own(index: int) -> BindingRank:
            program_id = candidates[index].program_id
            terms = None if program_id is None else judge.terms_of(program_id)
            assert terms is not None
            return terms.customer_binding if kind is TouchKind.CUSTOMER else terms.product_binding

        return [index for index in of_kind(kind) if own(index) is rank]

    whole = (
        ranked(TouchKind.CUSTOMER, BindingRank.BEFORE)
        or of_kind(*_TOUCHED)
        or ranked(TouchKind.CUSTOMER, BindingRank.AFTER)
        or of_kind(TouchKind.REORDER)
    )
    weights: dict[int, Fraction] = {}
    if whole and candidates[whole[0]].touch.kind in _TOUCHED:
        weights = _shared(candidates, whole, judge)
    elif whole:
        weights = {whole[0]: Fraction(1)}
    # A bound product has its lines for itself where it ranks first; else only those that nobody else has.
    bound = ranked(TouchKind.PRODUCT, BindingRank.BEFORE)
    if not whole:
        bound += ranked(TouchKind.PRODUCT, BindingRank.AFTER)
    for index in eligible:
        if index in weights:
            candidates[index] = replace(candidates[index], weight=weights[index])
        elif index not in bound and candidates[index].reason is Reason.WON:
            candidates[index] = replace(candidates[index], reason=Reason.OTHER_KIND_FIRST)
    return (*_credits(candidates, weights), *_product_credits(candidates, bound))


def _when(candidate: Candidate, snapshot: OrderSnapshot) -> tuple[datetime, str]:
    return (candidate.at or snapshot.placed_at, candidate.touch.ref)


def _shared(candidates: list[Candidate], eligible: Sequence[int], judge: _Judge) -> dict[int, Fraction]:
    """The part of each click and coupon that counts, in the order of time; marks the others with why they lost."""

    def when(index: int) -> tuple[datetime, str]:
        return _when(candidates[index], judge.snapshot)

    latest = candidates[max(eligible, key=when)]
    assert latest.program_id is not None
    terms = judge.terms_of(latest.program_id)
    assert terms is not None
    first_kind = {Precedence.COUPON: TouchKind.COUPON, Precedence.CLICK: TouchKind.CLICK}.get(terms.precedence)
    contenders = [index for index in eligible if candidates[index].touch.kind is first_kind] or list(eligible)
    contenders.sort(key=when)
    parts = _parts(terms, len(contenders))
    weights = {index: part for index, part in zip(contenders, parts, strict=True) if part}
    beaten = Reason.NOT_FIRST if terms.model is Model.FIRST else Reason.NOT_LAST
    for index in eligible:
        if index not in weights:
            reason = beaten if index in contenders else Reason.OTHER_KIND_FIRST
            candidates[index] = replace(candidates[index], reason=reason)
    return weights


def _parts(terms: AttributionTerms, count: int) -> list[Fraction]:
    """What part each of so many touches has, in the order of time; together 1."""
    match terms.model:
        case Model.LAST:
            return [*[Fraction(0)] * (count - 1), Fraction(1)]
        case Model.FIRST:
            return [Fraction(1), *[Fraction(0)] * (count - 1)]
        case Model.LINEAR:
            return [Fraction(1, count)] * count
        case Model.POSITION:
            first, last = terms.position_first, terms.position_last
            if count == 1:
                return [Fraction(1)]
            if count == 2:
                both = first + last
                return [first / both, last / both] if both else [Fraction(1, 2)] * 2
            between = (1 - first - last) / (count - 2)
            return [first, *[between] * (count - 2), last]


def _credits(candidates: Sequence[Candidate], weights: Mapping[int, Fraction]) -> list[Credit]:
    """One credit for each affiliate and programme, in the order of their first touches."""
    found: dict[tuple[UUID, UUID | None], Credit] = {}
    for index, weight in weights.items():
        each = candidates[index]
        assert each.affiliate_id is not None
        known = found.get((each.affiliate_id, each.program_id))
        found[each.affiliate_id, each.program_id] = Credit(
            each.affiliate_id,
            each.program_id,
            each.touch,
            each.label,
            weight + (known.weight if known else 0),
            is_own=each.is_own or (known is not None and known.is_own),
        )
    return list(found.values())


def _product_credits(candidates: Sequence[Candidate], bound: Sequence[int]) -> list[Credit]:
    found: dict[tuple[UUID, UUID | None], Credit] = {}
    for index in bound:
        each = candidates[index]
        assert each.affiliate_id is not None
        known = found.get((each.affiliate_id, each.program_id))
        skus = frozenset({each.touch.ref}) | (known.skus or frozenset() if known else frozenset())
        touch = known.touch if known else each.touch
        found[each.affiliate_id, each.program_id] = Credit(
            each.affiliate_id, each.program_id, touch, skus=skus, is_own=each.is_own
        )
    return list(found.values())


def _program_of(
    affiliate_id: UUID, snapshot: OrderSnapshot, inputs: DatedInputs, candidates: list[Candidate]
) -> UUID | None:
    """The programme a decided affiliate is paid by: that of its own touch, else the first it was enrolled in."""
    own = [candidate.program_id for candidate in candidates if candidate.affiliate_id == affiliate_id]
    enrolled = sorted(
        (since, program_id)
        for program_id, enrolled_id in inputs.enrollments
        if enrolled_id == affiliate_id
        and (since := inputs.enrolled_since(program_id, affiliate_id, snapshot.placed_at)) is not None
        and in_force(inputs.versions.get(program_id, ()), snapshot.placed_at) is not None
    )
    return next((program_id for program_id in own if program_id), enrolled[0][1] if enrolled else None)
