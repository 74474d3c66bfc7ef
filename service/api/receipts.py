"""Receipts computed again, and terms tried on an order that nobody has placed."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Discriminator, Field, Strict, Tag, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session

from service.api.deps import Reader, ReaderOrAffiliate, WriteSession
from service.api.programs import find_program, in_force
from service.api.terms import TermsDocument
from service.api.views import Body, Moment, Name, ProgramId, View
from service.domain.commission import Quote, quote
from service.domain.errors import Invalid, Missing
from service.domain.money import AMOUNT_MAX_MINOR, exponent
from service.domain.order import Line, NetLine, TouchKind, folded
from service.domain.program import ProgramVersion, Terms
from service.domain.receipt import differences, differences_without_rules
from service.domain.rules import Situation
from service.intake.adapters.parse import LINES_MAX

router = APIRouter(tags=["receipts"])

PREVIEW_LINES_MAX = 200
DIFFERENCES_SHOWN = 100
ADJUSTMENTS_MAX = 1000

Minor = Annotated[int, Strict(), Field(ge=0, le=AMOUNT_MAX_MINOR)]
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


class ReceiptLine(Body):
    line_id: Word
    sku: Word
    category: Word
    quantity: Quantity
    ordered_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    refunded_minor: Minor
    base_minor: Annotated[int, Strict(), Field(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    excluded: Annotated[bool, Strict()]
    parts: Annotated[list[ReceiptPart], Field(max_length=100)]
    exact_minor: Exact
    commission_minor: Minor


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

    currency: Code
    rules_minor: Minor
    adjustments: Annotated[Adjustments, Field(min_length=1)]
    target_minor: Minor
    borne_by: Annotated[dict[Word, Minor], Field(max_length=100)]


class ReceiptDocument(Body):
    """What `GET /v1/commissions/{id}/receipt` shows as `receipt`."""

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

    @model_validator(mode="after")
    def _adjusted_or_not(self) -> Self:
        if (self.rules_minor is None) is not (self.adjustments is None):
            raise PydanticCustomError("adjustments", "A receipt has both rules_minor and adjustments, or neither")
        return self


def _shape_of(given: object) -> str:
    has_lines = "lines" in given if isinstance(given, dict) else isinstance(given, ReceiptDocument)
    has_adjustments = "adjustments" in given if isinstance(given, dict) else isinstance(given, AdjustmentReceipt)
    return "adjustments_alone" if has_adjustments and not has_lines else "of_rules"


class ReceiptToVerify(Body):
    """`receipt` and `terms` of an answer of `GET /v1/commissions/{id}/receipt`."""

    receipt: Annotated[
        Annotated[ReceiptDocument, Tag("of_rules")] | Annotated[AdjustmentReceipt, Tag("adjustments_alone")],
        Discriminator(_shape_of),
    ]
    terms: TermsDocument | None
    """Null only with a receipt of adjustments alone, as that of a bonus."""


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


@router.post("/v1/receipts/verify")
def verify_receipt(asked: ReceiptToVerify, caller: ReaderOrAffiliate, session: WriteSession) -> VerdictView:
    """Compute a receipt again from its own lines, order and terms, and say where it differs. Nothing is looked up."""
    del caller, session
    receipt = asked.receipt.model_dump(mode="json", exclude_unset=True)
    try:
        if isinstance(asked.receipt, AdjustmentReceipt):
            found = differences_without_rules(receipt)
        elif asked.terms is None:
            raise CannotRecompute("A receipt of rules is computed again with their terms.")
        else:
            receipt["order"]["placed_at"] = asked.receipt.order.placed_at.isoformat()
            found = differences(receipt, asked.terms.terms())
    except (ArithmeticError, IndexError) as error:
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
    exponent(order.currency)
    version = _version(session, caller.merchant_id, program_id, asked.terms, placed_at)
    lines = [_net_line(place, line) for place, line in enumerate(order.lines)]
    situation = Situation.of(
        lines, placed_at=placed_at, currency=order.currency, touch=order.touch, coupon=folded(order.coupon)
    )
    quoted = quote(version, lines, situation)
    return PreviewView(
        program_version=version.number or None,
        receipt=quoted.receipt(considered=[quoted], voided=False, payable=quoted.total_minor),
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
