"""A KOC's own view: what was earned and where it is, when it will be paid, and what brought it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import Row
from sqlmodel import Session, col, select

from service.api.commissions import (
    PeriodView,
    PlacesView,
    ReceiptView,
    commission_page,
    find_commission,
    receipt_of,
)
from service.api.deps import AffiliateCaller, AffiliateKey, ReadSession, Services
from service.api.language import AskedLanguage
from service.api.paging import Page, Paging, newest_first, page
from service.api.payout_methods import PayoutMethodChangeView, waiting_changes
from service.api.programs import find_program, in_force
from service.api.terms import TermsDocument
from service.api.views import (
    WRITTEN_INTEGER,
    AffiliateId,
    CommissionId,
    CouponId,
    LinkId,
    MerchantId,
    Moment,
    MoneyView,
    OrderId,
    PayoutId,
    ProgramId,
    View,
)
from service.api.waiting import MyLeftOutView, StatementDaysView, Waiting, WaitView, owed_of
from service.api.words import SectionView, enrolled_since, names_in, sections_of
from service.domain.commission import CommissionReason, CommissionStatus
from service.domain.errors import Missing
from service.domain.ledger import booking_day
from service.domain.payout import ItemState
from service.domain.program import Claim, ProgramVersion, Terms, claims
from service.domain.waiting import Owed
from service.domain.wording import reasons, versions
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Language
from service.domain.wording.statuses import STATUSES
from service.infra import ids
from service.infra.db import fetch
from service.payouts.find import Known, known_of, state_of
from service.payouts.statement import movements
from service.reports.define_balances import GROUPED, STANDS
from service.tables.parties import AffiliateKind, AffiliateRow, AffiliateStatus, MerchantRow
from service.tables.payouts import PayoutItemRow, PayoutRunRow
from service.tables.programs import ProgramVersionRow

router = APIRouter(tags=["me"])

DAYS_MAX = 366


class MyPayoutMissing(Missing):
    code = "unknown-payout"
    title = "There is no such payout"


class MyProgramView(View):
    id: ProgramId
    name: str
    disclosure: str
    """What has to be said beside its links and coupons."""
    allowed_domains: list[str]
    """Where your links may lead; a leading "*." allows all below one."""
    enrolled_since: Moment
    terms: TermsDocument | None
    """What it promises at this moment: rates, cap, which touches count, when money is payable. Null before its first terms
    begin. Worse terms count for you only after the notice period of those you had."""


class TermsStanding(StrEnum):
    """Why a version counts for an affiliate."""

    IN_FORCE = "in_force"
    PROTECTED = "protected"
    """It was replaced after the affiliate began to take part, less than its notice period ago."""


class CountingVersionView(View):
    """Terms that count for orders placed now."""

    number: int
    standing: TermsStanding
    valid_from: Moment
    until: Moment | None
    """It counts for orders placed before then; null while no later version is known."""
    sections: list[SectionView]


class MyUpcomingView(View):
    """The next terms."""

    number: int
    valid_from: Moment
    """From then on it counts wherever it gives you more."""
    worse_from: Moment
    """From then on it counts also where it gives you less: the notice period of what it replaces is over."""
    sections: list[SectionView]


class MyTermsView(View):
    """What a programme promises you, in words; made from the terms that commissions are computed with."""

    program_id: ProgramId
    program_name: str
    language: Language
    enrolled_since: Moment
    words: list[str]
    """Which versions count now, and what changes when."""
    counting: list[CountingVersionView]
    """Of these the one that gives you most counts, for each order anew. The one in force first; empty before the first
    terms begin."""
    upcoming: MyUpcomingView | None
    """The next version, where one has been published."""


class MeView(View):
    id: AffiliateId
    external_id: str | None
    kind: AffiliateKind
    name: str
    email: str | None
    country: str | None
    identity_kinds: list[str]
    """By what kinds of things an order of your own is recognised: address, email, id, payment, phone. Which, nobody can
    read any more."""
    status: AffiliateStatus
    merchant_id: MerchantId
    merchant_name: str
    time_zone: str
    """The merchant's: days are counted in it."""
    programs: list[MyProgramView]
    """Those taken part in now."""
    payout_method_changes: list[PayoutMethodChangeView]
    """Changes of where your money goes that do not count yet. Stop what is none of yours."""


