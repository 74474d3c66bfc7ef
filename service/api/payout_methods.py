"""Where payees' money goes: accounts by their kind, changes that wait and can be stopped, accounts that several share."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.api.affiliates import Country, get_affiliate
from service.api.deps import (
    Admin,
    AffiliateCaller,
    AffiliateKey,
    Caller,
    FinanceChecker,
    FinanceMaker,
    Reader,
    ReadSession,
    Service,
    Services,
    WriteSession,
)
from service.api.etags import IfMatch
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import AffiliateId, Body, Moment, PayoutMethodId, ReasonCode, View
from service.domain.destination import AccountType, Destination
from service.domain.errors import Invalid
from service.domain.rails import RailName
from service.infra.ids import encode
from service.infra.settings import Settings
from service.payouts import change_method
from service.payouts.account import opened
from service.payouts.change_method import Changer, shared_with
from service.payouts.methods import provider_account, well_formed
from service.payouts.providers.model import RailNotAvailable
from service.tables.parties import MerchantRow, PayoutMethodRow, SharedAccounts

router = APIRouter(tags=["payout methods"])

WAIT_H_MAX = 720
LIVE_WAIT_H_MIN = 24
"""Who has taken over a key may be noticed the next day; a live merchant cannot give that day away."""


class WaitTooShort(Invalid):
    """A live merchant's payees need time to notice a change that is none of theirs."""

    code = "payout-method-wait"
    title = "The wait cannot be as short for a live merchant"


_Written = Annotated[str, Strict(), Field(min_length=1, max_length=320)]
_Line = Annotated[str, Strict(), Field(max_length=320)]


class HolderAddress(Body):
    """Where the account's owner lives. Banks ask for town and country where they ask for an address at all."""

    country: Country
    town: Annotated[str, Strict(), Field(min_length=1, max_length=320)]
    street: _Line = ""
    """With the house's number."""
    postcode: _Line = ""


class _AccountBody(Body):
    holder: _Line = ""
    """The owner's name as the bank or wallet knows it; needed everywhere but at PayPal. At most 70 characters."""
    address: HolderAddress | None = None

    def destination(self) -> Destination:
        """The account as it was written."""
        told = self.model_dump(exclude={"address", "phone_country"})
        where = {} if self.address is None else self.address.model_dump()
        return Destination(type=AccountType(told.pop("kind")), **told, **where)


class IbanAccount(_AccountBody):
    kind: Literal["iban"]
    account: Annotated[_Written, Field(examples=["DE89 3704 0044 0532 0130 00"])]
    """The IBAN; blanks do not matter."""
    bank_code: Annotated[_Line, Field(examples=["COBADEFFXXX"])] = ""
    """The BIC, where you know it; else it is looked up."""
    bank_name: _Line = ""


class BankAccount(_AccountBody):
    kind: Literal["bank"]
    bank_country: Country
    """Where the bank is: VN or CN."""
    account: Annotated[_Written, Field(examples=["0011001234567"])]
    """The account number; in China the number of the card, or of a company's account with its `bank_code`."""
    bank_code: Annotated[_Line, Field(examples=["970436"])] = ""
    """In Vietnam the bank's BIN of 6 digits, or give `bank_name`; in China the branch's clearing code of 12 digits."""
    bank_name: _Line = ""
    branch: _Line = ""


class AlipayAccount(_AccountBody):
    kind: Literal["alipay"]
    account: Annotated[_Written, Field(examples=["+8613812345678"])]
    """The e-mail address or phone number of the wallet."""
    phone_country: Country = "CN"
    """Where a phone number without its country code belongs."""


class WechatAccount(_AccountBody):
    kind: Literal["wechat"]
    account: Annotated[_Written, Field(examples=["oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"])]
    """The openid by which your WeChat app knows the person."""


class PaypalAccount(_AccountBody):
    kind: Literal["paypal"]
    account: Annotated[_Written, Field(examples=["lan@example.com"])]
    """The e-mail address of the PayPal account."""


class WiseAccount(_AccountBody):
    kind: Literal["wise"]
    account: Annotated[_Written, Field(examples=["lan@example.com"])]
    """An e-mail address; Wise asks there for the account."""


AnyAccount = Annotated[
    IbanAccount | BankAccount | AlipayAccount | WechatAccount | PaypalAccount | WiseAccount, Field(discriminator="kind")
]


