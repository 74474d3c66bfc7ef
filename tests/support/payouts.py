"""A merchant whose payees have balances, a rail that does as it is told, and a clock that a test moves."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.payout import Answer, AnswerKind, ItemState
from service.domain.withholding.model import Mode, PayeeKind, Regime
from service.infra.db import fetch, read_session, run_unit, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.ledger.post import post
from service.payouts.approve import approve, execute_run, submit
from service.payouts.execute import Progress, Sender, advance
from service.payouts.find import known_of, state_of
from service.payouts.providers.model import DESTINATION, Listing, Sending, Transfer
from service.payouts.reserve import Asked, reserve
from service.tables.parties import AffiliateRow, MerchantRow, PayoutMethodRow, TaxRule
from service.tables.payouts import PayoutAttemptRow, PayoutItemRow, PayoutRunRow
from service.tables.programs import EnrollmentRow, ProgramRow, ProgramVersionRow
from service.tables.taxes import TaxProfileRow, TaxRegimeRow

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MAKER, CHECKER = UUID(int=1), UUID(int=2)


class Crash(BaseException):
    """Our process dies here: nothing after it is done."""


@dataclass
class FakeRail:
    """A provider in memory that keeps its promises: idempotent by key, lists without lag.

    does: what it does with the sendings to a destination, in turn; afterwards, and by default, it accepts.
      lost      done, but the answer never arrives        down      neither done nor answered
      refuse    a definite refusal                        stopped   our credentials are refused
      mismatch  the key was used with other parameters    other     done with another amount than asked
      late      not done yet, no answer; `land` does it
      crash     our process dies before the first byte    crash_done  it dies after the provider acted
    """

    name: str = "sandbox"
    at_once: int = 16
    keeps_transfers: bool = True
    step: int = 1
    has: int | Answer | None = None
    """What it says that it can pay."""
    does: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_key: dict[str, Transfer] = field(default_factory=dict)
    transfers: list[Transfer] = field(default_factory=list)
    late: list[tuple[bytes, str]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """(send or find, key or item) in the order they came."""
    listing_fails: bool = False
    """Its listings are not complete."""
    listing_trouble: Answer = field(default_factory=lambda: Answer(AnswerKind.UNKNOWN, code="timeout"))
    """What is said instead of one, if so."""
    slow_listing: Callable[[], None] | None = None
    """What happens while one is on its way."""
    _lock: Lock = field(default_factory=Lock)

    def serves(self, *, is_test: bool) -> bool:
        return is_test

    def step_minor(self, currency: str) -> int | None:
        return None if currency == "XAF" else self.step

    def available_minor(self, currency: str) -> int | Answer | None:
        return self.has

    def build_request(self, sending: Sending) -> bytes:
        return json.dumps(
            {
                "item": str(sending.item_id),
                "number": sending.number,
                "destination": sending.destination,
                "amount": sending.amount_minor,
                "currency": sending.currency,
            }
        ).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        with self._lock:
            self.calls.append(("send", idempotency_key))
            planned = self.does[json.loads(request)["destination"]]
            match planned.pop(0) if planned else "accept":
                case "refuse":
                    return Answer(AnswerKind.REFUSED, code="account_closed")
                case "down":
                    return Answer(AnswerKind.UNKNOWN, code="timeout")
                case "stopped":
                    return Answer(AnswerKind.STOPPED, code="api_key_expired")
                case "mismatch":
                    return Answer(AnswerKind.MISMATCHED_KEY, code="idempotency_error")
                case "late":
                    self.late.append((request, idempotency_key))
                    return Answer(AnswerKind.UNKNOWN, code="timeout")
                case "crash":
                    raise Crash
                case "crash_done":
                    self._do(request, idempotency_key)
                    raise Crash
                case "lost":
                    self._do(request, idempotency_key)
                    return Answer(AnswerKind.UNKNOWN, code="timeout")
                case "other":
                    return self._do(request, idempotency_key, amount_minor=1).as_answer()
                case _:
                    return self._do(request, idempotency_key).as_answer()

    def land(self) -> None:
        """Do what was still travelling."""
        for request, key in self.late:
            self._do(request, key)
        self.late.clear()

    def forget_keys(self) -> None:
        self.by_key.clear()

    def reverse(self, reference: str, amount_minor: int) -> None:
        """Let so much in all have come back of a transfer."""
        for index, made in enumerate(self.transfers):
            if made.reference == reference:
                self.transfers[index] = Transfer(
                    made.item_id,
                    made.number,
                    made.reference,
                    made.amount_minor,
                    amount_minor,
                    made.currency,
                    made.destination,
                )

    def _do(self, request: bytes, key: str, *, amount_minor: int | None = None) -> Transfer:
        asked = json.loads(request)
        if key not in self.by_key:
            made = Transfer(
                item_id=UUID(asked["item"]),
                number=asked["number"],
                reference=f"tr_{len(self.transfers) + 1}",
                amount_minor=asked["amount"] if amount_minor is None else amount_minor,
                reversed_minor=0,
                currency=asked["currency"],
                destination=asked["destination"],
            )
            self.by_key[key] = made
            self.transfers.append(made)
        return self.by_key[key]

    def find(self, request: bytes) -> Listing:
        with self._lock:
            item_id = UUID(json.loads(request)["item"])
            self.calls.append(("find", str(item_id)))
            if self.listing_fails:
                return Listing(trouble=self.listing_trouble)
            found = Listing(tuple(each for each in self.transfers if each.item_id == item_id))
            if self.slow_listing is not None:
                self.slow_listing()
            return found

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:
        return Listing(tuple(self.transfers))

    def close(self) -> None:
        return

    @property
    def sends(self) -> list[str]:
        """The keys that were sent, in order."""
        return [key for kind, key in self.calls if kind == "send"]


@dataclass
class Desk:
    """A finance desk: payees with balances, and runs taken through their states."""

    engine: Engine
    rail: FakeRail = field(default_factory=FakeRail)
    now: datetime = NOON
    merchant_id: UUID = field(default_factory=new_id)
    program_id: UUID = field(default_factory=new_id)
    currency: str = "USD"
    time_zone: str = "UTC"
    security: Security = field(default_factory=lambda: Security(bytes(32)))

    @classmethod
    def opened(cls, engine: Engine, *, minimum: int = 0, **changes: Any) -> "Desk":
        """minimum: the programme's payout minimum."""
        desk = cls(engine, **changes)
        terms = {
            "rules": [{"kind": "percent", "rate": "10", "match": {"skus": [], "categories": []}}],
            "base": "net",
            "cap_per_order": [],
            "attribution": {
                "window_days": 30,
                "model": "last",
                "precedence": "coupon",
                "self_purchase": "reject",
            },
            "settlement": {"kind": "rolling", "start": "paid", "hold_days": 14, "approval": "automatic"},
            "payout_minimums": [{"amount_minor": minimum, "currency": desk.currency}],
            "notice_days": 30,
        }
        with unit_of_work(engine) as session:
            session.add(
                MerchantRow(
                    id=desk.merchant_id,
                    name="Shop",
                    is_test=True,
                    time_zone=desk.time_zone,
                    created_at=desk.now,
                    # Most payees here have the one account that the double knows to pay.
                    shared_accounts="allow",
                )
            )
            session.flush()
            session.add(
                ProgramRow(merchant_id=desk.merchant_id, id=desk.program_id, name="Friends", created_at=desk.now)
            )
            session.flush()
            session.add(
                ProgramVersionRow(
                    merchant_id=desk.merchant_id,
                    program_id=desk.program_id,
                    number=1,
                    valid_from=desk.now - timedelta(days=99),
                    terms=terms,
                    recorded_at=desk.now,
                )
            )
        return desk

    @property
    def when(self) -> MerchantTime:
        return MerchantTime(self.now, self.time_zone)

    def later(self, **span: int) -> None:
        self.now += timedelta(**span)

    def payee(
        self,
        payable: int = 0,
        *,
        carried: int = 0,
        destination: str | None = "sandbox_ok",
        status: str = "approved",
        tax_rule: str | None = "off",
    ) -> UUID:
        """An enrolled affiliate with balances, paid to `destination`."""
        payee_id = new_id()
        with unit_of_work(self.engine) as session:
            session.add(
                AffiliateRow(
                    merchant_id=self.merchant_id,
                    id=payee_id,
                    name="Ann",
                    status=status,
                    tax_rule=tax_rule,
                    created_at=self.now,
                    updated_at=self.now,
                )
            )
            session.flush()
            session.add(
                EnrollmentRow(
                    merchant_id=self.merchant_id,
                    id=new_id(),
                    program_id=self.program_id,
                    affiliate_id=payee_id,
                    valid_from=self.now - timedelta(days=9),
                    enrolled=True,
                    recorded_at=self.now,
                )
            )
        if destination is not None:
            self.method(payee_id, destination)
        self.earn(payee_id, payable)
        self.earn(payee_id, carried, kind=AccountKind.TAXED_CARRY)
        return payee_id

    def method(self, payee_id: UUID, destination: str, *, rail: str | None = None, **parts: Any) -> None:
        """Make this the payee's account, instead of the one before. rail: the desk's if not told. parts: columns."""
        rail = rail or self.rail.name
        with unit_of_work(self.engine) as session:
            for row in session.exec(
                select(PayoutMethodRow).where(
                    col(PayoutMethodRow.affiliate_id) == payee_id, col(PayoutMethodRow.replaced_at).is_(None)
                )
            ):
                row.replaced_at = self.now
                session.flush()
            session.add(
                PayoutMethodRow(
                    merchant_id=self.merchant_id,
                    id=new_id(),
                    affiliate_id=payee_id,
                    rail=rail,
                    destination=self.security.encrypt(destination.encode(), purpose=DESTINATION),
                    destination_hint=destination[-4:],
                    fingerprint=self.security.fingerprint(self.merchant_id, rail, destination),
                    created_at=self.now,
                    **parts,
                )
            )

    def change(self, payee_id: UUID, **values: Any) -> None:
        """Change columns of an affiliate."""
        with unit_of_work(self.engine) as session:
            row = session.get_one(AffiliateRow, (self.merchant_id, payee_id))
            for name, value in values.items():
                setattr(row, name, value)

    def tax(self, payee_id: UUID, country: str, *, kind: PayeeKind = PayeeKind.INDIVIDUAL, **details: Any) -> None:
        """Let the merchant's regime for a country decide what is withheld from a payee. details: of its tax profile."""
        profile = TaxProfileRow(
            merchant_id=self.merchant_id,
            id=new_id(),
            affiliate_id=payee_id,
            kind=kind,
            country=country,
            details={"resident": True, **details},
            tax_code_hint="…123",
            recorded_by=MAKER,
            recorded_at=self.now,
        )
        with unit_of_work(self.engine) as session:
            session.add(profile)
            session.flush()
            row = session.get_one(AffiliateRow, (self.merchant_id, payee_id))
            row.tax_rule, row.tax_profile_id = TaxRule.REGIME, profile.id

    def declare(
        self, country: str, regime: Regime, *, mode: Mode = Mode.WITHHOLD, gross_up: bool = False, days: int = 0
    ) -> None:
        """Declare how the merchant withholds from people of a country. days: from today on until it holds."""
        with unit_of_work(self.engine) as session:
            session.add(
                TaxRegimeRow(
                    merchant_id=self.merchant_id,
                    id=new_id(),
                    country=country,
                    valid_from=self.when.day + timedelta(days=days),
                    regime=regime,
                    mode=mode,
                    gross_up=gross_up,
                    vat=False,
                    declared_by=MAKER,
                    recorded_at=self.now,
                )
            )

    def choose(self, **values: Any) -> None:
        """Change columns of the merchant."""
        with unit_of_work(self.engine) as session:
            row = session.get_one(MerchantRow, self.merchant_id)
            for name, value in values.items():
                setattr(row, name, value)

    def account(self, payee_id: UUID, kind: AccountKind) -> Account:
        return Account(self.merchant_id, payee_id, kind, self.currency)

    def earn(self, payee_id: UUID, amount: int, *, kind: AccountKind = AccountKind.PAYABLE) -> None:
        """Book commission onto a balance; below zero takes it away again."""
        if not amount:
            return
        expense = Account(self.merchant_id, self.merchant_id, AccountKind.COMMISSION_EXPENSE, self.currency)
        theirs = self.account(payee_id, kind)
        debit, credit = (expense, theirs) if amount > 0 else (theirs, expense)
        event_id = new_id()
        with unit_of_work(self.engine) as session:
            post(
                session,
                [Posting(event_id, f"test/{event_id}", 0, debit, credit, abs(amount))],
                when={self.merchant_id: self.when},
            )

    def reserve(
        self, *payees: UUID, pay_on: date | None = None, by: UUID = MAKER, elsewhere: Sequence[str] = ()
    ) -> PayoutRunRow:
        asked = Asked(self.merchant_id, self.currency, pay_on or self.when.day, by, payee_ids=payees)
        with unit_of_work(self.engine) as session:
            return reserve(session, asked, rail=self.rail, when=self.when, elsewhere=elsewhere)

    def submit(self, run: PayoutRunRow, *, by: UUID = MAKER) -> PayoutRunRow:
        with unit_of_work(self.engine) as session:
            return submit(
                session,
                merchant_id=self.merchant_id,
                run_id=run.id,
                step_minor=self.rail.step_minor(self.currency) or 1,
                by=by,
                when=self.when,
            )

    def approve(self, run: PayoutRunRow, *, by: UUID = CHECKER) -> PayoutRunRow:
        with unit_of_work(self.engine) as session:
            return approve(session, merchant_id=self.merchant_id, run_id=run.id, approver=by, when=self.when)

    def execute(self, run: PayoutRunRow) -> PayoutRunRow:
        with unit_of_work(self.engine) as session:
            return execute_run(session, merchant_id=self.merchant_id, run_id=run.id, when=self.when, now=self.now)

    def an_approved_run(self, *payees: UUID) -> PayoutRunRow:
        run = self.reserve(*payees)
        self.submit(run)
        return self.approve(run)

    def an_executing_run(self, *payees: UUID) -> PayoutRunRow:
        return self.execute(self.an_approved_run(*payees))

    def sender(self, calls: ThreadPoolExecutor, *, owner: str = "worker") -> Sender:
        return Sender(self.engine, self.security, self.rail, owner, calls, lambda: self.now)

    def work(self, run: PayoutRunRow, *, owner: str = "worker") -> Progress:
        """Let a worker take the run as far as it can go now."""
        with ThreadPoolExecutor(4) as calls:
            return advance(
                self.sender(calls, owner=owner),
                merchant_id=self.merchant_id,
                run_id=run.id,
                until=self.now + timedelta(seconds=30),
            )

    def rows(self, statement: str, **parameters: Any) -> Sequence[Any]:
        with read_session(self.engine) as session:
            return fetch(session, statement, {"merchant_id": self.merchant_id, **parameters})

    def run(self, run: PayoutRunRow) -> PayoutRunRow:
        """The run as it is now."""
        with read_session(self.engine) as session:
            return session.get_one(PayoutRunRow, (self.merchant_id, run.id))

    def left_out(self, run: PayoutRunRow) -> list[tuple[UUID, str]]:
        """Whom a run left out, and why."""
        rows = self.rows(
            "SELECT payee_id, reason_code FROM payout_left_out"
            " WHERE merchant_id = :merchant_id AND run_id = :run_id ORDER BY payee_id",
            run_id=run.id,
        )
        return [(row.payee_id, row.reason_code) for row in rows]

    def items(self, payee_id: UUID) -> list[PayoutItemRow]:
        """The payee's items, oldest first."""
        with read_session(self.engine) as session:
            return list(
                session.exec(
                    select(PayoutItemRow)
                    .where(col(PayoutItemRow.merchant_id) == self.merchant_id, col(PayoutItemRow.payee_id) == payee_id)
                    .order_by(col(PayoutItemRow.id))
                ).all()
            )

    def item(self, payee_id: UUID) -> PayoutItemRow:
        """The payee's newest item."""
        return self.items(payee_id)[-1]

    def attempts(self, payee_id: UUID) -> list[PayoutAttemptRow]:
        """Attempts of the payee's newest item, oldest first."""
        with read_session(self.engine) as session:
            return list(
                session.exec(
                    select(PayoutAttemptRow)
                    .where(col(PayoutAttemptRow.item_id) == self.item(payee_id).id)
                    .order_by(col(PayoutAttemptRow.number))
                ).all()
            )

    def state(self, payee_id: UUID) -> ItemState:
        """State of the payee's newest item."""
        item = self.item(payee_id)
        with read_session(self.engine) as session:
            run = session.get_one(PayoutRunRow, (self.merchant_id, item.run_id))
            known = known_of(session, self.merchant_id, [item.id])[item.id]
        return state_of(item, run_status=run.status, known=known)

    def balances(self, payee_id: UUID) -> dict[str, int]:
        """The payee's balances that are not 0, by kind."""
        rows = self.rows(
            "SELECT kind, amount_minor FROM balance"
            " WHERE merchant_id = :merchant_id AND owner_id = :owner AND amount_minor <> 0",
            owner=payee_id,
        )
        return {row.kind: row.amount_minor for row in rows}

    def version(self, payee_id: UUID) -> int:
        """Payable's version."""
        rows = self.rows(
            "SELECT version FROM balance WHERE merchant_id = :merchant_id AND owner_id = :owner AND kind = 'payable'",
            owner=payee_id,
        )
        return rows[0].version if rows else 0

    def events(self) -> list[str]:
        return [row.type for row in self.rows("SELECT type FROM outbox WHERE merchant_id = :merchant_id ORDER BY id")]

    def do(self, verb: Any, **arguments: Any) -> Any:
        """Run a verb of the stage in a unit of work of its own."""

        def work(session: Session) -> Any:
            return verb(session, merchant_id=self.merchant_id, **arguments)

        return run_unit(self.engine, work)
