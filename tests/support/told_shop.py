"""A merchant whose deliveries are real ones: bodies that its source's adapter reads, click ids that we signed.

So they can be read again, as they must be when books are made again. Everything goes through the stages' own verbs.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.program import Terms
from service.domain.rules import Percent, Rule
from service.domain.written import rate_of
from service.infra.db import run_unit, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.intake import desk
from service.intake.adapters.model import Delivery, Reading
from service.intake.desk import Adjusted, Adjustment, Decision, Person, Verb
from service.intake.receive import KnownSource, receive
from service.intake.record import Received, Recorded
from service.intake.replay import replay
from service.payouts.reconcile import compare
from service.payouts.release import release
from service.tables.parties import Platform
from service.tables.payouts import PayoutRunRow
from service.tables.programs import LinkOwnerRow, LinkRow
from service.tracking.find import ClickSigner
from tests.support.books import LONG_AGO, Books
from tests.support.payouts import Desk

Json = dict[str, Any]


@dataclass
class ToldShop:
    """books: the merchant, its programme and its affiliates by coupon. payouts: its finance desk."""

    engine: Engine
    security: Security = field(default_factory=lambda: Security(bytes(32)))
    books: Books = field(init=False)
    payouts: Desk = field(init=False)

    def __post_init__(self) -> None:
        self.books = Books.opened(self.engine)
        self.payouts = Desk(
            self.engine,
            merchant_id=self.books.merchant_id,
            program_id=self.books.program_id,
            security=self.security,
            now=self.books.now,
        )
        self._signer = ClickSigner(self.security)
        self._reading = Reading(self._signer.read, partial(self.security.identity, self.books.merchant_id))
        self._numbers = count(1)
        self.pay_to("sandbox_ann", self.books.ann)

    @property
    def merchant_id(self) -> UUID:
        return self.books.merchant_id

    def ago(self, **span: float) -> datetime:
        """A time before the merchant's present."""
        return self.books.now - timedelta(**span)

    def a_koc(self, coupon: str, **identities: str) -> UUID:
        """An approved, enrolled affiliate with a coupon and an account to be paid on. identities: kind → address."""
        hashes = {kind: self.security.identity(self.merchant_id, kind, value) for kind, value in identities.items()}
        who = self.books.affiliate(coupon, identities=hashes)
        self.pay_to(f"sandbox_{coupon.lower()}", who)
        return who

    def pay_to(self, destination: str, payee_id: UUID) -> None:
        self.payouts.method(payee_id, destination)

    def a_click(self, affiliate_id: UUID, at: datetime) -> str:
        """The signed click id of a visit through a link of the affiliate's, made now."""
        link_id = new_id()
        whose: Json = {"merchant_id": self.merchant_id, "affiliate_id": affiliate_id}
        with unit_of_work(self.engine) as session:
            session.add(
                LinkRow(
                    **whose,
                    id=link_id,
                    program_id=self.books.program_id,
                    code=str(link_id),
                    url="https://shop.example/",
                    created_at=LONG_AGO,
                    updated_at=LONG_AGO,
                )
            )
            session.flush()
            session.add(LinkOwnerRow(**whose, link_id=link_id, valid_from=LONG_AGO, recorded_at=LONG_AGO))
        return self._signer.make(link_id, at)

    # What is told.

    def read(self, event: Json | bytes) -> Received:
        """A delivery of one event by the shop, as its adapter reads it."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        source = KnownSource(self.books.source_id, self.merchant_id, Platform.GENERIC, b"")
        return receive(source, Delivery(f"msg-{next(self._numbers)}", "", body), self._reading)

    def deliver(self, event: Json | bytes) -> Recorded:
        """Let the shop send one event."""
        return self.books.receive(self.read(event))[0]

    def order(self, number: str, goods: str = "100.00", *, coupon: str | None = "ANN", **parts: Any) -> Recorded:
        """Tell of an order placed and paid thirty days ago. parts: fields of the event instead."""
        return self.deliver(self.an_order(number, goods, coupon=coupon, **parts))

    def an_order(self, number: str, goods: str = "100.00", *, coupon: str | None = "ANN", **parts: Any) -> Json:
        placed_at = parts.pop("placed_at", None) or self.ago(days=30)
        return {
            "type": "order",
            "id": number,
            "updated_at": parts.pop("updated_at", self.books.now).isoformat(),
            "placed_at": placed_at.isoformat(),
            "currency": "USD",
            "lines": [{"id": "1", "sku": "sku-1", "quantity": 1, "net": goods}],
            "coupon_codes": [coupon] if coupon else [],
            "milestones": {"paid_at": placed_at.isoformat()},
            **parts,
        }

    def refund(self, number: str, amount: str, refund_id: str, *, currency: str = "USD") -> Recorded:
        now = self.books.now.isoformat()
        return self.deliver(
            {
                "type": "refund",
                "id": refund_id,
                "order_id": number,
                "currency": currency,
                "refunded_at": now,
                "updated_at": now,
                "amount": amount,
            }
        )

    def dispute(self, number: str, dispute_id: str, *, opened: datetime, outcome: str | None = None) -> Recorded:
        """Tell that a dispute over 40.00 is open, or closed now with an outcome."""
        return self.deliver(self.a_dispute(number, dispute_id, opened=opened, outcome=outcome))

    def a_dispute(self, number: str, dispute_id: str, *, opened: datetime, outcome: str | None = None) -> Json:
        closed = {"closed_at": self.books.now.isoformat(), "outcome": outcome} if outcome else {}
        return {
            "type": "dispute",
            "id": dispute_id,
            "order_id": number,
            "currency": "USD",
            "amount": "40.00",
            "updated_at": self.books.now.isoformat(),
            "opened_at": opened.isoformat(),
            **closed,
        }

    def decide(self, verb: str, order: str, *, payee: UUID | None = None, amount_minor: int | None = None) -> Recorded:
        """Let a person approve, reject, hold or release what a payee earns on an order."""
        commission = self.books.commission(order, payee=payee)
        decision = Decision(commission.id, Verb(verb), "looked_at", amount_minor)
        return self._at_desk(desk.decide_one, decision)

    def attribute(self, order: str, affiliate_id: UUID | None) -> Recorded:
        order_id = self.books.rows("SELECT id FROM orders WHERE external_id = :order", order=order)[0].id
        return self._at_desk(desk.attribute, order_id, affiliate_id=affiliate_id, reason_code="asked_for")

    def adjust(self, affiliate_id: UUID, amount_minor: int, order: str | None = None) -> Adjusted:
        """Let a person add to what a payee earns on an order, or give a bonus."""
        person = Person(self.merchant_id, new_id(), self.books.now)
        order_id = None
        if order is not None:
            order_id = self.books.rows("SELECT id FROM orders WHERE external_id = :order", order=order)[0].id
        asked = Adjustment(
            affiliate_id,
            amount_minor,
            "USD",
            "goodwill",
            order_id=order_id,
            note="as agreed",
            evidence=("https://files.example/1",),
        )
        return run_unit(self.engine, lambda session: desk.adjust(session, person, asked))

    def replay(self, recorded: Recorded) -> None:
        def work(session: Session) -> dict[UUID, Recorded]:
            return replay(session, self.merchant_id, [recorded.inbox_id], lambda _: self._reading)

        run_unit(self.engine, work)

    def erase(self, affiliate_id: UUID) -> None:
        """Forget who somebody is, as the law may ask."""
        self.payouts.change(affiliate_id, name="", email=None, identities={})

    def _at_desk(self, verb: Any, about: UUID | Decision, **said: Any) -> Recorded:
        person = Person(self.merchant_id, new_id(), self.books.now)

        def work(session: Session) -> Recorded:
            told: Recorded = verb(session, person, about, **said)
            return told

        return run_unit(self.engine, work)

    # What is paid.

    def pay(self, *payees: UUID) -> PayoutRunRow:
        """Make, approve and execute a payout run, and let a worker take it as far as it goes."""
        self.payouts.now = self.books.now
        run = self.payouts.an_executing_run(*payees)
        self.payouts.work(run)
        return run

    def comes_back(self, payee_id: UUID, amount: int) -> None:
        """Let the rail give back so much in all of the payee's newest payout."""
        item, attempt = self.payouts.item(payee_id), self.payouts.attempts(payee_id)[-1]
        assert attempt.reference is not None
        self.payouts.rail.reverse(attempt.reference, amount)
        compare(
            self.engine,
            self.payouts.rail,
            merchant_id=self.merchant_id,
            run_id=item.run_id,
            since=item.created_at,
            now=self.books.now,
        )


