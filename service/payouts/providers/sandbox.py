"""A rail that moves no money. What it answers hangs on the destination alone, so every process answers the same."""

import hashlib
import json
from datetime import datetime
from uuid import UUID

from service.domain.money import EXPONENTS
from service.domain.payout import Answer, AnswerKind
from service.payouts.providers.model import Listing, Sending, Transfer

REFUSE = "sandbox_refuse"
"""Destinations that begin so are refused: account_closed."""
UNKNOWN_ONCE = "sandbox_unknown_once"
"""Destinations that begin so are paid, but the answer to the sending gets lost; a look-up finds the transfer."""
ACCEPT = "sandbox_"
"""All other destinations that begin so are paid at once, `sandbox_ok` for one; the rest do not exist."""
STAND_INS = frozenset({"sandbox_ok", REFUSE, UNKNOWN_ONCE})
"""Bare words that stand for nobody's account, so that any number of payees may have them."""


class SandboxRail:
    """Test merchants only. Idempotent by key, because the answer is made from key and request."""

    name = "sandbox"
    keeps_transfers = False
    at_once = 256

    def serves(self, *, is_test: bool) -> bool:
        return is_test

    def step_minor(self, currency: str) -> int | None:
        return 1 if currency in EXPONENTS else None

    def available_minor(self, currency: str) -> int | Answer | None:  # noqa: ARG002 - it has all there is
        return None

    def build_request(self, sending: Sending) -> bytes:
        request = {
            "item": str(sending.item_id),
            "attempt": sending.number,
            "destination": sending.destination,
            "amount_minor": sending.amount_minor,
            "currency": sending.currency,
        }
        return json.dumps(request, sort_keys=True).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:  # noqa: ARG002 - a request names its attempt, and that decides
        transfer = _transfer(request)
        if transfer.destination.startswith(UNKNOWN_ONCE):
            return Answer(AnswerKind.UNKNOWN, code="answer_lost")
        if transfer.destination.startswith(REFUSE):
            return Answer(AnswerKind.REFUSED, code="account_closed")
        if not transfer.destination.startswith(ACCEPT):
            return Answer(AnswerKind.REFUSED, code="no_such_account")
        return transfer.as_answer()

    def find(self, request: bytes) -> Listing:
        transfer = _transfer(request)
        return Listing((transfer,) if transfer.destination.startswith(UNKNOWN_ONCE) else ())

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:  # noqa: ARG002 - as below
        # It keeps nothing, so it has nothing to say that we do not know.
        return Listing(trouble=Answer(AnswerKind.UNKNOWN, code="sandbox_keeps_nothing"))

    def close(self) -> None:
        return


def _transfer(request: bytes) -> Transfer:
    asked = json.loads(request)
    reference = "sbx_" + hashlib.sha256(f"{asked['item']}:{asked['attempt']}".encode()).hexdigest()[:24]
    return Transfer(
        item_id=UUID(asked["item"]),
        number=asked["attempt"],
        reference=reference,
        amount_minor=asked["amount_minor"],
        reversed_minor=0,
        currency=asked["currency"],
        destination=asked["destination"],
    )