class NextSettlementView(View):
    at: Moment
    """When the next part of what is pending becomes payable."""
    amount: MoneyView
    """All that becomes payable on that day."""


class EarningsView(View):
    """All that was earned in one currency, by where it is; the places add up to lifetime."""

    currency: str
    pending: MoneyView
    """Earned; the order can still be returned, or something is missing."""
    held: MoneyView
    """Earned, frozen while an order is looked into."""
    payable: MoneyView
    """Ready for the next payout, what earlier payouts left over or gave back included. Below zero: to be set against
    what is earned next."""
    in_payout: MoneyView
    """On its way."""
    paid: MoneyView
    advance: MoneyView
    """Paid in advance, while the shop was late: below zero by what is still to be set against what you earn next."""
    withheld: MoneyView
    """Tax and fees taken from payouts."""
    written_off: MoneyView
    """Debts the shop gave up: below zero by all of them."""
    lifetime: MoneyView
    """All ever earned, less what was taken back."""
    next_settlement: NextSettlementView | None
    left_out: MyLeftOutView | None
    """Why the newest payout run did not pay what is payable. Null: nothing is, no run has looked at it, or the newest one
    that did has a payout for you."""

    @classmethod
    def of(cls, row: Row[Any], upcoming: Row[Any] | None, owed: Owed | None) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=int(amount_minor), currency=row.currency)

        places = {
            "pending": row.pending_minor,
            "held": row.held_minor,
            "payable": row.payable_minor + row.carried_minor,
            "in_payout": row.reserved_minor + row.in_transit_minor,
            "paid": row.paid_minor,
            "advance": row.advance_minor,
            "withheld": row.withheld_minor,
            "written_off": row.written_off_minor,
        }
        return cls(
            currency=row.currency,
            lifetime=money(sum(places.values())),
            next_settlement=None
            if upcoming is None
            else NextSettlementView(at=upcoming.at, amount=money(upcoming.amount_minor)),
            left_out=None if owed is None else MyLeftOutView.of(owed, row.currency),
            **{name: money(amount_minor) for name, amount_minor in places.items()},
        )


class EarningsList(View):
    data: list[EarningsView]
    """One for each currency."""


class CalendarDayView(View):
    day: date
    amount: MoneyView
    """What becomes payable on that day if nothing changes; on the first day also what is overdue."""


class NotKnownView(View):
    """What is earned and has no day yet, by why."""

    reason_code: CommissionReason
    amount: MoneyView


class CalendarView(View):
    """Everything pending and held in one currency: days, later and unknown add up to it."""

    currency: str
    days: list[CalendarDayView]
    """Days on which something is expected, the next one first."""
    later: MoneyView
    """What is expected after the last day that was asked for."""
    unknown: list[NotKnownView]
    """What waits for somebody: nobody can say until when."""


class CalendarList(View):
    time_zone: str
    data: list[CalendarView]
    """One for each currency in which anything is pending or held."""


class DayView(View):
    day: date
    earned: MoneyView
    """Earned on that day less what was taken back on it; below zero where more was taken back."""


class SeriesView(View):
    currency: str
    days: list[DayView]
    """Every day, oldest first, the last one today."""


class SeriesList(View):
    time_zone: str
    data: list[SeriesView]
    """One for each currency in which anything was earned or taken back."""


