"""Who stands in which yearly or quarterly register, and with what; filing is a person's work.

The sums come from accepted payouts of the period. Sources and dates are those of the rule tables, or stand with each function.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.domain.errors import InvariantBroken
from service.domain.withholding.model import PayeeKind, Profile, Regime
from service.domain.withholding.tables import EU_MEMBERS, US_REPORTING_MINOR
from service.domain.withholding.united_states import is_foreign
from service.domain.withholding.vietnam import declares_itself

PERSON: Final = "tax-person"
"""What the part of a tax profile that names a person is encrypted for."""


def needs_1099_nec(profile: Profile, *, year: int, paid_minor: int, backup_minor: int) -> bool | None:
    """Whether a payer in the United States reports a payee on form 1099-NEC, due 31 January; None: the year is not known.

    paid_minor: paid for services in the year, in US cents. backup_minor: backup withholding of the year, any of which
    is reported. Companies are left out: a partnership has to be added by hand.
    """
    if profile.kind is PayeeKind.COMPANY or is_foreign(profile):
        return False
    if backup_minor > 0:
        return True
    threshold = US_REPORTING_MINOR.get(year)
    return None if threshold is None else paid_minor >= threshold


def needs_1042_s(profile: Profile, *, paid_minor: int) -> bool:
    """Whether a payer in the United States reports a foreign payee on form 1042-S: one who works there, or may.

    Work done wholly outside is income from abroad: form W-8BEN is kept as evidence, and nothing is reported.
    """
    is_person = profile.kind is not PayeeKind.COMPANY
    return is_person and is_foreign(profile) and paid_minor > 0 and profile.details.get("works_in_us") is not False


def in_vietnamese_list(profile: Profile, *, paid_minor: int) -> bool:
    """Whether a payer in Vietnam lists somebody in its yearly statement: everybody paid, withheld from or not.

    Somebody with a commitment 08/CK-TNCN is listed too. Companies and households with a tax code declare themselves.
    """
    return paid_minor > 0 and profile.kind is not PayeeKind.COMPANY and not declares_itself(profile)


@dataclass(frozen=True, slots=True)
class ChineseQuarter:
    """What a platform in China reports of one participant and quarter, in minor units.

    Source: State Council Decree 810 and Announcement 15/2025, as told by focustax.cn and etnet.com.hk, read 2026-11.
    """

    gross_minor: int
    refunds_minor: int
    item: str = "commission"

    @property
    def net_minor(self) -> int:
        """Below zero where more was taken back than earned."""
        return self.gross_minor - self.refunds_minor


def chinese_quarter(regime: Regime, *, gross_minor: int, refunds_minor: int) -> ChineseQuarter | None:
    """The row of one participant, whatever kind of payee it is; None where there is none.

    Only platforms report. gross_minor, refunds_minor: earned and taken back in the quarter, both zero or more.
    """
    if gross_minor < 0 or refunds_minor < 0:
        raise InvariantBroken(f"a quarter cannot have earned {gross_minor} and given back {refunds_minor}")
    if regime is not Regime.CN_PLATFORM or gross_minor == refunds_minor == 0:
        return None
    return ChineseQuarter(gross_minor, refunds_minor)


class Activity(StrEnum):
    """What DAC7 calls a relevant activity."""

    PROPERTY_RENTAL = "property_rental"
    PERSONAL_SERVICES = "personal_services"
    """What promoting for a commission is, if anything."""
    GOODS = "goods"
    TRANSPORT_RENTAL = "transport_rental"


class Dac7Field(StrEnum):
    """What a platform collects of a seller, and other payers some of."""

    NAME = "name"
    ADDRESS = "address"
    TIN = "tin"
    BORN_ON = "born_on"
    VAT_ID = "vat_id"
    ACCOUNT = "account"


SMALL_SALES: Final = 30
SMALL_MINOR: Final = 200_000
"""Euro cents. Fewer sales and no more money than this a year, and a seller of goods is left out."""


def in_dac7_report(profile: Profile, activity: Activity, *, times: int, paid_minor: int) -> bool:
    """Whether a platform reports a seller resident in the European Union, by 31 January.

    times: sales in the year. paid_minor: in euro cents. Whether a merchant's own affiliate programme is such a platform is
    doubtful: nobody claims it here, the figures are there for one that is.
    Source: Directive (EU) 2021/514, as told by duneconsultants.com, bpm.com and bdo.nl, read 2026-11.
    """
    if profile.country not in EU_MEMBERS or times == 0:
        return False
    is_small = activity is Activity.GOODS and times < SMALL_SALES and paid_minor <= SMALL_MINOR
    return not is_small


def missing_of(
    asked: Collection[Dac7Field], kind: PayeeKind | None, known: Collection[Dac7Field]
) -> tuple[Dac7Field, ...]:
    """Of what a register asks, what is not known of a payee. Only people have a day of birth, and not all of them a VAT id."""
    unasked = {Dac7Field.BORN_ON} if kind is PayeeKind.COMPANY else {Dac7Field.VAT_ID}
    return tuple(each for each in asked if each not in known and each not in unasked)
