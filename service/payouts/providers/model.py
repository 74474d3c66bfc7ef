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

    reversed_minor: all that came back so far. Amounts in ISO minor units.
    """

    item_id: UUID
    number: int
    reference: str
    amount_minor: int
    reversed_minor: int
    currency: str
    destination: str

    def as_answer(self) -> Answer:
        """Return what the provider would have answered to the sending."""
        return Answer(
            AnswerKind.ACCEPTED,
            reference=self.reference,
            amount_minor=self.amount_minor,
            currency=self.currency,
            destination=self.destination,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """A look-up. trouble: why it is not complete, None when all pages were read."""

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
        """Return the transfer that an attempt made, the first listed of several."""
        return next((each for each in self.transfers if each.number == number), None)

    def is_strange_for(self, number: int) -> bool:
        """Whether money is out that this attempt alone does not explain: another one's, or twice its own.

        What was taken back whole does not count: that is how people mend it.
        """
        out = [each for each in self.transfers if each.reversed_minor < each.amount_minor]
        return len(out) > 1 or any(each.number != number for each in out)

    def is_empty_for(self, number: int) -> bool:
        """Whether it is complete and shows that the attempt made nothing, nor any other that still stands."""
        return self.trouble is None and self.made_by(number) is None and not self.is_strange_for(number)


class Rail(Protocol):
    """A way for money to leave. Its methods but `close` may be called from several threads at once."""

    @property
    def name(self) -> str:
        """As runs and payout methods name it."""

    @property
    def at_once(self) -> int:
        """Most sendings that are leased and recorded together."""

    @property
    def keeps_transfers(self) -> bool:
        """Whether there is a list of transfers to compare a run with afterwards."""

    def serves(self, *, is_test: bool) -> bool:
        """Whether a test merchant, or a live one, may use it."""

    def step_minor(self, currency: str) -> int | None:
        """Return the smallest amount it pays, in ISO minor units; None when it does not pay this currency."""

    def build_request(self, sending: Sending) -> bytes:
        """Return the exact parameters of a sending; they are stored and never built again."""

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        """Ask the provider to send. Never raises for what the provider or the network does."""

    def find(self, request: bytes) -> Listing:
        """Return all transfers made for the item of a request, whichever attempt made them."""

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        """Return all transfers made for a run between two moments of the provider's clock."""

    def close(self) -> None:
        """Give back connections."""
