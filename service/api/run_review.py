"""What a checker is shown before approving a payout run."""

from datetime import date
from typing import Self

from fastapi import APIRouter

from service.api.deps import Reader, ReadSession
from service.api.views import AffiliateId, Moment, MoneyView, PayoutId, RunId, View
from service.domain.payout import Excluded, RunState
from service.domain.review_of_run import (
    EARLIER_MAX,
    FIRST_TIMES,
    TIMES,
    RunCaution,
    Unusual,
    change,
    needs_somebody,
    percent,
)
from service.infra.ids import encode
from service.payouts.find import RunMissing
from service.reports.run_review import (
    Bucket,
    EarlierRun,
    LeftOut,
    Listed,
    OfCountry,
    Payout,
    Review,
    Series,
    UnusualPayout,
    chart,
    review,
)
from service.tables.payouts import PayoutRunRow

router = APIRouter(tags=["payout runs"])


class ReviewTotalsView(View):
    """Sums over the payouts that hold their money."""

    payees: int
    gross: MoneyView
    carried: MoneyView
    tax: MoneyView
    """Withheld from the payees."""
    tax_borne: MoneyView
    """At your cost, beside the net."""
    fee: MoneyView
    remainder: MoneyView
    net: MoneyView
    smallest: MoneyView
    median: MoneyView
    """As much goes to half of the payees, or less; an amount that is paid."""
    largest: MoneyView
    released: int
    """Payouts that were taken out again."""


class ReviewCountryView(View):
    country: str | None
    """ISO 3166-1 alpha-2; null where it is not known."""
    payees: int
    net: MoneyView
    tax: MoneyView
    share_percent: str | None
    """Of the net total, with one decimal."""


class ReviewBucketView(View):
    """Payouts of at least `from` and less than `below`."""

    from_minor: int
    below_minor: int | None
    """Null for the last group, which has no end."""
    payees: int
    net: MoneyView


class ReviewPayoutView(View):
    payout_id: PayoutId
    affiliate_id: AffiliateId
    affiliate_name: str
    net: MoneyView


class ReviewTopView(ReviewPayoutView):
    share_percent: str | None
    """Of the net total, with one decimal."""


class ReviewUnusualView(ReviewPayoutView):
    reason_code: Unusual
    earlier_payouts: int
    """How many of the payee's earlier payouts were looked at."""
    earlier_median: MoneyView | None
    """Of these; null where there was none."""


class ReviewRuleView(View):
    """What counts as unusual."""

    times: int
    """A payout of at least so many times the median of the payee's earlier ones."""
    earlier_max: int
    """So many of the newest earlier payouts are looked at."""
    first_times: int
    """A first payout of at least so many times the median of the run."""


class ReviewUnusualListView(View):
    rule: ReviewRuleView
    payees: int
    payouts: list[ReviewUnusualView]
    """The largest 50."""


class ReviewListView(View):
    payees: int
    net: MoneyView
    """Of all of them."""
    payouts: list[ReviewPayoutView]
    """The largest 50."""


class ReviewEarlierView(View):
    run_id: RunId
    pay_on: date
    payees: int
    net: MoneyView
    change_percent: str | None
    """By how much this run is larger or smaller, such as "+12.5"; null where the earlier one was nothing."""


class ReviewChangesView(View):
    """What is other than in the last run on this rail and in this currency, and than in each payee's own last payout."""

    earlier: ReviewEarlierView | None
    """Null where this is the first one; then everybody is new."""
    new: ReviewListView
    """In this run and not in the last one."""
    gone: ReviewListView
    """In the last run and not in this one, with what they got there."""
    first: ReviewListView
    """Never paid before in this currency."""
    destination_changed: ReviewListView
    """Paid to another account than the last time on this rail."""
    destination_shared: ReviewListView
    """Paid to an account that another payee of the run is paid to."""


class ReviewTaxCautionsView(View):
    """Payouts whose `tax_cautions` have one of these."""

    possible_splitting: ReviewListView
    """Each payout of the month is below the threshold of the tax rule, and together they reach it."""
    owed_by_merchant: ReviewListView
    """Paid without a deduction, because you declared mode `warn`: you owe the tax."""


class ReviewLeftOutView(View):
    reason_code: Excluded
    needs_somebody: bool
    """Whether they stay unpaid until somebody does something; what, the finance guide says by reason."""
    payees: int
    payable: MoneyView
    """In sum; below zero where they owe more than others are owed."""
    carried: MoneyView


class ReviewSeriesView(View):
    """Numbers to draw, as many as labels."""

    name: str
    title: str
    unit: str
    """`payees`, or `minor` for minor units of the run's currency."""
    labels: list[str]
    values: list[int]

    @classmethod
    def of(cls, series: Series) -> Self:
        return cls(
            name=series.name,
            title=series.title,
            unit=series.unit,
            labels=[label for label, _ in series.points],
            values=[value for _, value in series.points],
        )


class RunReviewView(View):
    run_id: RunId
    status: RunState
    rail: str
    currency: str
    pay_on: date
    content_hash: str | None
    """What an approval approves; null before the run is submitted."""
    reviewed_at: Moment
    totals: ReviewTotalsView
    countries: list[ReviewCountryView]
    distribution: list[ReviewBucketView]
    top: list[ReviewTopView]
    """The largest 20."""
    unusual: ReviewUnusualListView
    changes: ReviewChangesView
    tax_cautions: ReviewTaxCautionsView
    excluded: list[ReviewLeftOutView]
    """Who was left out when the run was made, by reason."""
    cautions: list[RunCaution]
    """What is worth a look. None of it stops the run."""
    chart: list[ReviewSeriesView]