def a_shop_with_everything(engine: Engine) -> ToldShop:
    """Books in which every kind of thing has happened at least once, in deliveries that can be read again."""
    shop = ToldShop(engine)
    books, ann = shop.books, shop.books.ann
    ben, cat = shop.a_koc("BEN", email="ben@mail.example"), shop.a_koc("CAT")
    shop.a_koc("DAN")
    # The second terms pay double for what is ordered in the last week.
    books.version(2, Terms(rules=(Rule(Percent(rate_of("20"))),)), valid_from=shop.ago(days=7))
    # What comes first, late, twice, changed, unread.
    shop.refund("refund first", "10.00", "r-1")
    shop.order("refund first")
    shop.order("edited", "80.00", updated_at=shop.ago(days=20))
    shop.order("edited", "120.00")
    shop.order("clicked", coupon=None, click_ids=[shop.a_click(cat, shop.ago(days=31))])
    shop.order("own", coupon="BEN", customer={"email": "BEN@mail.example"})
    shop.order("doubtful", coupon="BEN", customer={"email": "somebody@mail.example"})
    shop.order("unknown coupon", coupon="NOBODY")
    shop.order("taken over", coupon=None)
    shop.attribute("taken over", cat)
    shop.order("new terms", placed_at=shop.ago(days=2))
    shop.order("two bodies", "50.00", updated_at=shop.ago(days=3))
    shop.order("two bodies", "60.00", updated_at=shop.ago(days=3))
    shop.order("in euro", currency="USD", updated_at=shop.ago(days=3))
    shop.order("in euro", currency="EUR")
    shop.order("foreign refund")
    shop.refund("foreign refund", "5.00", "r-2", currency="EUR")
    shop.order("cancelled", cancelled=True)
    shop.refund("never comes", "10.00", "r-3")
    shop.deliver(b'{"type": "order"}')
    ahead = shop.deliver(shop.an_order("ahead", updated_at=books.now + timedelta(hours=1)))
    shop.deliver(shop.an_order("test", test=True))
    # What people decide.
    shop.order("approved in part", "200.00", coupon="BEN")
    shop.decide("approve", "approved in part", payee=ben, amount_minor=500)
    shop.order("rejected", coupon="CAT")
    shop.decide("reject", "rejected", payee=cat)
    shop.order("held", coupon="CAT")
    shop.decide("hold", "held", payee=cat)
    shop.order("released", coupon="CAT")
    shop.decide("hold", "released", payee=cat)
    shop.decide("release", "released", payee=cat)
    shop.order("adjusted", coupon="CAT")
    shop.adjust(cat, 250, "adjusted")
    shop.adjust(cat, -75, "adjusted")
    shop.adjust(ann, 40, "adjusted")
    shop.order("rejected and adjusted", coupon="CAT")
    shop.adjust(cat, 30, "rejected and adjusted")
    shop.decide("reject", "rejected and adjusted", payee=cat)
    books.advance(seconds=1)
    shop.adjust(cat, 20, "rejected and adjusted")
    shop.adjust(ann, 600)
    for number in ("paid and disputed", "paid and lost", "paid and refunded", "frozen in time"):
        shop.order(number)
    books.settle()
    # What is frozen while it is still here, and what only after it had left.
    shop.dispute("frozen in time", "d-1", opened=shop.ago(days=1))
    shop.payouts.rail.does["sandbox_ben"] += ["refuse"]
    shop.payouts.rail.does["sandbox_cat"] += ["late"]
    shop.pay()
    shop.dispute("paid and disputed", "d-2", opened=shop.ago(days=1))
    shop.order("paid and disputed", "150.00", updated_at=books.now)
    shop.dispute("paid and lost", "d-3", opened=shop.ago(days=1))
    shop.dispute("paid and lost", "d-3", opened=shop.ago(days=1), outcome="lost")
    shop.refund("paid and refunded", "100.00", "r-4")
    shop.payouts.do(release, item_id=shop.payouts.item(ben).id, when=shop.payouts.when, now=shop.payouts.now)
    shop.comes_back(ann, 300)
    # A later round, in which something is carried and somebody is in debt.
    books.advance(days=2)
    shop.replay(ahead)
    shop.dispute("frozen in time", "d-1", opened=shop.ago(days=3), outcome="won")
    shop.order("later", "500.00", coupon="BEN")
    shop.order("later too", "900.00", placed_at=shop.ago(days=40))
    books.settle()
    shop.pay(ann, ben)
    shop.comes_back(ben, shop.payouts.item(ben).net_minor)
    shop.refund("later", "500.00", "r-5")
    shop.order("last", "123.45", coupon="DAN")
    books.settle()
    shop.order("too late", "30.00", coupon="CAT")
    # And a run that nobody has approved yet, on a rail that pays whole units only.
    shop.payouts.now = books.now
    shop.payouts.rail.step = 100
    shop.payouts.reserve()
    return shop
