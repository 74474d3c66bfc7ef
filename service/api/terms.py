"""Terms as they are written and shown: rules with their conditions, attribution, periods, settlement."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, Strict

from service.api.conditions import Amounts, Conditions, Document, Weekdays
from service.api.views import AffiliateId, Day, Moment, MoneyBody, Name
from service.domain.customer import REORDERED_WITHIN
from service.domain.marks import ContentType
from service.domain.order import Milestone
from service.domain.periods import Scale, Span
from service.domain.program import Base, BindingRank, Model, Precedence, SelfPurchase, Terms
from service.domain.rules import BASE, MERCHANT, Per, Plan
from service.domain.settlement import Approval, Roll
from service.infra import ids

_DAYS_MAX = 3653
_PRIORITY_MAX = 1_000_000

Days = Annotated[int, Strict(), Field(ge=0, le=_DAYS_MAX)]
DayOfMonth = Annotated[int, Strict(), Field(ge=1, le=31)]
Words = Annotated[tuple[Name, ...], Field(max_length=1000)]
Label = Annotated[str, Strict(), Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$", examples=["bonus"])]
"""A name of the merchant's own that programs compare."""
Rate = Annotated[str, Strict(), Field(max_length=12, examples=["12.5"])]
"""Percent from 0 to 100 in decimal notation, at most six decimals."""


class MatchDocument(Document):
    """Which goods lines a rule speaks for: any of the SKUs or any of the categories; with neither, all."""

    skus: Words = ()
    categories: Words = ()


class WhenDocument(Document):
    """What else has to be true: each of `all`, at least one of `any` where there are any, none of `not`."""

    every: Conditions = Field(default=(), alias="all")
    some: Conditions = Field(default=(), alias="any")
    none: Conditions = Field(default=(), alias="not")


class AgentDocument(Document):
    """Who arranged the offer (招商团长) and has a service fee for it, paid on top of the commission.

    Agents of open rules compete: the one whose rule ranks first for a line has the whole fee, of rules that give equally
    much the first approved. That holds too where a target rule is what the affiliate is paid by. An exclusive rule's agent
    has the fee where that rule counts.
    """

    payee_id: AffiliateId
    """An agency of this merchant."""
    fee: Rate
    """Of what is left of the line."""
    approved_at: Moment


class _Rule(Document):
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
    agent: AgentDocument | None = None
    """With `plan` open or exclusive, and a `priority`."""


class PercentRuleDocument(_Rule):
    """A share of what is left of each line."""

    kind: Literal["percent"]
    rate: Rate


class FlatRuleDocument(_Rule):
    """A fixed amount, never more than what is left of what it is paid for."""

    kind: Literal["flat"]
    amounts: Annotated[list[MoneyBody], Field(min_length=1, max_length=50)]
    """One per currency; an order in another currency earns nothing by this rule."""
    per: Per = Per.LINE
    """For each line; for each unit that is left of it; or once for the order, spread over the lines it counts for."""


class WindowDocument(Document):
    """A window of its own for links shown in some contents or channels, as they were marked at the click."""

    days: Days
    content_types: Annotated[tuple[ContentType, ...], Field(max_length=4)] = ()
    channels: Words = ()


class PositionDocument(Document):
    """What part the first and the last touch have; those between share the rest equally."""

    first: Rate = "40"
    last: Rate = "40"


class AttributionDocument(Document):
    """Who may have brought an order."""

    window_days: Days = 30
    """Longest time from click to order that still counts, where none of `windows` speaks for the link."""
    windows: Annotated[tuple[WindowDocument, ...], Field(max_length=20)] = ()
    """The first that speaks for a link counts."""
    model: Model = Model.LAST
    """Of several touches of the kind that has precedence: the last, the first, or all of them with a part each."""
    position: PositionDocument = PositionDocument()
    """With the model `position`."""
    precedence: Precedence = Precedence.COUPON
    customer_binding: BindingRank = BindingRank.AFTER
    """How a customer bound to an affiliate stands to clicks and coupons."""
    product_binding: BindingRank = BindingRank.AFTER
    """How a product bound to an affiliate does. It counts for its own lines only."""
    self_purchase: SelfPurchase = SelfPurchase.REJECT
    self_purchase_by: Annotated[
        tuple[Literal["address", "email", "id", "payment", "phone"], ...], Field(min_length=1, max_length=5)
    ] = ("address", "email", "id", "payment", "phone")
    """By what a buyer who is the affiliate is recognised."""
    reorder_days: Annotated[int, Strict(), Field(ge=0, le=REORDERED_WITHIN.days)] = 0
    """An order that carries nothing, placed by the same customer for one of the same products within so many days after an
    order was placed that was cancelled, is credited to whoever brought that one. 0: never."""


