"""Chain what was booked: bind each run of bookings to all before it, some time after the postings were committed."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.chain import GENESIS, Block, BookedPosting, block_digest
from service.domain.ledger import SLOTS
from service.infra.db import execute, fetch

POSTINGS_MAX = 10_000
"""Postings chained at once, and most postings of a block but for those its last booking has more."""

LOOK_BACK = timedelta(days=7)
"""How far before the newest block, or today, later turns of a day look for bookings; the first looks at all days."""


@dataclass(frozen=True, slots=True)
class Head:
    """The newest block of a merchant's chain; number 0 while there is none."""

    number: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Chained:
    """What one call added, and the head it left."""

    blocks: int
    postings: int
    head: Head


@dataclass(frozen=True, slots=True)
class Height:
    """How far a merchant's chain goes. postings, behind: how many its blocks cover, and how many none covers yet."""

    head: Head
    postings: int
    behind: int


def height(session: Session, merchant_id: UUID) -> Height:
    """Read how far a merchant's chain goes."""
    [row] = fetch(
        session,
        """
        SELECT coalesce((SELECT sum(postings) FROM chain_block WHERE merchant_id = :merchant_id), 0) AS postings,
               (SELECT count(*) FROM posting WHERE merchant_id = :merchant_id) AS booked,
               coalesce(head.number, 0) AS number, coalesce(head.digest, :genesis) AS digest
        FROM (SELECT) AS always LEFT JOIN chain_head AS head ON head.merchant_id = :merchant_id
        """,
        {"merchant_id": merchant_id, "genesis": GENESIS},
    )
    return Height(Head(row.number, bytes(row.digest)), int(row.postings), row.booked - int(row.postings))


