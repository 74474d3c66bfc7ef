"""Receipts computed again, and terms tried on an order that nobody has placed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select

from service.api.deps import Reader, ReaderOrAffiliate, WriteSession
from service.api.merchants import TimeZone
from service.api.programs import find_program, in_force
from service.api.terms import PeriodRuleDocument, TermsDocument
from service.api.traceable import koc_of
from service.api.views import AffiliateId, Body, Moment, Name, ProgramId, View
from service.domain.conditions import Situation
from service.domain.errors import Invalid, Missing
from service.domain.marks import ContentType
from service.domain.money import AMOUNT_MAX_MINOR, exponent
from service.domain.order import Line, NetLine, TouchKind, folded
from service.domain.program import ProgramVersion, Terms
from service.domain.quote import Quote, quote
from service.domain.receipt import differences
from service.domain.shares import Role
from service.infra import ids
from service.intake.adapters.parse import LINES_MAX
from service.tables.parties import MerchantRow

router = APIRouter(tags=["receipts"])

PREVIEW_LINES_MAX = 200
DIFFERENCES_SHOWN = 100
ADJUSTMENTS_MAX = 1000

Minor = Annotated[int, Strict(), Field(ge=0, le=AMOUNT_MAX_MINOR)]
Signed = Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
Word = Annotated[str, Strict(), Field(max_length=500)]
Number = Annotated[int, Strict(), Field(ge=-(2**31), le=2**31 - 1)]
Exact = Annotated[str, Strict(), Field(max_length=200, examples=["999/8"])]
"""A fraction of minor units."""
Quantity = Annotated[str, Strict(), Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$", examples=["1"])]
Code = Annotated[str, Strict(), Field(pattern="^[A-Z]{3}$", examples=["USD"])]


class CannotRecompute(Invalid):
    """The receipt is none that this service made: its lines or its version do not fit together."""

    code = "invalid-receipt"
    title = "This is no receipt"


class ReceiptOrder(Body):
    placed_at: Moment
    ordered_minor: Minor
    left_minor: Minor
    touch: TouchKind | None
    coupon: Word
    affiliate_id: AffiliateId | None = None
    content_type: ContentType | None = None
    channel: Word | None = None
    sub_ids: Annotated[dict[Word, Word], Field(max_length=5)] | None = None
    tier: Word | None = None
    groups: Annotated[list[Word], Field(max_length=1000)] | None = None
    country: Word | None = None
    customer_lists: Annotated[list[Word], Field(max_length=1000)] | None = None
    customer_known: Annotated[bool, Strict()] | None = None
    customer_since: Moment | None = None
    time_zone: TimeZone | None = None


class ReceiptCandidate(Body):
    rule: Number
    plan: Word
    priority: Number
    exact_minor: Exact
    standing: Word


class ReceiptPart(Body):
    component: Word
    funder: Word
    rule: Number
    rate: Word | None
    flat_minor: Minor | None
    per: Word | None
    exact_minor: Exact
    candidates: Annotated[list[ReceiptCandidate], Field(max_length=100)]


class ReceiptFee(Body):
    """An agent's fee for a line."""

    rule: Number
    payee_id: AffiliateId
    exact_minor: Exact


class ReceiptCell(Body):
    """One payee's part of a line."""

    payee_id: AffiliateId
    role: Role
    of: Role | None
    exact_minor: Exact
    rounded_minor: Minor
    paid_minor: Minor


class ReceiptAgency(Body):
    payee_id: AffiliateId
    share: Word
    fee: Word


class ReceiptTechnicalFee(Body):
    payee_id: AffiliateId
    rate: Word


class ReceiptLine(Body):
    line_id: Word
    sku: Word
    category: Word
    quantity: Quantity
    ordered_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    refunded_minor: Minor
    virtual_minor: Minor | None = None
    base_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    excluded: Annotated[bool, Strict()]
    parts: Annotated[list[ReceiptPart], Field(max_length=100)]
    exact_minor: Exact
    commission_minor: Minor
    fee: ReceiptFee | None = None
    others_before: Annotated[list[Exact], Field(max_length=1000)] | None = None
    others_after: Annotated[list[Exact], Field(max_length=1000)] | None = None
    division: Annotated[list[ReceiptCell], Field(max_length=20)] | None = None


class ReceiptVersion(Body):
    version: Number
    standing: Word
    total_minor: Minor


class ReceiptAdjustment(Body):
    id: Word
    amount_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    reason_code: Word
    decided_at: Word
    counts: Annotated[bool, Strict()]
    """False: a later rejection took it."""


Adjustments = Annotated[list[ReceiptAdjustment], Field(max_length=ADJUSTMENTS_MAX)]


class AdjustmentReceipt(Body):
    """A receipt without terms: of a bonus, or of an order that is somebody else's."""

    kind: Literal["adjustments"]
    currency: Code
    rules_minor: Minor
    adjustments: Annotated[Adjustments, Field(min_length=1)]
    target_minor: Minor
    borne_by: Annotated[dict[Word, Minor], Field(max_length=100)]


