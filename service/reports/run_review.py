"""What a checker looks at before approving a payout run, from a handful of statements, however many payouts it has."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.money import text_of
from service.domain.payout import Excluded
from service.domain.review_of_run import (
    EARLIER_MAX,
    FIRST_TIMES,
    TIMES,
    Figures,
    RunCaution,
    Unusual,
    bounds,
    cautions,
    needs_somebody,
    why_unusual,
)
from service.domain.withholding.model import Caution
from service.infra.db import fetch
from service.tables.payouts import PayoutRunRow

LISTED_MAX = 50
"""Of a longer list the rest is counted and summed, not named."""
TOP = 20
RUNS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the payouts that hold their money. released: payouts that gave it back.

    tax_borne_minor: at the merchant's cost, beside what leaves the payees' balances.
    """

    payees: int
    gross_minor: int
    carried_minor: int
    tax_minor: int
    tax_borne_minor: int
    fee_minor: int
    remainder_minor: int
    net_minor: int
    smallest_minor: int
    median_minor: int
    largest_minor: int
    released: int


@dataclass(frozen=True, slots=True)
class OfCountry:
    """country: ISO 3166-1 alpha-2, None where it is not known."""

    country: str | None
    payees: int
    net_minor: int
    tax_minor: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """Payouts of at least `from_minor` and less than `below_minor`; of the last group None, which has no end."""

    from_minor: int
    below_minor: int | None
    payees: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class Payout:
    """One payout of the run, or for those who are gone of the run before it."""

    id: UUID
    payee_id: UUID
    name: str
    net_minor: int


@dataclass(frozen=True, slots=True)
class UnusualPayout:
    """earlier_median_minor: None where there was none before."""

    payout: Payout
    reason: Unusual
    earlier_payouts: int
    earlier_median_minor: int | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of which the largest are named. payees, net_minor: of all of it."""

    payees: int
    net_minor: int
    payouts: Sequence[Payout]


@dataclass(frozen=True, slots=True)
class EarlierRun:
    id: UUID
    pay_on: date
    payees: int
    net_minor: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Payees left out when the run was made. payable_minor may be below zero in sum: some owe. owed: those who do not."""

    reason: Excluded
    payees: int
    owed: int
    payable_minor: int
    carried_minor: int


@dataclass(frozen=True, slots=True)
class Review:
    """runs: of this rail and currency up to this one, oldest first. earlier: the one before it.

    new, gone: payees of this run and not of the one before it, and the other way round. first: payees never paid in
    this currency. moved: payees whose last payout in this currency on this rail went to another account. shared: payees
    whose account is another payee's too. split, not_withheld: payees whose tax was decided with that caution.
    """

    totals: Totals
    countries: Sequence[OfCountry]
    buckets: Sequence[Bucket]
    top: Sequence[Payout]
    unusual: Sequence[UnusualPayout]
    unusual_total: int
    runs: Sequence[EarlierRun]
    earlier: EarlierRun | None
    new: Listed
    gone: Listed
    first: Listed
    moved: Listed
    shared: Listed
    split: Listed
    not_withheld: Listed
    left_out: Sequence[LeftOut]
    cautions: Sequence[RunCaution]


def review(session: Session, run: PayoutRunRow) -> Review:
    """Everything about a run as it is now."""
    asked = {"merchant_id": run.merchant_id, "run_id": run.id}
    totals = _totals(session, asked)
    unusual, unusual_total = _unusual(session, asked, totals)
    runs = _runs(session, run)
    earlier = runs[-2] if len(runs) > 1 else None
    since = asked | {"earlier_id": None if earlier is None else earlier.id}
    left_out = _left_out(session, asked)
    first, moved, shared = _first(session, asked), _moved(session, asked), _shared(session, asked)
    split, not_withheld = (
        _cautioned(session, asked, caution) for caution in (Caution.SPLIT_PAYOUTS, Caution.NOT_WITHHELD)
    )
    top = _payouts(fetch(session, f"{_ITEMS} SELECT * FROM item {_NAMED_FIRST} LIMIT {TOP}", asked))  # noqa: S608 - our own constants
    figures = Figures(
        payees=totals.payees,
        net_minor=totals.net_minor,
        largest_minor=totals.largest_minor,
        unusual=unusual_total,
        changed_destinations=moved.payees,
        shared_destinations=shared.payees,
        first_payouts=first.payees,
        split_payouts=split.payees,
        not_withheld=not_withheld.payees,
        left_out=sum(each.owed for each in left_out if needs_somebody(each.reason)),
        earlier_net_minor=None if earlier is None else earlier.net_minor,
    )
    return Review(
        totals=totals,
        countries=_countries(session, asked),
        buckets=_buckets(session, asked, bounds(totals.smallest_minor, totals.largest_minor)),
        top=top,
        unusual=unusual,
        unusual_total=unusual_total,
        runs=runs,
        earlier=earlier,
        new=_listed(session, _NEW, since),
        gone=_listed(session, _GONE, since),
        first=first,
        moved=moved,
        shared=shared,
        split=split,
        not_withheld=not_withheld,
        left_out=left_out,
        cautions=cautions(figures),
    )


