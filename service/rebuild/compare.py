"""Lay two sets of books beside each other, line by line in one order, and name what differs.

Ids, versions, numbers of entries and booking days are not compared: they tell in how many steps the books were made.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.commission import Places, settleable
from service.domain.payout import Interval, freezable
from service.infra import ids
from service.infra.db import fetch
from service.ledger.findings import word
from service.rebuild.differences import Differences, RebuiltCode
from service.rebuild.orders import last_settled_at
from service.rebuild.snapshot import ROWS_AT_ONCE, stream

SETTLE_MAY_LAG = timedelta(days=1)
"""What fell due, or was told, within so long before the last settle date may still be pending: the run that moved the
last commission may be one of several, or have begun before the order's newest delivery was in."""

_Key = tuple[Any, ...]


def compare_orders(live: Session, made: Session, differences: Differences, *, tell: Callable[[int], None]) -> None:
    """Compare facts, orders, targets and places. Both sessions see one moment each. tell: called for each line."""
    merchant_id = differences.merchant_id
    for names, found, expected in _beside(live, made, merchant_id, _FACTS, _fact_key):
        tell(0)
        _compare_fact(names, found, expected, differences)
    for names, found, expected in _beside(live, made, merchant_id, _ORDERS, _order_key):
        tell(0)
        _compare_order(names, found, expected, differences)
    places = _PlacesCheck(live, differences, last_settled_at(live, merchant_id))
    for names, found, expected in _beside(live, made, merchant_id, _COMMISSIONS, _commission_key):
        tell(0)
        pair = _Pair(names, found, expected)
        _compare_target(pair, differences)
        places.check(pair)
    places.close()
    for names, found, expected in _beside(live, made, merchant_id, _PERIODS, _period_key):
        tell(0)
        _compare_period(names, found, expected, differences)


def compare_balances(live: Session, made: Session, differences: Differences, *, tell: Callable[[int], None]) -> None:
    """Compare every account of every payee; what a commission's place explains is taken off on both sides."""
    for names, found, expected in _beside(live, made, differences.merchant_id, _BALANCES, _balance_key):
        tell(0)
        owner_id, currency, kind = names
        rest = expected.rest_minor if expected else 0
        if rest != (found.rest_minor if found else 0):
            explained = (found.amount_minor - found.rest_minor) if found else 0
            differences.add(
                RebuiltCode.BALANCE,
                ids.encode("aff", owner_id),
                f"{kind} {currency}",
                expected=str(explained + rest),
                found=str(found.amount_minor if found else 0),
            )


def _beside(
    live: Session, made: Session, merchant_id: UUID, statement: str, key: Callable[[Row[Any]], _Key]
) -> Iterator[tuple[_Key, Row[Any] | None, Row[Any] | None]]:
    """Yields (key, live row, row made again) for each key of either side; the side that lacks it is None.

    statement: ordered by its key, texts by their bytes.
    """
    of_live = stream(live, statement, {"merchant_id": merchant_id})
    of_made = stream(made, statement, {"merchant_id": merchant_id})
    one, other = next(of_live, None), next(of_made, None)
    while one is not None or other is not None:
        of_one = None if one is None else key(one)
        of_other = None if other is None else key(other)
        names = min(each for each in (of_one, of_other) if each is not None)
        yield names, one if of_one == names else None, other if of_other == names else None
        if of_one == names:
            one = next(of_live, None)
        if of_other == names:
            other = next(of_made, None)


def _either(found: Row[Any] | None, expected: Row[Any] | None) -> Row[Any]:
    row = expected if found is None else found
    assert row is not None
    return row


_FACTS = """
SELECT orders.source_id, orders.external_id, fact.order_id, kind, fact.key, version_at, version_amount, body_hash,
       conflicting, provisional, encode(sha256(convert_to(CAST(payload AS text), 'UTF8')), 'hex') AS payload_hash
FROM fact JOIN orders ON orders.merchant_id = fact.merchant_id AND orders.id = fact.order_id
WHERE fact.merchant_id = :merchant_id
ORDER BY orders.source_id, orders.external_id COLLATE "C", kind COLLATE "C", fact.key COLLATE "C"
"""


def _fact_key(row: Row[Any]) -> _Key:
    return (row.source_id, row.external_id, row.kind, row.key)


