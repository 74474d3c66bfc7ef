"""What can be wrong with the books, by name, and the statements that find it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Session

from service.infra import ids
from service.infra.db import fetch

FINDINGS_MAX = 1000
"""Most findings told of one kind; books that are wrong a million times are told of a thousand."""


class FindingCode(StrEnum):
    """What can be wrong with the books. Codes are never renamed."""

    BALANCE = "balance"
    """A kept balance is not the sum of its postings."""
    BALANCE_NEGATIVE = "balance-negative"
    """An account that may not is below zero, or advance is above."""
    POSTING_BOOKING = "posting-booking"
    """A slot's bookings are not numbered from one to the number it keeps."""
    CHAIN_DIGEST = "chain-digest"
    """A block of the chain, or a posting it covers, is not what it was when it was chained."""
    CHAIN_GAP = "chain-gap"
    """The blocks of a slot leave bookings out, cover some twice, or go beyond what was booked."""
    CHAIN_LINK = "chain-link"
    """A block does not follow the one before it, or the newest block is not the head that is kept."""
    CHAIN_HEAD = "chain-head"
    """The chain does not run through a head that was noted outside."""
    DAY_SUM = "day-sum"
    """The sums of a booking row are not those of the postings booked on it."""
    DAY_SLOT = "day-slot"
    """A posting is booked on a row that is not there."""
    POSTING_DAY = "posting-day"
    """A posting is booked before the day it was made, or after it though that day was open."""
    CLOSE_SUM = "close-sum"
    """What a close keeps is not what its days came to."""
    CLOSE_OPEN = "close-open"
    """A closed day has a booking row that is not sealed, or a sealed day has no close."""
    CLOSE_DIGEST = "close-digest"
    """A close is not what it was, or does not follow the one before it."""
    POSTING_ACCOUNT = "posting-account"
    """A posting debits what it credits, or names an owner who cannot have such an account."""
    POSTING_ENTRIES = "posting-entries"
    """A posting made by commission moves is not the sum of its entries."""
    ENTRY_POSTING = "entry-posting"
    """An entry and its posting name different accounts."""
    ENTRY_MOVE = "entry-move"
    """An entry goes from or to a place its kind does not know."""
    ENTRY_SEQUENCE = "entry-sequence"
    """The entries of a commission are not numbered from one to the number it keeps."""
    ENTRY_VERSION = "entry-version"
    """An entry names a version of payable that cannot hold it."""
    COMMISSION_TARGET = "commission-target"
    """Pending, held and settled do not add up to the target, or one is below zero."""
    COMMISSION_ENTRIES = "commission-entries"
    """A commission's places are not the sums of its entries."""
    COMMISSION_FROZEN = "commission-frozen"
    """A frozen order's money stands in pending, or a free order's in held."""
    EARNED = "earned"
    """What a payee earned is not where it can be: pending, held, payable, reserved, in transit, paid, carried, advanced, taxed."""
    ADVANCE = "advance"
    """An advance and its posting do not agree, or more was netted than was settled."""
    ITEM_INTERVAL = "item-interval"
    """A payee's payout items overlap, leave a gap, or name versions payable never had."""
    ITEM_GROSS = "item-gross"
    """A payout item did not take what moved in its interval."""
    ITEM_SPLIT = "item-split"
    """Net, tax, fee and remainder are not gross and carried."""
    ITEM_LIVE = "item-live"
    """A payout item's mark of being live is not what its attempts and its release say, or a payee has two."""
    ITEM_GAVE_BACK = "item-gave-back"
    """A payout item that gave all its money back does not say at which version of payable, or one that kept it does."""
    ITEM_HANDED_OVER = "item-handed-over"
    """A payout item's mark of being handed to a rail is not what its attempts say, or two attempts may have paid."""
    ITEM_RUN = "item-run"
    """A payout item does not fit its run: sent without approval, or kept by a run that is over."""
    PAYOUT_BALANCE = "payout-balance"
    """Reserved, in transit, paid, carried, tax or fees are not what a payee's payout items and corrections say."""
    ITEM_TAX = "item-tax"
    """What was written down as tax of a payout item is not what was decided on it, or it was not accepted."""
    CORRECTION = "correction"
    """What people put right, or passed on to an authority, and its posting do not agree."""
    RUN_HASH = "run-hash"
    """What was approved is not what the items' hashes say."""
    ATTEMPT_FACT = "attempt-fact"
    """An accepted attempt has no such word of the provider, or the provider's word has no accepted attempt."""
    INBOX_STATE = "inbox-state"
    """A delivery's state does not fit what became of it."""
    FACT_INBOX = "fact-inbox"
    """A fact does not come from a delivery about its order."""
    ASSESSMENT = "assessment"
    """An order with a snapshot has no assessment, or an old one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. subject: public id of the payee, commission, posting … that it is about."""

    code: str
    merchant_id: UUID
    subject: str
    detail: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Check:
    """prefix: of the public id of what is found. statement: one row (merchant, id, detail, expected, found) each.

    The statement is given merchant_id, which is NULL for the books of all.
    """

    code: FindingCode
    prefix: str
    statement: str


def run_checks(
    session: Session, checks: Sequence[Check], merchant_id: UUID | None, parameters: Mapping[str, object]
) -> list[Finding]:
    """What the checks find in the books of one merchant, or of all; at most FINDINGS_MAX of each check."""
    given = {**parameters, "merchant_id": merchant_id, "findings_max": FINDINGS_MAX}
    return [
        Finding(each.code, row.merchant_id, ids.encode(each.prefix, row.id), row.detail, row.expected, row.found)
        for each in checks
        for row in fetch(session, f"{each.statement} LIMIT :findings_max", given)
    ]


def word(part: object) -> str:
    """A value as a finding names it: one notation for each, so that what is equal reads equal."""
    match part:
        case None:
            return "none"
        case datetime():
            return part.astimezone(UTC).isoformat()
        case _:
            return str(part)
