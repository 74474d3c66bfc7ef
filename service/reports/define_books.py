"""Reports of the books: the trial balance, the journal for accounting, and how old what is owed is."""

from service.domain.accounting import USUAL
from service.reports.define import AFFILIATE, CURRENCY, Column, Filter, Kind, Report


def _quoted(text: str) -> str:
    # The driver reads a percent sign as the beginning of a parameter.
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"


_CHART = f"""
chart AS (
    SELECT usual.kind, coalesce(said.accounts #>> ARRAY[usual.kind, 'code'], usual.code) AS code,
           coalesce(said.accounts #>> ARRAY[usual.kind, 'name'], usual.name) AS name
    FROM (VALUES {", ".join(f"({_quoted(kind)}, {_quoted(each.code)}, {_quoted(each.name)})" for kind, each in USUAL.items())})
         AS usual (kind, code, name)
    LEFT JOIN accounting_chart AS said ON said.merchant_id = %(merchant_id)s
)
"""  # noqa: S608 - put together from our own constants
"""Defines `chart` (kind, code, name): as domain.accounting.chart."""

_ACCOUNT = (
    Column("account", Kind.TEXT, "The account, as the API calls it."),
    Column("account_code", Kind.TEXT, "What accounting calls it: set it with `PUT /v1/accounting/accounts`."),
    Column("account_name", Kind.TEXT, "Its name in accounting."),
)

TRIAL_BALANCE = Report(
    name="trial-balance",
    title="Trial balance",
    description="One row for each account and currency: what it opened with, what moved, what it closed with. Closings of a currency add up to 0.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY}),
    columns=(
        *_ACCOUNT,
        CURRENCY,
        Column(
            "opening", Kind.MONEY, "Debits less credits of all booking days before: a cost above 0, a debt below it."
        ),
        Column("debits", Kind.MONEY, "Debits of the days asked for."),
        Column("credits", Kind.MONEY, "Credits of the days asked for."),
        Column("closing", Kind.MONEY, "Opening and debits, less credits."),
    ),
    query=f"""
    WITH {_CHART}, summed AS (
        SELECT kind, currency,
               CAST(coalesce(sum(debit_minor - credit_minor) FILTER (WHERE day < %(from)s::date), 0) AS bigint)
                   AS opening_minor,
               CAST(coalesce(sum(debit_minor) FILTER (WHERE day >= coalesce(%(from)s::date, DATE '-infinity')), 0)
                    AS bigint) AS debits_minor,
               CAST(coalesce(sum(credit_minor) FILTER (WHERE day >= coalesce(%(from)s::date, DATE '-infinity')), 0)
                    AS bigint) AS credits_minor
        FROM day_sum
        WHERE merchant_id = %(merchant_id)s AND (%(to)s::date IS NULL OR day <= %(to)s::date)
          AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        GROUP BY kind, currency
    )
    SELECT summed.kind AS account, chart.code AS account_code, chart.name AS account_name, currency, opening_minor,
           debits_minor, credits_minor, opening_minor + debits_minor - credits_minor AS closing_minor
    FROM summed LEFT JOIN chart ON chart.kind = summed.kind
    """,  # noqa: S608 - put together from our own constants
    order="currency, account_code, account",
)

