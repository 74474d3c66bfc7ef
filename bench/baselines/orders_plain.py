"""The plain handler: FastAPI and the SQLModel ORM as their documentation shows them, one order per request and commit.

It does what the service does with a new order and ends with the same rows and sums: verify the signature, read, find
whose coupon it is, compute, then the same tables row by row. It has none of our ideas (batches, set-based statements,
memory of sources, tuned garbage collection) and none of the work that makes the service more than this: no edits, no
refunds, no merging of facts. Balances are read under a lock, changed and written, as one does. Of the 16 booking rows
of a day it takes one by chance, so that no two requests need wait for one row where that can be avoided.

    DATABASE_URL=… KOC_SECRET_KEY=… uvicorn bench.baselines.orders_plain:app
"""

import base64
import hashlib
import hmac
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import AwareDatetime, BaseModel
from sqlmodel import Session, col, create_engine, select

from service.api.sources import SECRET_PURPOSE
from service.infra.ids import decode, encode, new_id
from service.infra.security import Security
from service.tables.money import (
    BalanceRow,
    CommissionEntryRow,
    CommissionRow,
    DaySlotRow,
    DaySumRow,
    OutboxRow,
    PostingRow,
)
from service.tables.orders import AssessmentRow, FactRow, InboxRow, OrderRow
from service.tables.parties import AffiliateApprovalRow, AffiliateRow, MerchantRow, SourceRow
from service.tables.programs import CouponOwnerRow, CouponRow, EnrollmentRow, ProgramVersionRow

SIGNATURE_TOLERANCE_S = 300
SLOTS = 16
THREADS = 40
"""FastAPI runs sync endpoints on 40 threads; each gets a connection, so that none waits for another's."""

security = Security(base64.b64decode(os.environ["KOC_SECRET_KEY"]))
engine = create_engine(os.environ["DATABASE_URL"], pool_size=THREADS, max_overflow=10)
app = FastAPI()


class LineIn(BaseModel):
    id: str
    sku: str = ""
    quantity: Decimal = Decimal(1)
    net: Decimal
    category: str = ""
    kind: Literal["goods", "shipping", "fee", "gift_card"] = "goods"

    @property
    def net_minor(self) -> int:
        return int(self.net.scaleb(2))


class CustomerIn(BaseModel):
    id: str | None = None
    email: str | None = None
    phone: str | None = None


class MilestonesIn(BaseModel):
    paid_at: AwareDatetime


class TotalsIn(BaseModel):
    tax: Decimal = Decimal(0)
    shipping: Decimal = Decimal(0)
    discount: Decimal = Decimal(0)
    total: Decimal


class OrderIn(BaseModel):
    type: Literal["order"]
    id: str
    number: str
    placed_at: AwareDatetime
    updated_at: AwareDatetime
    currency: Literal["USD"]
    customer: CustomerIn = CustomerIn()
    coupon_codes: list[str] = []
    lines: list[LineIn]
    totals: TotalsIn
    milestones: MilestonesIn


async def raw_body(request: Request) -> bytes:
    return await request.body()


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


