"""Accounts of affiliates at Stripe: made, onboarded, and what Stripe wants of them; for merchants and for KOCs themselves."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import Field, Strict
from sqlalchemy import Engine
from sqlmodel import Session

from service.api.affiliates import NONE_SUCH, Country
from service.api.deps import (
    Admin,
    AffiliateCaller,
    AffiliateKey,
    Caller,
    OwnUnits,
    Reader,
    ReadSession,
    Service,
    Services,
)
from service.api.views import AffiliateId, Body, Moment, MoneyView, View
from service.domain.errors import Invalid, Missing, Unavailable
from service.domain.provider import BankPayoutStatus, ServiceAgreement
from service.infra.clock import utc_now
from service.infra.db import read_session
from service.payouts.accounts import BankPayout, find_account, id_of_account, newest_bank_payout, open_account, refresh
from service.payouts.providers.model import RailNotAvailable
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.tables.parties import AffiliateRow
from service.tables.providers import StripeAccountRow

router = APIRouter(tags=["stripe accounts"])

CALLS_AT_ONCE = 3
"""Most requests of a process that wait for Stripe: each of them holds a place that others need for the database."""
_calls = threading.BoundedSemaphore(CALLS_AT_ONCE)


class CountryMissing(Invalid):
    code = "stripe-account-country"
    title = "The country of the account is not known"


class StripeBusy(Unavailable):
    code = "stripe-busy"
    title = "Too many requests wait for Stripe, try again"
    retry_after_s = 2


class StripeAccountCreate(Body):
    country: Country | None = None
    """Where the payee lives or is established; null: as in the affiliate's profile. Stripe never lets it change."""
    service_agreement: ServiceAgreement = ServiceAgreement.FULL
    """`recipient` for payees in countries that your platform can only send transfers to. It never changes either."""


class StripeAccountLinkCreate(Body):
    return_url: Annotated[
        str, Strict(), Field(max_length=2000, pattern="^https?://[!-~]+$", examples=["https://tea.example/paid"])
    ]
    """Where Stripe sends the payee afterwards, finished or not."""
    refresh_url: Annotated[
        str, Strict(), Field(max_length=2000, pattern="^https?://[!-~]+$", examples=["https://tea.example/again"])
    ]
    """Where Stripe sends a payee whose link was opened before or is too old: a page that asks for a new one."""


class StripeAccountLinkView(View):
    url: str
    """Opens once, and is kept nowhere. Never send it by mail or message: whoever opens it speaks for the payee."""
    expires_at: Moment


class StripeRequirementsView(View):
    """What Stripe still wants of the payee, by Stripe's names of fields."""

    currently_due: list[str]
    past_due: list[str]
    eventually_due: list[str]
    pending_verification: list[str]
    disabled_reason: str | None
    due_by: Moment | None
    """After that day the account is restricted unless `currently_due` is told."""


class BankPayoutView(View):
    """A payout from the account to the payee's own bank."""

    id: str
    status: BankPayoutStatus
    amount: MoneyView
    failure_code: str | None
    made_at: Moment

    @classmethod
    def of(cls, it: BankPayout) -> Self:
        return cls(
            id=it.id,
            status=it.status,
            amount=MoneyView(amount_minor=it.amount_minor, currency=it.currency),
            failure_code=it.failure_code,
            made_at=it.made_at,
        )


