"""Settlement as well-known programmes do it, to start from: what merchants and KOCs of these markets are used to.

Checked in November 2026 against public pages and guides, some of them copies of copies, so these are no claims about
anybody's programme: a merchant takes one, changes it and publishes it as its own terms.
"""

from dataclasses import dataclass

from service.domain.order import Milestone
from service.domain.settlement import Approval, RollingSettlement, Settlement, StatementSettlement, Weekday

WEEKEND = frozenset({Weekday.SAT, Weekday.SUN})


@dataclass(frozen=True, slots=True)
class Preset:
    """name: never renamed. like: whose habit it is, in words."""

    name: str
    like: str
    settlement: Settlement


def _rolling(start: Milestone, hold_days: int) -> RollingSettlement:
    return RollingSettlement(start, hold_days)


def _statement(cut_off_day: int, months_after: int, pay_day: int) -> StatementSettlement:
    return StatementSettlement(
        Milestone.COMPLETED, 0, cut_off_day=cut_off_day, months_after=months_after, pay_day=pay_day
    )


PRESETS = (
    Preset("taobao", "Taobao: received in a month, paid on the 20th of the next", _statement(31, 1, 20)),
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
        "shopee_vn", "Shopee Vietnam: checked in the month after, paid on the 30th of the next", _statement(31, 2, 30)
    ),
    Preset("lazada", "Lazada: monthly invoice, paid by the 21st", _statement(31, 1, 21)),
    Preset(
        "accesstrade_vn",
        "AccessTrade Vietnam: reconciled month, paid on the 18th of the next, on a working day",
        StatementSettlement(
            Milestone.COMPLETED,
            0,
            cut_off_day=31,
            months_after=1,
            pay_day=18,
            off_days=WEEKEND,
            approval=Approval.MANUAL,
        ),
    ),
)