class MyCommissionView(View):
    id: CommissionId
    order_id: OrderId | None
    """Null where it is for a period: a ladder, a mark, a cap."""
    order_number: str
    """As the shop shows it to its customer, or the shop's own id; empty where it is for a period."""
    period: PeriodView | None
    placed_at: Moment | None
    program_id: ProgramId | None
    status: CommissionStatus
    reason_code: CommissionReason
    """Why it stands where it stands."""
    status_words: str
    """The status in a word or two of the language asked for."""
    reason_words: str
    """One sentence: what it waits for, or why it came to nothing."""
    target: MoneyView
    """What it comes to by all that is known."""
    places: PlacesView
    expected_at: Moment | None
    """When what is pending becomes payable if nothing changes; null where that is not known, or nothing is pending."""
    statement: StatementDaysView | None
    """The statement it is on; null without one, or before it is known which."""
    waits_for: list[WaitView]
    """All that its parts wait for, in the order in which they move on."""
    created_at: Moment
    receipt_url: str
    """How it was computed, line by line."""
    attribution_url: str | None
    """Which touches the order carried and why each counted or did not; null for a period."""

    @classmethod
    def of(cls, row: Row[Any], waiting: Waiting, *, speech: Speech) -> Self:
        public_id = ids.encode("com", row.id)
        return cls(
            id=row.id,
            order_id=row.order_id,
            order_number=row.number or row.external_id,
            period=PeriodView.of(row),
            placed_at=row.placed_at,
            program_id=row.program_id,
            status=CommissionStatus(row.status),
            reason_code=CommissionReason(row.reason_code),
            status_words=speech.say(STATUSES[CommissionStatus(row.status)].label),
            reason_words=reasons.commission(CommissionReason(row.reason_code), speech),
            target=MoneyView(amount_minor=row.target_minor, currency=row.currency),
            places=PlacesView.of(row),
            expected_at=waiting.expected_at(row),
            statement=waiting.statement(row),
            waits_for=waiting.waits(row),
            created_at=row.created_at,
            receipt_url=f"/v1/me/commissions/{public_id}/receipt",
            attribution_url=None
            if row.order_id is None
            else f"/v1/orders/{ids.encode('ord', row.order_id)}/attribution",
        )


class MyPayoutView(View):
    id: PayoutId
    state: ItemState
    pay_on: date
    """The day the money is meant to leave."""
    rail: str
    gross: MoneyView
    """Taken from what was payable."""
    carried: MoneyView
    """Taken along from earlier payouts."""
    tax: MoneyView
    fee: MoneyView
    remainder: MoneyView
    """Below the smallest step of the rail; carried to the next payout."""
    net: MoneyView
    """What is sent: gross + carried - tax - fee - remainder."""
    came_back: MoneyView
    """What the rail gave back of it; carried to the next payout."""
    created_at: Moment
    statement_url: str

    @classmethod
    def of(cls, item: PayoutItemRow, run: PayoutRunRow, known: Known) -> Self:
        def money(amount_minor: int) -> MoneyView:
            return MoneyView(amount_minor=amount_minor, currency=item.currency)

        return cls(
            id=item.id,
            state=state_of(item, run_status=run.status, known=known),
            pay_on=run.pay_on,
            rail=run.rail,
            gross=money(item.gross_minor),
            carried=money(item.carried_minor),
            tax=money(item.tax_minor),
            fee=money(item.fee_minor),
            remainder=money(item.remainder_minor),
            net=money(item.net_minor),
            came_back=money(known.came_back_minor(item.net_minor)),
            created_at=item.created_at,
            statement_url=f"/v1/me/payouts/{ids.encode('pay', item.id)}/statement",
        )


class MyStatementLineView(View):
    """One change of payable that the payout covers."""

    at: Moment
    kind: str
    """settle, reduce, freeze; advance, and advance_repaid for what was set against one; or given_back for an earlier payout
    that gave its money back."""
    amount: MoneyView
    """With its sign."""
    commission_id: CommissionId | None
    order_id: OrderId | None
    order_number: str | None
    payout_id: PayoutId | None
    """The earlier payout, of kind given_back."""


