"""Prove that nothing was changed in what the chain covers, and that it covers what was booked without a gap."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.chain import GENESIS, Block, BookedPosting, block_digest
from service.infra import ids
from service.infra.db import fetch
from service.ledger.findings import FINDINGS_MAX, Check, Finding, FindingCode, run_checks

BLOCKS_AT_ONCE = 500
POSTINGS_AT_ONCE = 20_000
"""Blocks are read together until they hold about so many postings, so that memory does not grow with the books."""

_LEAST, _LARGEST = UUID(int=0), UUID(int=2**128 - 1)
_Place = tuple[UUID, int]
"""(merchant id, number of the block)."""


@dataclass(frozen=True, slots=True)
class NotedHead:
    """A head of a merchant's chain that was noted outside. digest: hexadecimal, or its beginning."""

    number: int
    digest: str


def verify(session: Session, merchant_id: UUID | None) -> list[Finding]:
    """Compute the chain of one merchant, or of all, anew. Returns what is wrong with it or with what it covers.

    session: its statements should see one moment, as `audit.take_snapshot` makes them. At most FINDINGS_MAX findings of
    a kind. Somebody who rewrites postings and chain alike is found by `through` only.
    """
    changed: list[Finding] = []
    unlinked: list[Finding] = []
    before: Row[Any] | None = None
    for row, postings in _blocks(session, merchant_id):
        if len(unlinked) < FINDINGS_MAX:
            unlinked += _unlinked(row, before)
        if len(changed) < FINDINGS_MAX:
            changed += _changed(row, postings)
        before = row
    return changed + unlinked + run_checks(session, CHECKS, merchant_id, {})


def through(session: Session, merchant_id: UUID, noted: Sequence[NotedHead]) -> list[Finding]:
    """The noted heads that the chain does not run through: it was made anew since, or shortened."""
    rows = fetch(
        session,
        """
        SELECT number, encode(digest, 'hex') AS digest FROM chain_block
        WHERE merchant_id = :merchant_id AND number = ANY(CAST(:numbers AS bigint[]))
        """,
        {"merchant_id": merchant_id, "numbers": [each.number for each in noted]},
    )
    digests: Mapping[int, str] = {row.number: row.digest for row in rows}
    return [
        Finding(
            FindingCode.CHAIN_HEAD,
            merchant_id,
            ids.encode("mer", merchant_id),
            f"block {each.number}",
            each.digest,
            digests.get(each.number, "no such block"),
        )
        for each in noted
        if not digests.get(each.number, "").startswith(each.digest)
    ]


def _blocks(session: Session, merchant_id: UUID | None) -> Iterator[tuple[Row[Any], list[BookedPosting]]]:
    """Yield all blocks, by merchant and number, each with the postings that are found where it says."""
    after: _Place = (merchant_id or _LEAST, 0)
    while rows := _next_blocks(session, merchant_id, after):
        held = _postings(session, rows)
        for index, row in enumerate(rows):
            yield row, held.get(index, [])
        after = (rows[-1].merchant_id, rows[-1].number)


def _next_blocks(session: Session, merchant_id: UUID | None, after: _Place) -> Sequence[Row[Any]]:
    rows = fetch(
        session,
        """
        SELECT merchant_id, number, day, slot, first_booking, last_booking, postings, previous_digest, digest, chained_at
        FROM chain_block
        WHERE (merchant_id, number) > (:after_merchant, :after_number) AND merchant_id <= :last_merchant
        ORDER BY merchant_id, number LIMIT :limit
        """,
        {
            "last_merchant": merchant_id or _LARGEST,
            "after_merchant": after[0],
            "after_number": after[1],
            "limit": BLOCKS_AT_ONCE,
        },
    )
    total = 0
    for index, row in enumerate(rows):
        total += row.postings
        if total >= POSTINGS_AT_ONCE:
            return rows[: index + 1]
    return rows


def _postings(session: Session, blocks: Sequence[Row[Any]]) -> dict[int, list[BookedPosting]]:
    """The postings where each block says, by its place in the list."""
    # LATERAL with an order of its own: one walk along the index for each block, whatever the planner expects.
    rows = fetch(
        session,
        """
        SELECT block.place, held.*
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:days AS date[]), CAST(:slots AS smallint[]),
                    CAST(:firsts AS integer[]), CAST(:lasts AS integer[]))
             WITH ORDINALITY AS block (merchant_id, day, slot, first_booking, last_booking, place)
        CROSS JOIN LATERAL (
            SELECT booking, event, seq, id, debit_kind, debit_owner_id, credit_kind, credit_owner_id, currency,
                   amount_minor, created_at
            FROM posting
            WHERE posting.merchant_id = block.merchant_id AND posting.day = block.day AND posting.slot = block.slot
              AND posting.booking BETWEEN block.first_booking AND block.last_booking
            ORDER BY booking
        ) AS held
        """,
        {
            "merchant_ids": [each.merchant_id for each in blocks],
            "days": [each.day for each in blocks],
            "slots": [each.slot for each in blocks],
            "firsts": [each.first_booking for each in blocks],
            "lasts": [each.last_booking for each in blocks],
        },
    )
    held: dict[int, list[BookedPosting]] = defaultdict(list)
    for row in rows:
        held[row[0] - 1].append(BookedPosting._make(row[1:]))
    return held