JOURNAL = Report(
    name="journal",
    title="Journal",
    description="Two rows for each posting, by booking day: the account it debits and the one it credits, as accounting books them.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY}),
    columns=(
        Column("date", Kind.DAY, "Booking day."),
        Column("number", Kind.TEXT, "Of the unit of work that booked it; its debits and credits are equal."),
        Column("posting_id", Kind.ID, "The posting; its two rows share it.", prefix="pst"),
        Column("line", Kind.COUNT, "1: the debit; 2: the credit."),
        *_ACCOUNT,
        Column("debit", Kind.MONEY, "The amount, on the debit's row."),
        Column("credit", Kind.MONEY, "The amount, on the credit's row."),
        CURRENCY,
        Column(
            "reference", Kind.TEXT, "The shop's id of the order, or the rail's of the transfer, or yours of the run."
        ),
        Column("description", Kind.TEXT, "What happened."),
        *AFFILIATE,
        Column("order_id", Kind.ID, "The order it is about, where it is about one.", prefix="ord"),
        Column("payout_id", Kind.ID, "The payout it is about, where it is about one.", prefix="pay"),
        Column(
            "meant_for", Kind.DAY, "The day it was made, where that was closed and it is booked on the next open one."
        ),
        Column("event", Kind.TEXT, "What the ledger calls what happened."),
    ),
    query=f"""
    WITH {_CHART}, posted AS (
        SELECT posting.*, CAST(posting.created_at AT TIME ZONE %(time_zone)s AS date) AS made_on,
               CASE WHEN posting.debit_owner_id = posting.merchant_id THEN posting.credit_owner_id
                    ELSE posting.debit_owner_id END AS owner_id,
               CASE WHEN posting.event LIKE 'payout/%%' THEN CAST(split_part(posting.event, '/', 2) AS uuid) END AS item_id
        FROM posting
        WHERE posting.merchant_id = %(merchant_id)s
          AND (%(from)s::date IS NULL OR posting.day >= %(from)s::date)
          AND (%(to)s::date IS NULL OR posting.day <= %(to)s::date)
          AND (%(currency)s::text IS NULL OR posting.currency = %(currency)s)
    )
    SELECT posted.day AS date, concat_ws('-', to_char(posted.day, 'YYYYMMDD'), posted.slot, posted.booking) AS number,
           posted.id AS posting_id, side.line, side.kind AS account, chart.code AS account_code,
           chart.name AS account_name, CASE side.line WHEN 1 THEN posted.amount_minor END AS debit_minor,
           CASE side.line WHEN 2 THEN posted.amount_minor END AS credit_minor, posted.currency,
           coalesce(about.external_id, sent.reference, run.external_id, '') AS reference,
           CASE WHEN posted.event LIKE 'order/%%' THEN 'Commission of an order'
                WHEN posted.event LIKE 'period/%%' THEN 'Commission of a period'
                WHEN posted.event LIKE 'settle/%%/repay' THEN 'Advance netted'
                WHEN posted.event LIKE 'settle/%%' THEN 'Commissions settled'
                WHEN posted.event LIKE 'advance/%%' THEN 'Advance'
                WHEN posted.event LIKE 'payout/%%/reserve' THEN 'Put into a payout run'
                WHEN posted.event LIKE 'payout/%%/release' THEN 'Taken out of a payout run'
                WHEN posted.event LIKE 'payout/%%/plan' THEN 'Payout handed to the rail'
                WHEN posted.event LIKE 'payout/%%/back' THEN 'Payout not sent'
                WHEN posted.event LIKE 'payout/%%/accept' AND posted.credit_kind = 'tax_withheld' THEN 'Tax withheld'
                WHEN posted.event LIKE 'payout/%%/accept' AND posted.credit_kind = 'platform_fee' THEN 'Payout fee'
                WHEN posted.event LIKE 'payout/%%/accept' AND posted.credit_kind = 'taxed_carry' THEN 'Payout carried forward'
                WHEN posted.event LIKE 'payout/%%/accept' THEN 'Payout sent'
                WHEN posted.event LIKE 'correction/%%' AND posted.debit_kind = 'tax_withheld' THEN 'Withholding undone'
                WHEN posted.event LIKE 'correction/%%' AND posted.debit_kind = 'taxed_carry' THEN 'Debt set off'
                WHEN posted.event LIKE 'correction/%%' AND posted.debit_kind = 'write_off' THEN 'Debt written off'
                WHEN posted.event LIKE 'correction/%%' THEN 'Paid outside'
                WHEN posted.event LIKE 'remittance/%%' THEN 'Tax passed on'
                WHEN posted.event LIKE 'payout/%%/came-back/%%' THEN 'Payout came back'
                ELSE concat(posted.debit_kind, ' to ', posted.credit_kind) END AS description,
           affiliate.id AS affiliate_id, affiliate.external_id AS affiliate_external_id, affiliate.name AS affiliate_name,
           about.order_id, posted.item_id AS payout_id,
           CASE WHEN posted.made_on <> posted.day THEN posted.made_on END AS meant_for, posted.event,
           posted.slot, posted.booking, posted.seq
    FROM posted
    CROSS JOIN LATERAL (VALUES (1, posted.debit_kind), (2, posted.credit_kind)) AS side (line, kind)
    LEFT JOIN chart ON chart.kind = side.kind
    LEFT JOIN affiliate ON affiliate.merchant_id = posted.merchant_id AND affiliate.id = posted.owner_id
    LEFT JOIN LATERAL (
        SELECT commission.order_id, orders.external_id
        FROM commission_entry AS entry
        JOIN commission ON commission.merchant_id = entry.merchant_id AND commission.id = entry.commission_id
        JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE entry.merchant_id = posted.merchant_id AND entry.posting_id = posted.id
        LIMIT 1
    ) AS about ON posted.event LIKE 'order/%%'
    LEFT JOIN payout_item AS item ON item.merchant_id = posted.merchant_id AND item.id = posted.item_id
    LEFT JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
    LEFT JOIN LATERAL (
        SELECT attempt.reference FROM payout_attempt AS attempt
        WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id AND attempt.outcome = 'accepted'
        LIMIT 1
    ) AS sent ON posted.event LIKE 'payout/%%/accept' OR posted.event LIKE 'payout/%%/came-back/%%'
    """,  # noqa: S608 - put together from our own constants
    order="date, slot, booking, event, seq, line",
)

