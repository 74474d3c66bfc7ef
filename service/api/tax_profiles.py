"""Who payees are for tax, what was decided before this service, and decisions as the API shows them."""

import json
from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field
from pydantic.types import Strict
from sqlmodel import Session, col, select

from service.api.affiliates import NONE_SUCH, Country, locked
from service.api.deps import Admin, FinanceMaker, Reader, ReadSession, Services, WriteSession
from service.api.etags import IfMatch
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.views import (
    AffiliateId,
    Body,
    Currency,
    Day,
    KeyId,
    Moment,
    MoneyView,
    Name,
    TaxEntryId,
    TaxProfileId,
    View,
    Why,
)
from service.domain.errors import Invalid, Missing
from service.domain.money import AMOUNT_MAX_MINOR
from service.domain.withholding.details import check_details
from service.domain.withholding.forms import PERSON
from service.domain.withholding.model import Caution, Decision, Duty, Key, PayeeKind
from service.domain.withholding.openings import why_not_counted
from service.domain.withholding.tables import RuleName
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Language
from service.domain.wording.withholding import told
from service.infra.ids import new_id
from service.infra.security import Security
from service.payouts.withhold import lock_bases, raise_bases
from service.tables.parties import AffiliateRow, TaxRule
from service.tables.taxes import TaxEntryKind, TaxEntryRow, TaxProfileRow

router = APIRouter(tags=["tax"])


class TaxProfileIncomplete(Invalid):
    code = "tax-profile-incomplete"
    title = "A regime needs to know who is paid"


class TaxOpeningNotCounted(Invalid):
    code = "tax-opening-not-counted"
    title = "The rule would not count this opening"


class PersonBody(Body):
    """Who a payee is to the authority. Kept encrypted; only registers for filing show it again."""

    legal_name: Name | None = None
    tax_code: Annotated[str, Strict(), Field(min_length=3, max_length=40, pattern=r"^[0-9A-Za-z ./-]+$")] | None = None
    """Tax code, TIN or identity number, as the country issues it."""
    vat_id: Annotated[str, Strict(), Field(max_length=20, pattern=r"^[0-9A-Za-z]+$")] | None = None
    born_on: Day | None = None
    street: Name | None = None
    town: Name | None = None
    postcode: Annotated[str, Strict(), Field(max_length=20)] | None = None
    country: Country | None = None
    """Of the address."""


class TaxProfileUpdate(Body):
    rule: TaxRule
    """off: withhold nothing, by your choice. none_company: it invoices and pays its own taxes. regime: as you declared
    for its country."""
    kind: PayeeKind | None = None
    """Needed for regime."""
    country: Country | None = None
    """Of tax residence. Needed for regime."""
    details: dict[str, Any] = Field(default_factory=dict, max_length=20)
    """What only one country asks for, such as {"resident": true, "commitment_08_until": 2026} in Vietnam: docs/tax.md."""
    person: PersonBody | None = None
    """Null: what is known stays."""


class TaxProfileView(View):
    affiliate_id: AffiliateId
    id: TaxProfileId | None
    """Of this version of it; null while there is none."""
    rule: TaxRule | None
    """Null: nothing chosen, so nothing is paid out."""
    kind: PayeeKind | None
    country: str | None
    details: dict[str, Any]
    tax_code_hint: str | None
    """The last characters; null where none was given."""
    has_person: bool
    """Whether name and address for the registers are known."""
    recorded_at: Moment | None

    @classmethod
    def of(cls, affiliate: AffiliateRow, profile: TaxProfileRow | None) -> Self:
        return cls(
            affiliate_id=affiliate.id,
            id=None if profile is None else profile.id,
            rule=None if affiliate.tax_rule is None else TaxRule(affiliate.tax_rule),
            kind=None if profile is None else PayeeKind(profile.kind),
            country=None if profile is None else profile.country,
            details={} if profile is None else profile.details,
            tax_code_hint=None if profile is None else profile.tax_code_hint,
            has_person=profile is not None and profile.person is not None,
            recorded_at=None if profile is None else profile.recorded_at,
        )