@router.get("/v1/payout-runs/{run_id}/review")
def review_payout_run(run_id: RunId, caller: Reader, session: ReadSession) -> RunReviewView:
    """Return what to look at before approving a run: sums, who gets most, what is unusual, and what changed since the last.

    It can be asked for in every status, and shows the run as it is now.
    """
    run = session.get(PayoutRunRow, (caller.merchant_id, run_id))
    if run is None:
        raise RunMissing(f"No payout run {encode('run', run_id)} here.")
    found = review(session, run)
    shown = _Shown(run.currency)
    return RunReviewView(
        run_id=run.id,
        status=RunState(run.status),
        rail=run.rail,
        currency=run.currency,
        pay_on=run.pay_on,
        content_hash=run.content_hash,
        reviewed_at=caller.now,
        totals=shown.totals(found),
        countries=[shown.country(each, found.totals.net_minor) for each in found.countries],
        distribution=[shown.bucket(each) for each in found.buckets],
        top=[shown.top(each, found.totals.net_minor) for each in found.top],
        unusual=shown.unusual(found),
        changes=shown.changes(found),
        tax_cautions=ReviewTaxCautionsView(
            possible_splitting=shown.listed(found.split), owed_by_merchant=shown.listed(found.not_withheld)
        ),
        excluded=[shown.left_out(each) for each in found.left_out],
        cautions=list(found.cautions),
        chart=[ReviewSeriesView.of(each) for each in chart(found, run.currency)],
    )


class _Shown:
    """Figures as views, in the run's currency."""

    def __init__(self, currency: str) -> None:
        self._currency = currency

    def money(self, amount_minor: int) -> MoneyView:
        return MoneyView(amount_minor=amount_minor, currency=self._currency)

    def totals(self, found: Review) -> ReviewTotalsView:
        totals = found.totals
        return ReviewTotalsView(
            payees=totals.payees,
            gross=self.money(totals.gross_minor),
            carried=self.money(totals.carried_minor),
            tax=self.money(totals.tax_minor),
            tax_borne=self.money(totals.tax_borne_minor),
            fee=self.money(totals.fee_minor),
            remainder=self.money(totals.remainder_minor),
            net=self.money(totals.net_minor),
            smallest=self.money(totals.smallest_minor),
            median=self.money(totals.median_minor),
            largest=self.money(totals.largest_minor),
            released=totals.released,
        )

    def country(self, each: OfCountry, net_minor: int) -> ReviewCountryView:
        return ReviewCountryView(
            country=each.country,
            payees=each.payees,
            net=self.money(each.net_minor),
            tax=self.money(each.tax_minor),
            share_percent=percent(each.net_minor, net_minor),
        )

    def bucket(self, each: Bucket) -> ReviewBucketView:
        return ReviewBucketView(
            from_minor=each.from_minor,
            below_minor=each.below_minor,
            payees=each.payees,
            net=self.money(each.net_minor),
        )

    def payout(self, each: Payout) -> ReviewPayoutView:
        return ReviewPayoutView(
            payout_id=each.id, affiliate_id=each.payee_id, affiliate_name=each.name, net=self.money(each.net_minor)
        )

    def top(self, each: Payout, net_minor: int) -> ReviewTopView:
        return ReviewTopView(**dict(self.payout(each)), share_percent=percent(each.net_minor, net_minor))

    def unusual(self, found: Review) -> ReviewUnusualListView:
        return ReviewUnusualListView(
            rule=ReviewRuleView(times=TIMES, earlier_max=EARLIER_MAX, first_times=FIRST_TIMES),
            payees=found.unusual_total,
            payouts=[self._unusual(each) for each in found.unusual],
        )

    def _unusual(self, each: UnusualPayout) -> ReviewUnusualView:
        median = None if each.earlier_median_minor is None else self.money(each.earlier_median_minor)
        return ReviewUnusualView(
            **dict(self.payout(each.payout)),
            reason_code=each.reason,
            earlier_payouts=each.earlier_payouts,
            earlier_median=median,
        )

    def changes(self, found: Review) -> ReviewChangesView:
        return ReviewChangesView(
            earlier=None if found.earlier is None else self._earlier(found.earlier, found.totals.net_minor),
            new=self.listed(found.new),
            gone=self.listed(found.gone),
            first=self.listed(found.first),
            destination_changed=self.listed(found.moved),
            destination_shared=self.listed(found.shared),
        )

    def _earlier(self, each: EarlierRun, net_minor: int) -> ReviewEarlierView:
        return ReviewEarlierView(
            run_id=each.id,
            pay_on=each.pay_on,
            payees=each.payees,
            net=self.money(each.net_minor),
            change_percent=change(net_minor, each.net_minor),
        )

    def listed(self, each: Listed) -> ReviewListView:
        return ReviewListView(
            payees=each.payees,
            net=self.money(each.net_minor),
            payouts=[self.payout(payout) for payout in each.payouts],
        )

    def left_out(self, each: LeftOut) -> ReviewLeftOutView:
        return ReviewLeftOutView(
            reason_code=each.reason,
            needs_somebody=needs_somebody(each.reason),
            payees=each.payees,
            payable=self.money(each.payable_minor),
            carried=self.money(each.carried_minor),
        )
