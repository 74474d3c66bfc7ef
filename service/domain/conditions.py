"""Conditions: what a rule may ask about a line, its order, its buyer, the affiliate and how the affiliate won it."""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from service.domain.errors import InvalidTerms
from service.domain.marks import ContentType, Grade, Label
from service.domain.order import NetLine, TouchKind, folded
from service.domain.settlement import Weekday
from service.domain.written import Amounts, amounts_json, amounts_of

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Customer:
    """The buyer. country: where the order goes, or empty. lists: the merchant's lists the buyer is on.

    first_order_at: when the buyer's first order was placed, if that was before this one. is_known: the order says who
    the buyer is and the terms ask about other orders; of a buyer nobody knows it is neither true nor false that the
    order is the first.
    """

    country: str = ""
    lists: frozenset[str] = frozenset()
    first_order_at: datetime | None = None
    is_known: bool = False


NOBODY = Customer()


@dataclass(frozen=True, slots=True)
class Situation:
    """What rules may ask about an order as a whole, for one affiliate that is credited with it.

    ordered_minor, left_minor: goods as ordered, and after refunds. touch, coupon: what made the affiliate win; None and
    empty where a person decided without one. label: of the link that did. grade: the affiliate's, when the order was
    placed. time_zone: the merchant's.
    """

    placed_at: datetime
    currency: str
    ordered_minor: int
    left_minor: int
    touch: TouchKind | None = None
    coupon: str = ""
    affiliate_id: UUID | None = None
    label: Label | None = None
    grade: Grade | None = None
    customer: Customer = NOBODY
    time_zone: str = "UTC"

    @classmethod
    def of(
        cls,
        lines: Sequence[NetLine],
        *,
        placed_at: datetime,
        currency: str,
        touch: TouchKind | None = None,
        coupon: str = "",
        affiliate_id: UUID | None = None,
        label: Label | None = None,
        grade: Grade | None = None,
        customer: Customer = NOBODY,
        time_zone: str = "UTC",
    ) -> Self:
        """The situation of an order with these goods lines."""
        ordered, left = sum([each.line.net_minor for each in lines]), sum([each.net_minor for each in lines])
        return cls(placed_at, currency, ordered, left, touch, coupon, affiliate_id, label, grade, customer, time_zone)

    @property
    def local(self) -> datetime:
        """When it was placed, by the merchant's clock on the wall."""
        return self.placed_at.astimezone(ZoneInfo(self.time_zone))

    def as_json(self) -> JsonObject:
        """As receipts hold it; what is not known, and nothing asks about, is left out."""
        label, grade, customer = self.label, self.grade, self.customer
        told: dict[str, Any] = {
            "affiliate_id": str(self.affiliate_id) if self.affiliate_id else None,
            "content_type": label.content_type.value if label and label.content_type else None,
            "channel": label.channel if label else None,
            "sub_ids": dict(label.sub_ids) if label else None,
            "tier": grade.tier if grade else None,
            "groups": sorted(grade.groups) if grade else None,
            "country": customer.country,
            "customer_lists": sorted(customer.lists),
            "customer_known": customer.is_known,
            "customer_since": _moment(customer.first_order_at) if customer.first_order_at else None,
            "time_zone": None if self.time_zone == "UTC" else self.time_zone,
        }
        return {
            "placed_at": _moment(self.placed_at),
            "ordered_minor": self.ordered_minor,
            "left_minor": self.left_minor,
            "touch": None if self.touch is None else self.touch.value,
            "coupon": self.coupon,
            **{name: value for name, value in told.items() if value},
        }

    @classmethod
    def of_json(cls, told: JsonObject, lines: Sequence[NetLine], currency: str) -> Self:
        """The situation that a receipt holds, with its amounts summed from the receipt's lines."""
        content_type, since = told.get("content_type"), told.get("customer_since")
        label = Label(
            datetime.min.replace(tzinfo=UTC),
            ContentType(content_type) if content_type else None,
            told.get("channel") or "",
            tuple(sorted((told.get("sub_ids") or {}).items())),
        )
        return cls.of(
            lines,
            placed_at=datetime.fromisoformat(told["placed_at"]),
            currency=currency,
            touch=None if told["touch"] is None else TouchKind(told["touch"]),
            coupon=told["coupon"],
            affiliate_id=UUID(told["affiliate_id"]) if told.get("affiliate_id") else None,
            label=label,
            grade=Grade(label.valid_from, told.get("tier") or "", frozenset(told.get("groups") or ())),
            customer=Customer(
                told.get("country") or "",
                frozenset(told.get("customer_lists") or ()),
                datetime.fromisoformat(since) if since else None,
                is_known=bool(told.get("customer_known")),
            ),
            time_zone=told.get("time_zone") or "UTC",
        )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


