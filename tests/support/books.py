"""A merchant set up straight in the tables, and orders told to it as facts: for tests of the stages below HTTP."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine

from service.commissions.settle import settle_due
from service.domain.ledger import AccountKind
from service.domain.order import (
    DisputeFact,
    DisputeOutcome,
    Fact,
    Line,
    Milestone,
    OrderSnapshot,
    RefundFact,
    Touch,
    TouchKind,
    dispute_fact,
    milestone_fact,
    order_fact,
    refund_fact,
)
from service.domain.program import Terms
from service.domain.rules import Percent, Rule
from service.domain.written import rate_of
from service.infra.clock import utc_now
from service.infra.db import fetch, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.intake.record import Received, Recorded, record
from service.tables.parties import (
    AffiliateApprovalRow,
    AffiliateRow,
    MerchantRow,
    Platform,
    SourceRow,
)
from service.tables.programs import CouponOwnerRow, CouponRow, EnrollmentRow, ProgramRow, ProgramVersionRow

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def ten_percent(**changes: Any) -> Terms:
    return Terms(rules=(Rule(Percent(rate_of("10"))),), **changes)


@dataclass
class Books:
    """One merchant with a programme and an approved affiliate whose coupon is ANN."""

    engine: Engine
    merchant_id: UUID = field(default_factory=new_id)
    source_id: UUID = field(default_factory=uuid4)
    desk_id: UUID = field(default_factory=uuid4)
    program_id: UUID = field(default_factory=new_id)
    ann: UUID = field(default_factory=new_id)

    @classmethod
    def opened(cls, engine: Engine, terms: Terms | None = None, *, time_zone: str = "UTC") -> "Books":
        books = cls.founded(engine, time_zone=time_zone)
        with unit_of_work(engine) as session:
            session.add(
                ProgramRow(merchant_id=books.merchant_id, id=books.program_id, name="Friends", created_at=LONG_AGO)
            )
            session.flush()
        books.version(1, terms or ten_percent(), valid_from=LONG_AGO)
        books.affiliate("ANN", affiliate_id=books.ann)
        return books

    @classmethod
    def founded(cls, engine: Engine, *, time_zone: str = "UTC") -> "Books":
        """Only the merchant and its two sources; nobody promotes it yet."""
        books = cls(engine)
        with unit_of_work(engine) as session:
            session.add(
                MerchantRow(id=books.merchant_id, name="Shop", is_test=True, time_zone=time_zone, created_at=LONG_AGO)
            )
            session.flush()
            for source_id, platform in ((books.source_id, Platform.GENERIC), (books.desk_id, Platform.DESK)):
                session.add(
                    SourceRow(
                        id=source_id,
                        merchant_id=books.merchant_id,
                        platform=platform,
                        name=platform,
                        created_at=LONG_AGO,
                    )
                )
        return books

    @property
    def now(self) -> datetime:
        return utc_now() + timedelta(seconds=self.offset_s)

    @property
    def offset_s(self) -> int:
        return int(self.rows("SELECT clock_offset_s FROM merchant WHERE id = :merchant_id")[0][0])

    def advance(self, **span: float) -> None:
        """Move the merchant's clock ahead."""
        with unit_of_work(self.engine) as session:
            merchant = session.get_one(MerchantRow, self.merchant_id)
            merchant.clock_offset_s += int(timedelta(**span).total_seconds())
            session.add(merchant)

    def version(self, number: int, terms: Terms, *, valid_from: datetime) -> None:
        with unit_of_work(self.engine) as session:
            session.add(
                ProgramVersionRow(
                    merchant_id=self.merchant_id,
                    program_id=self.program_id,
                    number=number,
                    valid_from=valid_from,
                    terms=terms.as_json(),
                    asks_about_customers=terms.asks_about_customers,
                    recorded_at=LONG_AGO,
                )
            )

    def affiliate(
        self, coupon: str, *, affiliate_id: UUID | None = None, identities: Mapping[str, str | list[str]] | None = None
    ) -> UUID:
        """An approved, enrolled affiliate with a coupon."""
        who, coupon_id = affiliate_id or new_id(), new_id()
        common: dict[str, Any] = {"merchant_id": self.merchant_id, "recorded_at": LONG_AGO, "valid_from": LONG_AGO}
        with unit_of_work(self.engine) as session:
            session.add(
                AffiliateRow(
                    merchant_id=self.merchant_id,
                    id=who,
                    name=coupon.title(),
                    status="approved",
                    tax_rule="off",
                    identities=dict(identities or {}),
                    created_at=LONG_AGO,
                    updated_at=LONG_AGO,
                )
            )
            session.add(
                CouponRow(
                    merchant_id=self.merchant_id,
                    id=coupon_id,
                    program_id=self.program_id,
                    code=coupon,
                    folded=coupon.casefold(),
                    created_at=LONG_AGO,
                )
            )
            session.flush()
            session.add(AffiliateApprovalRow(affiliate_id=who, approved=True, **common))
            session.add(
                EnrollmentRow(id=new_id(), program_id=self.program_id, affiliate_id=who, enrolled=True, **common)
            )
            session.add(CouponOwnerRow(coupon_id=coupon_id, affiliate_id=who, **common))
        return who

    def delivery(self, order: str, *facts: Fact, delivery_id: str | None = None) -> Received:
        """A verified delivery that tells these facts of an order."""
        told = [[fact.kind, fact.key, fact.version_at.isoformat(), fact.text, fact.provisional] for fact in facts]
        body = json.dumps(told).encode()
        return Received(
            self.merchant_id,
            self.source_id,
            delivery_id or str(uuid4()),
            "test",
            body,
            hashlib.sha256(body).digest(),
            order=(self.source_id, order),
            facts=facts,
            understood={"order": order},
        )

    def receive(self, *deliveries: Received) -> list[Recorded]:
        """Record deliveries as one batch."""
        return run_unit(self.engine, lambda session: record(session, deliveries))

    def tell(self, order: str, *facts: Fact) -> Recorded:
        return self.receive(self.delivery(order, *facts))[0]

    def settle(self) -> int:
        return settle_due(self.engine, merchant_id=self.merchant_id)

    def rows(self, statement: str, **parameters: Any) -> Sequence[Any]:
        with read_session(self.engine) as session:
            return fetch(session, statement, {"merchant_id": self.merchant_id, **parameters})

    def balance(self, kind: AccountKind, *, owner: UUID | None = None, currency: str = "USD") -> int:
        rows = self.rows(
            """
            SELECT amount_minor FROM balance
            WHERE merchant_id = :merchant_id AND owner_id = :owner AND kind = :kind AND currency = :currency
            """,
            owner=owner or self.ann,
            kind=kind.value,
            currency=currency,
        )
        return rows[0][0] if rows else 0

    def places(self, *, owner: UUID | None = None, currency: str = "USD") -> tuple[int, int, int]:
        """(pending, held, payable) of a payee."""
        kinds = (AccountKind.PENDING, AccountKind.HELD, AccountKind.PAYABLE)
        pending, held, payable = (self.balance(kind, owner=owner, currency=currency) for kind in kinds)
        return pending, held, payable

    def commission(self, order: str, *, payee: UUID | None = None, currency: str = "USD") -> Any:
        return self.rows(
            """
            SELECT commission.* FROM commission
            JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
            WHERE commission.merchant_id = :merchant_id AND orders.external_id = :order AND payee_id = :payee
              AND currency = :currency
            """,
            order=order,
            payee=payee or self.ann,
            currency=currency,
        )[0]


