"""What a report is: its columns with units and meanings, its filters, and the one query behind it; and the first of them."""

from dataclasses import dataclass
from enum import StrEnum

from service.reports.places import PAYABLE_MINOR, STANDING, STATUS


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    """Words, also of people outside: guarded where a spreadsheet would read them as a formula."""
    ID = "id"
    """A public id of this service, as the API shows it."""
    MONEY = "money"
    """Two columns: minor units as an integer, and the decimal amount; the currency is in the row's column `currency`."""
    COUNT = "count"
    DAY = "day"
    """A calendar day in the merchant's time zone."""
    MOMENT = "moment"
    """An instant, RFC 3339 in UTC."""


class Filter(StrEnum):
    """What a report can be narrowed by."""

    FROM = "from"
    TO = "to"
    CURRENCY = "currency"
    RUN_ID = "run_id"


@dataclass(frozen=True, slots=True)
class Column:
    """prefix: of public ids, where kind is ID. Amounts of kind MONEY are named without the unit: `target`."""

    name: str
    kind: Kind
    description: str
    prefix: str = ""

    @property
    def source(self) -> str:
        """The column of the report's query that it is made of."""
        return f"{self.name}_minor" if self.kind is Kind.MONEY else self.name

    @property
    def cells(self) -> tuple[str, ...]:
        """Names of the cells it fills in a row."""
        return (self.source, self.name) if self.kind is Kind.MONEY else (self.name,)


@dataclass(frozen=True, slots=True)
class Report:
    """query: one SELECT with a result column for each `Column.source`, narrowed by %(merchant_id)s and the filters.

    It may name %(from)s and %(to)s (days, both included), %(time_zone)s (the merchant's), %(currency)s, %(run_id)s;
    each is null where it is not asked for. order: how rows come, in the query's columns.
    """

    name: str
    title: str
    description: str
    filters: frozenset[Filter]
    columns: tuple[Column, ...]
    query: str
    order: str


AFFILIATE = (
    Column("affiliate_id", Kind.ID, "Who earns it.", prefix="aff"),
    Column("affiliate_external_id", Kind.TEXT, "The merchant's own id of the affiliate."),
    Column("affiliate_name", Kind.TEXT, "What the affiliate is called."),
)
CURRENCY = Column("currency", Kind.TEXT, "ISO 4217 code of all amounts in the row.")