def _compare_fact(names: _Key, found: Row[Any] | None, expected: Row[Any] | None, differences: Differences) -> None:
    kept, told = _fact_words(found), _fact_words(expected)
    if kept != told:
        _, external_id, kind, key = names
        subject = ids.encode("ord", _either(found, expected).order_id)
        detail = f"order {external_id}: {kind} {key}".rstrip()
        differences.add(RebuiltCode.FACT, subject, detail, expected=told, found=kept)


def _fact_words(row: Row[Any] | None) -> str:
    if row is None:
        return "none"
    parts = [word(row.version_at), str(row.version_amount), bytes(row.body_hash).hex()[:12], row.payload_hash[:12]]
    marks = [mark for mark in ("conflicting", "provisional") if getattr(row, mark)]
    return " / ".join(parts + marks)


_ORDERS = """
SELECT orders.source_id, orders.external_id, orders.id AS order_id, placed_at, currency, number, goods_minor, net_minor,
       cancelled, affiliate_id, program_id, attribution_reason, frozen_reason
FROM orders
LEFT JOIN assessment ON assessment.merchant_id = orders.merchant_id AND assessment.order_id = orders.id
WHERE orders.merchant_id = :merchant_id
ORDER BY orders.source_id, orders.external_id COLLATE "C"
"""

_ORDER_PARTS = (
    "affiliate_id",
    "program_id",
    "attribution_reason",
    "frozen_reason",
    "currency",
    "goods_minor",
    "net_minor",
    "cancelled",
    "placed_at",
    "number",
)


def _order_key(row: Row[Any]) -> _Key:
    return (row.source_id, row.external_id)


def _compare_order(names: _Key, found: Row[Any] | None, expected: Row[Any] | None, differences: Differences) -> None:
    if found is None or expected is None:
        differences.add(
            RebuiltCode.ORDER,
            ids.encode("ord", _either(found, expected).order_id),
            f"order {names[1]}",
            expected="no delivery tells of it" if expected is None else "an order",
            found="none" if found is None else "an order",
        )
        return
    _differing(found, expected, _ORDER_PARTS, RebuiltCode.ORDER, ids.encode("ord", found.order_id), names, differences)


def _differing(
    found: Row[Any],
    expected: Row[Any],
    parts: Sequence[str],
    code: RebuiltCode,
    subject: str,
    names: _Key,
    differences: Differences,
) -> None:
    """Name the columns that differ, all in one finding."""
    unequal = [part for part in parts if getattr(found, part) != getattr(expected, part)]
    if unequal:
        differences.add(
            code,
            subject,
            f"order {names[1]}: {', '.join(unequal)}",
            expected=", ".join(word(getattr(expected, part)) for part in unequal),
            found=", ".join(word(getattr(found, part)) for part in unequal),
        )


_COMMISSIONS = """
SELECT orders.source_id, orders.external_id, commission.id, commission.order_id, payee_id, currency, target_minor,
       pending_minor, held_minor, settled_minor, approved_minor, settles_at, reason_code, updated_at,
       encode(sha256(convert_to(CAST(receipt AS text), 'UTF8')), 'hex') AS receipt_hash,
       encode(sha256(convert_to(CAST(outlook AS text), 'UTF8')), 'hex') AS outlook_hash,
       -- What is no longer earned keeps the programme it was earned by, if it ever was.
       CASE WHEN receipt <> CAST('{}' AS jsonb) THEN program_id END AS program_id,
       coalesce(told.posted_minor, 0) AS posted_minor, coalesce(told.was_held, false) AS was_held
FROM commission
JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
LEFT JOIN (
    SELECT commission_id, bool_or(destination = 'held') AS was_held,
           CAST(sum(CASE WHEN source = 'commission_expense' THEN amount_minor
                         WHEN destination = 'commission_expense' THEN -amount_minor ELSE 0 END) AS bigint) AS posted_minor
    FROM commission_entry WHERE merchant_id = :merchant_id
    GROUP BY commission_id
) AS told ON told.commission_id = commission.id
WHERE commission.merchant_id = :merchant_id
ORDER BY orders.source_id, orders.external_id COLLATE "C", payee_id, currency COLLATE "C"
"""