@dataclass(frozen=True, slots=True)
class Series:
    """Something to draw. unit: `payees`, or `minor` for minor units. points: label and value, in the order to draw them."""

    name: str
    title: str
    unit: str
    points: Sequence[tuple[str, int]]


def chart(found: Review, currency: str) -> list[Series]:
    """What of a review is best drawn."""
    groups = [(_label(each, currency), each) for each in found.buckets]
    return [
        Series("distribution", "Payees by net amount", "payees", [(label, each.payees) for label, each in groups]),
        Series("distribution_net", "Net by net amount", "minor", [(label, each.net_minor) for label, each in groups]),
        Series("top", "Largest payouts", "minor", [(each.name, each.net_minor) for each in found.top]),
        Series(
            "countries",
            "Net by country",
            "minor",
            [(each.country or "unknown", each.net_minor) for each in found.countries],
        ),
        Series(
            "runs",
            "Net of the last runs on this rail",
            "minor",
            [(each.pay_on.isoformat(), each.net_minor) for each in found.runs],
        ),
        Series("excluded", "Left out", "payees", [(each.reason.value, each.payees) for each in found.left_out]),
    ]


def _label(bucket: Bucket, currency: str) -> str:
    """A group's bounds for people: "10.00 - 20.00", "50.00 +"."""
    begins = text_of(bucket.from_minor, currency)
    return f"{begins} +" if bucket.below_minor is None else f"{begins} - {text_of(bucket.below_minor, currency)}"


# The payouts of the run that hold their money, with what their payees are called.
_ITEMS = """
WITH item AS MATERIALIZED (
    SELECT item.*, affiliate.name, affiliate.country
    FROM payout_item AS item
    JOIN affiliate ON affiliate.merchant_id = item.merchant_id AND affiliate.id = item.payee_id
    WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id AND item.released_at IS NULL
)
"""
_NAMED_FIRST = "ORDER BY net_minor DESC, id"

_EARLIER = """
LEFT JOIN LATERAL (
    SELECT count(*) AS payouts, percentile_disc(0.5) WITHIN GROUP (ORDER BY net_minor) AS median_minor
    FROM (SELECT net_minor FROM payout_item AS before
          WHERE before.merchant_id = item.merchant_id AND before.payee_id = item.payee_id
            AND before.currency = item.currency AND before.from_version < item.from_version
            AND before.released_at IS NULL
          ORDER BY from_version DESC LIMIT :earlier_max) AS last
) AS earlier ON true
"""


def _totals(session: Session, asked: dict[str, Any]) -> Totals:
    [row] = fetch(
        session,
        """
        WITH item AS (
            SELECT *, released_at IS NULL AS kept FROM payout_item WHERE merchant_id = :merchant_id AND run_id = :run_id
        )
        SELECT count(*) FILTER (WHERE kept) AS payees, count(*) FILTER (WHERE NOT kept) AS released,
               CAST(coalesce(sum(gross_minor) FILTER (WHERE kept), 0) AS bigint) AS gross_minor,
               CAST(coalesce(sum(carried_minor) FILTER (WHERE kept), 0) AS bigint) AS carried_minor,
               CAST(coalesce(sum(tax_minor) FILTER (WHERE kept), 0) AS bigint) AS tax_minor,
               CAST(coalesce(sum(tax_borne_minor) FILTER (WHERE kept), 0) AS bigint) AS tax_borne_minor,
               CAST(coalesce(sum(fee_minor) FILTER (WHERE kept), 0) AS bigint) AS fee_minor,
               CAST(coalesce(sum(remainder_minor) FILTER (WHERE kept), 0) AS bigint) AS remainder_minor,
               CAST(coalesce(sum(net_minor) FILTER (WHERE kept), 0) AS bigint) AS net_minor,
               coalesce(min(net_minor) FILTER (WHERE kept), 0) AS smallest_minor,
               coalesce(percentile_disc(0.5) WITHIN GROUP (ORDER BY net_minor) FILTER (WHERE kept), 0) AS median_minor,
               coalesce(max(net_minor) FILTER (WHERE kept), 0) AS largest_minor
        FROM item
        """,
        asked,
    )
    return Totals(
        payees=row.payees,
        gross_minor=row.gross_minor,
        carried_minor=row.carried_minor,
        tax_minor=row.tax_minor,
        tax_borne_minor=row.tax_borne_minor,
        fee_minor=row.fee_minor,
        remainder_minor=row.remainder_minor,
        net_minor=row.net_minor,
        smallest_minor=row.smallest_minor,
        median_minor=row.median_minor,
        largest_minor=row.largest_minor,
        released=row.released,
    )