class MyStatementView(View):
    """What a payout is made of: its lines add up to gross; net is what is sent."""

    payout: MyPayoutView
    lines: list[MyStatementLineView]


class MyLinkView(View):
    id: LinkId
    program_id: ProgramId
    short_url: str
    """What is shared."""
    url: str
    """Where it leads."""
    paused_at: Moment | None
    created_at: Moment
    clicks: int
    """Visits by people."""
    bot_clicks: int
    """Visits by programs that say so; counted apart."""
    orders: int
    """Orders that count for you through this link."""


class MyCouponView(View):
    id: CouponId
    program_id: ProgramId
    code: str
    created_at: Moment
    orders: int
    """Orders that count for you through this coupon."""


@router.get("/v1/me")
def get_me(caller: AffiliateCaller, session: ReadSession) -> MeView:
    """Return the affiliate the key belongs to, with its programmes."""
    affiliate = session.get(AffiliateRow, (caller.merchant_id, caller.affiliate_id))
    merchant = session.get(MerchantRow, caller.merchant_id)
    assert affiliate is not None
    assert merchant is not None
    programs = fetch(
        session,
        """
        SELECT program.id, program.name, program.disclosure, program.allowed_domains, newest.enrolled, newest.valid_from
        FROM program
        JOIN LATERAL (
            SELECT enrolled, valid_from FROM enrollment
            WHERE enrollment.merchant_id = program.merchant_id AND enrollment.program_id = program.id
              AND affiliate_id = :affiliate_id AND valid_from <= :now
            ORDER BY valid_from DESC LIMIT 1
        ) AS newest ON newest.enrolled
        WHERE program.merchant_id = :merchant_id
        ORDER BY newest.valid_from, program.id
        """,
        _mine(caller),
    )
    versions = in_force(session, caller.merchant_id, [row.id for row in programs], caller.now)
    return MeView(
        id=affiliate.id,
        external_id=affiliate.external_id,
        kind=AffiliateKind(affiliate.kind),
        name=affiliate.name,
        email=affiliate.email,
        country=affiliate.country,
        identity_kinds=sorted(affiliate.identities),
        status=AffiliateStatus(affiliate.status),
        merchant_id=merchant.id,
        merchant_name=merchant.name,
        time_zone=merchant.time_zone,
        programs=[
            MyProgramView(
                id=row.id,
                name=row.name,
                disclosure=row.disclosure,
                allowed_domains=row.allowed_domains,
                enrolled_since=row.valid_from,
                terms=TermsDocument.model_validate(versions[row.id].terms) if row.id in versions else None,
            )
            for row in programs
        ],
        payout_method_changes=waiting_changes(session, caller),
    )


@router.get("/v1/me/programs/{program_id}/terms")
def get_my_program_terms(
    program_id: ProgramId, caller: AffiliateCaller, session: ReadSession, language: AskedLanguage
) -> MyTermsView:
    """Read in words what a programme promises you now, and what its next terms change and when."""
    since = enrolled_since(session, caller.merchant_id, program_id, caller.affiliate_id, at=caller.now)
    program = find_program(session, caller.merchant_id, program_id)
    rows = session.exec(
        select(ProgramVersionRow)
        .where(
            col(ProgramVersionRow.merchant_id) == caller.merchant_id,
            col(ProgramVersionRow.program_id) == program_id,
        )
        .order_by(col(ProgramVersionRow.valid_from))
    )
    known = [ProgramVersion(program_id, row.number, row.valid_from, Terms.of_json(row.terms)) for row in rows]
    counting = claims(known, at=caller.now, enrolled_at=since)
    upcoming = next((version for version in known if version.valid_from > caller.now), None)
    shown_terms = [claim.version.terms for claim in counting] + ([] if upcoming is None else [upcoming.terms])
    names = replace(names_in(session, caller, shown_terms), now=caller.now)

    def shown(place: int, claim: Claim) -> CountingVersionView:
        return CountingVersionView(
            number=claim.version.number,
            standing=TermsStanding.PROTECTED if place else TermsStanding.IN_FORCE,
            valid_from=claim.version.valid_from,
            until=claim.until,
            sections=sections_of(claim.version.terms, language, names),
        )

    return MyTermsView(
        program_id=program_id,
        program_name=program.name,
        language=language,
        enrolled_since=since,
        words=versions.sentences(counting, upcoming, Speech(language, names)),
        counting=[shown(place, claim) for place, claim in enumerate(counting)],
        upcoming=None
        if upcoming is None
        else MyUpcomingView(
            number=upcoming.number,
            valid_from=upcoming.valid_from,
            worse_from=versions.worse_from(upcoming, counting),
            sections=sections_of(upcoming.terms, language, names),
        ),
    )


