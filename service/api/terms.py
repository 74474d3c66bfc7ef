"""Terms as they are written and shown: rules with their conditions, attribution, settlement."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, Strict

from service.api.views import Body, Day, Moment, MoneyBody, Name
from service.domain.order import Milestone, TouchKind
from service.domain.program import Base, Model, Precedence, SelfPurchase, Terms
from service.domain.rules import BASE, MERCHANT, Measure, Per, Plan
from service.domain.settlement import Approval, Roll

_DAYS_MAX = 3653
_PRIORITY_MAX = 1_000_000


class _Document(Body):
    """A part of terms: written with defaults, shown complete."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


Days = Annotated[int, Strict(), Field(ge=0, le=_DAYS_MAX)]
DayOfMonth = Annotated[int, Strict(), Field(ge=1, le=31)]
Weekdays = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Words = Annotated[tuple[Name, ...], Field(max_length=1000)]
SomeWords = Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
Amounts = Annotated[tuple[MoneyBody, ...], Field(max_length=50)]
Label = Annotated[str, Strict(), Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$", examples=["bonus"])]
"""A name of the merchant's own that programs compare."""


class SkuCondition(_Document):
    """The line's SKU is one of these."""

    kind: Literal["sku"]
    one_of: SomeWords = Field(alias="in")


class CategoryCondition(_Document):
    """The line's category is one of these."""

    kind: Literal["category"]
    one_of: SomeWords = Field(alias="in")


class _AmountCondition(_Document):
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


class PlacedCondition(_Document):
    """The order was placed from one moment on and before another. At least one of them is needed."""

    kind: Literal["placed"]
    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class TouchCondition(_Document):
    """The affiliate won the order by a click, or by a coupon."""

    kind: Literal["touch"]
    one_of: Annotated[tuple[TouchKind, ...], Field(min_length=1, max_length=2)] = Field(alias="in")


class CouponCondition(_Document):
    """The affiliate won the order by one of these codes; case does not matter."""

    kind: Literal["coupon"]
    one_of: SomeWords = Field(alias="in")


ConditionDocument = Annotated[
    SkuCondition
    | CategoryCondition
    | LineAmountCondition
    | OrderAmountCondition
    | PlacedCondition
    | TouchCondition
    | CouponCondition,
    Field(discriminator="kind"),
]
Conditions = Annotated[tuple[ConditionDocument, ...], Field(max_length=50)]


class MatchDocument(_Document):
    """Which goods lines a rule speaks for: any of the SKUs or any of the categories; with neither, all."""

    skus: Words = ()
    categories: Words = ()


class WhenDocument(_Document):
    """What else has to be true: each of `all`, at least one of `any` where there are any, none of `not`."""

    every: Conditions = Field(default=(), alias="all")
    some: Conditions = Field(default=(), alias="any")
    none: Conditions = Field(default=(), alias="not")


class _Rule(_Document):
    name: Annotated[str, Strict(), Field(max_length=200)] = ""
    """For people; shown where the rule is."""
    match: MatchDocument = MatchDocument()
    when: WhenDocument = WhenDocument()
    plan: Plan = Plan.OPEN
    """Of several rules for one line an exclusive one counts before a target, a target before an open one."""
    priority: Annotated[int, Strict(), Field(ge=-_PRIORITY_MAX, le=_PRIORITY_MAX)] | None = None
    """Within a plan the highest counts; of equal ones the rule that gives most for the line. Null: minus the rule's place
    in the list, so that without priorities the first that speaks for a line counts."""
    component: Label = BASE
    """Rules of one component exclude each other; what different components give for a line adds up."""
    funder: Label = MERCHANT
    """Who bears what the rule gives; receipts say how much."""
    cap_per_line: Amounts = ()
    """The most the rule gives for one line, by currency. Not with `per: order`."""


class PercentRuleDocument(_Rule):
    """A share of what is left of each line."""

    kind: Literal["percent"]
    rate: Annotated[str, Strict(), Field(max_length=12, examples=["12.5"])]
    """Percent from 0 to 100 in decimal notation, at most six decimals."""


class FlatRuleDocument(_Rule):
    """A fixed amount, never more than what is left of what it is paid for."""

    kind: Literal["flat"]
    amounts: Annotated[list[MoneyBody], Field(min_length=1, max_length=50)]
    """One per currency; an order in another currency earns nothing by this rule."""
    per: Per = Per.LINE
    """For each line; for each unit that is left of it; or once for the order, spread over the lines it counts for."""


class AttributionDocument(_Document):
    """Who may have brought an order."""

    window_days: Days = 30
    """Longest time from click to order that still counts."""
    model: Model = Model.LAST
    precedence: Precedence = Precedence.COUPON
    self_purchase: SelfPurchase = SelfPurchase.REJECT


class RollingDocument(_Document):
    """Payable some days after a milestone; time in dispute does not count."""

    kind: Literal["rolling"]
    start: Milestone = Milestone.PAID
    hold_days: Days = 14
    approval: Approval = Approval.AUTOMATIC
    auto_approve_days: Days | None = None
    """With a manual approval: so many days after the order was placed, silence counts as approval of all of it. What is
    disputed or held stays so. Null: a person has to decide."""


class AdvanceDocument(_Document):
    """A part of what still waits for your approval on its pay day is paid then, and netted from what is settled later."""

    rate: Annotated[str, Strict(), Field(max_length=12, examples=["50"])]
    """Percent above 0, at most 100, in decimal notation."""


class StatementDocument(_Document):
    """Payable on the pay day of a monthly statement.

    What is final (the milestone, hold_days later, without time in dispute) by the end of the cut-off day, by the
    merchant's clock, is on that statement; all that comes later is on the next.
    """

    kind: Literal["statement"]
    start: Milestone = Milestone.COMPLETED
    hold_days: Days = 0
    approval: Approval = Approval.AUTOMATIC
    auto_approve_days: Days | None = None
    """As with `rolling`; never before the pay day."""
    cut_off_day: DayOfMonth = 31
    """The last day of a statement; 31 is the end of every month."""
    months_after: Annotated[int, Strict(), Field(ge=0, le=12)] = 1
    """How many months after that of the cut-off it is paid. With 0 the pay day has to come after the cut-off day."""
    pay_day: DayOfMonth
    roll: Roll = Roll.NEXT
    """Where a pay day goes that is a day off or a holiday."""
    off_days: Annotated[tuple[Weekdays, ...], Field(max_length=7)] = ()
    """Days of the week on which nobody is paid."""
    holidays: Annotated[tuple[Day, ...], Field(max_length=500)] = ()
    """Single days on which nobody is paid. Publish a new version when the calendar goes on."""
    audit_days: Days | None = None
    """How many days after the cut-off you have checked the statement by; for people, it moves no money."""
    objection_days: Days | None = None
    """How many days after the cut-off an affiliate may object; they end before the pay day."""
    advance: AdvanceDocument | None = None
    """Needs a manual approval. Null: who is late keeps everybody waiting."""


SettlementDocument = Annotated[RollingDocument | StatementDocument, Field(discriminator="kind")]


class TermsDocument(_Document):
    """What a programme promises."""

    rules: Annotated[
        list[Annotated[PercentRuleDocument | FlatRuleDocument, Field(discriminator="kind")]],
        Field(min_length=1, max_length=100),
    ]
    """For each line and component one counts: by plan, then priority, then amount."""
    base: Base = Base.NET
    exclude: Conditions = ()
    """A line of which any of these is true earns nothing. `order_amount` with `below` is a minimum order."""
    cap_per_order: Amounts = ()
    """The most one order earns, by currency."""
    attribution: AttributionDocument = AttributionDocument()
    settlement: SettlementDocument = Field(default_factory=lambda: RollingDocument(kind="rolling"))
    """Left out: rolling, 14 days after payment."""
    payout_minimums: Amounts = ()
    """The smallest balance that is paid out, by currency."""
    notice_days: Days = 30
    """How long an enrolled affiliate keeps these terms after worse ones replace them."""

    def terms(self) -> Terms:
        """Return the terms. Raises InvalidTerms, UnknownCurrency."""
        return Terms.of_json(self.model_dump(mode="json"))

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "TermsDocument":
        """Terms as the database keeps them, complete."""
        return cls.model_validate(stored)