class ReceiptDocument(Body):
    """What `GET /v1/commissions/{id}/receipt` shows as `receipt`."""

    kind: Literal["order"]
    program_version: Number
    versions_considered: Annotated[list[ReceiptVersion], Field(max_length=1000)]
    currency: Code
    order: ReceiptOrder
    base: Word
    rounding: Word
    lines: Annotated[list[ReceiptLine], Field(max_length=LINES_MAX)]
    sum_of_lines_minor: Minor
    cap_minor: Minor | None
    voided: Annotated[bool, Strict()]
    rules_minor: Minor | None = None
    """What the rules give, where people adjusted it."""
    adjustments: Adjustments | None = None
    target_minor: Minor
    borne_by: Annotated[dict[Word, Minor], Field(max_length=100)]
    only_skus: Annotated[list[Word], Field(max_length=LINES_MAX)] | None = None
    some_lines: Annotated[bool, Strict()] | None = None
    weight: Exact | None = None
    agency: ReceiptAgency | None = None
    technical_fee: ReceiptTechnicalFee | None = None
    payee_id: AffiliateId | None = None

    @model_validator(mode="after")
    def _adjusted_or_not(self) -> Self:
        if (self.rules_minor is None) is not (self.adjustments is None):
            raise PydanticCustomError("adjustments", "A receipt has both rules_minor and adjustments, or neither")
        return self


class ReceiptSum(Body):
    commission_minor: Signed
    sales_minor: Signed
    orders: Annotated[int, Strict(), Field(ge=0, le=2**53)]


class ReceiptSums(Body):
    pending: ReceiptSum
    held: ReceiptSum
    settled: ReceiptSum


class ReceiptGives(Body):
    pending_minor: Signed
    held_minor: Signed
    settled_minor: Signed


class PeriodReceiptDocument(Body):
    """The same of a period's commission. It brings its own rules."""

    kind: Literal["period"]
    currency: Code
    rules: Annotated[list[PeriodRuleDocument], Field(min_length=1, max_length=100)]
    sums: ReceiptSums
    gives: ReceiptGives
    target_minor: Signed


class ReceiptToVerify(Body):
    """`receipt` and `terms` of an answer of `GET /v1/commissions/{id}/receipt`; of several credits, one at a time."""

    receipt: Annotated[ReceiptDocument | PeriodReceiptDocument | AdjustmentReceipt, Field(discriminator="kind")]
    terms: TermsDocument | None
    """Null only with a period's receipt, or one of adjustments alone."""


class DifferenceView(View):
    pointer: str
    """Where in the receipt."""
    said: Any
    computed: Any


class VerdictView(View):
    holds: bool
    """The receipt says exactly what follows from its lines, its order and the terms."""
    differences: list[DifferenceView]
    """The first hundred places where it does not."""


def shown(receipt: dict[str, Any]) -> dict[str, Any]:
    """A receipt as the API shows it: with its kind, and payees by the ids the API knows them by.

    One of several credits holds a receipt for each; one of nothing is empty.
    """
    told: dict[str, Any] = _with_ids(receipt, lambda kept: ids.encode("aff", UUID(kept)))
    if "credits" in told:
        return told | {"credits": [{"kind": "order", **each} for each in told["credits"]]}
    if not told:
        return {}
    kind = "period" if "sums" in told else "order" if "lines" in told else "adjustments"
    return {"kind": kind, **told}


def read(receipt: dict[str, Any]) -> dict[str, Any]:
    """The same the other way round, of one credit."""
    told: dict[str, Any] = _with_ids(receipt, lambda given: str(ids.decode("aff", given)))
    return {name: each for name, each in told.items() if name != "kind"}


def _with_ids(told: Any, convert: Callable[[str], str]) -> Any:
    if isinstance(told, list):
        return [_with_ids(each, convert) for each in told]
    if not isinstance(told, dict):
        return told
    return {
        name: convert(each) if name in {"payee_id", "affiliate_id"} and each else _with_ids(each, convert)
        for name, each in told.items()
    }


@router.post("/v1/receipts/verify")
def verify_receipt(asked: ReceiptToVerify, caller: ReaderOrAffiliate, session: WriteSession) -> VerdictView:
    """Compute a receipt again from its own lines, order and terms, and say where it differs. Nothing is looked up."""
    del caller, session
    is_order = isinstance(asked.receipt, ReceiptDocument)
    if is_order and asked.terms is None:
        raise CannotRecompute("The receipt of an order is computed again with its terms: send them too.")
    receipt = read(asked.receipt.model_dump(mode="json", exclude_unset=is_order))
    for name in ("placed_at", "customer_since"):
        if is_order and receipt["order"].get(name):
            receipt["order"][name] = datetime.fromisoformat(receipt["order"][name]).astimezone(UTC).isoformat()
    try:
        found = differences(receipt, None if asked.terms is None else asked.terms.terms())
    except (ArithmeticError, IndexError, ValueError) as error:
        raise CannotRecompute("Its lines cannot be computed with these terms.") from error
    return VerdictView(
        holds=not found,
        differences=[
            DifferenceView(pointer=each.pointer, said=each.said, computed=each.computed)
            for each in found[:DIFFERENCES_SHOWN]
        ],
    )