@router.get("/v1/me/earnings")
def get_my_earnings(caller: AffiliateCaller, session: ReadSession) -> EarningsList:
    """Return what you earned, by currency and place, when the next of it becomes payable, and why it was not paid."""
    rows = fetch(
        session,
        f"""
        {STANDS}
        WHERE balance.merchant_id = :merchant_id AND balance.owner_id = :affiliate_id
        {GROUPED}
        ORDER BY balance.currency
        """,
        _mine(caller),
    )
    upcoming = fetch(
        session,
        """
        WITH due AS (
            SELECT currency, settles_at, CAST(settles_at AT TIME ZONE :time_zone AS date) AS day,
                   least(pending_minor, coalesce(approved_minor - settled_minor, pending_minor)) AS amount_minor
            FROM commission
            WHERE merchant_id = :merchant_id AND payee_id = :affiliate_id AND pending_minor > 0
              AND settles_at IS NOT NULL AND (approved_minor IS NULL OR settled_minor < approved_minor)
        )
        SELECT DISTINCT ON (currency) currency, min(settles_at) AS at,
               CAST(sum(amount_minor) AS bigint) AS amount_minor
        FROM due GROUP BY currency, day ORDER BY currency, day
        """,
        {**_mine(caller), "time_zone": caller.merchant.time_zone},
    )
    by_currency = {row.currency: row for row in upcoming}
    owed = owed_of(session, caller.merchant_id, {caller.affiliate_id}, at=caller.now)
    return EarningsList(
        data=[
            EarningsView.of(row, by_currency.get(row.currency), owed.get((caller.affiliate_id, row.currency)))
            for row in rows
        ]
    )


@router.get("/v1/me/calendar")
def get_my_calendar(
    caller: AffiliateCaller,
    session: ReadSession,
    days: Annotated[int, WRITTEN_INTEGER, Query(ge=1, le=DAYS_MAX, description="How many days, today included.")] = 90,
) -> CalendarList:
    """Return what becomes payable on which day, by the merchant's time zone, and what nobody can say a day for."""
    today = booking_day(caller.now, caller.merchant.time_zone)
    rows = fetch(
        session,
        """
        WITH waiting AS (
            SELECT currency, reason_code, pending_minor + held_minor AS amount_minor,
                   greatest(CAST(settles_at AT TIME ZONE :time_zone AS date), CAST(:today AS date)) AS day,
                   CASE WHEN settles_at IS NULL THEN 0
                        ELSE least(pending_minor, greatest(coalesce(approved_minor - settled_minor, pending_minor), 0))
                   END AS due_minor
            FROM commission
            WHERE merchant_id = :merchant_id AND payee_id = :affiliate_id AND pending_minor + held_minor > 0
        )
        SELECT currency, CASE WHEN day <= :last THEN day END AS day, CAST(NULL AS text) AS reason_code,
               CAST(sum(due_minor) AS bigint) AS amount_minor
        FROM waiting WHERE due_minor > 0
        GROUP BY 1, 2
        UNION ALL
        SELECT currency, NULL, reason_code, CAST(sum(amount_minor - due_minor) AS bigint)
        FROM waiting WHERE amount_minor > due_minor
        GROUP BY 1, 3
        ORDER BY 1, 2, 3
        """,
        {
            **_mine(caller),
            "time_zone": caller.merchant.time_zone,
            "today": today,
            "last": today + timedelta(days=days - 1),
        },
    )
    return CalendarList(
        time_zone=caller.merchant.time_zone,
        data=[
            _calendar(currency, [row for row in rows if row.currency == currency])
            for currency in sorted({row.currency for row in rows})
        ],
    )


