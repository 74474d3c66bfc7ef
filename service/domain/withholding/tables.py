"""Dated rule tables: rates, thresholds and brackets as law and notices give them, each with its source.

Nobody qualified has approved these figures yet: they were read from law texts, firms' summaries and reprints, some of them copies of
copies. A tax professional has to confirm a table before money moves by it (`approved_by`). A change of the law is a new table with
dates of its own; one that has been used is never edited. Where a source is silent the cautious reading is taken, which withholds
rather than not, and `note` says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import Final

from service.domain.withholding.model import Regime
from service.domain.written import rate_of

READ = "read 2026-11"


class RuleName(StrEnum):
    """What a decision can be made by: a table, or nothing to withhold at all."""

    VN_2013 = "vn_2013"
    VN_2026_07 = "vn_2026_07"
    VN_117_2025 = "vn_117_2025"
    CN_LABOUR_61_2018 = "cn_labour_61_2018"
    CN_PLATFORM_16_2025 = "cn_platform_16_2025"
    CN_VAT_2026 = "cn_vat_2026"
    """Beside one of the two before, where the merchant declared VAT too."""
    US_NEC_2026 = "us_nec_2026"
    EU_NONE = "eu_none"
    NONE_COMPANY = "none_company"
    """The payee is a company, which invoices and pays its own taxes."""
    OFF = "off"
    """The merchant chose to withhold nothing."""


@dataclass(frozen=True, slots=True)
class Bracket:
    """up_to_minor: the largest taxable amount it holds for; None: any. rate: percent. quick_minor: quick deduction."""

    up_to_minor: int | None
    rate: str
    quick_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """One version of a rule.

    regime: None where it stands beside one of several. since, until: the first and the last pay day; None: no end is
    known. currency: of its amounts; None: it has none. rates: percent in decimal notation. amounts: minor units.
    approved_by: who confirmed it and when; empty: nobody yet.
    """

    name: RuleName
    regime: Regime | None
    since: date
    until: date | None
    currency: str | None
    source: str
    note: str
    rates: Mapping[str, str] = field(default_factory=dict)
    amounts: Mapping[str, int] = field(default_factory=dict)
    brackets: tuple[Bracket, ...] = ()
    approved_by: str = ""

    def holds_on(self, day: date) -> bool:
        return self.since <= day and (self.until is None or day <= self.until)

    def rate(self, name: str) -> Fraction:
        return rate_of(self.rates[name])

    def bracket_of(self, taxable: Fraction) -> Bracket:
        """The bracket that an amount in minor units falls into: its upper bound belongs to it."""
        return next(each for each in self.brackets if each.up_to_minor is None or taxable <= each.up_to_minor)


TABLES: Final = (
    RuleTable(
        name=RuleName.VN_2013,
        regime=Regime.VN,
        since=date(2013, 10, 1),
        until=date(2026, 6, 30),
        currency="VND",
        rates={"resident": "10", "non_resident": "20"},
        amounts={"payment": 2_000_000},
        source="Circular 111/2013/TT-BTC, Art. 25.1.i, as told by vnc-os.com and hankuklawfirm.com, " + READ,
        note="10 % of the whole payment from 2,000,000 VND on. The circular's first day is general knowledge. 20 % for people who are "
        "not resident is commonly stated, its text was not read. A payee's own request is followed below the threshold too: the "
        "circular is silent. A household without a tax code is treated as an individual.",
    ),
    RuleTable(
        name=RuleName.VN_2026_07,
        regime=Regime.VN,
        since=date(2026, 7, 1),
        until=None,
        currency="VND",
        rates={"resident": "10", "non_resident": "20"},
        amounts={"payment": 5_000_000},
        source="Decree 253/2026/NĐ-CP, Art. 50(2), in force 2026-07-01, as quoted by public specifications, " + READ,
        note="10 % of the whole payment from 5,000,000 VND on, below it only if the payee asks. No official text was read. Whether the "
        "threshold holds from 1 January or 1 July 2026 is told in two ways: the later day withholds more and is taken. 20 % for people "
        "who are not resident (Art. 64) was not read. A household without a tax code is treated as an individual.",
    ),
    RuleTable(
        name=RuleName.VN_117_2025,
        regime=Regime.VN_PLATFORM,
        since=date(2025, 7, 1),
        until=date(2026, 6, 30),
        currency=None,
        rates={
            "goods_vat": "1",
            "goods_resident": "0.5",
            "goods_non_resident": "1",
            "services_vat": "5",
            "services_resident": "2",
            "services_non_resident": "5",
            "transport_vat": "3",
            "transport_resident": "1.5",
            "transport_non_resident": "2",
        },
        source="Decree 117/2025/NĐ-CP, as told by apolatlegal.com, ey.com/en_vn and vietnamlawmagazine.vn, " + READ,
        note="For household and individual sellers of a platform with a payment function, of each sale. Decree 252/2026, Art. 44–45, "
        "follows it with other words for the rates, which were not read: from 2026-07-01 on nothing can be decided. VAT of people who "
        "are not resident is taken at the same rates: the source is silent.",
    ),
    RuleTable(
        name=RuleName.CN_LABOUR_61_2018,
        regime=Regime.CN_LABOUR,
        since=date(2019, 1, 1),
        until=None,
        currency="CNY",
        rates={"deduction": "20"},
        amounts={"fixed_deduction": 80_000, "fixed_up_to": 400_000},
        brackets=(
            Bracket(2_000_000, "20", 0),
            Bracket(5_000_000, "30", 200_000),
            Bracket(None, "40", 700_000),
        ),
        source="State Taxation Administration Announcement 61/2018, as summarised by deijizhang.com, gerensuodeshui.cn and chinaacc, " + READ,
        note="Income of one calendar month counts as one time, so each payout is the difference it makes to the month. A prepayment, "
        "settled in the payee's annual return. Sole traders are treated as individuals: the source is silent. There is no table for "
        "people who are not resident.",
    ),
    RuleTable(
        name=RuleName.CN_PLATFORM_16_2025,
        regime=Regime.CN_PLATFORM,
        since=date(2025, 10, 1),
        until=None,
        currency="CNY",
        rates={"deduction": "20"},
        amounts={"each_month": 500_000},
        brackets=(
            Bracket(3_600_000, "3", 0),
            Bracket(14_400_000, "10", 252_000),
            Bracket(30_000_000, "20", 1_692_000),
            Bracket(42_000_000, "25", 3_192_000),
            Bracket(66_000_000, "30", 5_292_000),
            Bracket(96_000_000, "35", 8_592_000),
            Bracket(None, "45", 18_192_000),
        ),
        source="State Taxation Administration Announcement 16/2025, in force 2025-10-01, as reprinted by caishui.org and tqcta.com, " + READ,
        note="5,000 yuan are deducted for each month of the year with income, the present one included; months in between without income "
        "are not counted. Exempt income, other deductions and relief are not taken into account. Sole traders are treated as "
        "individuals. There is no table for people who are not resident.",
    ),
    RuleTable(
        name=RuleName.CN_VAT_2026,
        regime=None,
        since=date(2026, 1, 1),
        until=date(2027, 12, 31),
        currency="CNY",
        rates={"vat": "1"},
        amounts={"day": 100_000},
        source="VAT Law Implementing Regulations, Art. 35, and the threshold of 1,000 yuan a time (day), as told by qhweb.eastmoney.com, "
        "tfcjtax.com and viwant.com, " + READ,
        note="Only where the merchant declares it: how a payer withholds and files is not known in detail. More than 1,000.00 yuan on a "
        "day, VAT included, are taxed in full; whether the threshold is met with VAT or without is not told. The exemption of 100,000 "
        "yuan a month for those a platform files for is not applied. The amount paid holds the VAT.",
    ),
    RuleTable(
        name=RuleName.US_NEC_2026,
        regime=Regime.US_NEC,
        since=date(2026, 1, 1),
        until=date(2026, 12, 31),
        currency="USD",
        rates={"backup": "24", "foreign": "30"},
        amounts={"reporting": 200_000, "reporting_last_year": 60_000},
        source="26 USC 6041(a), 6041A, 3406(b)(6) and 1441, as in github.com/TheJoshuaEvans/united-states-code, and sovos.com, " + READ,
        note="The threshold of 2,000 USD is indexed from 2027 on, so this table ends with 2026. Without a form W-9, or with a TIN that "
        "is missing or incorrect, a payee falls under backup withholding. A form W-8 of somebody resident in the United States counts "
        "as no form. How long a form W-8 is valid is not checked.",
    ),
    RuleTable(
        name=RuleName.EU_NONE,
        regime=Regime.EU_NONE,
        since=date(2020, 2, 1),
        until=None,
        currency=None,
        source="No withholding from self-employed people is named by the sources on DAC7 and self-billing (duneconsultants.com, bdo.nl), "
        + READ,
        note="For payees in a member state; the table begins when the list of members was last changed. Whether a member state asks something of its own of a payer was not looked into.",
    ),
)  # fmt: skip
"""In the order in which they came into force within each regime."""

US_REPORTING_MINOR: Final[Mapping[int, int]] = {2025: 60_000, 2026: 200_000}
"""From this much a year on a payer reports what it paid for services, in US cents. Indexed after 2026: no other year is known."""

EU_MEMBERS: Final = frozenset(
    {"AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL",
     "PL", "PT", "RO", "SE", "SI", "SK"}
)  # fmt: skip
"""Member states of the European Union since 2020-02-01, ISO 3166-1 alpha-2."""


def table_of(name: str) -> RuleTable:
    """The table of this name. Raises KeyError."""
    return _BY_NAME[name]


def in_force(regime: Regime, day: date) -> RuleTable | None:
    """The regime's table for a pay day, if there is one."""
    return next((each for each in TABLES if each.regime is regime and each.holds_on(day)), None)


def tables_of(regime: Regime) -> tuple[RuleTable, ...]:
    return tuple(each for each in TABLES if each.regime is regime)


_BY_NAME: Final[Mapping[str, RuleTable]] = {each.name: each for each in TABLES}
