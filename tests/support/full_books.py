"""A small set of books with something of everything in it: earned, held, settled, released, paid, waiting, parked."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine
from sqlmodel import Session

from service.commissions.settle import settle_due
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.order import (
    Fact,
    HoldFact,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    hold_fact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.domain.payout import item_hash, run_hash
from service.domain.withholding.model import Decision, Duty
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.infra.ids import new_id
from service.intake.record import Received, record
from service.ledger.balance import lock
from service.ledger.post import post
from service.tables.orders import InboxState
from service.tables.parties import (
    AffiliateApprovalRow,
    AffiliateRow,
    AffiliateStatus,
    MerchantRow,
    PayoutMethodRow,
    Platform,
    SourceRow,
    TaxRule,
)
from service.tables.payouts import PayoutAttemptRow, PayoutItemRow, PayoutRunRow, ProviderFactRow
from service.tables.programs import CouponOwnerRow, CouponRow, EnrollmentRow, ProgramRow, ProgramVersionRow
from service.tables.taxes import TaxBaseRow, TaxEntryKind, TaxEntryRow

TERMS = {
    "rules": [{"kind": "percent", "rate": "10", "match": {"skus": [], "categories": []}}],
    "base": "net",
    "cap_per_order": [],
    "attribution": {"window_days": 30, "model": "last", "precedence": "coupon", "self_purchase": "reject"},
    "settlement": {"kind": "rolling", "start": "paid", "hold_days": 14, "approval": "automatic"},
    "payout_minimums": [],
    "notice_days": 30,
}


@dataclass(slots=True)
class Books:
    """One merchant whose KOCs ann and ben earn ten percent by the coupons ANN and BEN, fourteen days after payment."""

    engine: Engine
    time_zone: str = "Asia/Shanghai"
    merchant_id: UUID = field(default_factory=new_id)
    source_id: UUID = field(default_factory=uuid4)
    program_id: UUID = field(default_factory=new_id)
    affiliates: dict[str, UUID] = field(default_factory=lambda: {"ann": new_id(), "ben": new_id()})
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def open(self) -> "Books":
        long_ago = self.now - timedelta(days=400)
        stages: list[list[object]] = [
            [
                MerchantRow(
                    id=self.merchant_id, name="Shop", is_test=True, time_zone=self.time_zone, created_at=long_ago
                )
            ],
            [
                SourceRow(
                    id=self.source_id,
                    merchant_id=self.merchant_id,
                    platform=Platform.GENERIC,
                    name="shop",
                    created_at=long_ago,
                ),
                ProgramRow(merchant_id=self.merchant_id, id=self.program_id, name="Programme", created_at=long_ago),
                *(
                    AffiliateRow(
                        merchant_id=self.merchant_id,
                        id=affiliate_id,
                        external_id=name,
                        name=name.capitalize(),
                        status=AffiliateStatus.APPROVED,
                        tax_rule=TaxRule.OFF,
                        created_at=long_ago,
                        updated_at=long_ago,
                    )
                    for name, affiliate_id in self.affiliates.items()
                ),
            ],
            [
                ProgramVersionRow(
                    merchant_id=self.merchant_id,
                    program_id=self.program_id,
                    number=1,
                    valid_from=long_ago,
                    terms=TERMS,
                    recorded_at=long_ago,
                )
            ],
        ]
        for name, affiliate_id in self.affiliates.items():
            whose: dict[str, Any] = {"merchant_id": self.merchant_id, "affiliate_id": affiliate_id}
            dated: dict[str, Any] = {"valid_from": long_ago, "recorded_at": long_ago}
            coupon_id = new_id()
            stages += [
                [
                    AffiliateApprovalRow(**whose, **dated, approved=True),
                    EnrollmentRow(**whose, **dated, id=new_id(), program_id=self.program_id, enrolled=True),
                    CouponRow(
                        merchant_id=self.merchant_id,
                        id=coupon_id,
                        program_id=self.program_id,
                        code=name.upper(),
                        folded=name,
                        created_at=long_ago,
                    ),
                    PayoutMethodRow(
                        **whose,
                        id=new_id(),
                        rail="sandbox",
                        destination=b"sealed",
                        destination_hint="…1234",
                        fingerprint=f"fingerprint of {name}",
                        created_at=long_ago,
                    ),
                ],
                [CouponOwnerRow(**whose, **dated, coupon_id=coupon_id)],
            ]
        with unit_of_work(self.engine) as session:
            for stage in stages:
                session.add_all(stage)
                session.flush()
        return self

    @property
    def when(self) -> dict[UUID, MerchantTime]:
        return {self.merchant_id: MerchantTime(self.now, self.time_zone)}

    def order(
        self,
        external_id: str,
        *facts: Fact,
        brought_by: str | None = None,
        goods_minor: int = 10_000,
        currency: str = "USD",
        days_ago: int = 30,
        paid: bool = True,
    ) -> UUID:
        """Tell facts of an order; with `brought_by`, its snapshot too. Returns the order's id."""
        placed_at = self.now - timedelta(days=days_ago)
        told = list(facts)
        if brought_by is not None:
            snapshot = OrderSnapshot(
                placed_at=placed_at,
                currency=currency,
                lines=(Line("1", "SKU", goods_minor),),
                touches=(Touch(TouchKind.COUPON, brought_by),),
                number=f"#{external_id}",
                total_minor=goods_minor,
            )
            told.append(order_fact(snapshot, version_at=placed_at))
        if paid and brought_by is not None:
            told.append(milestone_fact(Milestone.PAID, placed_at))
        return self._deliver(InboxState.APPLIED, order=external_id, facts=told)

    def refund(self, external_id: str, amount_minor: int, *, currency: str = "USD") -> UUID:
        refund = RefundFact(currency, self.now, unallocated_minor=amount_minor)
        return self.order(external_id, refund_fact(f"refund of {external_id}", refund, version_at=self.now))

    def hold(self, external_id: str, *, released: bool = False) -> UUID:
        body = HoldFact(self.now, "check", released_at=self.now if released else None)
        at = self.now + timedelta(seconds=int(released))
        return self.order(external_id, hold_fact("hold", body, version_at=at))

    def park(self, state: InboxState, reason: str) -> None:
        self._deliver(state, reason=reason)

    def settle(self) -> int:
        return settle_due(self.engine, merchant_id=self.merchant_id)

    def taxed_before(self, name: str, base_minor: int) -> None:
        """Tell what was paid before these books began."""
        whose: dict[str, Any] = {
            "merchant_id": self.merchant_id,
            "payee_id": self.affiliates[name],
            "rule": "us_nec_2026",
        }
        with unit_of_work(self.engine) as session:
            session.add(TaxBaseRow(**whose, version=1))
            session.flush()
            session.add(
                TaxEntryRow(
                    **whose,
                    id=new_id(),
                    kind=TaxEntryKind.OPENING,
                    duty=Duty.BACKUP,
                    period=f"{self.now:%Y}",
                    currency="USD",
                    base_minor=base_minor,
                    tax_minor=0,
                    booked_on=self.now.date(),
                    created_at=self.now,
                )
            )

    def payable(self, name: str, *, currency: str = "USD") -> int:
        with read_session(self.engine) as session:
            rows = fetch(
                session,
                "SELECT amount_minor FROM balance WHERE owner_id = :id AND kind = 'payable' AND currency = :currency",
                {"id": self.affiliates[name], "currency": currency},
            )
        return int(rows[0].amount_minor) if rows else 0

    def net(self, item_id: UUID) -> int:
        with read_session(self.engine) as session:
            return self._item(session, item_id).net_minor

    def reserve(self, name: str, *, currency: str = "USD", remainder_minor: int = 0) -> tuple[UUID, UUID]:
        """Put all that is payable into a submitted and approved run of its own. Returns (run id, item id)."""
        payee_id = self.affiliates[name]
        run_id, item_id, pay_on = new_id(), new_id(), date(2026, 11, 30)
        with unit_of_work(self.engine) as session:
            locked = lock(
                session,
                self.merchant_id,
                owner_ids=[payee_id],
                kinds=[AccountKind.PAYABLE, AccountKind.TAXED_CARRY],
                currency=currency,
            )
            amounts = {account.kind: kept for account, kept in locked.items()}
            payable = amounts[AccountKind.PAYABLE]
            carried = amounts[AccountKind.TAXED_CARRY].amount_minor if AccountKind.TAXED_CARRY in amounts else 0
            kept = post(
                session,
                self._moves(
                    item_id,
                    "reserve",
                    [
                        (AccountKind.PAYABLE, AccountKind.RESERVED, payable.amount_minor),
                        (AccountKind.TAXED_CARRY, AccountKind.RESERVED, carried),
                    ],
                    payee_id=payee_id,
                    currency=currency,
                ),
                when=self.when,
                touched=[self._account(payee_id, AccountKind.PAYABLE, currency)],
            )
            reserve_version = kept[self._account(payee_id, AccountKind.PAYABLE, currency)].version
            previous = fetch(
                session,
                "SELECT coalesce(max(reserve_version), 0) FROM payout_item WHERE payee_id = :payee_id"
                " AND currency = :currency",
                {"payee_id": payee_id, "currency": currency},
            )[0][0]
            method = fetch(
                session, "SELECT id, fingerprint FROM payout_method WHERE affiliate_id = :id", {"id": payee_id}
            )[0]
            net_minor = payable.amount_minor + carried - remainder_minor
            content_hash = item_hash(
                item_id=item_id,
                payee_id=payee_id,
                currency=currency,
                gross_minor=payable.amount_minor,
                carried_minor=carried,
                net_minor=net_minor,
                tax_minor=0,
                tax_borne_minor=0,
                fee_minor=0,
                tax=Decision(rule="off", gross_minor=payable.amount_minor, withheld_minor=0, borne_minor=0),
                rail="sandbox",
                destination_fingerprint=method.fingerprint,
                pay_on=pay_on,
                from_version=previous,
                to_version=reserve_version - 1,
            )
            session.add(
                PayoutRunRow(
                    merchant_id=self.merchant_id,
                    id=run_id,
                    status="executing",
                    rail="sandbox",
                    currency=currency,
                    pay_on=pay_on,
                    content_hash=run_hash([content_hash]),
                    created_by=new_id(),
                    submitted_by=new_id(),
                    approved_by=new_id(),
                    created_at=self.now,
                    submitted_at=self.now,
                    approved_at=self.now,
                )
            )
            session.flush()
            session.add(
                PayoutItemRow(
                    merchant_id=self.merchant_id,
                    id=item_id,
                    run_id=run_id,
                    payee_id=payee_id,
                    currency=currency,
                    payout_method_id=method.id,
                    fingerprint=method.fingerprint,
                    tax_rule="off",
                    gross_minor=payable.amount_minor,
                    carried_minor=carried,
                    net_minor=net_minor,
                    remainder_minor=remainder_minor,
                    from_version=previous,
                    to_version=reserve_version - 1,
                    reserve_version=reserve_version,
                    live=True,
                    content_hash=content_hash,
                    created_at=self.now,
                )
            )
        return run_id, item_id

    def release(self, item_id: UUID) -> None:
        with unit_of_work(self.engine) as session:
            item = self._item(session, item_id)
            payable = self._account(item.payee_id, AccountKind.PAYABLE, item.currency)
            kept = post(
                session,
                self._moves(
                    item_id,
                    "release",
                    [
                        (AccountKind.RESERVED, AccountKind.PAYABLE, item.gross_minor),
                        (AccountKind.RESERVED, AccountKind.TAXED_CARRY, item.carried_minor),
                    ],
                    payee_id=item.payee_id,
                    currency=item.currency,
                ),
                when=self.when,
                touched=[payable],
            )
            item.live, item.released_at, item.release_reason = False, self.now, "cancelled"
            item.gave_back_version = kept[payable].version
            session.add(item)

    def hand_over(self, item_id: UUID) -> None:
        with unit_of_work(self.engine) as session:
            item = self._item(session, item_id)
            amount = item.gross_minor + item.carried_minor
            post(
                session,
                self._moves(
                    item_id,
                    "plan",
                    [(AccountKind.RESERVED, AccountKind.IN_TRANSIT, amount)],
                    payee_id=item.payee_id,
                    currency=item.currency,
                ),
                when=self.when,
            )
            item.handed_over_at = self.now
            session.add(item)
            session.add(
                PayoutAttemptRow(
                    merchant_id=self.merchant_id,
                    id=new_id(),
                    item_id=item_id,
                    number=1,
                    rail="sandbox",
                    idempotency_key=str(item_id),
                    request=b"sealed",
                    outcome="in_flight",
                    created_at=self.now,
                )
            )

    def accept(self, item_id: UUID) -> None:
        with unit_of_work(self.engine) as session:
            item = self._item(session, item_id)
            post(
                session,
                self._moves(
                    item_id,
                    "accept",
                    [
                        (AccountKind.IN_TRANSIT, AccountKind.PAID, item.net_minor),
                        (AccountKind.IN_TRANSIT, AccountKind.TAXED_CARRY, item.remainder_minor),
                    ],
                    payee_id=item.payee_id,
                    currency=item.currency,
                ),
                when=self.when,
            )
            item.live = False
            session.add(item)
            execute(
                session,
                "UPDATE payout_attempt SET outcome = 'accepted', reference = :reference WHERE item_id = :id",
                {"reference": f"tr_{item_id.hex}", "id": item_id},
            )
            self._tell(session, item, "accepted", item.net_minor)

    def give_back(self, item_id: UUID, amount_minor: int) -> None:
        """Let the provider reverse a part, or all, of an accepted item."""
        with unit_of_work(self.engine) as session:
            item = self._item(session, item_id)
            payable = self._account(item.payee_id, AccountKind.PAYABLE, item.currency)
            kept = post(
                session,
                self._moves(
                    item_id,
                    "reversed",
                    [(AccountKind.PAID, AccountKind.TAXED_CARRY, amount_minor)],
                    payee_id=item.payee_id,
                    currency=item.currency,
                ),
                when=self.when,
                touched=[payable],
            )
            if amount_minor == item.net_minor:
                item.gave_back_version = kept[payable].version
            session.add(item)
            self._tell(session, item, "reversed", amount_minor)

    def _tell(self, session: Session, item: PayoutItemRow, kind: str, amount_minor: int) -> None:
        session.add(
            ProviderFactRow(
                merchant_id=self.merchant_id,
                rail="sandbox",
                object_id=f"tr_{item.id.hex}",
                kind=kind,
                version=str(amount_minor),
                item_id=item.id,
                amount_minor=amount_minor,
                told_at=self.now,
            )
        )

    def _item(self, session: Session, item_id: UUID) -> PayoutItemRow:
        item = session.get(PayoutItemRow, (self.merchant_id, item_id))
        assert item is not None
        return item

    def _account(self, payee_id: UUID, kind: AccountKind, currency: str) -> Account:
        return Account(self.merchant_id, payee_id, kind, currency)

    def _moves(
        self,
        item_id: UUID,
        what: str,
        moves: Sequence[tuple[AccountKind, AccountKind, int]],
        *,
        payee_id: UUID,
        currency: str,
    ) -> list[Posting]:
        return [
            Posting(
                new_id(),
                event=f"payout/{item_id}/{what}",
                seq=seq,
                debit=self._account(payee_id, source, currency),
                credit=self._account(payee_id, destination, currency),
                amount_minor=amount_minor,
            )
            for seq, (source, destination, amount_minor) in enumerate(moves)
            if amount_minor
        ]

    def _deliver(
        self, state: InboxState, *, order: str | None = None, facts: Sequence[Fact] = (), reason: str | None = None
    ) -> UUID:
        """Record a delivery. Returns the id of its order, or of its inbox row where it speaks of none."""
        delivery_id = str(new_id())
        body = json.dumps({"delivery": delivery_id, "facts": [json.loads(fact.text) for fact in facts]}).encode()
        received = Received(
            self.merchant_id,
            self.source_id,
            delivery_id,
            topic="test",
            body=body,
            body_hash=hashlib.sha256(body).digest(),
            order=(self.source_id, order) if order is not None else None,
            facts=tuple(facts),
            state=state,
            reason_code=reason,
        )
        with unit_of_work(self.engine) as session:
            recorded = record(session, [received])[0]
        return recorded.order_id or recorded.inbox_id


