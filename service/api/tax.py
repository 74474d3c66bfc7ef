"""Withholding: what the merchant declared by country, the tables that are known, what is due, and what was passed on."""

from datetime import date
from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from pydantic import Field
from pydantic.types import Strict
from sqlalchemy import Row
from sqlmodel import col, select

from service.api.affiliates import NONE_SUCH, Country
from service.api.deps import Admin, AffiliateCaller, FinanceMaker, Reader, ReadSession, WriteSession
from service.api.filters import ExternalIdFilter
from service.api.language import AskedLanguage
from service.api.merchants import ExternalIdTaken
from service.api.paging import Page, Paging, newest_first, page
from service.api.payouts import merchant_time_of
from service.api.problems import taken
from service.api.tax_profiles import DecisionView
from service.api.views import (
    WRITTEN_FLAG,
    AffiliateId,
    Body,
    Currency,
    Day,
    ExternalId,
    KeyId,
    Moment,
    MoneyBody,
    MoneyView,
    PayoutId,
    TaxRegimeId,
    TaxRemittanceId,
    Text,
    View,
)
from service.domain.errors import Conflict, Invalid, Missing
from service.domain.withholding.model import Decision, Duty, Key, Mode, Refused, Regime
from service.domain.withholding.tables import TABLES, RuleTable
from service.domain.wording.languages import Language
from service.infra.db import fetch
from service.infra.ids import encode, new_id
from service.payouts.find import PayoutMissing
from service.payouts.remit import Asked, remit
from service.payouts.withhold import decided, taxed
from service.tables.payouts import PayoutItemRow
from service.tables.taxes import TaxRegimeRow, TaxRemittanceRow

router = APIRouter(tags=["tax"])


_Flag = Annotated[bool, Strict()]


class RegimeBackDated(Invalid):
    code = "tax-regime-back-dated"
    title = "A regime cannot begin before today"


class TaxUndecided(Conflict):
    code = "tax-undecided"
    title = "What is withheld cannot be decided"


class TaxRegimeCreate(Body):
    country: Country
    """Of the payees' tax residence."""
    regime: Regime
    mode: Mode = Mode.WITHHOLD
    """warn: pay gross and book what should have been withheld as owed at your cost. off: withhold nothing."""
    gross_up: _Flag = False
    """Payees get what was earned; the tax on top is yours."""
    vat: _Flag = False
    """Withhold VAT too (China)."""
    valid_from: Day | None = None
    """The first pay day it counts for, by your calendar; today if not given."""


class TaxRegimeView(View):
    id: TaxRegimeId
    country: str
    regime: Regime
    mode: Mode
    gross_up: bool
    vat: bool
    valid_from: date
    declared_by: KeyId
    recorded_at: Moment

    @classmethod
    def of(cls, row: TaxRegimeRow) -> Self:
        return cls(
            id=row.id,
            country=row.country,
            regime=Regime(row.regime),
            mode=Mode(row.mode),
            gross_up=row.gross_up,
            vat=row.vat,
            valid_from=row.valid_from,
            declared_by=row.declared_by,
            recorded_at=row.recorded_at,
        )


class TaxTableView(View):
    """A dated rule table. No table has been confirmed by a professional unless `approved_by` names one."""

    name: str
    regime: Regime | None
    """Null: none is needed."""
    in_force_from: date
    in_force_until: date | None
    """The last day; null: no end is known."""
    currency: str | None
    """Of its amounts; null: it has none."""
    source: str
    note: str
    approved_by: str | None

    @classmethod
    def of(cls, table: RuleTable) -> Self:
        return cls(
            name=table.name,
            regime=table.regime,
            in_force_from=table.since,
            in_force_until=table.until,
            currency=table.currency,
            source=table.source,
            note=table.note,
            approved_by=table.approved_by or None,
        )


class TaxTables(View):
    data: list[TaxTableView]


class TaxPreviewCreate(Body):
    affiliate_id: AffiliateId
    gross: MoneyBody
    """Settled commission the payout would pay."""
    pay_on: Day | None = None
    """By your calendar; today if not given."""


class TaxDueView(View):
    """What was withheld, or borne, under one rule, duty and period, and not passed on yet."""

    rule: str
    duty: Duty
    period: str
    payees: int
    base: MoneyView
    """Income it counts, of all payees."""
    decided: MoneyView
    remitted: MoneyView
    due: MoneyView

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=row.currency)

        return cls(
            rule=row.rule,
            duty=Duty(row.duty),
            period=row.period,
            payees=row.payees,
            base=money(row.base_minor),
            decided=money(row.tax_minor),
            remitted=money(row.remitted_minor),
            due=money(row.tax_minor - row.remitted_minor),
        )