LIABILITY_AGEING = Report(
    name="liability-ageing",
    title="How old what is owed is",
    description="One row for each place and currency: what is owed to affiliates at this moment, by how long it has been owed.",
    filters=frozenset({Filter.CURRENCY}),
    columns=(
        Column(
            "place",
            Kind.TEXT,
            "pending, held: age since the order was placed. payable, reserved, in_transit: since it was settled. carry:"
            " since its deductions were done or it came back. debt: since it was taken back of what was paid.",
        ),
        CURRENCY,
        Column("affiliates", Kind.COUNT, "How many affiliates have something there."),
        Column("days_0_30", Kind.MONEY, "Up to 30 days old."),
        Column("days_31_60", Kind.MONEY, "31 to 60 days old."),
        Column("days_61_90", Kind.MONEY, "61 to 90 days old."),
        Column("over_90", Kind.MONEY, "More than 90 days old."),
        Column("total", Kind.MONEY, "All of it: what the balances of the place come to. A debt lies below 0."),
    ),
    # What stands on an account is what came there last: the oldest leaves first. So each place takes its part of what
    # came, counted from the newest: what is in a run was payable before what is payable now.
    query="""
    WITH today AS (
        SELECT CAST((now() + clock_offset_s * interval '1 second') AT TIME ZONE time_zone AS date) AS day
        FROM merchant WHERE id = %(merchant_id)s
    ), live AS (
        SELECT payee_id AS owner_id, currency, gross_minor, carried_minor,
               CASE WHEN handed_over_at IS NULL THEN 'reserved' ELSE 'in_transit' END AS place
        FROM payout_item WHERE merchant_id = %(merchant_id)s AND live
    ), kept AS (
        SELECT owner_id, currency, coalesce(max(amount_minor) FILTER (WHERE kind = 'pending'), 0) AS pending_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'held'), 0) AS held_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'payable'), 0) AS payable_minor,
               coalesce(max(amount_minor) FILTER (WHERE kind = 'taxed_carry'), 0) AS carry_minor
        FROM balance
        WHERE merchant_id = %(merchant_id)s AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        GROUP BY owner_id, currency
    ), part AS (
        SELECT owner_id, currency, each.pot, each.place, each.low, each.low + each.amount AS high
        FROM kept LEFT JOIN live USING (owner_id, currency)
        CROSS JOIN LATERAL (VALUES
            ('pending', 'pending', 0, pending_minor),
            ('held', 'held', 0, held_minor),
            ('payable', 'payable', 0, payable_minor),
            ('payable', live.place, greatest(payable_minor, 0), gross_minor),
            ('carry', 'carry', 0, carry_minor),
            ('carry', live.place, carry_minor, carried_minor),
            ('debt', 'debt', 0, -payable_minor)
        ) AS each (pot, place, low, amount)
        WHERE each.amount > 0
    ), came AS (
        SELECT payee_id AS owner_id, currency, each.pot, each.amount_minor, commission.id,
               CAST(coalesce(placed_at, created_at) AT TIME ZONE %(time_zone)s AS date) AS day
        FROM commission
        CROSS JOIN LATERAL (VALUES ('pending', pending_minor), ('held', held_minor)) AS each (pot, amount_minor)
        WHERE merchant_id = %(merchant_id)s AND each.amount_minor > 0
        UNION ALL
        SELECT credit_owner_id, currency, CASE credit_kind WHEN 'payable' THEN 'payable' ELSE 'carry' END, amount_minor,
               id, day
        FROM posting
        WHERE merchant_id = %(merchant_id)s AND credit_kind IN ('payable', 'taxed_carry') AND debit_kind <> 'reserved'
        UNION ALL
        SELECT debit_owner_id, currency, 'debt', amount_minor, id, day
        FROM posting
        WHERE merchant_id = %(merchant_id)s AND debit_kind = 'payable' AND credit_kind <> 'reserved'
    ), counted AS (
        SELECT came.*, sum(amount_minor) OVER (
                   PARTITION BY owner_id, currency, pot ORDER BY day DESC, id DESC ROWS UNBOUNDED PRECEDING) AS upto
        FROM came
        WHERE EXISTS (SELECT FROM part WHERE part.owner_id = came.owner_id AND part.currency = came.currency
                        AND part.pot = came.pot)
    ), aged AS (
        SELECT part.place, part.currency, part.owner_id, today.day - counted.day AS days,
               least(part.high, counted.upto) - greatest(part.low, counted.upto - counted.amount_minor) AS amount
        FROM part JOIN counted USING (owner_id, currency, pot) CROSS JOIN today
        WHERE least(part.high, counted.upto) > greatest(part.low, counted.upto - counted.amount_minor)
    ), signed AS (
        SELECT place, currency, owner_id, days, CASE place WHEN 'debt' THEN -amount ELSE amount END AS amount FROM aged
    )
    SELECT place, currency, count(DISTINCT owner_id) AS affiliates,
           CAST(coalesce(sum(amount) FILTER (WHERE days <= 30), 0) AS bigint) AS days_0_30_minor,
           CAST(coalesce(sum(amount) FILTER (WHERE days BETWEEN 31 AND 60), 0) AS bigint) AS days_31_60_minor,
           CAST(coalesce(sum(amount) FILTER (WHERE days BETWEEN 61 AND 90), 0) AS bigint) AS days_61_90_minor,
           CAST(coalesce(sum(amount) FILTER (WHERE days > 90), 0) AS bigint) AS over_90_minor,
           CAST(sum(amount) AS bigint) AS total_minor
    FROM signed
    GROUP BY place, currency
    """,
    order="currency, place",
)