class TaxPartView(View):
    """One duty's share of a decision."""

    rule: str
    duty: Duty
    period: str
    base: MoneyView
    """Income it counts."""
    tax: MoneyView
    """What this payout causes."""
    steps: dict[str, Any]
    """Every figure it was computed with, in minor units; rates in percent."""


class DecisionView(View):
    """What is withheld from one payout, figure by figure."""

    rule: str
    gross: MoneyView
    """Income of the payout, with what you bear on top where it is grossed up."""
    withheld: MoneyView
    borne: MoneyView
    """At your cost: where it is grossed up, or only warned of."""
    parts: list[TaxPartView]
    cautions: list[Caution]
    words: list[str]
    """The same, sentence by sentence."""

    @classmethod
    def of(cls, decision: Decision, *, paid_minor: int, currency: str, language: Language) -> Self:
        """paid_minor: settled commission that the payout pays."""

        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=currency)

        return cls(
            rule=decision.rule,
            gross=money(decision.gross_minor),
            withheld=money(decision.withheld_minor),
            borne=money(decision.borne_minor),
            parts=[
                TaxPartView(
                    rule=part.key.rule,
                    duty=part.key.duty,
                    period=part.key.period,
                    base=money(part.base_minor),
                    tax=money(part.tax_minor),
                    steps=dict(part.steps),
                )
                for part in decision.parts
            ],
            cautions=list(decision.cautions),
            words=told(decision, paid_minor=paid_minor, currency=currency, speech=Speech(language)),
        )


_Amount = Annotated[int, Strict(), Field(ge=0, le=AMOUNT_MAX_MINOR)]


class TaxOpeningCreate(Body):
    """What was paid and withheld before this service, for rules that sum over a month or a year."""

    rule: RuleName
    duty: Duty
    period: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$", examples=["2026-05"])]
    """As the rule counts: a month for China, a year for the United States."""
    currency: Currency
    base_minor: _Amount
    tax_minor: _Amount
    note: Why
    """Where the figures come from."""


class TaxEntryView(View):
    """One difference to what was counted and decided for a payee."""

    id: TaxEntryId
    kind: TaxEntryKind
    affiliate_id: AffiliateId
    rule: str
    duty: Duty
    period: str
    base: MoneyView
    tax: MoneyView
    borne: MoneyView
    """The part of it at your cost."""
    booked_on: date
    note: str | None
    recorded_by: KeyId | None
    created_at: Moment

    @classmethod
    def of(cls, row: TaxEntryRow) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            id=row.id,
            kind=TaxEntryKind(row.kind),
            affiliate_id=row.payee_id,
            rule=row.rule,
            duty=Duty(row.duty),
            period=row.period,
            base=money(row.base_minor),
            tax=money(row.tax_minor),
            borne=money(row.borne_minor),
            booked_on=row.booked_on,
            note=row.note,
            recorded_by=row.recorded_by,
            created_at=row.created_at,
        )


@router.get("/v1/affiliates/{affiliate_id}/tax-profile")
def get_tax_profile(affiliate_id: AffiliateId, caller: Reader, session: ReadSession) -> TaxProfileView:
    """Return who an affiliate is for tax, and what was chosen to be withheld."""
    return tax_profile_of(session, caller.merchant_id, affiliate_id)


