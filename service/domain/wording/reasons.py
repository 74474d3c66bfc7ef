"""Why a touch won or lost, and why a commission stands where it stands, in words for KOCs and merchants alike.

One sentence for each code: what is waited for, or why it came to nothing. Neither names another KOC.
"""

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Final

from service.domain.attribution import Reason
from service.domain.commission import CommissionReason
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words

ATTRIBUTION: Final[Mapping[Reason, Words]] = {
    Reason.WON: Words(
        "This brought the order, so the commission counts for it.",
        "Đơn hàng được mang về nhờ điều này nên hoa hồng được tính cho nó.",
        "该订单由此带来，佣金归其所有。",
    ),
    Reason.DECIDED: Words(
        "A person at the shop decided who brought this order.",
        "Nhân viên cửa hàng đã quyết định ai là người mang về đơn này.",
        "该订单的归属由商家人工决定。",
    ),
    Reason.BAD_SIGNATURE: Words(
        "The click id was not made by us or was changed on the way, so it cannot count.",
        "Mã lượt bấm không do hệ thống tạo ra hoặc đã bị thay đổi nên không được tính.",
        "点击标识不是本系统生成的，或在传递中被改动，因此无效。",
    ),
    Reason.UNKNOWN_LINK: Words(
        "The click came through a link that does not exist here.",
        "Lượt bấm đến từ một liên kết không có trong hệ thống.",
        "点击来自本系统中不存在的推广链接。",
    ),
    Reason.UNKNOWN_COUPON: Words(
        "The order carried a code that belongs to no KOC.",
        "Đơn hàng dùng một mã không thuộc về KOC nào.",
        "订单使用的优惠码不属于任何达人。",
    ),
    Reason.NO_OWNER: Words(
        "The link or code belonged to nobody at that moment.",
        "Vào thời điểm đó, liên kết hoặc mã này chưa thuộc về ai.",
        "当时该链接或优惠码还没有归属人。",
    ),
    Reason.NOT_APPROVED: Words(
        "The KOC was not approved when the order was placed.",
        "Khi đơn được đặt, KOC chưa được cửa hàng duyệt.",
        "下单时，该达人尚未通过商家审核。",
    ),
    Reason.NOT_ENROLLED: Words(
        "The KOC did not take part in the programme when the order was placed.",
        "Khi đơn được đặt, KOC chưa tham gia chương trình này.",
        "下单时，该达人没有参加此推广计划。",
    ),
    Reason.NO_TERMS: Words(
        "The programme had no terms in force when the order was placed.",
        "Khi đơn được đặt, chương trình chưa có điều khoản nào có hiệu lực.",
        "下单时，此推广计划还没有生效的条款。",
    ),
    Reason.AFTER_ORDER: Words(
        "The click came after the order had been placed.",
        "Lượt bấm xảy ra sau khi đơn đã được đặt.",
        "点击发生在下单之后。",
    ),
    Reason.OUTSIDE_WINDOW: Words(
        "More time passed between the click and the order than the programme allows.",
        "Thời gian từ lúc bấm đến lúc đặt đơn đã vượt quá thời hạn ghi nhận của chương trình.",
        "从点击到下单的时间超过了推广计划的有效期。",
    ),
    Reason.SELF_PURCHASE: Words(
        "Buyer and KOC are the same person; buying through one's own link or code earns nothing.",
        "Người mua và KOC là cùng một người; tự mua qua liên kết hoặc mã của mình không có hoa hồng.",
        "买家与达人是同一人；通过自己的链接或优惠码购买没有佣金。",
    ),
    Reason.BINDING_IGNORED: Words(
        "By the programme's terms a bound buyer or product brings no order.",
        "Theo điều khoản của chương trình, người mua hoặc sản phẩm được gắn không mang lại đơn.",
        "按推广计划的条款，买家或商品绑定不带来订单。",
    ),
    Reason.OTHER_KIND_FIRST: Words(
        "Something of another kind (a click, a code, a bound buyer or product) comes first by the programme's terms.",
        "Có yếu tố thuộc loại khác (lượt bấm, mã, người mua hoặc sản phẩm được gắn) được ưu tiên theo điều khoản của chương trình.",
        "另有其他方式（点击、优惠码、绑定的买家或商品）按推广计划的条款优先。",
    ),
    Reason.NOT_LAST: Words(
        "A later click or code counts: the last one before the order wins.",
        "Một lượt bấm hoặc mã sau đó được tính: lần cuối cùng trước khi đặt đơn sẽ thắng.",
        "之后还有别的点击或优惠码：以下单前的最后一次为准。",
    ),
    Reason.NOT_FIRST: Words(
        "An earlier click or code counts: the first one wins.",
        "Một lượt bấm hoặc mã trước đó được tính: lần đầu tiên sẽ thắng.",
        "之前已有别的点击或优惠码：以第一次为准。",
    ),
    Reason.OVERRULED: Words(
        "It would have counted, but a person at the shop decided otherwise.",
        "Lẽ ra được tính, nhưng nhân viên cửa hàng đã quyết định khác.",
        "本可计入，但商家人工作出了不同的决定。",
    ),
    Reason.NO_TOUCH: Words(
        "The order carried neither a click nor a code of any KOC.",
        "Đơn hàng không kèm lượt bấm hay mã của KOC nào.",
        "订单没有带来任何达人的点击或优惠码。",
    ),
    Reason.NO_CANDIDATE: Words(
        "The order carried clicks or codes, but none of them could count.",
        "Đơn hàng có lượt bấm hoặc mã, nhưng không cái nào hợp lệ.",
        "订单带有点击或优惠码，但没有一个有效。",
    ),
}