# Conditions: each is true or false of one line of one order.


@dataclass(frozen=True, slots=True)
class SkuIn:
    skus: frozenset[str]


@dataclass(frozen=True, slots=True)
class CategoryIn:
    categories: frozenset[str]


class Measure(StrEnum):
    LEFT = "left"
    """What is left after refunds."""
    ORDERED = "ordered"
    """As ordered, whatever came back."""


@dataclass(frozen=True, slots=True)
class Between:
    """An amount from at_least on, and below another; either may be left out. False in a currency that neither names."""

    at_least_minor: Amounts = ()
    below_minor: Amounts = ()
    measure: Measure = Measure.LEFT

    def holds(self, amount_minor: int, currency: str) -> bool:
        least, below = dict(self.at_least_minor).get(currency), dict(self.below_minor).get(currency)
        if least is None and below is None:
            return False
        return (least is None or amount_minor >= least) and (below is None or amount_minor < below)


@dataclass(frozen=True, slots=True)
class LineAmount:
    between: Between


@dataclass(frozen=True, slots=True)
class OrderAmount:
    """Of all goods of the order."""

    between: Between


@dataclass(frozen=True, slots=True)
class Placed:
    """The order was placed at `since` or later, and before `until`; either may be None."""

    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class TouchIn:
    kinds: frozenset[TouchKind]


@dataclass(frozen=True, slots=True)
class CouponIn:
    """The affiliate won by one of these codes, compared without case."""

    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class AffiliateIn:
    """It is one of these affiliates: who is invited to a target or exclusive plan."""

    affiliates: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class TierIn:
    tiers: frozenset[str]


@dataclass(frozen=True, slots=True)
class GroupIn:
    """The affiliate is in one of these groups."""

    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class ContentIn:
    """The link that won is shown in one of these."""

    content_types: frozenset[ContentType]


@dataclass(frozen=True, slots=True)
class ChannelIn:
    """The link that won is marked with one of these channels."""

    channels: frozenset[str]


@dataclass(frozen=True, slots=True)
class SubIdIn:
    """The link that won has one of these values as sub1 … sub5."""

    name: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class WeekdayIn:
    """The order was placed on one of these days, in the merchant's time zone."""

    days: frozenset[Weekday]


@dataclass(frozen=True, slots=True)
class HourBetween:
    """Placed at `since` o'clock or later and before `until` of the merchant's day; over midnight where since is later."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class CountryIn:
    """The order goes to one of these countries, ISO 3166-1 alpha-2."""

    countries: frozenset[str]


class CustomerKind(StrEnum):
    NEW = "new"
    """It is the customer's first order that was not cancelled."""
    RETURNING = "returning"


@dataclass(frozen=True, slots=True)
class CustomerIs:
    """False both ways where the order does not say who the customer is."""

    kind: CustomerKind


@dataclass(frozen=True, slots=True)
class CustomerMonths:
    """The order was placed less than so many months after the customer's first one; the first itself is."""

    below: int


@dataclass(frozen=True, slots=True)
class CustomerListed:
    """The customer is on one of the merchant's lists, such as "staff"."""

    lists: frozenset[str]


Condition = (
    SkuIn
    | CategoryIn
    | LineAmount
    | OrderAmount
    | Placed
    | TouchIn
    | CouponIn
    | AffiliateIn
    | TierIn
    | GroupIn
    | ContentIn
    | ChannelIn
    | SubIdIn
    | WeekdayIn
    | HourBetween
    | CountryIn
    | CustomerIs
    | CustomerMonths
    | CustomerListed
)

