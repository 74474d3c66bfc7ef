"""What a merchant had set up when: every input of an assessment but the facts, each with the time from which it holds.

Append-only and never back-dated, so an order assessed years later reads the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Protocol, TypeVar
from uuid import UUID

from service.domain.marks import Grade, Label
from service.domain.program import ProgramVersion


class _Dated(Protocol):
    @property
    def valid_from(self) -> datetime: ...


_D = TypeVar("_D", bound=_Dated)


def as_of(states: Iterable[_D], at: datetime) -> _D | None:
    """The state in force at a moment, of states sorted by valid_from; None before the first."""
    found = None
    for state in states:
        if state.valid_from > at:
            break
        found = state
    return found


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a link or coupon belongs to from a moment on."""

    valid_from: datetime
    affiliate_id: UUID


@dataclass(frozen=True, slots=True)
class Since:
    """A yes or no that holds from a moment on: enrolled or not, approved or not."""

    valid_from: datetime
    holds: bool


@dataclass(frozen=True, slots=True)
class Traceable:
    """A link or coupon: its programme, its owners and its labels, oldest first. A coupon has no labels."""

    id: UUID
    program_id: UUID
    owners: tuple[Owner, ...]
    labels: tuple[Label, ...] = ()

    def owner_at(self, at: datetime) -> UUID | None:
        owner = as_of(self.owners, at)
        return None if owner is None else owner.affiliate_id

    def label_at(self, at: datetime) -> Label | None:
        return as_of(self.labels, at)


@dataclass(frozen=True, slots=True)
class Binding:
    """A customer or a product is bound to an affiliate from a moment on; to nobody where affiliate_id is None.

    until: from when it no longer holds, of itself; None: for as long as nothing follows it.
    """

    valid_from: datetime
    affiliate_id: UUID | None
    program_id: UUID | None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """From a moment on an agency has a share of what an affiliate earns; of no agency where agency_id is None.

    share: of the affiliate's commission, between 0 and 1. fee: paid to the agency on top, as a part of the goods.
    """

    valid_from: datetime
    agency_id: UUID | None
    share: Fraction = Fraction(0)
    fee: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Listing:
    """A customer is on one of the merchant's lists, such as "staff", from a moment on, or no longer."""

    valid_from: datetime
    name: str
    listed: bool


class PauseEffect(StrEnum):
    """What a programme does with orders placed from a moment on."""

    NONE = "none"
    """It runs."""
    STOP = "stop"
    """They earn nothing."""
    REVIEW = "review"
    """They earn, and wait for a person's approval."""


@dataclass(frozen=True, slots=True)
class Pause:
    """How a programme runs from a moment on."""

    valid_from: datetime
    effect: PauseEffect


@dataclass(slots=True)
class DatedInputs:
    """What one merchant had set up; all lists oldest first.

    coupons: by code without case. enrollments: by (programme, affiliate). approvals: by affiliate, whether it may earn.
    identities: by affiliate, pairs of kind and keyed hash, several of a kind where it has them; read only where the
    order has no stored match yet. customer_bindings, listings: by keyed hash, as (kind, hash). product_bindings: by SKU.
    roster: by affiliate, of which agency it is. grades: by affiliate. pauses: by programme.
    time_zone: the merchant's, fixed when it was made.
    """

    versions: dict[UUID, tuple[ProgramVersion, ...]] = field(default_factory=dict)
    links: dict[UUID, Traceable] = field(default_factory=dict)
    coupons: dict[str, Traceable] = field(default_factory=dict)
    enrollments: dict[tuple[UUID, UUID], tuple[Since, ...]] = field(default_factory=dict)
    approvals: dict[UUID, tuple[Since, ...]] = field(default_factory=dict)
    identities: dict[UUID, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    customer_bindings: dict[tuple[str, str], tuple[Binding, ...]] = field(default_factory=dict)
    product_bindings: dict[str, tuple[Binding, ...]] = field(default_factory=dict)
    listings: dict[tuple[str, str], tuple[Listing, ...]] = field(default_factory=dict)
    roster: dict[UUID, tuple[Membership, ...]] = field(default_factory=dict)
    grades: dict[UUID, tuple[Grade, ...]] = field(default_factory=dict)
    pauses: dict[UUID, tuple[Pause, ...]] = field(default_factory=dict)
    time_zone: str = "UTC"

    def is_approved(self, affiliate_id: UUID, at: datetime) -> bool:
        state = as_of(self.approvals.get(affiliate_id, ()), at)
        return state is not None and state.holds

    def enrolled_since(self, program_id: UUID, affiliate_id: UUID, at: datetime) -> datetime | None:
        """Since when the affiliate has been in the programme without a break, as of `at`; None if it is not."""
        since: datetime | None = None
        for state in self.enrollments.get((program_id, affiliate_id), ()):
            if state.valid_from > at:
                break
            since = (since or state.valid_from) if state.holds else None
        return since

    def bound_to(self, bindings: Sequence[Binding], at: datetime) -> Binding | None:
        """The binding in force at a moment; None where there is none, it is over, or it binds to nobody."""
        binding = as_of(bindings, at)
        over = binding is None or binding.affiliate_id is None or (binding.until is not None and at >= binding.until)
        return None if over else binding

    def lists_of(self, customer: Iterable[tuple[str, str]], at: datetime) -> frozenset[str]:
        """The lists on which a customer, given by keyed hashes, is at a moment; one hash is enough."""
        found: set[str] = set()
        for hashed in customer:
            states = self.listings.get(hashed, ())
            for name in {state.name for state in states}:
                newest = as_of([state for state in states if state.name == name], at)
                if newest is not None and newest.listed:
                    found.add(name)
        return frozenset(found)