class PreviewLine(Body):
    id: Name
    sku: Word = ""
    category: Word = ""
    quantity: Quantity = "1"
    ordered_minor: Minor
    """What the buyer pays for it after discounts, without tax, in minor units."""
    refunded_minor: Minor = 0
    """What of it came back; at most all of it."""


class PreviewOrder(Body):
    """An order that might be."""

    currency: Code
    placed_at: Moment | None = None
    """Null: now."""
    lines: Annotated[list[PreviewLine], Field(min_length=1, max_length=PREVIEW_LINES_MAX)]
    touch: TouchKind | None = None
    """By what the affiliate wins it."""
    coupon: Word = ""
    """The code, where it is by a coupon."""
    affiliate_id: AffiliateId | None = None
    content_type: ContentType | None = None
    """Of the link that wins it; so are channel and sub_ids."""
    channel: Word = ""
    sub_ids: Annotated[
        dict[Literal["sub1", "sub2", "sub3", "sub4", "sub5"], Word], Field(max_length=5, default_factory=dict)
    ]
    tier: Word = ""
    """The affiliate's, when the order is placed; so are groups."""
    groups: Annotated[list[Word], Field(max_length=1000, default_factory=list)]
    country: Word = ""
    """Where it goes."""
    customer_lists: Annotated[list[Word], Field(max_length=1000, default_factory=list)]
    customer_known: Annotated[bool, Strict()] = False
    """Whether the order says who the customer is."""
    customer_since: Moment | None = None
    """When the customer's first order was placed; null: this is the first."""


class PreviewAsked(Body):
    order: PreviewOrder
    terms: TermsDocument | None = None
    """Terms that may be no version yet; null: those in force when the order is placed."""


class SilentRule(View):
    """A rule that does not speak for a line. because: the part of it that is not true, such as `when/all/0`."""

    line_id: str
    rule: int
    because: str


class PreviewView(View):
    program_version: int | None
    """Null where the terms were given."""
    receipt: dict[str, Any]
    """What such an order would earn, as a commission's receipt; each line has the rules that speak for it, with the one
    that counts first and why the others do not."""
    silent: list[SilentRule]
    """Rules that do not speak for a line, and why."""


@router.post("/v1/programs/{program_id}/preview")
def preview_program(program_id: ProgramId, asked: PreviewAsked, caller: Reader, session: WriteSession) -> PreviewView:
    """Try terms on an example order: which rule counts for each line, which lose and why. Nothing is changed."""
    order = asked.order
    placed_at = order.placed_at or caller.now
    if order.affiliate_id is not None:
        koc_of(session, caller.merchant_id, order.affiliate_id)
    exponent(order.currency)
    version = _version(session, caller.merchant_id, program_id, asked.terms, placed_at)
    lines = [_net_line(place, line) for place, line in enumerate(order.lines)]
    told = order.model_dump(mode="json", exclude={"lines", "placed_at", "currency"}) | {
        "placed_at": placed_at.isoformat(),
        "coupon": folded(order.coupon),
        "affiliate_id": None if order.affiliate_id is None else str(order.affiliate_id),
        "customer_since": None if order.customer_since is None else order.customer_since.isoformat(),
        "time_zone": session.exec(select(MerchantRow.time_zone).where(col(MerchantRow.id) == caller.merchant_id)).one(),
    }
    situation = Situation.of_json(told, lines, order.currency)
    quoted = quote(version, lines, situation)
    return PreviewView(
        program_version=version.number or None,
        receipt=shown(quoted.receipt(considered=[quoted], voided=False, payable=quoted.total_minor)),
        silent=_silent(quoted),
    )


def _silent(quoted: Quote) -> list[SilentRule]:
    return [
        SilentRule(line_id=share.line.line.id, rule=index, because=because)
        for share in quoted.shares
        if not share.excluded
        for index, rule in enumerate(quoted.version.terms.rules)
        if (because := rule.objection(share.line, quoted.order)) is not None
    ]


def _net_line(place: int, line: PreviewLine) -> NetLine:
    if line.refunded_minor > line.ordered_minor:
        raise Invalid(f"Line {place}: more came back than was ordered.")
    return NetLine(Line(line.id, line.sku, line.ordered_minor, line.quantity, line.category), line.refunded_minor)


def _version(
    session: Session, merchant_id: UUID, program_id: UUID, asked: TermsDocument | None, placed_at: datetime
) -> ProgramVersion:
    """The terms to try; number 0 where they were given."""
    find_program(session, merchant_id, program_id)
    if asked is not None:
        return ProgramVersion(program_id, 0, placed_at, asked.terms())
    row = in_force(session, merchant_id, [program_id], placed_at).get(program_id)
    if row is None:
        raise Missing("This programme had no terms in force then.")
    return ProgramVersion(program_id, row.number, row.valid_from, Terms.of_json(row.terms))