COMMISSIONS = Report(
    name="commissions",
    title="Commissions",
    description="One row for each commission, by the day its order was placed: what was earned, why, and where it is.",
    filters=frozenset(Filter),
    columns=(
        Column("commission_id", Kind.ID, "The commission.", prefix="com"),
        Column("order_id", Kind.ID, "The order that earned it.", prefix="ord"),
        Column("order_external_id", Kind.TEXT, "The shop's own id of the order."),
        Column("order_number", Kind.TEXT, "The order's number as the shop shows it to its customer."),
        Column(
            "period_rule",
            Kind.TEXT,
            "The key of the rule over a period that it is for; empty where it is for an order.",
        ),
        Column("period_begins_on", Kind.DAY, "The first day of that period."),
        Column("placed_at", Kind.MOMENT, "When the order was placed, or the period began."),
        *AFFILIATE,
        Column("program_id", Kind.ID, "The programme that pays it.", prefix="prg"),
        Column("program_version", Kind.COUNT, "The version of its terms that counts."),
        CURRENCY,
        Column("order_net", Kind.MONEY, "Goods of the order after discounts and refunds, without tax and shipping."),
        Column(
            "target", Kind.MONEY, "What the affiliate should have earned from all that is known; equals what is posted."
        ),
        Column("pending", Kind.MONEY, "Earned, not settled."),
        Column("held", Kind.MONEY, "Earned, frozen."),
        Column("payable", Kind.MONEY, "Settled, in no payout; below zero where it was taken back after it was paid."),
        Column("in_payout", Kind.MONEY, "In a payout that is not accepted yet."),
        Column("paid", Kind.MONEY, "In a payout that the rail accepted."),
        Column("status", Kind.TEXT, "The place of the part that has come least far."),
        Column("reason_code", Kind.TEXT, "Why it stands where it stands."),
        Column("settles_at", Kind.MOMENT, "When it becomes payable; empty while something is missing."),
        Column("created_at", Kind.MOMENT, "When it was first earned."),
    ),
    query=f"""
    SELECT commission.id AS commission_id, commission.order_id, orders.external_id AS order_external_id,
           assessment.number AS order_number, rule_period.rule AS period_rule, rule_period.begins_on AS period_begins_on,
           coalesce(assessment.placed_at, commission.placed_at) AS placed_at, commission.payee_id AS affiliate_id,
           affiliate.external_id AS affiliate_external_id, affiliate.name AS affiliate_name, commission.program_id,
           commission.program_version, commission.currency,
           CASE WHEN assessment.currency = commission.currency THEN assessment.net_minor END AS order_net_minor,
           commission.target_minor, commission.pending_minor, commission.held_minor, {PAYABLE_MINOR} AS payable_minor,
           placed.in_payout_minor, placed.paid_minor, {STATUS} AS status, commission.reason_code,
           commission.settles_at, commission.created_at
    FROM commission
    LEFT JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
    LEFT JOIN rule_period ON rule_period.merchant_id = commission.merchant_id AND rule_period.id = commission.period_id
    LEFT JOIN assessment ON assessment.merchant_id = commission.merchant_id AND assessment.order_id = commission.order_id
    JOIN affiliate ON affiliate.merchant_id = commission.merchant_id AND affiliate.id = commission.payee_id
    {STANDING}
    WHERE commission.merchant_id = %(merchant_id)s
      AND (%(from)s::date IS NULL
           -- A bonus has no order: it is of the day it was given.
           OR coalesce(assessment.placed_at, commission.placed_at, commission.created_at) >= CAST(%(from)s::date AS timestamp) AT TIME ZONE %(time_zone)s)
      AND (%(to)s::date IS NULL
           OR coalesce(assessment.placed_at, commission.placed_at, commission.created_at) < CAST(%(to)s::date + 1 AS timestamp) AT TIME ZONE %(time_zone)s)
      AND (%(currency)s::text IS NULL OR commission.currency = %(currency)s)
      AND (%(run_id)s::uuid IS NULL
           OR EXISTS (SELECT FROM payout_item AS item
                      JOIN commission_entry AS entry
                        ON entry.merchant_id = item.merchant_id AND entry.commission_id = commission.id
                       AND entry.payable_version > item.from_version AND entry.payable_version <= item.to_version
                      WHERE item.merchant_id = commission.merchant_id AND item.run_id = %(run_id)s
                        AND item.payee_id = commission.payee_id AND item.currency = commission.currency))
    """,  # noqa: S608 - put together from our own constants
    order="placed_at, commission_id",
)

