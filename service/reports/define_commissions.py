"""Reports of commissions: each by itself, and who bears them."""

from service.reports.define import AFFILIATE, CURRENCY, Column, Filter, Kind, Report
from service.reports.places import PAYABLE_MINOR, STANDING, STATUS

COMMISSIONS = Report(
    name="commissions",
    title="Commissions",
    description="One row for each commission, by the day its order was placed: what was earned, why, and where it is.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY, Filter.RUN_ID}),
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