def chain(
    session: Session,
    merchant_id: UUID,
    *,
    now: datetime,
    looked_on: date | None = None,
    postings_max: int = POSTINGS_MAX,
) -> Chained:
    """Add blocks for the oldest day that has bookings no block covers. Adds none when every booking is covered.

    looked_on: day, in UTC, of an earlier call that added none; on that day the days long past are not looked at again.
    The slots of a day are covered side by side; call again until nothing is added. Books nothing and locks no row that
    intake wants. May be run again after any failure.
    """
    head = _lock_head(session, merchant_id)
    slots = _uncovered(session, merchant_id, head, now, looked_on)
    if not slots:
        return Chained(0, 0, head)
    per_slot = max(1, postings_max // len(slots))
    postings = _postings(session, merchant_id, slots, per_slot)
    blocks: list[Block] = []
    digests = [head.digest]
    for row in slots:
        held = postings.get(row.slot, [])
        block = Block(
            merchant_id,
            head.number + len(blocks) + 1,
            row.day,
            row.slot,
            first_booking=row.covered + 1,
            # All there is up to the slot's newest booking was read, unless the limit cut it: then after whole bookings.
            last_booking=row.touched if len(held) < per_slot else max(each.booking for each in held),
            postings=len(held),
            chained_at=now,
        )
        digests.append(block_digest(digests[-1], block, held))
        blocks.append(block)
    _add(session, blocks, digests)
    return Chained(len(blocks), sum(each.postings for each in blocks), Head(blocks[-1].number, digests[-1]))


def _lock_head(session: Session, merchant_id: UUID) -> Head:
    """The head, locked until the commit: two who chain at once would otherwise both add the next block."""
    execute(
        session,
        "INSERT INTO chain_head (merchant_id, number, digest) VALUES (:merchant_id, 0, :digest) ON CONFLICT DO NOTHING",
        {"merchant_id": merchant_id, "digest": GENESIS},
    )
    row = fetch(
        session,
        "SELECT number, digest FROM chain_head WHERE merchant_id = :merchant_id FOR UPDATE",
        {"merchant_id": merchant_id},
    )[0]
    return Head(row.number, bytes(row.digest))


def _uncovered(
    session: Session, merchant_id: UUID, head: Head, now: datetime, looked_on: date | None
) -> Sequence[Row[Any]]:
    """Slots of the oldest day with bookings beyond the last block of the slot: day, slot, covered, touched.

    Nobody books on days long past, so their slots, ever more of them, are looked at once a day only: until a block was
    added that day, or nothing was found.
    """
    rows = fetch(
        session,
        """
        SELECT day_slot.day, day_slot.slot, coalesce(block.last_booking, 0) AS covered, touched
        FROM day_slot
        LEFT JOIN LATERAL (
            SELECT last_booking FROM chain_block
            WHERE chain_block.merchant_id = :merchant_id AND chain_block.day = day_slot.day
              AND chain_block.slot = day_slot.slot
            ORDER BY first_booking DESC LIMIT 1
        ) AS block ON true
        WHERE day_slot.merchant_id = :merchant_id AND touched > coalesce(block.last_booking, 0)
          AND day_slot.day >= coalesce((
              SELECT least(newest.day, CAST(:today AS date)) - CAST(:look_back_days AS integer)
              FROM chain_block AS newest
              WHERE newest.merchant_id = :merchant_id AND newest.number = :number
                AND newest.chained_at >= CAST(:today AS date)),
              CASE WHEN CAST(:today AS date) = CAST(:looked_on AS date)
                   THEN CAST(:today AS date) - CAST(:look_back_days AS integer) END,
              DATE '-infinity')
        ORDER BY day_slot.day, day_slot.slot LIMIT :limit
        """,
        {
            "merchant_id": merchant_id,
            "number": head.number,
            "today": now.date(),
            "looked_on": looked_on,
            "look_back_days": LOOK_BACK.days,
            "limit": SLOTS,
        },
    )
    return [row for row in rows if row.day == rows[0].day]


def _postings(
    session: Session, merchant_id: UUID, slots: Sequence[Row[Any]], per_slot: int
) -> Mapping[int, list[BookedPosting]]:
    """The oldest postings no block covers, by slot, in whole bookings; all of them where fewer than per_slot come."""
    rows = fetch(
        session,
        """
        SELECT open.slot, held.*
        FROM unnest(CAST(:slots AS smallint[]), CAST(:covered AS bigint[]), CAST(:touched AS bigint[]))
             AS open (slot, covered, touched)
        CROSS JOIN LATERAL (
            SELECT booking, event, seq, id, debit_kind, debit_owner_id, credit_kind, credit_owner_id, currency,
                   amount_minor, created_at
            FROM posting
            WHERE posting.merchant_id = :merchant_id AND posting.day = :day AND posting.slot = open.slot
              AND posting.booking > open.covered AND posting.booking <= open.touched
            ORDER BY booking FETCH FIRST (:per_slot) ROWS WITH TIES
        ) AS held
        """,
        {
            "merchant_id": merchant_id,
            "day": slots[0].day,
            "slots": [each.slot for each in slots],
            "covered": [each.covered for each in slots],
            "touched": [each.touched for each in slots],
            "per_slot": per_slot,
        },
    )
    held: dict[int, list[BookedPosting]] = defaultdict(list)
    for row in rows:
        held[row[0]].append(BookedPosting._make(row[1:]))
    return held


def _add(session: Session, blocks: Sequence[Block], digests: Sequence[bytes]) -> None:
    """Store blocks and the head they leave. digests: the one before the first block, then one of each block."""
    merchant_id, newest = blocks[0].merchant_id, blocks[-1]
    execute(
        session,
        """
        INSERT INTO chain_block (merchant_id, number, day, slot, first_booking, last_booking, postings,
                                 previous_digest, digest, chained_at)
        SELECT :merchant_id, number, day, slot, first_booking, last_booking, postings, previous_digest, digest,
               :chained_at
        FROM unnest(CAST(:numbers AS bigint[]), CAST(:days AS date[]), CAST(:slots AS smallint[]),
                    CAST(:firsts AS integer[]), CAST(:lasts AS integer[]), CAST(:postings AS bigint[]),
                    CAST(:previous AS bytea[]), CAST(:digests AS bytea[]))
             AS made (number, day, slot, first_booking, last_booking, postings, previous_digest, digest)
        """,
        {
            "merchant_id": merchant_id,
            "chained_at": newest.chained_at,
            "numbers": [each.number for each in blocks],
            "days": [each.day for each in blocks],
            "slots": [each.slot for each in blocks],
            "firsts": [each.first_booking for each in blocks],
            "lasts": [each.last_booking for each in blocks],
            "postings": [each.postings for each in blocks],
            "previous": digests[:-1],
            "digests": digests[1:],
        },
    )
    execute(
        session,
        "UPDATE chain_head SET number = :number, digest = :digest WHERE merchant_id = :merchant_id",
        {"merchant_id": merchant_id, "number": newest.number, "digest": digests[-1]},
    )