PAYOUTS = Report(
    name="payouts",
    title="Payouts",
    description="One row for each payout, by the day it is meant to leave: what it took, what was sent, what came of it.",
    filters=frozenset(Filter),
    columns=(
        Column("payout_id", Kind.ID, "The payout.", prefix="pay"),
        Column("run_id", Kind.ID, "The run it was approved in.", prefix="run"),
        Column("run_external_id", Kind.TEXT, "The merchant's own id of the run."),
        Column("run_status", Kind.TEXT, "Where the run stands."),
        Column("pay_on", Kind.DAY, "The day the money is meant to leave."),
        *AFFILIATE,
        Column("rail", Kind.TEXT, "How the money goes out."),
        Column("destination", Kind.TEXT, "The last characters of the account at the rail."),
        Column("state", Kind.TEXT, "What is known of the payout."),
        CURRENCY,
        Column("gross", Kind.MONEY, "Taken from payable."),
        Column("carried", Kind.MONEY, "Taken along from earlier payouts, deductions done."),
        Column("tax", Kind.MONEY, "Withheld."),
        Column("fee", Kind.MONEY, "Platform fee."),
        Column("remainder", Kind.MONEY, "Below one step of the rail; carried forward."),
        Column("net", Kind.MONEY, "Sent, or to be sent: gross + carried - tax - fee - remainder."),
        Column("came_back", Kind.MONEY, "What the rail gave back of it; carried forward."),
        Column("tax_rule", Kind.TEXT, "By which rule tax was withheld."),
        Column("attempts", Kind.COUNT, "How often it was tried."),
        Column("reference", Kind.TEXT, "The rail's own id of the transfer."),
        Column("release_reason", Kind.TEXT, "Why it was dropped from the run, where it was."),
        Column("created_at", Kind.MOMENT, "When the money was reserved."),
        Column("accepted_at", Kind.MOMENT, "When the rail accepted it; by the real clock, also for a test merchant."),
    ),
    query="""
    SELECT item.id AS payout_id, item.run_id, run.external_id AS run_external_id, run.status AS run_status, run.pay_on,
           item.payee_id AS affiliate_id, affiliate.external_id AS affiliate_external_id,
           affiliate.name AS affiliate_name, run.rail, method.destination_hint AS destination,
           -- As domain.payout.item_state: the first line that is true.
           CASE WHEN item.released_at IS NOT NULL THEN 'released'
                WHEN tried.outcome IS NULL THEN CASE WHEN run.status IN ('draft', 'submitted') THEN 'reserved'
                                                     ELSE 'approved' END
                WHEN tried.outcome IN ('planned', 'in_flight') THEN 'sending'
                WHEN tried.outcome = 'unknown' THEN 'unknown'
                WHEN tried.outcome IN ('refused', 'absent') THEN 'refused'
                WHEN told.returned_minor >= item.net_minor THEN 'returned'
                WHEN told.reversed_minor >= item.net_minor THEN 'reversed'
                WHEN told.reversed_minor > 0 THEN 'part_reversed'
                WHEN told.booked THEN 'settled'
                ELSE 'sent' END AS state,
           item.currency, item.gross_minor, item.carried_minor, item.tax_minor, item.fee_minor, item.remainder_minor,
           item.net_minor,
           least(item.net_minor, coalesce(told.reversed_minor, 0) + coalesce(told.returned_minor, 0)) AS came_back_minor,
           item.tax_rule, coalesce(tried.number, 0) AS attempts, tried.reference, item.release_reason, item.created_at,
           told.accepted_at
    FROM payout_item AS item
    JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
    JOIN affiliate ON affiliate.merchant_id = item.merchant_id AND affiliate.id = item.payee_id
    JOIN payout_method AS method ON method.merchant_id = item.merchant_id AND method.id = item.payout_method_id
    LEFT JOIN LATERAL (
        SELECT attempt.outcome, attempt.number, attempt.reference
        FROM payout_attempt AS attempt
        WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        ORDER BY attempt.number DESC LIMIT 1
    ) AS tried ON true
    LEFT JOIN LATERAL (
        SELECT max(fact.amount_minor) FILTER (WHERE fact.kind = 'reversed') AS reversed_minor,
               max(fact.amount_minor) FILTER (WHERE fact.kind = 'returned') AS returned_minor,
               min(fact.told_at) FILTER (WHERE fact.kind = 'accepted') AS accepted_at,
               bool_or(fact.kind = 'paid') AS booked
        FROM provider_fact AS fact
        WHERE fact.merchant_id = item.merchant_id AND fact.item_id = item.id
    ) AS told ON true
    WHERE item.merchant_id = %(merchant_id)s
      AND (%(from)s::date IS NULL OR run.pay_on >= %(from)s::date)
      AND (%(to)s::date IS NULL OR run.pay_on <= %(to)s::date)
      AND (%(currency)s::text IS NULL OR item.currency = %(currency)s)
      AND (%(run_id)s::uuid IS NULL OR item.run_id = %(run_id)s)
    """,
    order="pay_on, payout_id",
)

