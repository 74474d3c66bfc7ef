"""Where a commission stands, in words, and what well-known programmes call the same.

Source of the platforms' words and codes: reference/domain.md, section 1.6, read 2026-11; those of Chinese platforms come from
reposted guides. They are the nearest there are, to start an import from, and no claim about anybody's programme.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from service.domain.commission import CommissionStatus
from service.domain.wording.languages import Words


class Programme(StrEnum):
    """Whose words they are."""

    TAOBAO = "taobao"
    """The order's tk_status, and refund_tag."""
    PDD = "pdd"
    """order_status of 多多进宝."""
    JD = "jd"
    """validCode of a line, or the field named."""
    TIKTOK = "tiktok"
    LAZADA = "lazada"
    ACCESSTRADE = "accesstrade"


@dataclass(frozen=True, slots=True)
class Status:
    """label: a word or two for a list. meaning: one sentence. called: by programme its words and codes, none where it has none."""

    label: Words
    meaning: Words
    called: Mapping[Programme, tuple[str, ...]]


def _called(
    *,
    taobao: tuple[str, ...] = (),
    pdd: tuple[str, ...] = (),
    jd: tuple[str, ...] = (),
    tiktok: tuple[str, ...] = (),
    networks: tuple[str, ...] = (),
) -> Mapping[Programme, tuple[str, ...]]:
    """networks: of Lazada and AccessTrade, which use the same words."""
    return {
        Programme.TAOBAO: taobao,
        Programme.PDD: pdd,
        Programme.JD: jd,
        Programme.TIKTOK: tiktok,
        Programme.LAZADA: networks,
        Programme.ACCESSTRADE: networks,
    }


STATUSES: Final[Mapping[CommissionStatus, Status]] = {
    CommissionStatus.PENDING: Status(
        Words("Waiting for approval", "Chờ duyệt", "待审核"),
        Words(
            "Earned; the shop has to approve it before it can be settled.",
            "Đã ghi nhận; cửa hàng cần duyệt trước khi đối soát.",
            "佣金已记录，待商家审核后才能结算。",
        ),
        _called(
            taobao=("12",), pdd=("0", "1", "2"), jd=("16",), tiktok=("Pending", "Not settled"), networks=("PENDING",)
        ),
    ),
    CommissionStatus.APPROVED: Status(
        Words("Waiting for settlement", "Chờ đối soát", "待结算"),
        Words(
            "Earned, and nobody has to approve it any more; only the order's progress and time are waited for.",
            "Đã ghi nhận và không cần duyệt thêm; chỉ còn chờ đơn hoàn tất và hết thời hạn.",
            "佣金已记录且无需再审核，只等订单完成和期限届满。",
        ),
        _called(taobao=("14",), pdd=("3",), jd=("17",), tiktok=("Pending",), networks=("APPROVED",)),
    ),
    CommissionStatus.PAYABLE: Status(
        Words("Settled", "Đã đối soát", "已结算"),
        Words(
            "Settled and ready for the next payout.",
            "Đã đối soát, sẽ được chi trả trong đợt tới.",
            "已结算，将在下次打款时支付。",
        ),
        _called(taobao=("3",), pdd=("5",), jd=("payMonth set",), tiktok=("Settled",), networks=("APPROVED, invoiced",)),
    ),
    CommissionStatus.IN_PAYOUT: Status(
        Words("Being paid", "Đang chi trả", "打款中"),
        Words(
            "In a payout that is being prepared or is on its way.",
            "Nằm trong một đợt chi trả đang được chuẩn bị hoặc đang chuyển.",
            "已列入打款，正在准备或转账途中。",
        ),
        _called(),
    ),
    CommissionStatus.PAID: Status(
        Words("Paid", "Đã chi trả", "已打款"),
        Words(
            "Sent to your account.",
            "Đã chuyển vào tài khoản của bạn.",
            "已转入您的账户。",
        ),
        _called(),
    ),
    CommissionStatus.HELD: Status(
        Words("On hold", "Tạm giữ", "冻结"),
        Words(
            "Frozen while something about the order is cleared up; it is neither lost nor payable.",
            "Bị tạm giữ trong lúc làm rõ đơn hàng; chưa mất và cũng chưa được chi trả.",
            "订单核实期间暂时冻结，既未失效，也不能结算。",
        ),
        _called(taobao=("refund_tag=1",), pdd=("10",), jd=("frozenSkuNum>0",), tiktok=("Frozen",)),
    ),
    CommissionStatus.REVERSED: Status(
        Words("Reversed", "Đã hủy", "已失效"),
        Words(
            "It earns nothing any more, such as after a return or a cancellation.",
            "Không còn hoa hồng, chẳng hạn do trả hàng hoặc hủy đơn.",
            "不再有佣金，例如已退货或订单取消。",
        ),
        _called(taobao=("13",), pdd=("4",), jd=("2", "3"), tiktok=("Refunded",), networks=("REJECTED",)),
    ),
    CommissionStatus.REJECTED: Status(
        Words("Rejected", "Bị từ chối", "审核失败"),
        Words(
            "The shop decided that it earns nothing.",
            "Cửa hàng đã quyết định không tính hoa hồng.",
            "商家审核未通过，没有佣金。",
        ),
        _called(
            taobao=("13",),
            pdd=("4", "8"),
            jd=("4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "20", "21"),
            tiktok=("Ineligible",),
            networks=("REJECTED",),
        ),
    ),
}
"""In the order in which a commission goes through them."""
