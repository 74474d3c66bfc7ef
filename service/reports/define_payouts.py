"""The report of payouts: what each took, what was sent, what came of it."""

from service.reports.define import AFFILIATE, CURRENCY, Column, Filter, Kind, Report

PAYOUTS = Report(
    name="payouts",
    title="Payouts",
    description="One row for each payout, by the day it is meant to leave: what it took, what was sent, what came of it.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY, Filter.RUN_ID}),
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
        Column("tax_borne", Kind.MONEY, "Tax at the merchant's cost, beside what is taken and sent."),
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
                WHEN told.came_back_minor >= item.net_minor THEN 'reversed'
                WHEN told.came_back_minor > 0 THEN 'part_reversed'
                WHEN told.booked THEN 'settled'
                ELSE 'sent' END AS state,
           item.currency, item.gross_minor, item.carried_minor, item.tax_minor, item.tax_borne_minor, item.fee_minor,
           item.remainder_minor, item.net_minor,
           least(item.net_minor, told.came_back_minor) AS came_back_minor,
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
        SELECT max(fact.amount_minor) FILTER (WHERE fact.kind = 'returned') AS returned_minor,
               coalesce(max(fact.amount_minor) FILTER (WHERE fact.kind = 'reversed'), 0)
               + coalesce(max(fact.amount_minor) FILTER (WHERE fact.kind = 'returned'), 0) AS came_back_minor,
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