BALANCES = Report(
    name="balances",
    title="Balances",
    description="One row for each affiliate and currency: what was earned, and where all of it is at this moment.",
    filters=frozenset({Filter.CURRENCY}),
    columns=(
        *AFFILIATE,
        Column("affiliate_status", Kind.TEXT, "Whether the affiliate may earn."),
        CURRENCY,
        Column("earned", Kind.MONEY, "All that was ever earned, less what was taken back."),
        Column("pending", Kind.MONEY, "Earned, not settled."),
        Column("held", Kind.MONEY, "Earned, frozen."),
        Column("payable", Kind.MONEY, "Settled, in no payout; below zero the affiliate owes it."),
        Column("reserved", Kind.MONEY, "In a payout run, not handed to a rail."),
        Column("in_transit", Kind.MONEY, "Handed to a rail, answer unknown."),
        Column("paid", Kind.MONEY, "Sent."),
        Column("carried", Kind.MONEY, "Deductions done, still to be sent: remainders, and what a rail gave back."),
        Column("advance", Kind.MONEY, "Lent before an approval came; below zero by what is still to be netted."),
        Column("withheld", Kind.MONEY, "Tax and fees taken from accepted payouts."),
        Column("written_off", Kind.MONEY, "Debts that were given up; below zero by all of them."),
    ),
    query="""
    WITH stands AS (
        SELECT owner_id, currency,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'pending'), 0) AS pending_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'held'), 0) AS held_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'payable'), 0) AS payable_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'reserved'), 0) AS reserved_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'in_transit'), 0) AS in_transit_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'paid'), 0) AS paid_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'taxed_carry'), 0) AS carried_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'advance'), 0) AS advance_minor,
               coalesce(sum(amount_minor)
                   FILTER (WHERE kind IN ('tax_withheld', 'remitted', 'platform_fee', 'tax_cost')), 0)
                   AS withheld_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'write_off'), 0) AS written_off_minor
        FROM balance
        WHERE merchant_id = %(merchant_id)s AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        GROUP BY owner_id, currency
    )
    SELECT stands.owner_id AS affiliate_id, affiliate.external_id AS affiliate_external_id,
           affiliate.name AS affiliate_name, affiliate.status AS affiliate_status, stands.currency,
           pending_minor + held_minor + payable_minor + reserved_minor + in_transit_minor + paid_minor + carried_minor
               + advance_minor + withheld_minor + written_off_minor AS earned_minor,
           pending_minor, held_minor, payable_minor, reserved_minor, in_transit_minor, paid_minor, carried_minor,
           advance_minor, withheld_minor, written_off_minor
    FROM stands
    JOIN affiliate ON affiliate.merchant_id = %(merchant_id)s AND affiliate.id = stands.owner_id
    """,
    order="affiliate_id, currency",
)

FUNDERS = Report(
    name="funders",
    title="Who bears it",
    description="One row for each programme, funder and currency: what of the commissions of orders placed in a time each bears.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY}),
    columns=(
        Column(
            "program_id", Kind.ID, "The programme that pays; empty for bonuses outside of programmes.", prefix="prg"
        ),
        Column("funder", Kind.TEXT, "Who bears it, as the rules name it: merchant, or a brand, or a platform."),
        CURRENCY,
        Column("commissions", Kind.COUNT, "How many commissions it bears a part of."),
        Column("earned", Kind.MONEY, "What that comes to, fees and bonuses included."),
    ),
    query="""
    SELECT commission.program_id, part.key AS funder, commission.currency, count(*) AS commissions,
           CAST(sum(CAST(part.value AS bigint)) AS bigint) AS earned_minor
    FROM commission
    -- A period's commission, and a bonus, are the merchant's.
    CROSS JOIN LATERAL jsonb_each_text(
        coalesce(commission.receipt -> 'borne_by', jsonb_build_object('merchant', commission.target_minor))) AS part
    WHERE commission.merchant_id = %(merchant_id)s AND part.value <> '0'
      AND (%(from)s::date IS NULL
           OR coalesce(commission.placed_at, commission.created_at)
              >= CAST(%(from)s::date AS timestamp) AT TIME ZONE %(time_zone)s)
      AND (%(to)s::date IS NULL
           OR coalesce(commission.placed_at, commission.created_at)
              < CAST(%(to)s::date + 1 AS timestamp) AT TIME ZONE %(time_zone)s)
      AND (%(currency)s::text IS NULL OR commission.currency = %(currency)s)
    GROUP BY commission.program_id, part.key, commission.currency
    """,
    order="program_id, funder, currency",
)
