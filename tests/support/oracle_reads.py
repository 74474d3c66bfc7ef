"""What the oracle reads in bodies and terms, as docs/webhooks.md and docs/money.md have it; without a line of the service.

Times of one order lie on whole hours where they are subtracted, so time in dispute can be counted in hours.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

Json = dict[str, Any]
T = TypeVar("T")
History = list[tuple[datetime, T]]
"""What was set up, and from when on it holds; in any order."""

DIGITS = {"USD": 2, "EUR": 2, "VND": 0}
HOUR = timedelta(hours=1)

moment = datetime.fromisoformat


def minor(text: str, currency: str) -> int:
    return int(Decimal(text).scaleb(DIGITS[currency]))


class Refund(NamedTuple):
    """loose: goods value on no line in particular."""

    currency: str
    lines: dict[str, int]
    loose: int

    @property
    def whole(self) -> int:
        return self.loose + sum(self.lines.values())


def order_of(event: Json) -> str:
    return str(event["id"] if event["type"] == "order" else event["order_id"])


def name_of(event: Json) -> str:
    """A refund that a shop made for a dispute is that dispute's."""
    return f"dispute:{event['dispute_id']}" if "dispute_id" in event else str(event["id"])


def version_of(event: Json) -> tuple[bool, str, int]:
    """A provisional refund counts only without another; of two told at one time, a closed dispute and the larger refund."""
    more = refund_of(event).whole if event["type"] == "refund" else int("closed_at" in event)
    return not event.get("provisional", False), event["updated_at"], more


def newest(told: list[tuple[bytes, Json]], kind: str, larger: Callable[[bytes], Any]) -> dict[str, list[Json]]:
    """By name the newest version of each thing; several where bodies disagree, the one that counts first."""
    found: dict[str, dict[bytes, Json]] = defaultdict(dict)
    for body, event in told:
        if event["type"] == kind:
            found[name_of(event)][body] = event
    result = {}
    for name, bodies in found.items():
        newest = max(version_of(event) for event in bodies.values())
        of_it = {body: event for body, event in bodies.items() if version_of(event) == newest}
        # Bytes that mean the same are one body.
        meant = {larger(body): event for body, event in of_it.items()} if len(of_it) > 1 else of_it
        result[name] = [meant[each] for each in sorted(meant, reverse=True)]
    return result


def milestones(told: list[tuple[bytes, Json]], wanted: str) -> Iterator[datetime]:
    for _, event in told:
        own = event["at"] if event["type"] == "status" and event["milestone"] == wanted else None
        yield from (moment(at) for at in (own, event.get("milestones", {}).get(f"{wanted}_at")) if at)


def hours(dispute: Json, *, since: datetime) -> list[datetime]:
    """The hours of a closed dispute after a moment."""
    begin, end = max(moment(dispute["opened_at"]), since), moment(dispute["closed_at"])
    return [begin + HOUR * number for number in range((end - begin) // HOUR)]


def refund_of(event: Json) -> Refund:
    named: Counter[str] = Counter()
    for line in event.get("lines", []):
        named[line["line_id"]] += minor(line["net"], event["currency"])
    whole = minor(event["amount"], event["currency"])
    return Refund(event["currency"], dict(named), whole - sum(named.values()))


def of(amounts: list[Json], currency: str, otherwise: int) -> int:
    """The amount in a currency."""
    return next((each["amount_minor"] for each in amounts if each["currency"] == currency), otherwise)


def as_of(history: Iterable[tuple[datetime, T]], at: datetime) -> T | None:
    """What holds at a moment."""
    begun = [(since, what) for since, what in history if since <= at]
    return max(begun, key=lambda each: each[0])[1] if begun else None


def net_lines(shown: Json, refunds: list[Refund]) -> list[tuple[Json, int]]:
    """Goods lines and what is left of each."""
    goods = [line for line in shown["lines"] if line.get("kind", "goods") == "goods"]
    known = {line["id"] for line in shown["lines"]}
    back: Counter[str] = Counter()
    for refund in refunds:
        back.update(refund.lines)
    loose = sum(refund.loose for refund in refunds) + sum(each for line, each in back.items() if line not in known)
    left = [max(0, minor(line["net"], shown["currency"]) - back[line["id"]]) for line in goods]
    loose = min(loose, sum(left))
    taken = dealt(loose, left)
    return [(line, rest - gone) for line, rest, gone in zip(goods, left, taken, strict=True)]


def clock(
    settlement: Json,
    told: list[tuple[bytes, Json]],
    shown: Json,
    disputes: list[Json],
    zone: tzinfo,
    *,
    approved: bool,
    reviewed: bool,
) -> tuple[bool, datetime | None]:
    """Whether a person has to open the way, and when money becomes payable: by its calendar, by silence not before its days.

    reviewed: the programme is paused for review, so that only a person's approval counts.
    """
    manual = (settlement["approval"] == "manual" or reviewed) and not approved
    days: int = -1 if reviewed else settlement.get("auto_approve_days", -1)
    start = min(milestones(told, settlement["start"]), default=None)
    if start is None or (manual and days < 0):
        return manual and days < 0, None
    calendar = by_calendar(settlement, start, disputes, zone)
    return False, max(calendar, moment(shown["placed_at"]) + timedelta(days=days)) if manual else calendar


def by_calendar(settlement: Json, start: datetime, disputes: list[Json], zone: tzinfo) -> datetime:
    """When it is final, or the pay day of its statement, by the merchant's clock."""
    stopped = {hour for each in disputes if "closed_at" in each for hour in hours(each, since=start)}
    final_at = start + timedelta(days=settlement["hold_days"], hours=len(stopped))
    if settlement["kind"] == "rolling":
        return final_at
    there = final_at.astimezone(zone)
    month = there.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(settlement["months_after"] + (there.day > settlement["cut_off_day"])):
        month = (month + timedelta(days=32)).replace(day=1)
    last = (month + timedelta(days=32)).replace(day=1) - timedelta(days=1)
    return min(month + timedelta(days=settlement["pay_day"] - 1), last)


def dealt(whole: int, weights: Sequence[int | Fraction]) -> list[int]:
    """A whole in proportion to weights, rests to the largest remainders, of equal ones to the first."""
    exact = [Fraction(whole * each) / (sum(weights) or 1) for each in weights]
    parts = [int(each) for each in exact]
    missing = whole - sum(parts) if any(weights) else 0
    for index in sorted(range(len(parts)), key=lambda place: parts[place] - exact[place])[:missing]:
        parts[index] += 1
    return parts