def at(day: int, hour: int = 12) -> datetime:
    """A moment in January 2026, long enough ago that nothing lies ahead of our clock."""
    return datetime(2026, 1, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)


def snapshot(
    *nets: int,
    coupon: str | None = "ANN",
    version: int = 1,
    currency: str = "USD",
    cancelled: bool = False,
    placed: datetime | None = None,
    customer: tuple[tuple[str, str], ...] = (),
    number: str = "",
) -> Fact:
    """An order snapshot with one goods line per amount; version: the day its version is of."""
    touches = (Touch(TouchKind.COUPON, coupon.casefold()),) if coupon else ()
    lines = tuple(Line(str(index), f"SKU-{index}", net) for index, net in enumerate(nets, start=1))
    body = OrderSnapshot(
        placed_at=placed or at(1),
        currency=currency,
        lines=lines,
        cancelled=cancelled,
        touches=touches,
        customer=customer,
        number=number,
        total_minor=sum(nets),
    )
    return order_fact(body, version_at=at(version))


def paid(day: int = 1) -> Fact:
    return milestone_fact(Milestone.PAID, at(day))


def refund(refund_id: str, amount: int, *, day: int = 2, line: str | None = None, currency: str = "USD") -> Fact:
    lines = ((line, amount),) if line else ()
    body = RefundFact(currency, at(day), lines=lines, unallocated_minor=0 if line else amount)
    return refund_fact(refund_id, body, version_at=at(day))


def dispute(
    dispute_id: str, *, opened: int, closed: int | None = None, outcome: str | None = None, amount: int = 0
) -> Fact:
    body = DisputeFact(
        at(opened),
        "USD",
        amount,
        closed_at=at(closed) if closed else None,
        outcome=DisputeOutcome(outcome) if outcome else None,
    )
    return dispute_fact(dispute_id, body, version_at=at(closed or opened))