@app.post("/intake/{source_id}")
def receive_order(
    source_id: str,
    request: Request,
    body: Annotated[bytes, Depends(raw_body)],
    session: Annotated[Session, Depends(get_session)],
) -> dict[str, Any]:
    found = session.exec(
        select(SourceRow, MerchantRow)
        .join(MerchantRow, col(MerchantRow.id) == col(SourceRow.merchant_id))
        .where(SourceRow.id == decode("src", source_id), col(SourceRow.disabled_at).is_(None))
    ).one_or_none()
    if found is None:
        raise HTTPException(404)
    source, merchant = found
    if source.secret is None:
        raise HTTPException(404)
    delivery_id = verify(security.decrypt(source.secret, purpose=SECRET_PURPOSE), request, body)
    body_hash = hashlib.sha256(body).digest()
    now = datetime.now(UTC) + timedelta(seconds=merchant.clock_offset_s)

    earlier = session.get(InboxRow, (merchant.id, source.id, delivery_id, body_hash))
    if earlier is not None:
        return answer(earlier, None, repeated=True)
    order_in = OrderIn.model_validate_json(body)
    understood = order_in.model_dump(mode="json")
    inbox = InboxRow(
        merchant_id=merchant.id,
        source_id=source.id,
        delivery_id=delivery_id,
        body_hash=body_hash,
        id=new_id(),
        received_at=now,
        body=body,
        state="applied",
        answered="applied",
        order_source_id=source.id,
        order_external_id=order_in.id,
        understood=understood,
    )
    session.add(inbox)
    if merchant.first_order_at is None:
        merchant.first_order_at = datetime.now(UTC)

    known = session.exec(
        select(OrderRow)
        .where(
            OrderRow.merchant_id == merchant.id, OrderRow.source_id == source.id, OrderRow.external_id == order_in.id
        )
        .with_for_update()
    ).one_or_none()
    if known is not None:
        raise HTTPException(409, "The plain handler takes new orders only.")
    order = OrderRow(
        merchant_id=merchant.id,
        id=new_id(),
        source_id=source.id,
        external_id=order_in.id,
        seen=1,
        created_at=now,
    )
    session.add(order)
    session.flush()
    customer = {
        kind: security.identity(merchant.id, kind, value)
        for kind in ("email", "id", "phone")
        if (value := getattr(order_in.customer, kind)) is not None
    }
    add_facts(session, order, order_in, inbox, customer)

    goods_minor = sum(line.net_minor for line in order_in.lines if line.kind == "goods")
    coupon, affiliate_id, reason, identities = attribute(session, merchant.id, order_in, customer)
    session.add(
        AssessmentRow(
            merchant_id=merchant.id,
            order_id=order.id,
            seq=1,
            placed_at=order_in.placed_at,
            currency=order_in.currency,
            number=order_in.number,
            goods_minor=goods_minor,
            net_minor=goods_minor,
            affiliate_id=affiliate_id,
            program_id=coupon.program_id if coupon else None,
            attribution_reason=reason,
            candidates=[
                {
                    "kind": "coupon",
                    "ref": code.casefold(),
                    "at": order_in.placed_at.isoformat(),
                    "link_id": None,
                    "affiliate_id": str(affiliate_id),
                    "program_id": str(coupon.program_id) if coupon else None,
                    "reason_code": reason,
                }
                for code in order_in.coupon_codes
            ],
            identities=identities,
            assessed_at=now,
        )
    )
    if coupon is not None and affiliate_id is not None and reason == "won":
        pay(session, merchant, order, order_in, coupon.program_id, affiliate_id, now)
    # Made before the commit: afterwards each attribute would be read from the database again, on a connection that is
    # kept until the session closes; with more callers than connections that stops everybody for half a minute.
    answered = answer(inbox, order, repeated=False)
    session.commit()
    return answered


def verify(secret: bytes, request: Request, body: bytes) -> str:
    delivery_id = request.headers.get("webhook-id", "")
    timestamp = request.headers.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(int(timestamp) - datetime.now(UTC).timestamp()) > SIGNATURE_TOLERANCE_S:
        raise HTTPException(401)
    key = base64.b64decode(secret.removeprefix(b"whsec_"))
    expected = base64.b64encode(hmac.digest(key, f"{delivery_id}.{timestamp}.".encode() + body, "sha256")).decode()
    given = request.headers.get("webhook-signature", "").split(" ")
    if not any(hmac.compare_digest(f"v1,{expected}", signature) for signature in given):
        raise HTTPException(401)
    return delivery_id


def add_facts(session: Session, order: OrderRow, order_in: OrderIn, inbox: InboxRow, customer: dict[str, str]) -> None:
    snapshot = {
        "placed_at": order_in.placed_at.isoformat(),
        "currency": order_in.currency,
        "lines": [
            [line.id, line.sku, line.net_minor, str(line.quantity), line.category, line.kind == "goods"]
            for line in order_in.lines
        ],
        "cancelled": False,
        "touches": [["coupon", code.casefold(), None, None] for code in order_in.coupon_codes],
        "customer": customer,
        "number": order_in.number,
        "total_minor": int(order_in.totals.total.scaleb(2)),
        "shipping_minor": int(order_in.totals.shipping.scaleb(2)),
        "tax_minor": int(order_in.totals.tax.scaleb(2)),
        "discount_minor": int(order_in.totals.discount.scaleb(2)),
    }
    paid = {"at": order_in.milestones.paid_at.isoformat()}
    for kind, key, version_at, payload in (
        ("order", "", order_in.updated_at, snapshot),
        ("milestone", "paid", order_in.milestones.paid_at, paid),
    ):
        session.add(
            FactRow(
                merchant_id=order.merchant_id,
                order_id=order.id,
                kind=kind,
                key=key,
                version_at=version_at,
                body_hash=hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).digest(),
                conflicting=False,
                payload=payload,
                inbox_id=inbox.id,
            )
        )