def _calendar(currency: str, rows: Sequence[Row[Any]]) -> CalendarView:
    """rows: of one currency: with a day, with a reason, and with neither for what comes later."""

    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount_minor=amount_minor, currency=currency)

    return CalendarView(
        currency=currency,
        days=[CalendarDayView(day=row.day, amount=money(row.amount_minor)) for row in rows if row.day is not None],
        later=money(sum(row.amount_minor for row in rows if row.day is None and row.reason_code is None)),
        unknown=[
            NotKnownView(reason_code=CommissionReason(row.reason_code), amount=money(row.amount_minor))
            for row in rows
            if row.reason_code is not None
        ],
    )


@router.get("/v1/me/series")
def get_my_series(
    caller: AffiliateCaller,
    session: ReadSession,
    days: Annotated[int, WRITTEN_INTEGER, Query(ge=1, le=DAYS_MAX, description="How many days, today included.")] = 30,
) -> SeriesList:
    """Return what was earned day by day, by the merchant's time zone, each currency apart."""
    today = booking_day(caller.now, caller.merchant.time_zone)
    shown = [today - timedelta(days=ago) for ago in reversed(range(days))]
    rows = fetch(
        session,
        """
        SELECT currency, day, CAST(sum(amount_minor) AS bigint) AS amount_minor
        FROM (
            SELECT currency, day, amount_minor FROM posting
            WHERE merchant_id = :merchant_id AND credit_owner_id = :affiliate_id
              AND debit_kind = 'commission_expense' AND day BETWEEN :first AND :last
            UNION ALL
            SELECT currency, day, -amount_minor FROM posting
            WHERE merchant_id = :merchant_id AND debit_owner_id = :affiliate_id AND debit_owner_id <> merchant_id
              AND credit_kind = 'commission_expense' AND day BETWEEN :first AND :last
        ) AS moved
        GROUP BY currency, day
        """,
        {**_mine(caller), "first": shown[0], "last": shown[-1]},
    )
    earned: dict[str, dict[date, int]] = defaultdict(dict)
    for row in rows:
        earned[row.currency][row.day] = row.amount_minor
    return SeriesList(
        time_zone=caller.merchant.time_zone,
        data=[
            SeriesView(
                currency=currency,
                days=[
                    DayView(day=day, earned=MoneyView(amount_minor=by_day.get(day, 0), currency=currency))
                    for day in shown
                ],
            )
            for currency, by_day in sorted(earned.items())
        ],
    )


@router.get("/v1/me/commissions")
def list_my_commissions(
    caller: AffiliateCaller,
    session: ReadSession,
    paging: Paging,
    language: AskedLanguage,
    order_id: Annotated[OrderId | None, Query(description="Commissions on this order.")] = None,
) -> Page[MyCommissionView]:
    """List your commissions, newest first: where each stands, why, and when it is expected."""
    conditions = ["commission.merchant_id = :merchant_id", "commission.payee_id = :affiliate_id"]
    parameters = _mine(caller)
    if order_id is not None:
        conditions.append("commission.order_id = :order_id")
        parameters["order_id"] = order_id
    rows = commission_page(session, paging, conditions, parameters)
    waiting = Waiting(session, caller.merchant_id, rows, now=caller.now)
    view = partial(MyCommissionView.of, waiting=waiting, speech=Speech(language))
    return page(rows, paging, key=lambda row: (row.id,), view=view)


