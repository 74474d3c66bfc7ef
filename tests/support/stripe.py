"""A service that pays through the Stripe double, and is told by it: what tests of accounts, events and books share."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import col, select

from service.domain.provider import ServiceAgreement
from service.infra.db import fetch, read_session, run_unit
from service.infra.security import Security
from service.payouts.accounts import open_account
from service.payouts.apply import Provider, apply_waiting
from service.payouts.hear import keep
from service.payouts.providers.model import ToldRail
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.payouts.providers.stripe_connect import StripeConnectRail
from service.payouts.providers.stripe_events import heard
from service.payouts.providers.stripe_global import StripeGlobalPayoutsRail
from service.tables.providers import StripeAccountRow
from tests.doubles.stripe import FINANCIAL_ACCOUNT, StripeDouble
from tests.support.payouts import Desk

Json = dict[str, Any]


@dataclass
class Told:
    """Desks on Stripe's rails, and the worker's jobs that hear and compare. Its clock is the real one, moved by tests.

    The double dates what it does by the real clock, so desks begin now.
    """

    engine: Engine
    stripe: StripeDouble
    connect: StripeConnectRail
    payouts: StripeGlobalPayoutsRail
    ahead: timedelta = timedelta()

    @classmethod
    def on(cls, engine: Engine, stripe: StripeDouble) -> "Told":
        connect = StripeConnectRail("sk_test_double", api_base=stripe.url, timeouts_s=(2, 2))
        return cls(engine, stripe, connect, StripeGlobalPayoutsRail(connect.api, FINANCIAL_ACCOUNT))

    def close(self) -> None:
        self.connect.close()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    @property
    def provider(self) -> Provider:
        rails: dict[str, ToldRail] = {rail.name: rail for rail in (self.connect, self.payouts)}
        return Provider(self.engine, Security(bytes(32)), StripeAccounts(self.connect.api), rails, self.now)

    def desk(self, *, rail: str = "connect", **changes: Any) -> Desk:
        """A merchant that pays on one of the rails."""
        return Desk.opened(self.engine, rail=getattr(self, rail), now=datetime.now(UTC), **changes)

    def an_account(
        self, desk: Desk, payee_id: UUID, *, country: str = "US", agreement: ServiceAgreement = ServiceAgreement.FULL
    ) -> str:
        """Have an account made for a payee, and return its id."""
        open_account(
            self.engine,
            self.provider.accounts,
            desk.security,
            merchant_id=desk.merchant_id,
            affiliate_id=payee_id,
            country=country,
            agreement=agreement,
            clock=self.now,
        )
        account_id = self.account(desk, payee_id).account_id
        assert account_id is not None
        return account_id

    def a_payee(self, desk: Desk, payable: int = 1000, *, onboarded: bool = True) -> UUID:
        """A payee whose payout method is an account made here."""
        payee_id = desk.payee(payable, destination=None)
        account_id = self.an_account(desk, payee_id)
        if onboarded:
            with self.stripe.bank.lock:
                self.stripe.bank.onboard(account_id)
            self.hear()
        desk.method(payee_id, account_id)
        return payee_id

    def account(self, desk: Desk, payee_id: UUID) -> StripeAccountRow:
        with read_session(self.engine) as session:
            return session.exec(
                select(StripeAccountRow).where(
                    col(StripeAccountRow.merchant_id) == desk.merchant_id,
                    col(StripeAccountRow.affiliate_id) == payee_id,
                )
            ).one()

    def tell(self, events: Sequence[Json]) -> None:
        """Keep events as the door does, in this order, one by one."""
        for event in events:
            read = heard(event, is_test=True)
            if read is not None:
                run_unit(self.engine, partial(keep, events=[read], now=self.now()))

    def work(self) -> None:
        """Let the worker apply what is due."""
        apply_waiting(self.provider, until=self.now() + timedelta(minutes=1))

    def hear(self, events: Sequence[Json] | None = None) -> None:
        """Tell events, all of the double's by default, and apply them."""
        self.tell(self.stripe.events if events is None else events)
        self.work()

    def events(self) -> list[Json]:
        """Events that were kept, in the order of their ids."""
        with read_session(self.engine) as session:
            rows = fetch(session, "SELECT id, type, state, reason_code, merchant_id FROM provider_event ORDER BY id")
        return [dict(row._mapping) for row in rows]

    def states(self) -> dict[str, int]:
        """How many events are in each state."""
        states = [each["state"] for each in self.events()]
        return {state: states.count(state) for state in sorted(set(states))}