def _countries(session: Session, asked: dict[str, Any]) -> list[OfCountry]:
    rows = fetch(
        session,
        f"""
        {_ITEMS}
        SELECT country, count(*) AS payees, CAST(sum(net_minor) AS bigint) AS net_minor,
               CAST(sum(tax_minor) AS bigint) AS tax_minor
        FROM item GROUP BY country ORDER BY net_minor DESC, country
        """,  # noqa: S608 - put together from our own constants
        asked,
    )
    return [OfCountry(row.country, row.payees, row.net_minor, row.tax_minor) for row in rows]


def _buckets(session: Session, asked: dict[str, Any], begins: list[int]) -> list[Bucket]:
    rows = fetch(
        session,
        """
        SELECT width_bucket(net_minor, CAST(:begins AS bigint[])) AS number, count(*) AS payees,
               CAST(sum(net_minor) AS bigint) AS net_minor
        FROM payout_item WHERE merchant_id = :merchant_id AND run_id = :run_id AND released_at IS NULL
        GROUP BY number
        """,
        asked | {"begins": begins},
    )
    found = {row.number: row for row in rows}
    return [
        Bucket(
            begin,
            end,
            found[number].payees if number in found else 0,
            found[number].net_minor if number in found else 0,
        )
        for number, (begin, end) in enumerate(zip(begins, [*begins[1:], None], strict=True), start=1)
    ]


def _unusual(session: Session, asked: dict[str, Any], totals: Totals) -> tuple[list[UnusualPayout], int]:
    """The largest of those that stand out, and how many there are."""
    rows = fetch(
        session,
        f"""
        {_ITEMS}
        SELECT item.*, earlier.payouts AS earlier_payouts, earlier.median_minor, count(*) OVER () AS total
        FROM item {_EARLIER}
        -- As domain.review_of_run.why_unusual, which names the reason.
        WHERE item.net_minor >= CASE WHEN earlier.payouts = 0 THEN :first_times * greatest(1, :run_median_minor)
                                     ELSE :times * greatest(1, earlier.median_minor) END
        {_NAMED_FIRST} LIMIT {LISTED_MAX}
        """,  # noqa: S608 - put together from our own constants
        asked
        | {
            "earlier_max": EARLIER_MAX,
            "times": TIMES,
            "first_times": FIRST_TIMES,
            "run_median_minor": totals.median_minor,
        },
    )
    found = []
    for row, payout in zip(rows, _payouts(rows), strict=True):
        reason = why_unusual(
            payout.net_minor, earlier_median_minor=row.median_minor, run_median_minor=totals.median_minor
        )
        assert reason is not None
        found.append(UnusualPayout(payout, reason, row.earlier_payouts, row.median_minor))
    return found, rows[0].total if rows else 0


def _runs(session: Session, run: PayoutRunRow) -> list[EarlierRun]:
    """The run and those before it on its rail and in its currency that pay somebody, oldest first."""
    rows = fetch(
        session,
        """
        WITH known AS (
            SELECT run.id, run.pay_on, item.payees, item.net_minor
            FROM payout_run AS run
            CROSS JOIN LATERAL (
                SELECT count(*) AS payees, CAST(coalesce(sum(net_minor), 0) AS bigint) AS net_minor
                FROM payout_item AS item
                WHERE item.merchant_id = run.merchant_id AND item.run_id = run.id AND item.released_at IS NULL
            ) AS item
            WHERE run.merchant_id = :merchant_id AND run.rail = :rail AND run.currency = :currency
              AND run.id <= :run_id AND (item.payees > 0 OR run.id = :run_id)
            ORDER BY run.id DESC LIMIT :limit
        )
        SELECT * FROM known ORDER BY id
        """,
        {
            "merchant_id": run.merchant_id,
            "run_id": run.id,
            "rail": run.rail,
            "currency": run.currency,
            "limit": RUNS_SHOWN,
        },
    )
    return [EarlierRun(row.id, row.pay_on, row.payees, row.net_minor) for row in rows]