# Where a period's parts stand follows from where its orders' do, which are compared; what it comes to does not.
_PERIODS = """
SELECT rule_period.id, rule_period.payee_id, rule_period.program_id, rule, begins_on, rule_period.currency,
       CAST(rules AS text) AS rules, coalesce(commission.target_minor, 0) AS target_minor,
       pending_commission_minor + held_commission_minor + settled_commission_minor AS commission_minor,
       pending_sales_minor + held_sales_minor + settled_sales_minor AS sales_minor,
       pending_orders + held_orders + settled_orders AS orders
FROM rule_period
LEFT JOIN commission ON commission.merchant_id = rule_period.merchant_id AND commission.id = rule_period.id
WHERE rule_period.merchant_id = :merchant_id
  -- A period that orders came to and left may never have been reached in another order of things.
  AND (pending_orders, held_orders, settled_orders, coalesce(commission.target_minor, 0)) <> (0, 0, 0, 0)
ORDER BY rule_period.payee_id, rule_period.program_id, rule COLLATE "C", begins_on, rule_period.currency COLLATE "C"
"""

_PERIOD_PARTS = ("rules", "commission_minor", "sales_minor", "orders", "target_minor")


def _period_key(row: Row[Any]) -> _Key:
    return (row.payee_id, row.program_id, row.rule, row.begins_on, row.currency)


def _compare_period(names: _Key, found: Row[Any] | None, expected: Row[Any] | None, differences: Differences) -> None:
    def said(row: Row[Any] | None) -> str:
        return "none" if row is None else ", ".join(f"{part} {getattr(row, part)}" for part in _PERIOD_PARTS)

    if said(found) != said(expected):
        payee_id, _, rule, begins_on, currency = names
        differences.add(
            RebuiltCode.PERIOD,
            ids.encode("com", _either(found, expected).id),
            f"{rule} from {begins_on}, payee {ids.encode('aff', payee_id)}, {currency}",
            expected=said(expected),
            found=said(found),
        )


_TARGET_PARTS = ("program_id", "approved_minor", "settles_at", "receipt_hash")