COMMISSION: Final[Mapping[CommissionReason, Words]] = {
    CommissionReason.EARNED: Words(
        "All of it is settled; nothing is waited for.",
        "Đã đối soát xong toàn bộ, không còn phải chờ gì nữa.",
        "已全部结算，无需再等待。",
    ),
    CommissionReason.REJECTED: Words(
        "The shop rejected this commission; ask the shop why.",
        "Cửa hàng đã từ chối hoa hồng này; hãy hỏi cửa hàng lý do.",
        "商家审核未通过这笔佣金；原因请咨询商家。",
    ),
    CommissionReason.CANCELLED: Words(
        "The order was cancelled, so it earns nothing.",
        "Đơn hàng đã bị hủy nên không có hoa hồng.",
        "订单已取消，没有佣金。",
    ),
    CommissionReason.REFUNDED: Words(
        "Everything that earned was returned or refunded.",
        "Toàn bộ hàng được tính hoa hồng đã bị trả lại hoặc hoàn tiền.",
        "计佣商品已全部退货或退款，没有佣金。",
    ),
    CommissionReason.NOT_ATTRIBUTED: Words(
        "The order does not count for you any more: by what is known now somebody else brought it, or nobody did.",
        "Đơn này không còn được tính cho bạn: theo thông tin hiện có, người khác đã mang về đơn hoặc không ai cả.",
        "该订单不再归您：按现有信息，它由他人带来，或没有推广人。",
    ),
    CommissionReason.CURRENCY_CHANGED: Words(
        "The order's currency changed; its commission is kept in the new currency.",
        "Đơn hàng đã đổi loại tiền; hoa hồng được ghi bằng loại tiền mới.",
        "订单的币种已更改，佣金改以新币种记录。",
    ),
    CommissionReason.NO_RULE: Words(
        "By the programme's terms nothing in this order earns a commission.",
        "Theo điều khoản của chương trình, đơn này không có sản phẩm nào được tính hoa hồng.",
        "按推广计划的条款，该订单中没有可计佣的商品。",
    ),
    CommissionReason.PAUSED: Words(
        "The programme was stopped when the order was placed, so it earns nothing.",
        "Khi đơn được đặt, chương trình đang tạm dừng nên không có hoa hồng.",
        "下单时推广计划已暂停，没有佣金。",
    ),
    CommissionReason.NO_TERMS: Words(
        "When the order was placed you were in no programme with terms in force.",
        "Khi đơn được đặt, bạn chưa tham gia chương trình nào có điều khoản đang hiệu lực.",
        "下单时，您没有参加任何有生效条款的推广计划。",
    ),
    CommissionReason.DISPUTE: Words(
        "The buyer disputes the payment; the commission is frozen until that is decided.",
        "Người mua đang khiếu nại khoản thanh toán; hoa hồng bị tạm giữ cho đến khi có kết quả.",
        "买家对付款提出争议，佣金冻结至争议解决。",
    ),
    CommissionReason.HOLD: Words(
        "The shop is checking this order; the commission is frozen until it lets go.",
        "Cửa hàng đang kiểm tra đơn này; hoa hồng bị tạm giữ cho đến khi cửa hàng mở lại.",
        "商家正在核查该订单，佣金冻结至核查结束。",
    ),
    CommissionReason.SELF_PURCHASE: Words(
        "The buyer may be the KOC; the commission is frozen until a person at the shop has decided.",
        "Người mua có thể chính là KOC; hoa hồng bị tạm giữ cho đến khi nhân viên cửa hàng quyết định.",
        "买家可能就是达人本人，佣金冻结至商家人工处理。",
    ),
    CommissionReason.REFUND_CURRENCY: Words(
        "A refund came in another currency than the order; the commission is frozen until the shop clears it up.",
        "Khoản hoàn tiền khác loại tiền của đơn; hoa hồng bị tạm giữ cho đến khi cửa hàng làm rõ.",
        "退款与订单的币种不同，佣金冻结至商家核实。",
    ),
    CommissionReason.CONFLICTING_VERSION: Words(
        "The shop sent two different versions of this order; the commission is frozen until it sends a newer one.",
        "Cửa hàng gửi hai bản khác nhau của đơn này; hoa hồng bị tạm giữ cho đến khi có bản mới hơn.",
        "商家发来两份不一致的订单数据，佣金冻结至收到更新的数据。",
    ),
    CommissionReason.AWAITING_MILESTONE: Words(
        "It waits until the order is paid, shipped, delivered or completed, as the programme's terms say.",
        "Đang chờ đơn được thanh toán, gửi đi, giao xong hoặc hoàn tất, theo điều khoản của chương trình.",
        "等待订单按推广计划条款完成付款、发货、签收或交易完成。",
    ),
    CommissionReason.AWAITING_APPROVAL: Words(
        "It waits for the shop's approval.",
        "Đang chờ cửa hàng duyệt.",
        "等待商家审核。",
    ),
    CommissionReason.ABOVE_APPROVAL: Words(
        "The shop approved less than it comes to; the rest waits for another approval.",
        "Cửa hàng đã duyệt ít hơn số hoa hồng; phần còn lại chờ duyệt thêm.",
        "商家审核通过的金额低于应得佣金，其余部分等待再次审核。",
    ),
    CommissionReason.IN_HOLD_PERIOD: Words(
        "It waits until the time in which goods can be returned is over.",
        "Đang chờ hết thời hạn đổi trả hàng rồi mới đối soát.",
        "等待退货期结束后结算。",
    ),
    CommissionReason.PERIOD_BONUS: Words(
        "A bonus for the orders of a period; it is settled as they are.",
        "Khoản thưởng cho các đơn của một kỳ; được đối soát cùng với các đơn đó.",
        "一个周期内订单的奖励，随订单一起结算。",
    ),
    CommissionReason.ADJUSTED: Words(
        "The shop gave or corrected this amount itself; the receipt says by how much and why.",
        "Cửa hàng tự cộng hoặc điều chỉnh số tiền này; biên nhận cho biết bao nhiêu và vì sao.",
        "这笔金额由商家奖励或调整，明细中写明金额和原因。",
    ),
    CommissionReason.PERIOD_CAP: Words(
        "What the orders of a period earn above its cap is taken back here; it stands as they do.",
        "Phần hoa hồng vượt mức tối đa của kỳ được trừ tại đây; đi theo các đơn của kỳ.",
        "周期内订单佣金超出封顶的部分在此扣回，与订单同步。",
    ),
    CommissionReason.AWAITING_STATEMENT: Words(
        "It waits for the pay day of its monthly statement.",
        "Đang chờ đến ngày chi trả của kỳ đối soát tháng.",
        "等待所属月度账单的结算日。",
    ),
}

