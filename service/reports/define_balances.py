"""The report of balances: where all that affiliates earned is at this moment."""

from service.reports.define import AFFILIATE, CURRENCY, Column, Filter, Kind, Report

STANDS = """
SELECT balance.owner_id, balance.currency,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'pending'), 0) AS pending_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'held'), 0) AS held_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'payable'), 0) AS payable_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'reserved'), 0) AS reserved_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'in_transit'), 0) AS in_transit_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'paid'), 0) AS paid_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'taxed_carry'), 0) AS carried_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'advance'), 0) AS advance_minor,
       coalesce(max(version) FILTER (WHERE kind = 'payable'), 0) AS payable_version,
       coalesce(sum(amount_minor) FILTER (WHERE kind IN ('tax_withheld', 'remitted', 'platform_fee', 'tax_cost')), 0)
           AS withheld_minor,
       coalesce(max(amount_minor) FILTER (WHERE kind = 'write_off'), 0) AS written_off_minor
FROM balance
"""
"""Balances beside each other by payee and currency; goes before a WHERE on `balance` and the GROUP BY below."""

GROUPED = "GROUP BY balance.merchant_id, balance.owner_id, balance.currency"

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
    query=f"""
    WITH stands AS (
        {STANDS}
        WHERE balance.merchant_id = %(merchant_id)s
          AND (%(currency)s::text IS NULL OR balance.currency = %(currency)s)
        {GROUPED}
    )
    SELECT stands.owner_id AS affiliate_id, affiliate.external_id AS affiliate_external_id,
           affiliate.name AS affiliate_name, affiliate.status AS affiliate_status, stands.currency,
           pending_minor + held_minor + payable_minor + reserved_minor + in_transit_minor + paid_minor + carried_minor
               + advance_minor + withheld_minor + written_off_minor AS earned_minor,
           pending_minor, held_minor, payable_minor, reserved_minor, in_transit_minor, paid_minor, carried_minor,
           advance_minor, withheld_minor, written_off_minor
    FROM stands
    JOIN affiliate ON affiliate.merchant_id = %(merchant_id)s AND affiliate.id = stands.owner_id
    """,  # noqa: S608 - put together from our own constants
    order="affiliate_id, currency",
)
