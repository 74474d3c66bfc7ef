"""Settlement as well-known programmes do it, to start from: what merchants and KOCs of these markets are used to.

Checked in November 2026 against public pages and guides, some of them copies of copies, so these are no claims about
anybody's programme: a merchant takes one, changes it and publishes it as its own terms.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from service.domain.order import Milestone
from service.domain.settlement import Approval, RollingSettlement, Settlement, StatementSettlement, Weekday
from service.domain.written import Amounts

WEEKEND = frozenset({Weekday.SAT, Weekday.SUN})


@dataclass(frozen=True, slots=True)
class Preset:
    """name: never renamed. like: whose habit it is, in words. payout_minimums_minor: less than that is carried."""

    name: str
    like: str
    settlement: Settlement
    payout_minimums_minor: Amounts = ()


def _rolling(start: Milestone, hold_days: int) -> RollingSettlement:
    return RollingSettlement(start, hold_days)


def _statement(cut_off_day: int, months_after: int, pay_day: int, **more: Any) -> StatementSettlement:
    return StatementSettlement(
        Milestone.COMPLETED, 0, cut_off_day=cut_off_day, months_after=months_after, pay_day=pay_day, **more
    )


PRESETS = (
    Preset(
        "taobao",
        "Taobao: received in a month, disputes of the merchant until the 15th, paid on the 20th of the next",
        _statement(31, 1, 20, audit_days=15),
    ),
    Preset("pdd", "Pinduoduo: passed from the 16th to the 15th, paid on the 20th", _statement(15, 0, 20)),
    Preset("jd", "JD: completed in a month, billed on the 1st of the month after next", _statement(31, 2, 1)),
    Preset("douyin", "Douyin: seven days after receipt is confirmed", _rolling(Milestone.COMPLETED, 7)),
    Preset("tiktok_shop_us", "TikTok Shop US: fifteen days after delivery", _rolling(Milestone.DELIVERED, 15)),
    Preset(
        "tiktok_shop_vn", "TikTok Shop Vietnam, standard: seven days after delivery", _rolling(Milestone.DELIVERED, 7)
    ),
    Preset("tiktok_shop_vn_express", "TikTok Shop Vietnam, express: three days", _rolling(Milestone.DELIVERED, 3)),
    Preset("tiktok_shop_vn_extended", "TikTok Shop Vietnam, extended: fifteen days", _rolling(Milestone.DELIVERED, 15)),
    Preset(
        "shopee_vn",
        "Shopee Vietnam: checked by the end of the month after, objections until some days before, paid on the 30th of the next",
        _statement(31, 2, 30, audit_days=30, objection_days=57),
    ),
    Preset("lazada", "Lazada: monthly invoice, paid by the 21st", _statement(31, 1, 21)),
    Preset(
        "accesstrade_vn",
        "AccessTrade Vietnam: reconciled on the 10th of the next month, paid on the 18th, on a working day; half of it in "
        "advance where the merchant is late",
        _statement(31, 1, 18, off_days=WEEKEND, approval=Approval.MANUAL, audit_days=10, advance=Fraction(1, 2)),
    ),
    Preset(
        "rentracks_vn",
        "Rentracks Vietnam: monthly on the 15th; less than 110,000 VND is carried",
        _statement(31, 1, 15),
        (("VND", 110_000),),
    ),
    Preset(
        "topshare_vn",
        "Topshare Vietnam: less than 200,000 VND is carried; its calendar is not known here, the 15th stands in",
        _statement(31, 1, 15),
        (("VND", 200_000),),
    ),
)