class PayoutMethodCreate(Body):
    rail: RailName
    destination: Annotated[str, Strict(), Field(min_length=1, max_length=200, examples=["sandbox_ok"])] | None = None
    """Of a provider's rail: the account there, acct_… for Stripe's, sandbox_ok for the sandbox."""
    account: AnyAccount | None = None
    """Of any other rail: the account at a bank or wallet."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.destination is None) == (self.account is None):
            raise PydanticCustomError("payout_account", "Name either destination or account")
        return self


class PayoutMethodView(View):
    id: PayoutMethodId
    affiliate_id: AffiliateId
    rail: RailName
    kind: AccountType
    """What kind of account it is."""
    destination_hint: str
    """The account's last characters; of an e-mail address the first, and the domain."""
    holder: str | None
    """The owner's name; for keys that are neither the payee's own nor of finance or an admin only how its words begin. Null
    where none was told."""
    bank: str | None
    """The bank's name, or its code; null where the account is at none, or its bank is not known."""
    created_at: Moment
    by_affiliate: bool
    """Whether the affiliate's own key made it. Which key it was is in the audit trail."""
    usable_from: Moment
    """From then on it is paid to. While it waits, nothing is paid on its rail, and it can be cancelled."""
    replaces: PayoutMethodId | None
    """The method whose place it took."""
    replaced_at: Moment | None
    """Since when it is not paid to any more: another took its place, or it was cancelled."""
    cancelled_at: Moment | None
    shared_with: int
    """How many other affiliates are to be paid to the same account now."""
    sharing_confirmed_at: Moment | None
    """Since when somebody vouches that this is right; until then it is left out of runs, unless you allow it."""


class PayoutMethodChangeView(View):
    """A change of where your money goes that does not count yet."""

    id: PayoutMethodId
    rail: RailName
    destination_hint: str
    """The end of the new account."""
    previous_hint: str | None
    """The end of the account before; null where there was none."""
    by_you: bool
    """Whether your own key made it; false: the merchant did."""
    created_at: Moment
    usable_from: Moment
    """Until then nothing is paid to either, and you can stop it."""
    cancel_url: str
    """POST there, if it is none of yours: the account before is active again."""


class SharingConfirm(Body):
    reason_code: ReasonCode
    """Why several are rightly paid to one account, such as `agency` or `family`."""


class PayoutSettings(Body):
    method_wait_h: Annotated[int, Strict(), Field(ge=0, le=WAIT_H_MAX)]
    """Hours a changed account waits; at least 24 for a live merchant. Changes that wait already keep their time."""
    shared_accounts: SharedAccounts


class PayoutSettingsView(View):
    method_wait_h: int
    """Hours before an account that takes another's place is paid to."""
    shared_accounts: SharedAccounts
    """hold: payees with one and the same account are left out of runs until each is confirmed."""

    @classmethod
    def of(cls, row: MerchantRow) -> Self:
        return cls(method_wait_h=row.method_wait_h, shared_accounts=SharedAccounts(row.shared_accounts))


@router.post("/v1/affiliates/{affiliate_id}/payout-methods", status_code=201)
def create_payout_method(
    affiliate_id: AffiliateId, asked: PayoutMethodCreate, caller: Admin, session: WriteSession, service: Services
) -> PayoutMethodView:
    """Say where the affiliate's money goes on a rail; it takes the place of the one before on that rail.

    An affiliate's first method is paid to at once. Every other waits (`usable_from`), and meanwhile nothing is paid on its
    rail: whoever was robbed of an account has time to notice. You are told by an event; tell the affiliate.
    """
    return _add(session, service, _changer(caller, affiliate_id), caller, asked)


@router.get("/v1/affiliates/{affiliate_id}/payout-methods")
def list_payout_methods(
    affiliate_id: AffiliateId,
    caller: Reader,
    session: ReadSession,
    service: Services,
    paging: Paging,
    rail: Annotated[RailName | None, Query(description="Only accounts at this rail.")] = None,
) -> Page[PayoutMethodView]:
    """List where the affiliate's money goes and went, newest first. Accounts are masked."""
    rows = session.exec(newest_first(_methods(caller, affiliate_id, rail), paging, PayoutMethodRow.id)).all()
    if not rows:
        get_affiliate(affiliate_id, caller, session)
    views = _views(session, service, rows, names=caller.sees_holders)
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: views[row.id])