LOOKS_AT_OTHER_ORDERS = (CustomerIs, CustomerMonths)
"""Conditions whose truth may change when something is told of another order of the same customer."""


def holds(condition: Condition, line: NetLine, order: Situation) -> bool:
    """Whether a condition is true of a line."""
    match condition:
        case SkuIn(skus):
            return line.line.sku in skus
        case CategoryIn(categories):
            return line.line.category in categories
        case LineAmount(between):
            amount = line.net_minor if between.measure is Measure.LEFT else line.line.net_minor
            return between.holds(amount, order.currency)
        case OrderAmount(between):
            amount = order.left_minor if between.measure is Measure.LEFT else order.ordered_minor
            return between.holds(amount, order.currency)
        case Placed(since, until):
            return (since is None or order.placed_at >= since) and (until is None or order.placed_at < until)
        case TouchIn(kinds):
            return order.touch in kinds
        case CouponIn(codes):
            return order.coupon in codes
        case WeekdayIn() | HourBetween():
            return _holds_by_clock(condition, order.local)
        case AffiliateIn() | TierIn() | GroupIn() | ContentIn() | ChannelIn() | SubIdIn():
            return _holds_for_affiliate(condition, order)
        case CountryIn() | CustomerIs() | CustomerMonths() | CustomerListed():
            return _holds_for_customer(condition, order)
        case _:
            assert_never(condition)


def _holds_by_clock(condition: WeekdayIn | HourBetween, local: datetime) -> bool:
    match condition:
        case WeekdayIn(days):
            return local.isoweekday() in days
        case HourBetween(since, until) if since < until:
            return since <= local.hour < until
        case HourBetween(since, until):
            return local.hour >= since or local.hour < until
        case _:
            assert_never(condition)


def _holds_for_affiliate(
    condition: AffiliateIn | TierIn | GroupIn | ContentIn | ChannelIn | SubIdIn, order: Situation
) -> bool:
    match condition:
        case AffiliateIn(affiliates):
            return order.affiliate_id in affiliates
        case TierIn(tiers):
            return order.grade is not None and order.grade.tier in tiers
        case GroupIn(groups):
            return order.grade is not None and not groups.isdisjoint(order.grade.groups)
        case ContentIn(content_types):
            return order.label is not None and order.label.content_type in content_types
        case ChannelIn(channels):
            return order.label is not None and order.label.channel in channels
        case SubIdIn(name, values):
            return order.label is not None and dict(order.label.sub_ids).get(name) in values
        case _:
            assert_never(condition)


def _holds_for_customer(condition: CountryIn | CustomerIs | CustomerMonths | CustomerListed, order: Situation) -> bool:
    customer = order.customer
    match condition:
        case CountryIn(countries):
            return customer.country in countries
        case CustomerIs(kind):
            is_new = customer.first_order_at is None
            return customer.is_known and is_new == (kind is CustomerKind.NEW)
        case CustomerMonths(below):
            first = customer.first_order_at
            zone = ZoneInfo(order.time_zone)
            return customer.is_known and (
                first is None or order.local.date() < months_later(first.astimezone(zone), below).date()
            )
        case CustomerListed(lists):
            return not lists.isdisjoint(customer.lists)
        case _:
            assert_never(condition)


def months_later(at: datetime, months: int) -> datetime:
    """The same day and hour so many months later; the last day of a month that is shorter."""
    year, month = divmod(at.year * 12 + at.month - 1 + months, 12)
    return at.replace(year=year, month=month + 1, day=min(at.day, monthrange(year, month + 1)[1]))


# The written form, as the API shows it and the database keeps it.