class StepDocument(Document):
    """From sales of so much on, a rate."""

    since: Annotated[tuple[MoneyBody, ...], Field(min_length=1, max_length=50)] = Field(alias="from")
    """By currency; in a currency that is not named there is no step."""
    rate: Rate


class MarkDocument(Document):
    """A bonus, once the period's orders or sales reach something: name one of the two."""

    orders: Annotated[int, Strict(), Field(ge=1, le=1_000_000_000)] | None = None
    sales: Amounts = ()
    pays: Annotated[tuple[MoneyBody, ...], Field(min_length=1, max_length=50)]


class _PeriodRule(Document):
    key: Label
    """Its name, unique in the terms. A version whose rule has the same key goes on with it, from the next period on; it is of
    the same kind, period and days. A programme has one cap."""
    period: Span
    """In the merchant's time zone, by when an order was placed."""
    first_day: Day | None = None
    """No order placed before it counts. A campaign needs it."""
    last_day: Day | None = None
    """No order placed after it counts."""


class CapRuleDocument(_PeriodRule):
    """An affiliate's commissions of a period come to so much at most."""

    kind: Literal["cap"]
    amounts: Annotated[tuple[MoneyBody, ...], Field(min_length=1, max_length=50)]


class LadderRuleDocument(_PeriodRule):
    """A bonus beside the commissions: a rate of the period's sales, by how much they are."""

    kind: Literal["ladder"]
    scale: Scale = Scale.MARGINAL
    """Each rate for what is above its start, or the highest step reached for everything."""
    steps: Annotated[tuple[StepDocument, ...], Field(min_length=1, max_length=50)]
    """Starts rise, rates never fall."""


class MilestonesRuleDocument(_PeriodRule):
    """Bonuses for what a period's orders or sales reach, each once."""

    kind: Literal["milestones"]
    marks: Annotated[tuple[MarkDocument, ...], Field(min_length=1, max_length=50)]


PeriodRuleDocument = Annotated[
    CapRuleDocument | LadderRuleDocument | MilestonesRuleDocument, Field(discriminator="kind")
]


class TechnicalFeeDocument(Document):
    """A part of every commission and fee, taken out of it, for who runs the programme."""

    payee_id: AffiliateId
    """An operator or agency of this merchant."""
    rate: Rate


class RollingDocument(Document):
    """Payable some days after a milestone; time in dispute does not count."""

    kind: Literal["rolling"]
    start: Milestone = Milestone.PAID
    hold_days: Days = 14
    approval: Approval = Approval.AUTOMATIC
    auto_approve_days: Days | None = None
    """With a manual approval: so many days after the order was placed, silence counts as approval of all of it. What is
    disputed or held stays so. Null: a person has to decide."""


class AdvanceDocument(Document):
    """A part of what still waits for your approval on its pay day is paid then, and netted from what is settled later."""

    rate: Annotated[str, Strict(), Field(max_length=12, examples=["50"])]
    """Percent above 0, at most 100, in decimal notation."""


class StatementDocument(Document):
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


class TermsDocument(Document):
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
    technical_fee: TechnicalFeeDocument | None = None
    periods: Annotated[tuple[PeriodRuleDocument, ...], Field(max_length=50)] = ()
    """What counts over many orders of one affiliate: caps, ladders, bonuses."""

    def terms(self) -> Terms:
        """Return the terms. Raises InvalidTerms, UnknownCurrency."""
        return Terms.of_json(
            _with_ids(self.model_dump(mode="json", by_alias=True), lambda given: str(ids.decode("aff", given)))
        )

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "TermsDocument":
        """Terms as the database keeps them, complete."""
        return cls.model_validate(_with_ids(dict(stored), lambda kept: ids.encode("aff", UUID(kept))))


def _with_ids(told: Any, convert: Callable[[str], str]) -> Any:
    """Terms with the ids of payees written another way: as the API shows them, or as they are kept."""
    if isinstance(told, list):
        return [_with_ids(each, convert) for each in told]
    if not isinstance(told, dict):
        return told
    converted = {name: _with_ids(each, convert) for name, each in told.items()}
    if "payee_id" in told:
        converted["payee_id"] = convert(told["payee_id"])
    if told.get("kind") == "affiliate":
        converted["in"] = [convert(each) for each in told["in"]]
    return converted