class TaxDueList(View):
    data: list[TaxDueView]
    """By rule, period and duty."""


class TaxRemittanceCreate(Body):
    rule: Text
    """As GET /v1/tax-due names it, with duty and period."""
    duty: Duty
    period: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$", examples=["2026-07"])]
    currency: Currency
    reference: Text
    """The authority's or your bank's number of the payment."""
    paid_on: Day
    external_id: ExternalId | None = None


class TaxRemittanceView(View):
    id: TaxRemittanceId
    external_id: str | None
    rule: str
    duty: Duty
    period: str
    amount: MoneyView
    payees: int
    reference: str
    paid_on: date
    recorded_by: KeyId
    created_at: Moment

    @classmethod
    def of(cls, row: TaxRemittanceRow) -> Self:
        return cls(
            id=row.id,
            external_id=row.external_id,
            rule=row.rule,
            duty=Duty(row.duty),
            period=row.period,
            amount=MoneyView(amount_minor=row.amount_minor, currency=row.currency),
            payees=row.payees,
            reference=row.reference,
            paid_on=row.paid_on,
            recorded_by=row.recorded_by,
            created_at=row.created_at,
        )


@router.get("/v1/tax-tables")
def list_tax_tables(caller: Reader) -> TaxTables:  # noqa: ARG001 - whoever asks has to show a key
    """List the rule tables this release knows, with their sources and the days they are in force."""
    return TaxTables(data=[TaxTableView.of(table) for table in TABLES])


@router.post("/v1/tax-regimes", status_code=201)
def declare_tax_regime(asked: TaxRegimeCreate, caller: Admin, session: WriteSession) -> TaxRegimeView:
    """Declare how you withhold from payees of one country, from a pay day on.

    Which regime is yours is your declaration: the same month's income is taxed otherwise by an ordinary merchant than
    by a platform. Runs already submitted keep what was decided, and give the money back if it would differ when sent.
    """
    today = merchant_time_of(caller).day
    valid_from = asked.valid_from or today
    if valid_from < today:
        raise RegimeBackDated(f"valid_from is today ({today}, by your calendar) or later.")
    row = TaxRegimeRow(
        merchant_id=caller.merchant_id,
        id=new_id(),
        country=asked.country,
        valid_from=valid_from,
        regime=asked.regime,
        mode=asked.mode,
        gross_up=asked.gross_up,
        vat=asked.vat,
        declared_by=caller.key_id,
        recorded_at=caller.now,
    )
    session.add(row)
    session.flush()
    return TaxRegimeView.of(row)