def _unlinked(row: Row[Any], before: Row[Any] | None) -> Iterable[Finding]:
    is_first = before is None or before.merchant_id != row.merchant_id
    number, digest = (0, GENESIS) if before is None or is_first else (before.number, before.digest)
    if row.number != number + 1:
        yield _about(FindingCode.CHAIN_LINK, row, expected=f"block {number + 1}", found=f"block {row.number}")
    elif bytes(row.previous_digest) != bytes(digest):
        yield _about(
            FindingCode.CHAIN_LINK,
            row,
            expected=f"after {bytes(digest).hex()}",
            found=f"after {bytes(row.previous_digest).hex()}",
        )


def _changed(row: Row[Any], postings: Sequence[BookedPosting]) -> Iterable[Finding]:
    block = Block(
        row.merchant_id,
        row.number,
        row.day,
        row.slot,
        row.first_booking,
        row.last_booking,
        row.postings,
        row.chained_at,
    )
    if len(postings) != block.postings:
        yield _about(
            FindingCode.CHAIN_DIGEST, row, expected=f"{block.postings} postings", found=f"{len(postings)} postings"
        )
        return
    digest = block_digest(bytes(row.previous_digest), block, postings)
    if digest != bytes(row.digest):
        yield _about(FindingCode.CHAIN_DIGEST, row, expected=bytes(row.digest).hex(), found=digest.hex())


def _about(code: FindingCode, row: Row[Any], *, expected: str, found: str) -> Finding:
    where = (
        f"block {row.number}, chained {row.chained_at:%Y-%m-%d %H:%M}: {row.day} slot {row.slot}, "
        f"bookings {row.first_booking} to {row.last_booking}"
    )
    return Finding(code, row.merchant_id, ids.encode("mer", row.merchant_id), where, expected, found)


_HEAD = """
WITH newest AS (
    SELECT DISTINCT ON (merchant_id) merchant_id, number, digest
    FROM chain_block WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    ORDER BY merchant_id, number DESC
), kept AS (
    SELECT * FROM chain_head WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
)
SELECT merchant_id, merchant_id AS id, 'head' AS detail,
       coalesce('block ' || kept.number || ' ' || encode(kept.digest, 'hex'), 'a head') AS expected,
       coalesce('block ' || newest.number || ' ' || encode(newest.digest, 'hex'), 'no block') AS found
FROM kept FULL JOIN newest USING (merchant_id)
WHERE (coalesce(kept.number, -1), kept.digest) IS DISTINCT FROM
      (coalesce(newest.number, 0), coalesce(newest.digest, decode(repeat('00', 32), 'hex')))
"""

_GAP = """
SELECT merchant_id, merchant_id AS id, concat('block ', number, ': ', day, ' slot ', slot) AS detail,
       concat('bookings from ', begins, ', at most to ', coalesce(touched, 0)) AS expected,
       concat('bookings ', first_booking, ' to ', last_booking) AS found
FROM (
    SELECT *, 1 + lag(last_booking, 1, 0) OVER (PARTITION BY merchant_id, day, slot ORDER BY first_booking) AS begins
    FROM chain_block WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
) AS block
LEFT JOIN day_slot USING (merchant_id, day, slot)
WHERE first_booking <> begins OR last_booking > coalesce(touched, 0)
"""

_BEYOND = """
SELECT posting.merchant_id, posting.id, concat(day, ' slot ', slot) AS detail,
       CASE WHEN touched IS NULL THEN 'no booking' ELSE concat('bookings 1 to ', touched) END AS expected,
       concat('booking ', booking) AS found
FROM posting LEFT JOIN day_slot USING (merchant_id, day, slot)
WHERE (CAST(:merchant_id AS uuid) IS NULL OR posting.merchant_id = :merchant_id)
  AND booking NOT BETWEEN 1 AND coalesce(touched, 0)
"""

_WITHOUT = """
SELECT merchant_id, merchant_id AS id, concat(day, ' slot ', slot) AS detail,
       concat(touched, ' bookings with postings') AS expected, CAST(coalesce(booked.number, 0) AS text) AS found
FROM day_slot
LEFT JOIN (
    SELECT merchant_id, day, slot, count(DISTINCT booking) AS number
    FROM posting WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    GROUP BY merchant_id, day, slot
) AS booked USING (merchant_id, day, slot)
WHERE (CAST(:merchant_id AS uuid) IS NULL OR day_slot.merchant_id = :merchant_id)
  AND coalesce(booked.number, 0) < touched
"""

CHECKS: tuple[Check, ...] = (
    Check(FindingCode.CHAIN_LINK, "mer", _HEAD),
    Check(FindingCode.CHAIN_GAP, "mer", _GAP),
    Check(FindingCode.POSTING_BOOKING, "pst", _BEYOND),
    Check(FindingCode.POSTING_BOOKING, "mer", _WITHOUT),
)