def full_books(engine: Engine) -> Books:
    """Books in which every kind of thing has happened at least once. They agree with themselves."""
    books = Books(engine).open()
    books.order("paid out", brought_by="ann", goods_minor=20_000)
    books.order("paid out too", brought_by="ann", goods_minor=7_030)
    books.order("part refunded", brought_by="ann")
    books.settle()
    _, released = books.reserve("ann")
    books.release(released)
    books.refund("part refunded", 2_500)
    _, sent = books.reserve("ann", remainder_minor=3)
    books.hand_over(sent)
    books.accept(sent)
    books.give_back(sent, 100)
    books.order("in transit", brought_by="ben", goods_minor=5_000)
    books.settle()
    _, underway = books.reserve("ben")
    books.hand_over(underway)
    books.order("reserved", brought_by="ann", goods_minor=6_000)
    books.settle()
    books.reserve("ann")
    books.order("payable", brought_by="ben", goods_minor=4_000)
    books.settle()
    books.order("pending", brought_by="ben", goods_minor=3_000, days_ago=2)
    books.order("held", brought_by="ann", goods_minor=8_000, days_ago=3)
    books.hold("held")
    books.refund("unknown", 1_000)
    books.park(InboxState.PARKED, "no_currency")
    books.park(InboxState.IGNORED, "test_order")
    books.taxed_before("ann", 5_000)
    return books
