"""What every rail looks like to the stage: bytes to send, answers to read, complete listings to look things up in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from service.domain.errors import Conflict
from service.domain.payout import Answer, AnswerKind

DESTINATION = "payout-destination"
"""What accounts of payout methods are encrypted for."""


class RailNotAvailable(Conflict):
    code = "payout-rail-not-available"
    title = "This rail cannot pay here"


@dataclass(frozen=True, slots=True)
class Sending:
    """One attempt to send an item. amount_minor: ISO minor units, a multiple of the rail's step. number: from 1 up."""

    merchant_id: UUID
    run_id: UUID
    item_id: UUID
    number: int
    destination: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transfer as a provider lists it. number: of the attempt that made it, 0 where it does not say.

    reversed_minor: all that people took back so far. returned_minor: what came back by itself, or never left.
    booked: whether it is said to have arrived. failed_code: why it never left, empty unless that is so.
    merchant_id, run_id: as it says itself, None where it does not. Amounts in ISO minor units.
    """

    item_id: UUID
    number: int
    reference: str
    amount_minor: int
    reversed_minor: int
    currency: str
    destination: str
    returned_minor: int = 0
    booked: bool = False
    failed_code: str = ""
    merchant_id: UUID | None = None
    run_id: UUID | None = None

    @property
    def out_minor(self) -> int:
        """What is out and has not come back."""
        return self.amount_minor - self.reversed_minor - self.returned_minor

    def as_answer(self) -> Answer:
        """Return what the provider would have answered to the sending."""
        if self.failed_code:
            return Answer(AnswerKind.REFUSED, code=self.failed_code)
        return Answer(
            AnswerKind.ACCEPTED,
            reference=self.reference,
            amount_minor=self.amount_minor,
            currency=self.currency,
            destination=self.destination,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """A look-up. transfers: youngest first, as providers list them. trouble: why it is not complete, None when it is."""

    transfers: tuple[Transfer, ...] = ()
    trouble: Answer | None = None

    @property
    def why_unknown(self) -> Answer | None:
        """Return what is then known of what was sent before: nothing. None when it is complete.

        That a look-up was refused says nothing of the sending; only refused credentials mean the same for both.
        """
        if self.trouble is None or self.trouble.kind is AnswerKind.STOPPED:
            return self.trouble
        return Answer(AnswerKind.UNKNOWN, code=self.trouble.code)

    def made_by(self, number: int) -> Transfer | None:
        """Return the transfer that an attempt made: of several the oldest that still stands, else the first listed.

        People mend a double by taking one of the two back. Were that one recorded, the payee would be owed again what
        the other has paid.
        """
        made = [each for each in self.transfers if each.number == number]
        standing = [each for each in made if each.out_minor > 0]
        return standing[-1] if standing else next(iter(made), None)

    def is_strange_for(self, number: int) -> bool:
        """Whether money is out that this attempt alone does not explain: another one's, or twice its own.

        What was taken back whole does not count: that is how people mend it.
        """
        out = [each for each in self.transfers if each.out_minor > 0]
        return len(out) > 1 or any(each.number != number for each in out)

    def of_run(self, run_id: UUID) -> "Listing":
        """Return what of it was made for one run."""
        return Listing(tuple(each for each in self.transfers if each.run_id == run_id), self.trouble)

    def is_empty_for(self, number: int) -> bool:
        """Whether it is complete and shows that the attempt made nothing, nor any other that still stands."""
        return self.trouble is None and self.made_by(number) is None and not self.is_strange_for(number)


@dataclass(frozen=True, slots=True)
class Movement:
    """A change of the provider's own balance. amount_minor: ISO minor units that left, below zero where they came back."""

    transfer: Transfer
    amount_minor: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Movements:
    """All changes of a span. trouble: why they are not complete."""

    movements: tuple[Movement, ...] = ()
    trouble: Answer | None = None


class Payable(Protocol):
    """What runs are made and planned by, whether the money leaves by a network or in a file."""

    @property
    def name(self) -> str:
        """As runs and payout methods name it."""

    def serves(self, *, is_test: bool) -> bool:
        """Whether a test merchant, or a live one, may use it."""

    def step_minor(self, currency: str) -> int | None:
        """Return the smallest amount it pays, in ISO minor units; None when it does not pay this currency."""

    def build_request(self, sending: Sending) -> bytes:
        """Return the exact parameters of a sending; they are stored and never built again."""


class Rail(Payable, Protocol):
    """A way for money to leave. Its methods but `close` may be called from several threads at once."""

    @property
    def at_once(self) -> int:
        """Most sendings that are leased and recorded together."""

    @property
    def keeps_transfers(self) -> bool:
        """Whether there is a list of transfers to compare a run with afterwards."""

    def available_minor(self, currency: str) -> int | Answer | None:
        """Return what it can pay now, in ISO minor units; None where it keeps no balance, an answer where it did not say."""

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        """Ask the provider to send. Never raises for what the provider or the network does."""

    def find(self, request: bytes) -> Listing:
        """Return all transfers made for the item of a request, whichever attempt made them."""

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        """Return all transfers made for a run between two moments of the provider's clock."""

    def close(self) -> None:
        """Give back connections."""


class ToldRail(Rail, Protocol):
    """A rail whose provider can be asked about everything it did, whoever asked for it."""

    def made_between(self, since: datetime, until: datetime) -> Listing:
        """Return all transfers made between two moments of the provider's clock, also those that are not ours."""

    def read(self, reference: str) -> Transfer | Answer:
        """Return one transfer as it is now, or why that cannot be told."""

    def movements(self, since: datetime, until: datetime) -> Movements:
        """Return what changed the provider's balance from a moment up to another, as far as transfers did."""