def attribute(
    session: Session, merchant_id: UUID, order_in: OrderIn, customer: dict[str, str]
) -> tuple[CouponRow | None, UUID | None, str, dict[str, bool]]:
    if not order_in.coupon_codes:
        return None, None, "no_touch", {}
    at = order_in.placed_at
    found = session.exec(
        select(CouponRow, AffiliateRow)
        .join(
            CouponOwnerRow,
            (col(CouponOwnerRow.merchant_id) == CouponRow.merchant_id)
            & (col(CouponOwnerRow.coupon_id) == CouponRow.id),
        )
        .join(
            AffiliateRow,
            (col(AffiliateRow.merchant_id) == CouponOwnerRow.merchant_id)
            & (col(AffiliateRow.id) == CouponOwnerRow.affiliate_id),
        )
        .where(
            CouponRow.merchant_id == merchant_id,
            CouponRow.folded == order_in.coupon_codes[0].strip().casefold(),
            CouponOwnerRow.valid_from <= at,
        )
        .order_by(col(CouponOwnerRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return None, None, "no_eligible_touch", {}
    coupon, affiliate = found
    approval = session.exec(
        select(AffiliateApprovalRow)
        .where(
            AffiliateApprovalRow.merchant_id == merchant_id,
            AffiliateApprovalRow.affiliate_id == affiliate.id,
            AffiliateApprovalRow.valid_from <= at,
        )
        .order_by(col(AffiliateApprovalRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    enrollment = session.exec(
        select(EnrollmentRow)
        .where(
            EnrollmentRow.merchant_id == merchant_id,
            EnrollmentRow.affiliate_id == affiliate.id,
            EnrollmentRow.program_id == coupon.program_id,
            EnrollmentRow.valid_from <= at,
        )
        .order_by(col(EnrollmentRow.valid_from).desc())
        .limit(1)
    ).one_or_none()
    if approval is None or not approval.approved or enrollment is None or not enrollment.enrolled:
        return None, None, "no_eligible_touch", {}
    known_as = ",".join(f"{kind}={value}" for kind, value in sorted(customer.items()))
    same_person = not set(customer.items()).isdisjoint(affiliate.identities.items())
    identities = {f"{affiliate.id}:{known_as}": same_person} if customer else {}
    if same_person:
        return None, None, "no_eligible_touch", identities
    return coupon, affiliate.id, "won", identities


def pay(
    session: Session,
    merchant: MerchantRow,
    order: OrderRow,
    order_in: OrderIn,
    program_id: UUID,
    affiliate_id: UUID,
    now: datetime,
) -> None:
    version = session.exec(
        select(ProgramVersionRow)
        .where(
            ProgramVersionRow.merchant_id == merchant.id,
            ProgramVersionRow.program_id == program_id,
            ProgramVersionRow.valid_from <= order_in.placed_at,
        )
        .order_by(col(ProgramVersionRow.valid_from).desc())
        .limit(1)
    ).one()
    receipts: list[dict[str, Any]] = []
    for line in order_in.lines:
        if line.kind != "goods":
            continue
        rule_index, rate = rate_for(version.terms, line)
        exact = line.net_minor * rate / 100
        receipts.append(
            {
                "line_id": line.id,
                "sku": line.sku,
                "ordered_minor": line.net_minor,
                "refunded_minor": 0,
                "base_minor": line.net_minor,
                "rule": rule_index,
                "rate": str(rate),
                "flat_minor": None,
                "exact_minor": str(exact),
                "commission_minor": int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP)),
            }
        )
    target_minor = sum(receipt["commission_minor"] for receipt in receipts)
    commission = CommissionRow(
        merchant_id=merchant.id,
        id=new_id(),
        order_id=order.id,
        payee_id=affiliate_id,
        currency=order_in.currency,
        program_id=program_id,
        program_version=version.number,
        target_minor=target_minor,
        pending_minor=target_minor,
        settles_at=order_in.milestones.paid_at + timedelta(days=version.terms["settlement"]["hold_days"]),
        reason_code="in_hold_period",
        entry_seq=1,
        receipt={
            "program_version": version.number,
            "versions_considered": [{"version": version.number, "standing": "in_force", "total_minor": target_minor}],
            "currency": order_in.currency,
            "base": "net",
            "rounding": "line_half_away_from_zero",
            "lines": receipts,
            "sum_of_lines_minor": target_minor,
            "cap_minor": None,
            "voided": False,
            "target_minor": target_minor,
        },
        created_at=now,
        updated_at=now,
    )
    session.add(commission)
    today = now.astimezone(ZoneInfo(merchant.time_zone)).date()
    slot = random.randrange(SLOTS)
    posting = PostingRow(
        merchant_id=merchant.id,
        id=new_id(),
        event=f"order/{encode('ord', order.id)}/assessment/1",
        seq=0,
        debit_kind="commission_expense",
        debit_owner_id=merchant.id,
        credit_kind="pending",
        credit_owner_id=affiliate_id,
        currency=order_in.currency,
        amount_minor=target_minor,
        day=today,
        slot=slot,
        # A plain handler chains nothing, so its postings need no number.
        booking=1,
        created_at=now,
    )
    session.add(posting)
    session.flush()
    session.add(
        CommissionEntryRow(
            merchant_id=merchant.id,
            commission_id=commission.id,
            seq=1,
            kind="accrue",
            source="commission_expense",
            destination="pending",
            amount_minor=target_minor,
            posting_id=posting.id,
            created_at=now,
        )
    )
    session.add(
        OutboxRow(
            merchant_id=merchant.id,
            id=new_id(),
            type="order.attributed",
            subject_id=order.id,
            payload={
                "order_id": encode("ord", order.id),
                "reason_code": "won",
                "affiliate_id": encode("aff", affiliate_id),
                "program_id": encode("prg", program_id),
            },
            created_at=now,
        )
    )
    session.add(
        OutboxRow(
            merchant_id=merchant.id,
            id=new_id(),
            type="commission.accrued",
            subject_id=commission.id,
            payload={
                "commission_id": encode("com", commission.id),
                "order_id": encode("ord", order.id),
                "affiliate_id": encode("aff", affiliate_id),
                "currency": order_in.currency,
                "target_minor": target_minor,
                "pending_minor": target_minor,
                "held_minor": 0,
                "settled_minor": 0,
                "reason_code": "in_hold_period",
            },
            created_at=now,
        )
    )
    session.flush()
    # The rows that other requests want come last, always in this order, so that nobody waits long or in a circle.
    balance = session.get(BalanceRow, (merchant.id, affiliate_id, "pending", order_in.currency), with_for_update=True)
    assert balance is not None, "the bench makes all rows that are shared before it starts"
    balance.amount_minor += target_minor
    balance.version += 1
    session.flush()
    day = session.get(DaySlotRow, (merchant.id, today, slot), with_for_update=True)
    assert day is not None, "as above"
    if day.sealed_at is not None:
        raise HTTPException(409, "The plain handler books on today only.")
    day.touched += 1
    for kind in ("commission_expense", "pending"):
        day_sum = session.get(DaySumRow, (merchant.id, today, slot, kind, order_in.currency), with_for_update=True)
        assert day_sum is not None, "as above"
        if kind == "pending":
            day_sum.credit_minor += target_minor
        else:
            day_sum.debit_minor += target_minor


def rate_for(terms: dict[str, Any], line: LineIn) -> tuple[int | None, Decimal]:
    for index, rule in enumerate(terms["rules"]):
        match = rule["match"]
        if not match["skus"] and not match["categories"]:
            return index, Decimal(rule["rate"])
        if line.sku in match["skus"] or line.category in match["categories"]:
            return index, Decimal(rule["rate"])
    return None, Decimal(0)


def answer(inbox: InboxRow, order: OrderRow | None, *, repeated: bool) -> dict[str, Any]:
    return {
        "inbox_id": encode("inb", inbox.id),
        "state": inbox.answered,
        "reason_code": None,
        "detail": "",
        "order_id": encode("ord", order.id) if order else None,
        "repeated": repeated,
        "understood": inbox.understood,
    }