@router.get("/v1/me/commissions/{commission_id}/receipt")
def get_my_commission_receipt(
    commission_id: CommissionId, caller: AffiliateCaller, session: ReadSession, language: AskedLanguage
) -> ReceiptView:
    """Explain one of your commissions: terms, lines, rounding, and every difference booked."""
    row = find_commission(session, caller.merchant_id, commission_id, affiliate_id=caller.affiliate_id)
    return receipt_of(session, caller.merchant_id, row, Speech(language), now=caller.now)


@router.get("/v1/me/payouts")
def list_my_payouts(caller: AffiliateCaller, session: ReadSession, paging: Paging) -> Page[MyPayoutView]:
    """List your payouts, newest first."""
    statement = (
        select(PayoutItemRow, PayoutRunRow)
        .join(
            PayoutRunRow,
            (col(PayoutRunRow.merchant_id) == col(PayoutItemRow.merchant_id))
            & (col(PayoutRunRow.id) == col(PayoutItemRow.run_id)),
        )
        .where(
            col(PayoutItemRow.merchant_id) == caller.merchant_id,
            col(PayoutItemRow.payee_id) == caller.affiliate_id,
        )
    )
    rows = session.exec(newest_first(statement, paging, col(PayoutItemRow.id))).all()
    known = known_of(session, caller.merchant_id, [item.id for item, _ in rows])
    return page(
        rows,
        paging,
        key=lambda row: (row[0].id,),
        view=lambda row: MyPayoutView.of(row[0], row[1], known[row[0].id]),
    )


@router.get("/v1/me/payouts/{payout_id}/statement")
def get_my_payout_statement(payout_id: PayoutId, caller: AffiliateCaller, session: ReadSession) -> MyStatementView:
    """Explain one of your payouts: every settled commission and everything taken back that it covers."""
    item = session.get(PayoutItemRow, (caller.merchant_id, payout_id))
    if item is None or item.payee_id != caller.affiliate_id:
        raise MyPayoutMissing(f"There is no payout {ids.encode('pay', payout_id)} of yours.")
    run = session.get(PayoutRunRow, (caller.merchant_id, item.run_id))
    assert run is not None
    known = known_of(session, caller.merchant_id, [item.id])[item.id]
    return MyStatementView(
        payout=MyPayoutView.of(item, run, known),
        lines=[
            MyStatementLineView(
                at=line.at,
                kind=line.kind,
                amount=MoneyView(amount_minor=line.amount_minor, currency=item.currency),
                commission_id=line.commission_id,
                order_id=line.order_id,
                order_number=line.order_number,
                payout_id=line.payout_id,
            )
            for line in movements(session, item)
        ],
    )


@router.get("/v1/me/links")
def list_my_links(
    caller: AffiliateCaller, session: ReadSession, paging: Paging, services: Services
) -> Page[MyLinkView]:
    """List your links, newest first, with their clicks and the orders they brought."""
    rows = _owned(session, caller, paging.after_id(), table="link", limit=paging.limit + 1)
    link_ids = [row.id for row in rows]
    clicks = {
        row.link_id: row
        for row in fetch(
            session,
            """
            SELECT link_id, count(*) FILTER (WHERE NOT is_bot) AS people, count(*) FILTER (WHERE is_bot) AS bots
            FROM click
            WHERE merchant_id = :merchant_id AND link_id = ANY(CAST(:link_ids AS uuid[]))
              AND affiliate_id = :affiliate_id
            GROUP BY link_id
            """,
            {**_mine(caller), "link_ids": link_ids},
        )
    }
    orders = _orders_by(session, caller, "link_id", [str(link_id) for link_id in link_ids])

    def view(row: Row[Any]) -> MyLinkView:
        counted = clicks.get(row.id)
        return MyLinkView(
            id=row.id,
            program_id=row.program_id,
            short_url=f"{services.settings.public_url}/r/{row.code}",
            url=row.url,
            paused_at=row.paused_at,
            created_at=row.created_at,
            clicks=counted.people if counted else 0,
            bot_clicks=counted.bots if counted else 0,
            orders=orders.get(str(row.id), 0),
        )

    return page(rows, paging, key=lambda row: (row.id,), view=view)


