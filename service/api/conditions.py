"""Conditions as terms write them, and the kinds of fields they share with the rest of the terms."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, Strict

from service.api.views import AffiliateId, Body, Moment, MoneyBody, Name
from service.domain.conditions import CustomerKind, Measure
from service.domain.marks import ContentType
from service.domain.order import TouchKind


class Document(Body):
    """A part of terms: written with defaults, shown complete."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


Weekdays = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SomeWords = Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
Amounts = Annotated[tuple[MoneyBody, ...], Field(max_length=50)]
Country = Annotated[str, Strict(), Field(pattern="^[A-Z]{2}$", examples=["VN"])]
"""ISO 3166-1 alpha-2."""


class SkuCondition(Document):
    """The line's SKU is one of these."""

    kind: Literal["sku"]
    one_of: SomeWords = Field(alias="in")


class CategoryCondition(Document):
    """The line's category is one of these."""

    kind: Literal["category"]
    one_of: SomeWords = Field(alias="in")


class _AmountCondition(Document):
    at_least: Amounts = ()
    """By currency. In a currency that neither bound names the condition is false."""
    below: Amounts = ()
    of: Measure = Measure.LEFT


class LineAmountCondition(_AmountCondition):
    """The line's value, after discounts and without tax, lies between bounds. At least one bound is needed."""

    kind: Literal["line_amount"]


class OrderAmountCondition(_AmountCondition):
    """The value of all goods of the order lies between bounds. At least one bound is needed."""

    kind: Literal["order_amount"]


class PlacedCondition(Document):
    """The order was placed from one moment on and before another. At least one of them is needed."""

    kind: Literal["placed"]
    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class TouchCondition(Document):
    """The affiliate won the order by a click, a coupon, a bound customer or product, or a cancelled order placed again."""

    kind: Literal["touch"]
    one_of: Annotated[tuple[TouchKind, ...], Field(min_length=1, max_length=5)] = Field(alias="in")


class CouponCondition(Document):
    """The affiliate won the order by one of these codes; case does not matter."""

    kind: Literal["coupon"]
    one_of: SomeWords = Field(alias="in")


class AffiliateCondition(Document):
    """It is one of these affiliates: those invited to a target or exclusive plan."""

    kind: Literal["affiliate"]
    one_of: Annotated[tuple[AffiliateId, ...], Field(min_length=1, max_length=1000)] = Field(alias="in")


class TierCondition(Document):
    """The affiliate had one of these tiers when the order was placed."""

    kind: Literal["tier"]
    one_of: SomeWords = Field(alias="in")


class GroupCondition(Document):
    """The affiliate was in one of these groups."""

    kind: Literal["group"]
    one_of: SomeWords = Field(alias="in")


class ContentTypeCondition(Document):
    """The link that won is shown in one of these; false where a coupon won."""

    kind: Literal["content_type"]
    one_of: Annotated[tuple[ContentType, ...], Field(min_length=1, max_length=4)] = Field(alias="in")


class ChannelCondition(Document):
    """The link that won was marked with one of these channels at the click."""

    kind: Literal["channel"]
    one_of: SomeWords = Field(alias="in")


class SubIdCondition(Document):
    """The link that won had one of these values in a sub id at the click."""

    kind: Literal["sub_id"]
    name: Literal["sub1", "sub2", "sub3", "sub4", "sub5"]
    one_of: SomeWords = Field(alias="in")


class WeekdayCondition(Document):
    """The order was placed on one of these days, by the merchant's clock."""

    kind: Literal["weekday"]
    one_of: Annotated[tuple[Weekdays, ...], Field(min_length=1, max_length=7)] = Field(alias="in")


class HourCondition(Document):
    """It was placed between two hours of the merchant's day; over midnight where `from` is the later one."""

    kind: Literal["hour"]
    since: Annotated[int, Strict(), Field(ge=0, le=23)] = Field(alias="from")
    until: Annotated[int, Strict(), Field(ge=0, le=24)]


class CountryCondition(Document):
    """The order goes to one of these countries; false where it does not say."""

    kind: Literal["country"]
    one_of: Annotated[tuple[Country, ...], Field(min_length=1, max_length=250)] = Field(alias="in")


class CustomerCondition(Document):
    """It is the customer's first order that was not cancelled, or a later one.

    False both ways where nobody knows who the customer is.
    """

    kind: Literal["customer"]
    equals: CustomerKind = Field(alias="is")


class CustomerMonthsCondition(Document):
    """The order was placed less than so many months after the customer's first one; the first is among them."""

    kind: Literal["customer_months"]
    below: Annotated[int, Strict(), Field(ge=1, le=120)]


class CustomerListCondition(Document):
    """The customer was on one of the merchant's lists, such as staff."""

    kind: Literal["customer_list"]
    one_of: SomeWords = Field(alias="in")


ConditionDocument = Annotated[
    SkuCondition
    | CategoryCondition
    | LineAmountCondition
    | OrderAmountCondition
    | PlacedCondition
    | TouchCondition
    | CouponCondition
    | AffiliateCondition
    | TierCondition
    | GroupCondition
    | ContentTypeCondition
    | ChannelCondition
    | SubIdCondition
    | WeekdayCondition
    | HourCondition
    | CountryCondition
    | CustomerCondition
    | CustomerMonthsCondition
    | CustomerListCondition,
    Field(discriminator="kind"),
]
Conditions = Annotated[tuple[ConditionDocument, ...], Field(max_length=50)]