def condition_json(condition: Condition) -> JsonObject:
    """A condition as it is written in terms."""
    match condition:
        case SkuIn(skus):
            return {"kind": "sku", "in": sorted(skus)}
        case CategoryIn(categories):
            return {"kind": "category", "in": sorted(categories)}
        case LineAmount(between):
            return {"kind": "line_amount", **_between_json(between)}
        case OrderAmount(between):
            return {"kind": "order_amount", **_between_json(between)}
        case Placed(since, until):
            return {
                "kind": "placed",
                "from": None if since is None else since.isoformat(),
                "until": None if until is None else until.isoformat(),
            }
        case TouchIn(kinds):
            return {"kind": "touch", "in": sorted(kind.value for kind in kinds)}
        case CouponIn(codes):
            return {"kind": "coupon", "in": sorted(codes)}
        case AffiliateIn(affiliates):
            return {"kind": "affiliate", "in": sorted(str(each) for each in affiliates)}
        case TierIn(tiers):
            return {"kind": "tier", "in": sorted(tiers)}
        case GroupIn(groups):
            return {"kind": "group", "in": sorted(groups)}
        case ContentIn(content_types):
            return {"kind": "content_type", "in": sorted(each.value for each in content_types)}
        case ChannelIn(channels):
            return {"kind": "channel", "in": sorted(channels)}
        case SubIdIn(name, values):
            return {"kind": "sub_id", "name": name, "in": sorted(values)}
        case WeekdayIn(days):
            return {"kind": "weekday", "in": [day.name.lower() for day in sorted(days)]}
        case HourBetween(since, until):
            return {"kind": "hour", "from": since, "until": until}
        case CountryIn(countries):
            return {"kind": "country", "in": sorted(countries)}
        case CustomerIs(kind):
            return {"kind": "customer", "is": kind.value}
        case CustomerMonths(below):
            return {"kind": "customer_months", "below": below}
        case CustomerListed(lists):
            return {"kind": "customer_list", "in": sorted(lists)}
        case _:
            assert_never(condition)


def _between_json(between: Between) -> JsonObject:
    return {
        "at_least": amounts_json(between.at_least_minor),
        "below": amounts_json(between.below_minor),
        "of": between.measure.value,
    }


def condition_of(stored: JsonObject) -> Condition:
    """A condition from its written form. Raises InvalidTerms, UnknownCurrency."""
    match stored["kind"]:
        case "sku":
            return SkuIn(frozenset(stored["in"]))
        case "category":
            return CategoryIn(frozenset(stored["in"]))
        case "line_amount":
            return LineAmount(_between_of(stored))
        case "order_amount":
            return OrderAmount(_between_of(stored))
        case "placed":
            since, until = (
                datetime.fromisoformat(stored[end]) if stored.get(end) else None for end in ("from", "until")
            )
            if since is None and until is None:
                raise InvalidTerms("A condition on placed needs from or until.")
            return Placed(since, until)
        case "touch":
            return TouchIn(frozenset(TouchKind(kind) for kind in stored["in"]))
        case "coupon":
            return CouponIn(frozenset(folded(code) for code in stored["in"]))
        case "affiliate":
            return AffiliateIn(frozenset(UUID(each) for each in stored["in"]))
        case "tier":
            return TierIn(frozenset(stored["in"]))
        case "group":
            return GroupIn(frozenset(stored["in"]))
        case "content_type":
            return ContentIn(frozenset(ContentType(each) for each in stored["in"]))
        case "channel":
            return ChannelIn(frozenset(stored["in"]))
        case "sub_id":
            return SubIdIn(stored["name"], frozenset(stored["in"]))
        case "weekday":
            return WeekdayIn(frozenset(Weekday[day.upper()] for day in stored["in"]))
        case "hour":
            if stored["from"] == stored["until"]:
                raise InvalidTerms("A condition on hour begins and ends at different hours.")
            return HourBetween(stored["from"], stored["until"])
        case "country":
            return CountryIn(frozenset(stored["in"]))
        case "customer":
            return CustomerIs(CustomerKind(stored["is"]))
        case "customer_months":
            return CustomerMonths(stored["below"])
        case "customer_list":
            return CustomerListed(frozenset(stored["in"]))
        case other:
            raise InvalidTerms(f"{other!r} is nothing a condition can ask about.")


def _between_of(stored: JsonObject) -> Between:
    least, below = amounts_of(stored.get("at_least", ())), amounts_of(stored.get("below", ()))
    if not least and not below:
        raise InvalidTerms(f"A condition on {stored['kind']} needs at_least or below.")
    return Between(least, below, Measure(stored.get("of", Measure.LEFT)))
