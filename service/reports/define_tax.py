"""The report of tax: every dated difference to what was counted and decided for payees, and what of it was passed on."""

from service.reports.define import AFFILIATE, CURRENCY, Column, Filter, Kind, Report

TAX = Report(
    name="tax",
    title="Tax",
    description="One row for each tax entry, by the day it was booked: what a duty counts, what is owed for it, who bears it.",
    filters=frozenset(Filter),
    columns=(
        Column("tax_entry_id", Kind.ID, "The entry.", prefix="txe"),
        Column(
            "kind", Kind.TEXT, "accepted: by a payout the rail accepted; corrected: by a person; opening: from before."
        ),
        Column("payout_id", Kind.ID, "The payout that made it.", prefix="pay"),
        Column("run_id", Kind.ID, "The run of that payout.", prefix="run"),
        Column("correction_id", Kind.ID, "The correction that made it.", prefix="cor"),
        *AFFILIATE,
        Column("rule", Kind.TEXT, "The rule table that decided."),
        Column("duty", Kind.TEXT, "What it is for: income_tax, vat, backup or non_resident."),
        Column("period", Kind.TEXT, "The year, month or day it is counted in, by the merchant's calendar."),
        CURRENCY,
        Column("base", Kind.MONEY, "Income the duty counts; below zero where it is counted no more."),
        Column("tax", Kind.MONEY, "Owed for it, whoever bears it; below zero where it is undone."),
        Column("borne", Kind.MONEY, "The part of it at the merchant's cost."),
        Column("booked_on", Kind.DAY, "The day it was booked."),
        Column(
            "remitted",
            Kind.TEXT,
            "yes: passed on to the authority, or undone before; no: still to be; empty: nothing of it is passed on from here.",
        ),
    ),
    query="""
    SELECT entry.id AS tax_entry_id, entry.kind, entry.item_id AS payout_id, item.run_id, entry.correction_id,
           entry.payee_id AS affiliate_id, affiliate.external_id AS affiliate_external_id,
           affiliate.name AS affiliate_name, entry.rule, entry.duty, entry.period, entry.currency, entry.base_minor,
           entry.tax_minor, entry.borne_minor, entry.booked_on, entry.created_at,
           CASE WHEN entry.tax_minor = 0 OR entry.kind = 'opening' THEN NULL
                WHEN entry.is_passed_on THEN 'yes' ELSE 'no' END AS remitted
    FROM (
        SELECT summed.*,
               -- A remittance passes on all that is owed of a payee by then: up to the last entry by which the sum of what
               -- was owed is what was passed on, nothing is left.
               bool_or(summed.owed_minor = coalesce(passed.on_minor, 0)) OVER (
                   PARTITION BY summed.payee_id, summed.rule, summed.duty, summed.period, summed.currency
                   ORDER BY summed.created_at DESC, summed.id DESC
               ) AS is_passed_on
        FROM (
            SELECT tax_entry.*, coalesce(sum(tax_minor) FILTER (WHERE kind <> 'opening') OVER (
                       PARTITION BY payee_id, rule, duty, period, currency ORDER BY created_at, id), 0) AS owed_minor
            FROM tax_entry
            WHERE merchant_id = %(merchant_id)s AND (%(currency)s::text IS NULL OR currency = %(currency)s)
        ) AS summed
        LEFT JOIN (
            SELECT line.payee_id, remittance.rule, remittance.duty, remittance.period, remittance.currency,
                   sum(line.amount_minor) AS on_minor
            FROM tax_remittance_line AS line
            JOIN tax_remittance AS remittance
              ON remittance.merchant_id = line.merchant_id AND remittance.id = line.remittance_id
            WHERE line.merchant_id = %(merchant_id)s
            GROUP BY line.payee_id, remittance.rule, remittance.duty, remittance.period, remittance.currency
        ) AS passed
          ON passed.payee_id = summed.payee_id AND passed.rule = summed.rule AND passed.duty = summed.duty
         AND passed.period = summed.period AND passed.currency = summed.currency
    ) AS entry
    JOIN affiliate ON affiliate.merchant_id = entry.merchant_id AND affiliate.id = entry.payee_id
    LEFT JOIN payout_item AS item ON item.merchant_id = entry.merchant_id AND item.id = entry.item_id
    WHERE (%(from)s::date IS NULL OR entry.booked_on >= %(from)s::date)
      AND (%(to)s::date IS NULL OR entry.booked_on <= %(to)s::date)
      AND (%(run_id)s::uuid IS NULL OR item.run_id = %(run_id)s)
    """,
    order="booked_on, tax_entry_id",
)