@router.post("/v1/affiliates/{affiliate_id}/payout-methods/{payout_method_id}/cancel")
def cancel_payout_method(
    affiliate_id: AffiliateId,
    payout_method_id: PayoutMethodId,
    caller: FinanceMaker,
    session: WriteSession,
    service: Services,
) -> PayoutMethodView:
    """Take back a change that still waits: the account before is active again at once."""
    row = change_method.cancel(session, _changer(caller, affiliate_id), payout_method_id)
    return _views(session, service, [row], names=True)[row.id]


@router.post("/v1/affiliates/{affiliate_id}/payout-methods/{payout_method_id}/confirm-sharing")
def confirm_payout_method_sharing(
    *,
    affiliate_id: AffiliateId,
    payout_method_id: PayoutMethodId,
    asked: SharingConfirm,
    caller: FinanceChecker,
    session: WriteSession,
    service: Services,
) -> PayoutMethodView:
    """Vouch that this affiliate is rightly paid to an account that is others' too, as KOCs of one agency are."""
    by = _changer(caller, affiliate_id)
    row = change_method.confirm_sharing(session, by, payout_method_id, reason_code=asked.reason_code)
    return _views(session, service, [row], names=True)[row.id]


@router.post("/v1/me/payout-methods", status_code=201)
def create_my_payout_method(
    asked: PayoutMethodCreate, caller: AffiliateCaller, session: WriteSession, service: Services
) -> PayoutMethodView:
    """Say where your money goes on a rail; it takes the place of the account before on that rail.

    Your first account is paid to at once. Every other waits until `usable_from`, so that you can stop a change that is none
    of yours; meanwhile nothing is paid on its rail.
    """
    return _add(session, service, _own(caller), caller, asked)


@router.get("/v1/me/payout-methods")
def list_my_payout_methods(
    caller: AffiliateCaller,
    session: ReadSession,
    service: Services,
    paging: Paging,
    rail: Annotated[RailName | None, Query(description="Only accounts at this rail.")] = None,
) -> Page[PayoutMethodView]:
    """List where your money goes and went, newest first. Accounts are masked."""
    rows = session.exec(newest_first(_methods(caller, caller.affiliate_id, rail), paging, PayoutMethodRow.id)).all()
    views = _views(session, service, rows, names=True)
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: views[row.id])


@router.post("/v1/me/payout-methods/{payout_method_id}/cancel")
def cancel_my_payout_method(
    payout_method_id: PayoutMethodId, caller: AffiliateCaller, session: WriteSession, service: Services
) -> PayoutMethodView:
    """Stop a change of where your money goes that still waits, whoever made it: the account before is active again."""
    row = change_method.cancel(session, _own(caller), payout_method_id)
    return _views(session, service, [row], names=True)[row.id]


@router.get("/v1/payout-settings")
def get_payout_settings(caller: Reader, session: ReadSession) -> PayoutSettingsView:
    """Return how long changed accounts wait, and what becomes of accounts that several affiliates share."""
    return PayoutSettingsView.of(session.get_one(MerchantRow, caller.merchant_id))