_NEW = f"""
{_ITEMS}
SELECT * FROM item
WHERE NOT EXISTS (SELECT FROM payout_item AS before
                  WHERE before.merchant_id = item.merchant_id AND before.run_id = :earlier_id
                    AND before.payee_id = item.payee_id AND before.released_at IS NULL)
"""  # noqa: S608 - put together from our own constants
_GONE = """
SELECT item.*, affiliate.name
FROM payout_item AS item
JOIN affiliate ON affiliate.merchant_id = item.merchant_id AND affiliate.id = item.payee_id
WHERE item.merchant_id = :merchant_id AND item.run_id = :earlier_id AND item.released_at IS NULL
  AND NOT EXISTS (SELECT FROM payout_item AS now
                  WHERE now.merchant_id = item.merchant_id AND now.run_id = :run_id AND now.payee_id = item.payee_id
                    AND now.released_at IS NULL)
"""


def _first(session: Session, asked: dict[str, Any]) -> Listed:
    statement = f"""
        {_ITEMS}
        SELECT * FROM item
        WHERE NOT EXISTS (SELECT FROM payout_item AS before
                          WHERE before.merchant_id = item.merchant_id AND before.payee_id = item.payee_id
                            AND before.currency = item.currency AND before.from_version < item.from_version
                            AND before.released_at IS NULL)
        """  # noqa: S608 - put together from our own constants
    return _listed(session, statement, asked)


def _moved(session: Session, asked: dict[str, Any]) -> Listed:
    """Those whose last payout in the currency went elsewhere, by whatever rail: who takes an account over changes that too."""
    statement = f"""
        {_ITEMS}
        SELECT item.* FROM item
        JOIN LATERAL (
            SELECT before.fingerprint
            FROM payout_item AS before
            WHERE before.merchant_id = item.merchant_id AND before.payee_id = item.payee_id
              AND before.currency = item.currency AND before.from_version < item.from_version
              AND before.released_at IS NULL
            ORDER BY before.from_version DESC LIMIT 1
        ) AS last ON last.fingerprint <> item.fingerprint
        """  # noqa: S608 - put together from our own constants
    return _listed(session, statement, asked)


def _shared(session: Session, asked: dict[str, Any]) -> Listed:
    statement = f"""
        {_ITEMS}
        SELECT * FROM (SELECT *, count(*) OVER (PARTITION BY fingerprint) AS paid_there FROM item) AS counted
        WHERE paid_there > 1
        """  # noqa: S608 - put together from our own constants
    return _listed(session, statement, asked)


def _cautioned(session: Session, asked: dict[str, Any], caution: Caution) -> Listed:
    statement = f"""
        {_ITEMS}
        SELECT * FROM item WHERE tax_decision -> 'cautions' @> to_jsonb(CAST(:caution AS text))
        """  # noqa: S608 - put together from our own constants
    return _listed(session, statement, asked | {"caution": caution.value})


def _left_out(session: Session, asked: dict[str, Any]) -> list[LeftOut]:
    rows = fetch(
        session,
        """
        SELECT reason_code AS reason, count(*) AS payees,
               count(*) FILTER (WHERE payable_minor >= 0 AND payable_minor + carried_minor > 0) AS owed,
               CAST(sum(payable_minor) AS bigint) AS payable_minor, CAST(sum(carried_minor) AS bigint) AS carried_minor
        FROM payout_left_out WHERE merchant_id = :merchant_id AND run_id = :run_id
        GROUP BY reason ORDER BY payees DESC, reason
        """,
        asked,
    )
    return [LeftOut(Excluded(row.reason), row.payees, row.owed, row.payable_minor, row.carried_minor) for row in rows]


def _listed(session: Session, statement: str, asked: dict[str, Any]) -> Listed:
    """Those that a statement finds: the largest by name, all of them by number and sum."""
    rows = fetch(
        session,
        f"""
        SELECT id, payee_id, name, net_minor, count(*) OVER () AS total,
               CAST(sum(net_minor) OVER () AS bigint) AS total_minor
        FROM ({statement}) AS found {_NAMED_FIRST} LIMIT {LISTED_MAX}
        """,  # noqa: S608 - put together from our own constants
        asked,
    )
    return Listed(rows[0].total if rows else 0, rows[0].total_minor if rows else 0, _payouts(rows))


def _payouts(rows: Sequence[Row[Any]]) -> list[Payout]:
    return [Payout(row.id, row.payee_id, row.name, row.net_minor) for row in rows]