RECONCILIATION_DIFFERENCES = Report(
    name="reconciliation-differences",
    title="Differences of reconciliations",
    description="One row for each difference that a reconciliation of these days found: both sides, and what explains it.",
    filters=frozenset({Filter.FROM, Filter.TO, Filter.CURRENCY}),
    columns=(
        Column("reconciliation_id", Kind.ID, "The reconciliation that found it.", prefix="rec"),
        Column("begins_on", Kind.DAY, "The first day that was reconciled."),
        Column("until", Kind.DAY, "The last."),
        Column("difference_id", Kind.ID, "The difference.", prefix="rdf"),
        Column(
            "about",
            Kind.TEXT,
            "An order of the shop's file, the commission it tells of one, or a payout and a line of the bank's.",
        ),
        Column("kind", Kind.TEXT, "Missing here, extra here, amount, currency, status, or twice in the file."),
        Column("external_id", Kind.TEXT, "The shop's id of the order, or what the bank calls the payment."),
        Column("order_id", Kind.ID, "The order here.", prefix="ord"),
        Column("payout_id", Kind.ID, "The payout here.", prefix="pay"),
        CURRENCY,
        Column("theirs", Kind.MONEY, "What the file says; empty: nothing of these days."),
        Column("ours", Kind.MONEY, "What is here; empty: nothing of these days."),
        Column("explained_by", Kind.TEXT, "What we know that explains it."),
        Column("explained_ref", Kind.TEXT, "Of what explains it."),
        Column("note", Kind.TEXT, "A person's explanation."),
        Column("note_by", Kind.ID, "The key that gave it.", prefix="key"),
        Column("note_at", Kind.MOMENT, "When."),
    ),
    query="""
    SELECT reconciliation.id AS reconciliation_id, reconciliation.begins_on, reconciliation.until,
           difference.id AS difference_id, difference.about, difference.kind, difference.external_id,
           difference.order_id, difference.item_id AS payout_id, difference.currency, difference.theirs_minor,
           difference.ours_minor, difference.explained_by, difference.explained_ref, difference.note,
           difference.note_by, difference.note_at
    FROM reconciliation
    JOIN reconciliation_difference AS difference
      ON difference.merchant_id = reconciliation.merchant_id AND difference.reconciliation_id = reconciliation.id
    WHERE reconciliation.merchant_id = %(merchant_id)s AND reconciliation.state = 'done'
      AND (%(from)s::date IS NULL OR reconciliation.begins_on >= %(from)s::date)
      AND (%(to)s::date IS NULL OR reconciliation.until <= %(to)s::date)
      AND (%(currency)s::text IS NULL OR difference.currency = %(currency)s)
    """,
    order="reconciliation_id, difference_id",
)