@router.put("/v1/payout-settings")
def put_payout_settings(
    asked: PayoutSettings, caller: Admin, session: WriteSession, expected: IfMatch
) -> PayoutSettingsView:
    """Choose how long changed accounts wait, and what becomes of accounts that several affiliates share."""
    row = session.exec(
        select(MerchantRow)
        .where(col(MerchantRow.id) == caller.merchant_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    expected.check(PayoutSettingsView.of(row))
    if not row.is_test and asked.method_wait_h < LIVE_WAIT_H_MIN:
        raise WaitTooShort(f"A live merchant's changes wait {LIVE_WAIT_H_MIN} hours at least; 72 are usual.")
    row.method_wait_h, row.shared_accounts = asked.method_wait_h, asked.shared_accounts
    session.flush()
    return PayoutSettingsView.of(row)


def waiting_changes(session: Session, caller: AffiliateKey) -> list[PayoutMethodChangeView]:
    """Changes of an affiliate's accounts that it can still stop, oldest first; one for each rail at most."""
    rows = session.exec(
        _methods(caller, caller.affiliate_id, None)
        .where(col(PayoutMethodRow.replaced_at).is_(None), col(PayoutMethodRow.usable_from) > caller.now)
        .order_by(col(PayoutMethodRow.id))
    ).all()
    before = session.exec(
        _methods(caller, caller.affiliate_id, None).where(
            col(PayoutMethodRow.id).in_([row.replaces for row in rows if row.replaces is not None])
        )
    ).all()
    hints = {row.id: row.destination_hint for row in before}
    return [
        PayoutMethodChangeView(
            id=row.id,
            rail=RailName(row.rail),
            destination_hint=row.destination_hint,
            previous_hint=None if row.replaces is None else hints[row.replaces],
            by_you=row.by_affiliate,
            created_at=row.created_at,
            usable_from=row.usable_from,
            cancel_url=f"/v1/me/payout-methods/{encode('pmt', row.id)}/cancel",
        )
        for row in rows
        if row.usable_from is not None
    ]


def _add(
    session: Session, service: Service, by: Changer, caller: Caller | AffiliateKey, asked: PayoutMethodCreate
) -> PayoutMethodView:
    _check_rail(asked.rail, service.settings, is_test=caller.merchant.is_test)
    if asked.account is None:
        assert asked.destination is not None
        destination = provider_account(asked.rail, asked.destination)
    else:
        phone_country = asked.account.phone_country if isinstance(asked.account, AlipayAccount) else ""
        destination = well_formed(asked.account.destination(), phone_country=phone_country)
    row = change_method.add(session, service.security, by, rail=asked.rail, destination=destination)
    return _views(session, service, [row], names=True)[row.id]


def _changer(caller: Caller, affiliate_id: UUID) -> Changer:
    return Changer(caller.merchant_id, affiliate_id, caller.key_id, is_payee=False, now=caller.now)


def _own(caller: AffiliateKey) -> Changer:
    return Changer(caller.merchant_id, caller.affiliate_id, caller.key_id, is_payee=True, now=caller.now)


def _methods(
    caller: Caller | AffiliateKey, affiliate_id: UUID, rail: RailName | None
) -> SelectOfScalar[PayoutMethodRow]:
    methods = select(PayoutMethodRow).where(
        col(PayoutMethodRow.merchant_id) == caller.merchant_id, col(PayoutMethodRow.affiliate_id) == affiliate_id
    )
    return methods if rail is None else methods.where(col(PayoutMethodRow.rail) == rail)


def _views(
    session: Session, service: Service, rows: Sequence[PayoutMethodRow], *, names: bool
) -> Mapping[UUID, PayoutMethodView]:
    """Map method id to view. names: whether the owners' names are shown whole."""
    if not rows:
        return {}
    shared = shared_with(session, rows[0].merchant_id, rows)
    return {row.id: _view(row, opened(service.security, row.destination), shared[row.id], names=names) for row in rows}


def _view(row: PayoutMethodRow, account: Destination, others: int, *, names: bool) -> PayoutMethodView:
    return PayoutMethodView(
        id=row.id,
        affiliate_id=row.affiliate_id,
        rail=RailName(row.rail),
        kind=AccountType(row.account_type),
        destination_hint=row.destination_hint,
        holder=(account.holder if names else account.holder_hint) or None,
        bank=account.bank_name or account.bank_code or None,
        created_at=row.created_at,
        by_affiliate=row.by_affiliate,
        usable_from=row.usable_from or row.created_at,
        replaces=row.replaces,
        replaced_at=row.replaced_at,
        cancelled_at=row.cancelled_at,
        shared_with=others,
        sharing_confirmed_at=row.sharing_confirmed_at,
    )


def _check_rail(rail: RailName, settings: Settings, *, is_test: bool) -> None:
    if rail is RailName.SANDBOX and not is_test:
        raise RailNotAvailable("The sandbox moves no money; it is for test merchants.")
    if rail in {RailName.STRIPE_CONNECT, RailName.STRIPE_GLOBAL_PAYOUTS} and settings.stripe_secret_key is None:
        raise RailNotAvailable("Stripe is not set up here: the operator has to set KOC_STRIPE_SECRET_KEY.")
    if rail is RailName.STRIPE_GLOBAL_PAYOUTS and settings.stripe_financial_account is None:
        raise RailNotAvailable("Global Payouts are not set up: the operator has to set KOC_STRIPE_FINANCIAL_ACCOUNT.")
