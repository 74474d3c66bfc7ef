"""Accounts and postings: every movement of money is one amount from one debit account to one credit account."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from service.domain.commission import Move, Place
from service.domain.errors import InvariantBroken


@dataclass(frozen=True, slots=True)
class MerchantTime:
    """A merchant's present moment and time zone, as every verb that books something is given them."""

    now: datetime
    time_zone: str

    @property
    def day(self) -> date:
        """The booking day."""
        return booking_day(self.now, self.time_zone)


SLOTS = 16
"""Booking rows per merchant and day: enough that processes do not queue for one, few enough to seal a day at once."""


class AccountKind(StrEnum):
    COMMISSION_EXPENSE = "commission_expense"
    """Owner: the merchant. What the programme costs."""
    PENDING = "pending"
    """Owner: the payee, as of all below. Earned, not settled."""
    HELD = "held"
    """Earned, frozen."""
    PAYABLE = "payable"
    """Settled, before tax. May be below zero: then the payee owes."""
    RESERVED = "reserved"
    """In a payout run, not handed to a rail."""
    IN_TRANSIT = "in_transit"
    """Handed to a rail, answer unknown."""
    PAID = "paid"
    TAXED_CARRY = "taxed_carry"
    """Deductions done, still to be sent: rail remainders, and what a rail gave back."""
    ADVANCE = "advance"
    """Lent before an approval came and not netted yet: below zero by what the payee owes of it, never above."""
    TAX_WITHHELD = "tax_withheld"
    """Kept for the authority: taken from accepted payouts, or borne by the merchant, and not passed on yet."""
    REMITTED = "remitted"
    """Passed on to the authority."""
    PLATFORM_FEE = "platform_fee"
    """Kept for whoever runs the platform: taken from accepted payouts."""
    TAX_COST = "tax_cost"
    """Tax the merchant bears for the payee: below zero by all of it, never above."""
    WRITE_OFF = "write_off"
    """Debts of the payee that were given up: below zero by all of them, never above."""


MERCHANT_ACCOUNTS = frozenset({AccountKind.COMMISSION_EXPENSE})
"""Accounts without a kept balance; they are summed from the daily slots."""

NEVER_POSITIVE = frozenset({AccountKind.ADVANCE, AccountKind.TAX_COST, AccountKind.WRITE_OFF})
"""Nobody pays back more than was lent, and what the merchant gave up or bears comes back no other way than it went."""
MAY_BE_NEGATIVE = NEVER_POSITIVE | {AccountKind.PAYABLE}


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """One account of one merchant in one currency. owner_id: the payee, or the merchant itself."""

    merchant_id: UUID
    owner_id: UUID
    kind: AccountKind
    currency: str


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount moved for ever.

    event, seq: unique per merchant, made from what happened, so a unit of work run again cannot post twice.
    amount_minor: above zero; the other direction swaps the accounts.
    """

    id: UUID
    event: str
    seq: int
    debit: Account
    credit: Account
    amount_minor: int

    def __post_init__(self) -> None:
        if (
            self.debit.merchant_id != self.credit.merchant_id
            or self.debit.currency != self.credit.currency
            or self.debit == self.credit
            or self.amount_minor <= 0
        ):
            raise InvariantBroken(f"not a posting: {self}")

    @property
    def merchant_id(self) -> UUID:
        return self.debit.merchant_id


_ACCOUNT_OF = {
    Place.EXPENSE: AccountKind.COMMISSION_EXPENSE,
    Place.PENDING: AccountKind.PENDING,
    Place.HELD: AccountKind.HELD,
    Place.PAYABLE: AccountKind.PAYABLE,
}


def account_of(place: Place, *, merchant_id: UUID, payee_id: UUID, currency: str) -> Account:
    """The account a place of a commission stands on."""
    kind = _ACCOUNT_OF[place]
    return Account(merchant_id, merchant_id if kind in MERCHANT_ACCOUNTS else payee_id, kind, currency)


def touches_payable(move: Move) -> bool:
    return Place.PAYABLE in (move.source, move.destination)


def booking_day(at: datetime, time_zone: str) -> date:
    """The merchant's calendar day of a moment."""
    return at.astimezone(ZoneInfo(time_zone)).date()


def next_day(day: date) -> date:
    return day + timedelta(days=1)