def _commission_key(row: Row[Any]) -> _Key:
    return (row.source_id, row.external_id, row.payee_id, row.currency)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A commission as it is, and as it comes out again. One that neither earns nor holds anything may lack its row."""

    names: _Key
    found: Row[Any] | None
    expected: Row[Any] | None

    @property
    def subject(self) -> str:
        if self.found is not None:
            return ids.encode("com", self.found.id)
        return ids.encode("ord", _either(self.found, self.expected).order_id)

    @property
    def detail(self) -> str:
        _, external_id, payee_id, currency = self.names
        return f"order {external_id}, payee {ids.encode('aff', payee_id)}, {currency}"


def _compare_target(pair: _Pair, differences: Differences) -> None:
    found, expected = pair.found, pair.expected
    kept = (found.target_minor, found.posted_minor) if found else (0, 0)
    made = (expected.target_minor, expected.posted_minor) if expected else (0, 0)
    if kept != made:
        differences.add(
            RebuiltCode.TARGET,
            pair.subject,
            f"{pair.detail}: target, posted",
            expected=f"{made[0]}, {made[1]}",
            found=f"{kept[0]}, {kept[1]}",
        )
    elif found and expected:
        # Why it stands where it stands can only be the same where it stands the same.
        parts = _TARGET_PARTS if _places(found) != _places(expected) else (*_TARGET_PARTS, "reason_code")
        # Outlooks are kept since 0014; an older one comes with the order's next delivery.
        if found.outlook_hash is not None:
            parts = (*parts, "outlook_hash")
        _differing(found, expected, parts, RebuiltCode.TARGET, pair.subject, pair.names, differences)


def _places(row: Row[Any] | None) -> Places:
    return Places() if row is None else Places(row.pending_minor, row.held_minor, row.settled_minor)


class _PlacesCheck:
    """Compares where commissions stand. Made-again books differ rightly in two ways, and in no other.

    They settled on the last settle date whatever was due by then. And no money ever left them, so that a freeze found
    all of it: up to what had left, settled money of a commission that was ever held may be held or pending there.
    """

    def __init__(self, live: Session, differences: Differences, last: datetime | None) -> None:
        """last: the last settle date."""
        self._live = live
        self._differences = differences
        self._last = last
        self._doubtful: list[tuple[_Pair, int]] = []

    def check(self, pair: _Pair) -> None:
        """Compare one commission, now or when enough have been gathered whose money may have left."""
        kept, made = _places(pair.found), _places(pair.expected)
        if kept.posted_minor != made.posted_minor:
            # Named by its target already; no place could agree.
            return
        more = kept.settled_minor + self._lagging(pair.found) - made.settled_minor
        if more == 0 and kept.held_minor == made.held_minor:
            return
        was_held = any(row is not None and row.was_held for row in (pair.found, pair.expected))
        if more > 0 and was_held and kept.held_minor <= made.held_minor:
            self._doubtful.append((pair, more))
            if len(self._doubtful) >= ROWS_AT_ONCE:
                self.close()
        else:
            self._name(pair)

    def close(self) -> None:
        """Look up what had left of the commissions gathered, and name those that it does not explain."""
        left = _left(
            self._live, self._differences.merchant_id, [pair.found for pair, _ in self._doubtful if pair.found]
        )
        for pair, more in self._doubtful:
            if pair.found is None or more > left[pair.found.id]:
                self._name(pair)
        self._doubtful.clear()

    def _lagging(self, row: Row[Any] | None) -> int:
        """How much is due by the last settle date and still pending for want of time."""
        if row is None or self._last is None or row.settles_at is None or row.settles_at > self._last:
            return 0
        if max(row.settles_at, row.updated_at) < self._last - SETTLE_MAY_LAG:
            return 0
        return settleable(_places(row), approved_minor=row.approved_minor)

    def _name(self, pair: _Pair) -> None:
        self._differences.add(
            RebuiltCode.PLACE,
            pair.subject,
            f"{pair.detail}: pending / held / settled",
            expected=_places_words(pair.expected),
            found=_places_words(pair.found),
        )


def _places_words(row: Row[Any] | None) -> str:
    places = _places(row)
    return f"{places.pending_minor} / {places.held_minor} / {places.settled_minor}"


def _left(live: Session, merchant_id: UUID, commissions: Sequence[Row[Any]]) -> dict[UUID, int]:
    """How much of each commission's settled money was ever handed to a rail, by commission id."""
    if not commissions:
        return {}
    entries: dict[UUID, list[tuple[int, int]]] = defaultdict(list)
    for row in fetch(
        live,
        """
        SELECT commission_id, payable_version,
               CASE WHEN destination = 'payable' THEN amount_minor ELSE -amount_minor END AS change
        FROM commission_entry
        WHERE merchant_id = :merchant_id AND commission_id = ANY(CAST(:ids AS uuid[])) AND payable_version IS NOT NULL
        """,
        {"merchant_id": merchant_id, "ids": [each.id for each in commissions]},
    ):
        entries[row.commission_id].append((row.payable_version, row.change))
    intervals: dict[tuple[UUID, str], list[Interval]] = defaultdict(list)
    # An attempt that came to nothing counts too: while it was under way, the money could not be frozen.
    for row in fetch(
        live,
        """
        SELECT payee_id, currency, id, from_version, to_version, gave_back_version,
               EXISTS (SELECT FROM payout_attempt
                       WHERE payout_attempt.merchant_id = payout_item.merchant_id
                         AND payout_attempt.item_id = payout_item.id) AS attempted
        FROM payout_item
        WHERE merchant_id = :merchant_id AND payee_id = ANY(CAST(:payee_ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "payee_ids": sorted({each.payee_id for each in commissions})},
    ):
        intervals[row.payee_id, row.currency].append(
            Interval(
                row.id,
                row.from_version,
                row.to_version,
                handed_over=row.attempted,
                gave_back_version=row.gave_back_version,
            )
        )
    return {
        each.id: sum(change for _, change in entries[each.id])
        - freezable(entries[each.id], intervals[each.payee_id, each.currency])
        for each in commissions
    }


_BALANCES = """
WITH stands AS (
    SELECT payee_id AS owner_id, currency, kind, CAST(sum(part.amount_minor) AS bigint) AS amount_minor
    FROM commission
    CROSS JOIN LATERAL (VALUES ('pending', pending_minor), ('held', held_minor), ('payable', settled_minor))
        AS part (kind, amount_minor)
    WHERE merchant_id = :merchant_id
    GROUP BY payee_id, currency, kind
), kept AS (
    SELECT owner_id, currency, kind, amount_minor FROM balance WHERE merchant_id = :merchant_id
)
SELECT owner_id, currency, kind, coalesce(kept.amount_minor, 0) AS amount_minor,
       coalesce(kept.amount_minor, 0) - coalesce(stands.amount_minor, 0) AS rest_minor
FROM kept FULL JOIN stands USING (owner_id, currency, kind)
ORDER BY owner_id, currency COLLATE "C", kind COLLATE "C"
"""


def _balance_key(row: Row[Any]) -> _Key:
    return (row.owner_id, row.currency, row.kind)
