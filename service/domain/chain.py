"""The chain over a merchant's postings: what a digest is made of, so that anybody can compute it again."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from struct import Struct
from typing import NamedTuple
from uuid import UUID

GENESIS = bytes(32)
"""What stands in the place of the digest before the first block."""

_FORMAT = 1
"""Number of this way to make digests; another way gets another number."""

_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Numbers from the highest byte, whole and of a fixed width. The last four of a posting are the lengths of its texts,
# which follow in the same order: so each posting can be read back from its bytes, and no two have the same.
_BLOCK = Struct(">I16sqqqqqqq")
_POSTING = Struct(">qqq16s16s16sq4I")


class BookedPosting(NamedTuple):
    """A posting with its place. A tuple, because millions are made and sorted: they sort as a block holds them.

    day and slot are its block's; created_at: aware.
    """

    booking: int
    event: str
    seq: int
    id: UUID
    debit_kind: str
    debit_owner_id: UUID
    credit_kind: str
    credit_owner_id: UUID
    currency: str
    amount_minor: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Block:
    """Bookings first to last of one slot, at its place in its merchant's chain. postings: how many they hold."""

    merchant_id: UUID
    number: int
    day: date
    slot: int
    first_booking: int
    last_booking: int
    postings: int
    chained_at: datetime


def block_digest(previous: bytes, block: Block, postings: Iterable[BookedPosting]) -> bytes:
    """SHA-256 over the digest of the block before, the block's own fields, and every field of its postings.

    postings: in any order; they count by booking, event and seq.
    """
    hashed = sha256(previous)
    hashed.update(
        _BLOCK.pack(
            _FORMAT,
            block.merchant_id.bytes,
            block.number,
            block.day.toordinal(),
            block.slot,
            block.first_booking,
            block.last_booking,
            block.postings,
            _microseconds(block.chained_at),
        )
    )
    for posting in sorted(postings):
        hashed.update(posting_bytes(posting))
    return hashed.digest()


def posting_bytes(posting: BookedPosting) -> bytes:
    """Every field of a posting as bytes. No two postings have the same, and none begins with those of another."""
    event = posting.event.encode()
    debit_kind = posting.debit_kind.encode()
    credit_kind = posting.credit_kind.encode()
    currency = posting.currency.encode()
    return b"".join(
        (
            _POSTING.pack(
                posting.booking,
                posting.seq,
                posting.amount_minor,
                posting.id.bytes,
                posting.debit_owner_id.bytes,
                posting.credit_owner_id.bytes,
                _microseconds(posting.created_at),
                len(event),
                len(debit_kind),
                len(credit_kind),
                len(currency),
            ),
            event,
            debit_kind,
            credit_kind,
            currency,
        )
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
