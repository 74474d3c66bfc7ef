"""The registers for filing, each defined once: who stands in it, with which figures, and what is asked of a payee.

They are drafts: every row says that a tax professional must confirm it. Who stands in one is decided in
`domain/withholding/forms.py` by the payee's newest profile, with one exception: whoever was taxed under the rules a register
is about is never left out, whatever the profile says today, so that a register adds up to what the books say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Final

from service.domain.errors import Invalid, Missing
from service.domain.withholding.forms import (
    Activity,
    Dac7Field,
    chinese_quarter,
    in_dac7_report,
    in_vietnamese_list,
    needs_1042_s,
    needs_1099_nec,
)
from service.domain.withholding.model import PayeeKind, Profile, Regime
from service.domain.withholding.tables import EU_MEMBERS, tables_of
from service.reports.define import CURRENCY, Column, Kind


class UnknownRegister(Missing):
    code = "unknown-tax-register"
    title = "There is no such register"


class PeriodUnfit(Invalid):
    code = "tax-register-period"
    title = "The register cannot be made of this period"


class Every(StrEnum):
    """How often a register is filed."""

    YEAR = "year"
    QUARTER = "quarter"


@dataclass(frozen=True, slots=True)
class Period:
    """A year, or one quarter of it, by the merchant's calendar."""

    year: int
    quarter: int | None = None

    @property
    def first(self) -> date:
        return date(self.year, 1 if self.quarter is None else 3 * self.quarter - 2, 1)

    @property
    def last(self) -> date:
        month = 12 if self.quarter is None else 3 * self.quarter
        return date(self.year, month, 31 if month in {3, 12} else 30)

    def __str__(self) -> str:
        return f"{self.year}" if self.quarter is None else f"{self.year}-Q{self.quarter}"


class Check(StrEnum):
    """What a person has to look at before a row is filed."""

    THRESHOLD_UNKNOWN = "threshold_unknown"
    """From which amount on a payee is reported is not known for this year."""
    PROFILE_CHANGED = "profile_changed"
    """Counted under these rules, though who the payee is by now would leave it out."""
    NO_PROFILE = "no_profile"
    """There is no tax profile: nobody has said who the payee is."""


@dataclass(frozen=True, slots=True)
class Line:
    """What was found of one payee in one currency. profile: the newest. figures: by column of the query."""

    profile: Profile | None
    figures: Mapping[str, Any]
    year: int


_WHO = (
    Column("period", Kind.TEXT, "The year, or the quarter such as 2026-Q3."),
    Column("provisional", Kind.TEXT, "yes: the period has not ended by your calendar; else no."),
    Column("check", Kind.TEXT, "What a person has to look at, by its codes; empty: nothing is known."),
    Column("missing", Kind.TEXT, "What is still to be asked of the payee, with a blank between."),
    Column("affiliate_id", Kind.ID, "The payee.", prefix="aff"),
    Column("affiliate_external_id", Kind.TEXT, "The merchant's own id of the payee."),
    Column("affiliate_name", Kind.TEXT, "What the payee is called here."),
    Column("kind", Kind.TEXT, "individual, household or company."),
    Column("country", Kind.TEXT, "Of tax residence."),
)
_ASKED: Mapping[Dac7Field, tuple[Column, ...]] = {
    Dac7Field.NAME: (Column("legal_name", Kind.TEXT, "The name before the authority."),),
    Dac7Field.ADDRESS: (
        Column("street", Kind.TEXT, "Of the address."),
        Column("town", Kind.TEXT, "Of the address."),
        Column("postcode", Kind.TEXT, "Of the address."),
        Column("address_country", Kind.TEXT, "Of the address."),
    ),
    Dac7Field.TIN: (Column("tax_code", Kind.TEXT, "Tax code, TIN or identity number."),),
    Dac7Field.BORN_ON: (Column("born_on", Kind.DAY, "The day of birth; of people."),),
    Dac7Field.VAT_ID: (Column("vat_id", Kind.TEXT, "The VAT id; of companies."),),
    Dac7Field.ACCOUNT: (
        Column("account_rail", Kind.TEXT, "How the money goes out."),
        Column("account", Kind.TEXT, "The end of the account; all of it stands with the rail."),
    ),
}
"""The columns that show what is asked of a payee."""
_NOTICE = Column("notice", Kind.TEXT, "That a tax professional has to confirm the row.")

Standing = tuple[Check, ...] | None
"""What is to be looked at of a payee that stands in a register; None: it does not stand there."""