_MINE: Final[Mapping[Reason, Words]] = {
    Reason.WON: Words(
        "This order counts for you.",
        "Đơn này được tính cho bạn.",
        "该订单归您。",
    ),
    Reason.DECIDED: Words(
        "A person at the shop decided that this order counts for you.",
        "Nhân viên cửa hàng đã quyết định tính đơn này cho bạn.",
        "商家人工决定该订单归您。",
    ),
}
_MINE_IN_PART = Words(
    "A part of this order counts for you.",
    "Một phần của đơn này được tính cho bạn.",
    "该订单的一部分归您。",
)
_IN_PARTS = Words(
    "Several share this order: below is what part each has.",
    "Đơn này được chia cho nhiều bên: bên dưới là phần của từng bên.",
    "该订单由多方分享，各自的部分见下。",
)
_OF_IT = Words("{why} Its part is {part}.", "{why} Phần được tính là {part}.", "{why}其份额为{part}。")
_NOT_MINE: Final[Mapping[Reason, Words]] = {
    Reason.WON: Words(
        "This order counts for another KOC; below is why your own clicks and codes do not count.",
        "Đơn này được tính cho KOC khác; bên dưới là lý do lượt bấm và mã của bạn không được tính.",
        "该订单归其他达人；您的点击和优惠码未计入的原因见下。",
    ),
    Reason.DECIDED: Words(
        "A person at the shop decided that this order does not count for you.",
        "Nhân viên cửa hàng đã quyết định không tính đơn này cho bạn.",
        "商家人工决定该订单不归您。",
    ),
}
_HOLDS_FROM = Words(
    "{why} For orders placed from {moment} on it is different.",
    "{why} Với các đơn đặt từ {moment} trở đi thì đã khác.",
    "{why}对{moment}及以后的订单，情况已不同。",
)