@router.put("/v1/affiliates/{affiliate_id}/tax-profile")
def put_tax_profile(
    affiliate_id: AffiliateId,
    asked: TaxProfileUpdate,
    caller: Admin,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> TaxProfileView:
    """Choose what is withheld from an affiliate's payouts, and say who it is for tax. Without a choice it is not paid.

    Every version is kept. A payout that is approved already is sent only if what would be withheld is the same.
    """
    row = locked(session, caller.merchant_id, affiliate_id)
    before = _profile(session, row)
    expected.check(TaxProfileView.of(row, before))
    row.tax_rule = asked.rule
    row.updated_at = caller.now
    if asked.kind is None or asked.country is None:
        if asked.rule is TaxRule.REGIME or asked.details or asked.person is not None:
            raise TaxProfileIncomplete(
                "Give kind and country: they decide which rule holds, and which details there are."
            )
        return TaxProfileView.of(row, before)
    person, hint = _person(asked.person, before, service.security)
    profile = TaxProfileRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        affiliate_id=affiliate_id,
        kind=asked.kind,
        country=asked.country,
        details=dict(check_details(asked.country, asked.kind, asked.details)),
        person=person,
        tax_code_hint=hint,
        recorded_by=caller.key_id,
        recorded_at=caller.now,
    )
    session.add(profile)
    row.tax_profile_id = profile.id
    session.flush()
    return TaxProfileView.of(row, profile)


@router.post("/v1/affiliates/{affiliate_id}/tax-openings", status_code=201)
def create_tax_opening(
    affiliate_id: AffiliateId, asked: TaxOpeningCreate, caller: FinanceMaker, session: WriteSession
) -> TaxEntryView:
    """Tell what was paid to an affiliate, and withheld, before this service: later decisions of the period count it.

    No money is booked: it was paid and passed on elsewhere.
    """
    locked(session, caller.merchant_id, affiliate_id)
    why = why_not_counted(Key(asked.rule, asked.duty, asked.period), asked.currency)
    if why is not None:
        raise TaxOpeningNotCounted(why)
    lock_bases(session, caller.merchant_id, [(affiliate_id, asked.rule)])
    row = TaxEntryRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        kind=TaxEntryKind.OPENING,
        payee_id=affiliate_id,
        rule=asked.rule,
        duty=asked.duty,
        period=asked.period,
        currency=asked.currency,
        base_minor=asked.base_minor,
        tax_minor=asked.tax_minor,
        booked_on=merchant_time_of(caller).day,
        note=asked.note,
        recorded_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    raise_bases(session, caller.merchant_id, [(affiliate_id, asked.rule)])
    return TaxEntryView.of(row)


@router.get("/v1/affiliates/{affiliate_id}/tax-entries")
def list_tax_entries(
    affiliate_id: AffiliateId, caller: Reader, session: ReadSession, paging: Paging
) -> Page[TaxEntryView]:
    """List what was counted and decided for an affiliate, newest first: by payouts, openings and corrections."""
    chosen = select(TaxEntryRow).where(
        col(TaxEntryRow.merchant_id) == caller.merchant_id, col(TaxEntryRow.payee_id) == affiliate_id
    )
    rows = session.exec(newest_first(chosen, paging, TaxEntryRow.id)).all()
    if not rows:
        tax_profile_of(session, caller.merchant_id, affiliate_id)
    return page(rows, paging, key=lambda row: (row.id,), view=TaxEntryView.of)


def tax_profile_of(session: Session, merchant_id: UUID, affiliate_id: UUID) -> TaxProfileView:
    """Raises Missing."""
    row = session.get(AffiliateRow, (merchant_id, affiliate_id))
    if row is None:
        raise Missing(NONE_SUCH)
    return TaxProfileView.of(row, _profile(session, row))


def _profile(session: Session, affiliate: AffiliateRow) -> TaxProfileRow | None:
    if affiliate.tax_profile_id is None:
        return None
    return session.get(TaxProfileRow, (affiliate.merchant_id, affiliate.tax_profile_id))


def _person(
    asked: PersonBody | None, before: TaxProfileRow | None, security: Security
) -> tuple[bytes | None, str | None]:
    """The person as it is kept, and the end of the tax code."""
    if asked is None:
        return (None, None) if before is None else (before.person, before.tax_code_hint)
    known = {name: value for name, value in asked.model_dump(mode="json").items() if value is not None}
    sealed = security.encrypt(json.dumps(known, ensure_ascii=False).encode(), purpose=PERSON)
    return sealed, None if asked.tax_code is None else f"…{asked.tax_code[-3:]}"