@dataclass(frozen=True, slots=True)
class Register:
    """query: one SELECT with payee_id, currency and what `figures` are made of.

    It is narrowed by %(merchant_id)s and the period: %(year)s as text, %(first)s and %(last)s as days. figures: the last columns of
    a row. also: numbers of the query that no column shows. order: of rows. asked: what has to be known of a payee. stands:
    whether a line stands in it.
    """

    name: str
    title: str
    who: str
    every: Every
    asked: tuple[Dac7Field, ...]
    figures: tuple[Column, ...]
    query: str
    stands: Callable[[Line], Standing]
    also: tuple[str, ...] = ()
    order: tuple[str, ...] = ("payee_id", "currency")

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns of a row, in order."""
        asked = (column for field in Dac7Field if field in self.asked for column in _ASKED[field])
        return (*_WHO, *asked, CURRENCY, *self.figures, _NOTICE)

    def period(self, year: int, quarter: int | None, *, today: date) -> Period:
        """The period asked for. Raises PeriodUnfit: a quarter too many or too few, or one that has not begun."""
        if (quarter is not None) is not (self.every is Every.QUARTER):
            needed = "a year and a quarter" if self.every is Every.QUARTER else "a year and no quarter"
            raise PeriodUnfit(f"{self.name} is filed by the {self.every}: give {needed}.")
        asked = Period(year, quarter)
        if asked.first > today:
            raise PeriodUnfit(
                f"{asked} begins on {asked.first}; it is {today} by your calendar. Ask for one that has begun."
            )
        return asked


def find(name: str) -> Register:
    """Raises UnknownRegister."""
    try:
        return REGISTERS[name]
    except KeyError:
        raise UnknownRegister(f"The registers are {', '.join(REGISTERS)}.") from None


def _by_entries(*regimes: Regime, sums: str) -> str:
    """One row for each payee and currency with what was counted in a year by the tables of regimes, corrections done."""
    rules = ", ".join(f"'{table.name}'" for regime in regimes for table in tables_of(regime))
    return f"""
    SELECT payee_id, currency, string_agg(DISTINCT rule, ' ' ORDER BY rule) AS rules, {sums}
    FROM tax_entry
    WHERE merchant_id = %(merchant_id)s AND rule IN ({rules}) AND left(period, 4) = %(year)s
    GROUP BY payee_id, currency
    """  # noqa: S608 - put together from our own constants


def _sum(column: str, duties: str, name: str) -> str:
    return f"CAST(coalesce(sum({column}) FILTER (WHERE duty IN ({duties})), 0) AS bigint) AS {name}"


_BORNE = "CAST(sum(borne_minor) AS bigint) AS borne_minor"
_RULES = Column("rules", Kind.TEXT, "The rule tables that decided, with a blank between them.")
_BORNE_COLUMN = Column("borne", Kind.MONEY, "The part of the tax at the merchant's cost.")


def _taxed(*, decided: bool | None, tax_minor: int) -> Standing:
    if decided is None:
        return (Check.THRESHOLD_UNKNOWN,)
    if decided:
        return ()
    return (Check.PROFILE_CHANGED,) if tax_minor else None


def _in_vietnam(line: Line) -> Standing:
    income, tax = line.figures["income_minor"], line.figures["tax_minor"] + line.figures["vat_minor"]
    if line.profile is None:
        return (Check.NO_PROFILE,) if income or tax else None
    return _taxed(decided=in_vietnamese_list(line.profile, paid_minor=income), tax_minor=tax)


VN_YEARLY = Register(
    name="vn_yearly",
    title="Vietnam: everybody paid in a year",
    who="Everybody who was paid under the rules of Vietnam, withheld from or not. Not companies, and not households that declare "
    "their own taxes.",
    every=Every.YEAR,
    asked=(Dac7Field.NAME, Dac7Field.TIN),
    figures=(
        Column("income", Kind.MONEY, "Income counted for income tax."),
        Column("tax", Kind.MONEY, "Income tax on it, of residents and others."),
        Column("vat", Kind.MONEY, "VAT, where the payer is a platform."),
        _BORNE_COLUMN,
        _RULES,
    ),
    query=_by_entries(
        Regime.VN,
        Regime.VN_PLATFORM,
        sums=f"""
        {_sum("base_minor", "'income_tax', 'non_resident'", "income_minor")},
        {_sum("tax_minor", "'income_tax', 'non_resident'", "tax_minor")},
        {_sum("tax_minor", "'vat'", "vat_minor")}, {_BORNE}
        """,
    ),
    stands=_in_vietnam,
)


def _in_china(line: Line) -> Standing:
    quarter = chinese_quarter(
        Regime.CN_PLATFORM,
        gross_minor=line.figures["gross_minor"],
        refunds_minor=line.figures["refunds_minor"],
    )
    if quarter is None:
        return None
    return (Check.NO_PROFILE,) if line.profile is None else ()


CN_QUARTERLY = Register(
    name="cn_quarterly",
    title="China: platform, income of a quarter (Decree 810)",
    who="Everybody who earned something in the quarter, or whom something was taken back from, companies too: payees whose tax "
    "residence is China, and those without a profile. Only where the regime cn_platform was declared on a day of the quarter.",
    every=Every.QUARTER,
    asked=(Dac7Field.NAME, Dac7Field.ADDRESS, Dac7Field.TIN),
    figures=(
        Column("item", Kind.TEXT, "What the income is for."),
        Column("gross", Kind.MONEY, "Commission earned in the quarter, paid out or not."),
        Column("refunds", Kind.MONEY, "Commission taken back in the quarter, of whenever it was earned."),
        Column("net", Kind.MONEY, "Gross less refunds; below zero where more was taken back."),
    ),
    query="""
    SELECT made.payee_id, made.currency, 'commission' AS item, made.gross_minor, made.refunds_minor,
           made.gross_minor - made.refunds_minor AS net_minor
    FROM (
        SELECT CASE WHEN debit_kind = 'commission_expense' THEN credit_owner_id ELSE debit_owner_id END AS payee_id,
               currency,
               CAST(coalesce(sum(amount_minor) FILTER (WHERE debit_kind = 'commission_expense'), 0) AS bigint)
                   AS gross_minor,
               CAST(coalesce(sum(amount_minor) FILTER (WHERE credit_kind = 'commission_expense'), 0) AS bigint)
                   AS refunds_minor
        FROM posting
        WHERE merchant_id = %(merchant_id)s AND day BETWEEN %(first)s AND %(last)s
          AND 'commission_expense' IN (debit_kind, credit_kind)
        GROUP BY 1, 2
    ) AS made
    JOIN affiliate ON affiliate.merchant_id = %(merchant_id)s AND affiliate.id = made.payee_id
    LEFT JOIN tax_profile AS profile
      ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
    WHERE (profile.id IS NULL OR profile.country = 'CN')
      AND EXISTS (
          SELECT FROM (
              -- Of several for one day the one recorded last counts: the others end before they begin.
              SELECT regime, valid_from, lead(valid_from) OVER (ORDER BY valid_from, id) AS until
              FROM tax_regime WHERE merchant_id = %(merchant_id)s AND country = 'CN'
          ) AS declared
          WHERE regime = 'cn_platform' AND valid_from <= %(last)s
            AND (until IS NULL OR until > greatest(valid_from, %(first)s)))
    """,
    stands=_in_china,
)


def _on_1099_nec(line: Line) -> Standing:
    paid, tax = line.figures["paid_minor"], line.figures["tax_minor"]
    # What is counted here was decided as of a person who is not known to be foreign.
    as_decided = Profile(kind=PayeeKind.INDIVIDUAL, country="US")
    standing = _taxed(
        decided=needs_1099_nec(as_decided, year=line.year, paid_minor=paid, backup_minor=tax), tax_minor=tax
    )
    if standing is None or not (paid or tax):
        return None
    if line.profile is None:
        return (Check.NO_PROFILE, *standing)
    still = needs_1099_nec(line.profile, year=line.year, paid_minor=paid, backup_minor=tax)
    return (Check.PROFILE_CHANGED,) if still is False else standing


US_1099_NEC = Register(
    name="us_1099_nec",
    title="United States: form 1099-NEC",
    who="People under the rules of the United States who were paid the year's threshold or more, and everybody with backup "
    "withholding. Not payees from abroad (form 1042-S), not companies: a partnership has to be added by hand.",
    every=Every.YEAR,
    asked=(Dac7Field.NAME, Dac7Field.ADDRESS, Dac7Field.TIN),
    figures=(
        Column("paid", Kind.MONEY, "Paid for services in the year: box 1."),
        Column("tax", Kind.MONEY, "Backup withholding of the year: box 4."),
        _BORNE_COLUMN,
        _RULES,
    ),
    query=_by_entries(
        Regime.US_NEC,
        sums=f"""
        {_sum("base_minor", "'backup'", "paid_minor")}, {_sum("tax_minor", "'backup'", "tax_minor")},
        {_sum("borne_minor", "'backup'", "borne_minor")}
        """,
    ),
    stands=_on_1099_nec,
)


def _on_1042_s(line: Line) -> Standing:
    paid, tax = line.figures["income_minor"], line.figures["tax_minor"]
    if line.profile is None:
        return (Check.NO_PROFILE,) if paid or tax else None
    return _taxed(decided=needs_1042_s(line.profile, paid_minor=paid), tax_minor=tax)


US_1042_S = Register(
    name="us_1042_s",
    title="United States: form 1042-S",
    who="Payees from abroad who work in the United States, or of whom it is not known. Not those who work wholly outside, and not "
    "companies.",
    every=Every.YEAR,
    asked=(Dac7Field.NAME, Dac7Field.ADDRESS, Dac7Field.TIN, Dac7Field.BORN_ON),
    figures=(
        Column("income", Kind.MONEY, "Gross income of the year: box 2."),
        Column("tax", Kind.MONEY, "Withheld from it: box 7."),
        _BORNE_COLUMN,
        _RULES,
    ),
    query=_by_entries(
        Regime.US_NEC,
        sums=f"""
        {_sum("base_minor", "'non_resident'", "income_minor")}, {_sum("tax_minor", "'non_resident'", "tax_minor")},
        {_sum("borne_minor", "'non_resident'", "borne_minor")}
        """,
    ),
    stands=_on_1042_s,
)


def _in_dac7(line: Line) -> Standing:
    assert line.profile is not None
    is_in = in_dac7_report(line.profile, Activity.PERSONAL_SERVICES, times=line.figures["times"], paid_minor=0)
    # A withholding that is put right in a year without payouts is told too.
    return () if is_in or line.figures["tax_minor"] else None


_EU: Final = ", ".join(f"'{country}'" for country in sorted(EU_MEMBERS))

DAC7 = Register(
    name="dac7",
    title="European Union: DAC7, sellers of a platform",
    who="Payees resident in a member state who were paid in the year, companies too, one row for each quarter. Whether an affiliate "
    "programme is such a platform at all is doubtful: no claim is made.",
    every=Every.YEAR,
    asked=tuple(Dac7Field),
    figures=(
        Column("quarter", Kind.COUNT, "The quarter of the year; empty where opening figures do not say."),
        Column("payouts", Kind.COUNT, "How often something was paid."),
        Column("paid", Kind.MONEY, "Commission that was paid, before tax and fees."),
        Column("fee", Kind.MONEY, "Platform fee taken from it."),
        Column("tax", Kind.MONEY, "Withheld from it, by whatever rule; below zero where it was given back."),
    ),
    query=f"""
    SELECT part.payee_id, part.currency, part.quarter, CAST(sum(part.payouts) AS bigint) AS payouts,
           CAST(sum(part.paid_minor) AS bigint) AS paid_minor, CAST(sum(part.fee_minor) AS bigint) AS fee_minor,
           CAST(sum(part.tax_minor) AS bigint) AS tax_minor,
           CAST(sum(sum(part.payouts)) OVER (PARTITION BY part.payee_id) AS bigint) AS times
    FROM (
        SELECT item.payee_id, item.currency, CAST(extract(quarter FROM posting.day) AS bigint) AS quarter,
               -- What is only carried was paid before, and came back.
               CASE WHEN item.gross_minor > 0 THEN 1 ELSE 0 END AS payouts, item.gross_minor AS paid_minor,
               item.fee_minor, 0 AS tax_minor
        FROM posting
        JOIN payout_item AS item
          ON item.merchant_id = posting.merchant_id AND item.id = CAST(split_part(posting.event, '/', 2) AS uuid)
        -- Only an accepted payout moves money so, once: payouts/book.py.
        WHERE posting.merchant_id = %(merchant_id)s AND posting.day BETWEEN %(first)s AND %(last)s
          AND posting.debit_kind = 'in_transit' AND posting.credit_kind = 'paid'
        UNION ALL
        SELECT payee_id, currency, CAST(extract(quarter FROM booked_on) AS bigint), 0, 0, 0, tax_minor - borne_minor
        FROM tax_entry
        WHERE merchant_id = %(merchant_id)s AND kind <> 'opening' AND booked_on BETWEEN %(first)s AND %(last)s
        UNION ALL
        SELECT payee_id, currency, (CAST(nullif(substr(period, 6, 2), '') AS bigint) + 2) / 3, 1, base_minor, 0, tax_minor
        FROM tax_entry
        WHERE merchant_id = %(merchant_id)s AND kind = 'opening' AND rule = 'eu_none' AND left(period, 4) = %(year)s
    ) AS part
    JOIN affiliate ON affiliate.merchant_id = %(merchant_id)s AND affiliate.id = part.payee_id
    JOIN tax_profile AS profile
      ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
    WHERE profile.country IN ({_EU})
    GROUP BY part.payee_id, part.currency, part.quarter
    """,  # noqa: S608 - put together from our own constants
    stands=_in_dac7,
    also=("times",),
    order=("payee_id", "currency", "quarter"),
)

REGISTERS: Final = {each.name: each for each in (VN_YEARLY, CN_QUARTERLY, US_1099_NEC, US_1042_S, DAC7)}