def candidate(
    reason: Reason, speech: Speech, *, holds_from: datetime | None = None, weight: Fraction = Fraction(1)
) -> str:
    """Why one touch won or lost.

    holds_from: when what it lacked began, where that was after the order. weight: its part, where several share.
    """
    why = speech.say(ATTRIBUTION[reason])
    if reason is Reason.WON and weight != 1:
        return speech.say(_OF_IT, why=why, part=weight)
    return why if holds_from is None else speech.say(_HOLDS_FROM, why=why, moment=speech.moment(holds_from))


def outcome(reason: Reason, speech: Speech, *, is_mine: bool | None, is_shared: bool = False) -> str:
    """Who brought an order, without naming anybody.

    is_mine: whether it counts for the KOC who asks; None: the merchant asks. is_shared: several affiliates have a part.
    """
    if reason is Reason.WON and is_shared and is_mine is not False:
        return speech.say(_IN_PARTS if is_mine is None else _MINE_IN_PART)
    own = {None: ATTRIBUTION, True: _MINE, False: _NOT_MINE}[is_mine]
    return speech.say(own.get(reason, ATTRIBUTION[reason]))


def commission(reason: CommissionReason, speech: Speech) -> str:
    """Why a commission stands where it stands."""
    return speech.say(COMMISSION[reason])