@router.get("/v1/me/coupons")
def list_my_coupons(caller: AffiliateCaller, session: ReadSession, paging: Paging) -> Page[MyCouponView]:
    """List your coupons, newest first, with the orders they brought."""
    rows = _owned(session, caller, paging.after_id(), table="coupon", limit=paging.limit + 1)
    orders = _orders_by(session, caller, "ref", [row.folded for row in rows])

    def view(row: Row[Any]) -> MyCouponView:
        return MyCouponView(
            id=row.id,
            program_id=row.program_id,
            code=row.code,
            created_at=row.created_at,
            orders=orders.get(row.folded, 0),
        )

    return page(rows, paging, key=lambda row: (row.id,), view=view)


def _mine(caller: AffiliateKey) -> dict[str, object]:
    return {"merchant_id": caller.merchant_id, "affiliate_id": caller.affiliate_id, "now": caller.now}


def _owned(session: Session, caller: AffiliateKey, after: UUID | None, *, table: str, limit: int) -> Sequence[Row[Any]]:
    """Links or coupons that are the caller's now, newest first."""
    return fetch(
        session,
        f"""
        SELECT owned.* FROM {table} AS owned
        WHERE owned.merchant_id = :merchant_id AND (CAST(:after AS uuid) IS NULL OR owned.id < :after)
          AND owned.id IN (SELECT {table}_id FROM {table}_owner
                           WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id)
          AND :affiliate_id = (SELECT owner.affiliate_id FROM {table}_owner AS owner
                               WHERE owner.merchant_id = owned.merchant_id AND owner.{table}_id = owned.id
                               -- The last of those that have begun; before that, the first to begin.
                               ORDER BY owner.valid_from <= :now DESC,
                                        CASE WHEN owner.valid_from <= :now THEN owner.valid_from END DESC,
                                        owner.valid_from
                               LIMIT 1)
        ORDER BY owned.id DESC
        LIMIT :limit
        """,  # noqa: S608 - table is one of our own two words
        {**_mine(caller), "after": after, "limit": limit},
    )


def _orders_by(session: Session, caller: AffiliateKey, field: str, values: Sequence[str]) -> Mapping[str, int]:
    """How many of the caller's orders each touch won. field: of a stored candidate."""
    rows = fetch(
        session,
        """
        SELECT candidate ->> CAST(:field AS text) AS touched, count(DISTINCT assessment.order_id) AS number
        -- Where several share an order, only one of them stands with it: the others have commissions on it.
        FROM (SELECT order_id FROM assessment WHERE merchant_id = :merchant_id AND affiliate_id = :affiliate_id
              UNION
              SELECT order_id FROM commission
              WHERE merchant_id = :merchant_id AND payee_id = :affiliate_id AND order_id IS NOT NULL) AS mine
        JOIN assessment ON assessment.merchant_id = :merchant_id AND assessment.order_id = mine.order_id
        CROSS JOIN LATERAL jsonb_array_elements(assessment.candidates) AS candidate
        WHERE candidate ->> 'affiliate_id' = CAST(:affiliate_id AS text)
          AND candidate ->> 'reason_code' = 'won' AND candidate ->> CAST(:field AS text) = ANY(CAST(:names AS text[]))
        GROUP BY 1
        """,
        {**_mine(caller), "field": field, "names": list(values)},
    )
    return {row.touched: row.number for row in rows}