class StripeAccountView(View):
    """An affiliate's connected account, as Stripe told it last."""

    affiliate_id: AffiliateId
    account_id: str | None
    """Stripe's id, acct_…, which is the `destination` of a payout method; null while Stripe's answer is not known."""
    country: str | None
    service_agreement: ServiceAgreement
    ready: bool
    """Whether it is paid by runs: transfers are active, payouts enabled, and the last payout to the bank did not fail."""
    charges_enabled: bool
    payouts_enabled: bool
    details_submitted: bool
    capabilities: dict[str, str]
    """By name: active, inactive, pending, unrequested."""
    requirements: StripeRequirementsView
    last_bank_payout: BankPayoutView | None
    told_at: Moment | None
    """When Stripe was asked for this."""
    created_at: Moment

    @classmethod
    def of(cls, row: StripeAccountRow, last: BankPayout | None) -> Self:
        wanted = row.requirements
        failed = last is not None and last.status is BankPayoutStatus.FAILED
        return cls(
            affiliate_id=row.affiliate_id,
            account_id=row.account_id,
            country=row.country,
            service_agreement=ServiceAgreement(row.agreement),
            ready=row.ready and not failed,
            charges_enabled=row.charges_enabled,
            payouts_enabled=row.payouts_enabled,
            details_submitted=row.details_submitted,
            capabilities=row.capabilities,
            requirements=StripeRequirementsView(
                currently_due=wanted.get("currently_due") or [],
                past_due=wanted.get("past_due") or [],
                eventually_due=wanted.get("eventually_due") or [],
                pending_verification=wanted.get("pending_verification") or [],
                disabled_reason=wanted.get("disabled_reason"),
                due_by=wanted.get("current_deadline"),
            ),
            last_bank_payout=None if last is None else BankPayoutView.of(last),
            told_at=row.told_at,
            created_at=row.created_at,
        )


@dataclass(frozen=True, slots=True)
class _Theirs:
    """A merchant's key and an affiliate of that merchant."""

    caller: Caller
    affiliate_id: UUID


def _theirs(affiliate_id: AffiliateId, caller: Admin, session: ReadSession) -> _Theirs:
    """Who asks, and the affiliate of the path. Raises Missing: what is another's must not get into the trail."""
    if session.get(AffiliateRow, (caller.merchant_id, affiliate_id)) is None:
        raise Missing(NONE_SUCH)
    return _Theirs(caller, affiliate_id)


_OneOfTheirs = Annotated[_Theirs, Depends(_theirs)]
"""Before `OwnUnits`, which writes into the trail what is asked for."""


@router.post("/v1/affiliates/{affiliate_id}/stripe-account")
def create_stripe_account(
    theirs: _OneOfTheirs, asked: StripeAccountCreate, engine: OwnUnits, service: Services
) -> StripeAccountView:
    """Have an account made at Stripe for an affiliate. There is one per affiliate; asking again returns it."""
    return _create(engine, service, theirs.caller, theirs.affiliate_id, asked)


@router.get("/v1/affiliates/{affiliate_id}/stripe-account")
def get_stripe_account(affiliate_id: AffiliateId, caller: Reader, session: ReadSession) -> StripeAccountView:
    """Return an affiliate's account at Stripe, as told last: by an event, a refresh, or when it was made."""
    return _view(session, caller.merchant_id, affiliate_id)


@router.post("/v1/affiliates/{affiliate_id}/stripe-account/refresh")
def refresh_stripe_account(theirs: _OneOfTheirs, engine: OwnUnits, service: Services) -> StripeAccountView:
    """Ask Stripe now what an affiliate's account is. Changes are told by themselves; this is for the impatient."""
    return _refresh(engine, service, theirs.caller, theirs.affiliate_id)


@router.post("/v1/affiliates/{affiliate_id}/stripe-account/link", status_code=201)
def create_stripe_account_link(
    theirs: _OneOfTheirs, asked: StripeAccountLinkCreate, engine: OwnUnits, service: Services
) -> StripeAccountLinkView:
    """Make a link to Stripe's onboarding of the affiliate's account. Send the affiliate there at once; it opens once."""
    return _link(engine, service, theirs.caller, theirs.affiliate_id, asked)


@router.post("/v1/me/stripe-account")
def create_my_stripe_account(
    asked: StripeAccountCreate, caller: AffiliateCaller, engine: OwnUnits, service: Services
) -> StripeAccountView:
    """Have an account made for you at Stripe. There is one; asking again returns it."""
    return _create(engine, service, caller, caller.affiliate_id, asked)