@router.get("/v1/tax-regimes")
def list_tax_regimes(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    country: Annotated[Country | None, Query(description="Only those for payees of this country.")] = None,
) -> Page[TaxRegimeView]:
    """List what was declared, newest first."""
    chosen = select(TaxRegimeRow).where(col(TaxRegimeRow.merchant_id) == caller.merchant_id)
    if country is not None:
        chosen = chosen.where(col(TaxRegimeRow.country) == country)
    rows = session.exec(newest_first(chosen, paging, TaxRegimeRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=TaxRegimeView.of)


@router.post("/v1/tax-previews")
def preview_tax(
    asked: TaxPreviewCreate, caller: FinanceMaker, session: WriteSession, language: AskedLanguage
) -> DecisionView:
    """Show what would be withheld from a payout, figure by figure. Nothing is kept."""
    pay_on = asked.pay_on or merchant_time_of(caller).day
    payee = taxed(session, caller.merchant_id, [asked.affiliate_id], pay_on=pay_on).get(asked.affiliate_id)
    if payee is None:
        raise Missing(NONE_SUCH)
    if asked.gross.amount_minor < 0:
        raise Invalid("A payout's gross amount is 0 or more.")
    match payee.decide(asked.gross.amount_minor, asked.gross.currency):
        case Decision() as decision:
            return DecisionView.of(
                decision, paid_minor=asked.gross.amount_minor, currency=asked.gross.currency, language=language
            )
        case Refused(reason=reason, detail=detail):
            raise TaxUndecided(f"{detail} ({reason})")
        case None:
            raise TaxUndecided("Nobody has chosen what is withheld: PUT the affiliate's tax-profile.")


@router.get("/v1/payouts/{payout_id}/tax")
def get_payout_tax(payout_id: PayoutId, caller: Reader, session: ReadSession, language: AskedLanguage) -> DecisionView:
    """Explain what was withheld from a payout, figure by figure and in words."""
    item = session.get(PayoutItemRow, (caller.merchant_id, payout_id))
    if item is None:
        raise PayoutMissing(f"No payout {encode('pay', payout_id)} here.")
    return tax_of(item, language)


@router.get("/v1/me/payouts/{payout_id}/tax")
def get_my_payout_tax(
    payout_id: PayoutId, caller: AffiliateCaller, session: ReadSession, language: AskedLanguage
) -> DecisionView:
    """Explain what was withheld from one of your payouts, figure by figure and in words."""
    item = session.get(PayoutItemRow, (caller.merchant_id, payout_id))
    if item is None or item.payee_id != caller.affiliate_id:
        raise PayoutMissing(f"There is no payout {encode('pay', payout_id)} of yours.")
    return tax_of(item, language)


def tax_of(item: PayoutItemRow, language: Language) -> DecisionView:
    return DecisionView.of(decided(item), paid_minor=item.gross_minor, currency=item.currency, language=language)


@router.get("/v1/tax-due")
def list_tax_due(
    caller: Reader,
    session: ReadSession,
    rule: Annotated[Text | None, Query(description="Only of this rule table.")] = None,
    period: Annotated[str | None, Query(description="Only of this period, such as 2026-07.", max_length=10)] = None,
    include_settled: Annotated[
        Annotated[bool, WRITTEN_FLAG] | None, Query(description="Also periods of which all was passed on.")
    ] = None,
) -> TaxDueList:
    """List what was withheld, or is borne by you, by rule, duty and period, and how much of it was passed on."""
    rows = fetch(
        session,
        """
        SELECT rule, duty, period, currency, count(DISTINCT payee_id) AS payees,
               CAST(sum(base_minor) AS bigint) AS base_minor, CAST(sum(tax_minor) AS bigint) AS tax_minor,
               CAST(sum(remitted_minor) AS bigint) AS remitted_minor
        FROM (
            SELECT payee_id, rule, duty, period, currency, base_minor, tax_minor, 0 AS remitted_minor
            FROM tax_entry WHERE merchant_id = :merchant_id AND kind <> 'opening'
            UNION ALL
            SELECT line.payee_id, rule, duty, period, currency, 0, 0, line.amount_minor
            FROM tax_remittance_line AS line
            JOIN tax_remittance AS remittance
              ON remittance.merchant_id = line.merchant_id AND remittance.id = line.remittance_id
            WHERE line.merchant_id = :merchant_id
        ) AS part
        WHERE (CAST(:rule AS text) IS NULL OR rule = :rule) AND (CAST(:period AS text) IS NULL OR period = :period)
        GROUP BY rule, duty, period, currency
        HAVING :include_settled OR sum(tax_minor) <> sum(remitted_minor)
        ORDER BY rule, period, duty, currency
        LIMIT 1000
        """,
        {"merchant_id": caller.merchant_id, "rule": rule, "period": period, "include_settled": include_settled is True},
    )
    return TaxDueList(data=[TaxDueView.of(row) for row in rows])


@router.post("/v1/tax-remittances", status_code=201)
def create_tax_remittance(asked: TaxRemittanceCreate, caller: FinanceMaker, session: WriteSession) -> TaxRemittanceView:
    """Book that all that is due for a rule, duty and period was paid to the authority."""
    wanted = Asked(
        merchant_id=caller.merchant_id,
        key=Key(asked.rule, asked.duty, asked.period),
        currency=asked.currency,
        reference=asked.reference,
        paid_on=asked.paid_on,
        by=caller.key_id,
        external_id=asked.external_id,
    )
    refusal = ExternalIdTaken(f"Another tax remittance has the external_id {asked.external_id!r}.")
    with taken("tax_remittance_merchant_id_external_id_key", refusal):
        row = remit(session, wanted, when=merchant_time_of(caller))
    return TaxRemittanceView.of(row)


@router.get("/v1/tax-remittances")
def list_tax_remittances(
    caller: Reader, session: ReadSession, paging: Paging, external_id: ExternalIdFilter = None
) -> Page[TaxRemittanceView]:
    """List payments to authorities, newest first."""
    chosen = select(TaxRemittanceRow).where(col(TaxRemittanceRow.merchant_id) == caller.merchant_id)
    if external_id is not None:
        chosen = chosen.where(col(TaxRemittanceRow.external_id) == external_id)
    rows = session.exec(newest_first(chosen, paging, TaxRemittanceRow.id)).all()
    return page(rows, paging, key=lambda row: (row.id,), view=TaxRemittanceView.of)