@router.get("/v1/me/stripe-account")
def get_my_stripe_account(caller: AffiliateCaller, session: ReadSession) -> StripeAccountView:
    """Return your account at Stripe: whether it can be paid, and what Stripe still wants to know."""
    return _view(session, caller.merchant_id, caller.affiliate_id)


@router.post("/v1/me/stripe-account/refresh")
def refresh_my_stripe_account(caller: AffiliateCaller, engine: OwnUnits, service: Services) -> StripeAccountView:
    """Ask Stripe now what your account is."""
    return _refresh(engine, service, caller, caller.affiliate_id)


@router.post("/v1/me/stripe-account/link", status_code=201)
def create_my_stripe_account_link(
    asked: StripeAccountLinkCreate, caller: AffiliateCaller, engine: OwnUnits, service: Services
) -> StripeAccountLinkView:
    """Make a link to Stripe's onboarding of your account. It opens once."""
    return _link(engine, service, caller, caller.affiliate_id, asked)


def _create(
    engine: Engine, service: Service, caller: Caller | AffiliateKey, affiliate_id: UUID, asked: StripeAccountCreate
) -> StripeAccountView:
    with read_session(engine) as session:
        affiliate = session.get_one(AffiliateRow, (caller.merchant_id, affiliate_id))
        country = asked.country or affiliate.country
    with _stripe(service, caller) as accounts:
        if country is None:
            raise CountryMissing("Name it, or set it in the affiliate's profile.")
        open_account(
            engine,
            accounts,
            service.security,
            merchant_id=caller.merchant_id,
            affiliate_id=affiliate_id,
            country=country,
            agreement=asked.service_agreement,
            clock=utc_now,
        )
    with read_session(engine) as session:
        return _view(session, caller.merchant_id, affiliate_id)


def _refresh(engine: Engine, service: Service, caller: Caller | AffiliateKey, affiliate_id: UUID) -> StripeAccountView:
    with read_session(engine) as session:
        account_id = id_of_account(session, caller.merchant_id, affiliate_id)
    with _stripe(service, caller) as accounts:
        refresh(engine, accounts, merchant_id=caller.merchant_id, account_id=account_id, clock=utc_now)
    with read_session(engine) as session:
        return _view(session, caller.merchant_id, affiliate_id)


def _link(
    engine: Engine,
    service: Service,
    caller: Caller | AffiliateKey,
    affiliate_id: UUID,
    asked: StripeAccountLinkCreate,
) -> StripeAccountLinkView:
    with read_session(engine) as session:
        account_id = id_of_account(session, caller.merchant_id, affiliate_id)
    with _stripe(service, caller) as accounts:
        made = accounts.link(account_id, return_url=asked.return_url, refresh_url=asked.refresh_url)
    return StripeAccountLinkView(url=made.url, expires_at=made.expires_at)


def _view(session: Session, merchant_id: UUID, affiliate_id: UUID) -> StripeAccountView:
    account = find_account(session, merchant_id, affiliate_id)
    return StripeAccountView.of(account, newest_bank_payout(session, account))


@contextlib.contextmanager
def _stripe(service: Service, caller: Caller | AffiliateKey) -> Iterator[StripeAccounts]:
    """Hold one of the few places to wait for Stripe in. Raises RailNotAvailable, StripeBusy."""
    accounts = service.stripe
    if accounts is None:
        raise RailNotAvailable("Stripe is not set up here: the operator has to set KOC_STRIPE_SECRET_KEY.")
    if accounts.is_test != caller.merchant.is_test:
        kind = "a test" if caller.merchant.is_test else "a live"
        raise RailNotAvailable(f"Stripe as it is set up here does not pay for {kind} merchant.")
    if not _calls.acquire(blocking=False):
        raise StripeBusy("Nothing was done.")
    try:
        yield accounts
    finally:
        _calls.release()
