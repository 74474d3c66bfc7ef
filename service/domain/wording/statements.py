"""Statements in words: headings, what each movement did, where money stands, and the notes below.

To add a kind of movement or a place: one member of its enum, with its words here in every language.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from service.domain.ledger import AccountKind
from service.domain.rules import Per
from service.domain.statement import CLOSING, OPENING, MovementKind, Subject
from service.domain.wording.languages import Words

KINDS: Final[Mapping[MovementKind, Words]] = {
    MovementKind.EARNED: Words("Earned on orders", "Hoa hồng từ đơn hàng", "订单佣金"),
    MovementKind.TAKEN_BACK: Words(
        "Returns, cancellations, rejections", "Trả hàng, hủy đơn, từ chối", "退货、取消、审核未通过"
    ),
    MovementKind.PERIOD: Words(
        "Rules over a period: ladders, marks, caps",
        "Quy tắc theo kỳ: bậc thang, mốc thưởng, mức tối đa",
        "周期规则：阶梯、里程碑、封顶",
    ),
    MovementKind.ADJUSTED: Words("Bonuses and adjustments", "Thưởng và điều chỉnh", "奖励与调整"),
    MovementKind.UNTAXED: Words("Withheld tax given back", "Hoàn lại thuế đã khấu trừ", "退回已代扣税款"),
    MovementKind.WRITTEN_OFF: Words("Debt given up by the shop", "Khoản nợ được cửa hàng xóa", "商家免除的欠款"),
    MovementKind.FEE: Words("Fees", "Phí", "手续费"),
    MovementKind.TAX: Words("Tax withheld", "Thuế khấu trừ", "代扣税款"),
    MovementKind.SENT: Words("Sent to you", "Đã chuyển cho bạn", "已汇给您"),
    MovementKind.CAME_BACK: Words("Came back from the bank", "Ngân hàng trả lại", "银行退回"),
    MovementKind.OTHER: Words("Other movements", "Biến động khác", "其他变动"),
    MovementKind.SETTLED: Words("Settled", "Đã đối soát", "已结算"),
    MovementKind.FROZEN: Words("Put on hold", "Đưa vào tạm giữ", "转入冻结"),
    MovementKind.FREED: Words("No longer on hold", "Hết tạm giữ", "解除冻结"),
    MovementKind.ADVANCED: Words("Paid in advance", "Tạm ứng", "预付"),
    MovementKind.REPAID: Words("Set against an advance", "Trừ vào tạm ứng", "抵扣预付款"),
    MovementKind.RESERVED: Words("Put into a payout", "Đưa vào đợt chi trả", "列入打款"),
    MovementKind.RELEASED: Words("Taken out of a payout", "Rút khỏi đợt chi trả", "移出打款"),
    MovementKind.HANDED_OVER: Words("Handed over for sending", "Giao đi chuyển tiền", "提交汇款"),
    MovementKind.NOT_SENT: Words("Could not be sent", "Không chuyển được", "汇款未成功"),
    MovementKind.REMAINDER: Words("Left for the next payout", "Để lại cho lần chi trả sau", "结转至下次打款"),
    MovementKind.RECOVERED: Words(
        "Carried money set against a debt", "Tiền chuyển sang trừ vào khoản nợ", "结转款抵扣欠款"
    ),
    MovementKind.TAX_BORNE: Words(
        "Tax paid by the shop for you", "Thuế do cửa hàng chịu thay bạn", "商家代您承担的税款"
    ),
    MovementKind.REMITTED: Words("Tax passed on to the authority", "Thuế đã nộp cho cơ quan thuế", "税款已缴税务机关"),
}

ENDS: Final[Mapping[str, Words]] = {
    OPENING: Words("Owed to you before", "Số dư đầu kỳ", "期初应付"),
    CLOSING: Words("Owed to you after", "Số dư cuối kỳ", "期末应付"),
}
"""The first and the last line of a waterfall."""

PLACES: Final[Mapping[AccountKind, Words]] = {
    AccountKind.COMMISSION_EXPENSE: Words("The shop", "Cửa hàng", "商家"),
    AccountKind.PENDING: Words("Waiting", "Đang chờ", "待结算"),
    AccountKind.HELD: Words("On hold", "Tạm giữ", "冻结"),
    AccountKind.PAYABLE: Words("Settled", "Đã đối soát", "已结算"),
    AccountKind.RESERVED: Words("In a payout", "Trong đợt chi trả", "打款准备中"),
    AccountKind.IN_TRANSIT: Words("On its way", "Đang chuyển", "汇款途中"),
    AccountKind.PAID: Words("Sent", "Đã chuyển", "已汇出"),
    AccountKind.TAXED_CARRY: Words("Carried to the next payout", "Chuyển sang lần chi trả sau", "结转下次打款"),
    AccountKind.ADVANCE: Words("Advances to be netted", "Tạm ứng chưa trừ", "待抵扣预付款"),
    AccountKind.TAX_WITHHELD: Words("Withheld tax", "Thuế đã khấu trừ", "已代扣税款"),
    AccountKind.REMITTED: Words("The tax authority", "Cơ quan thuế", "税务机关"),
    AccountKind.PLATFORM_FEE: Words("Fees", "Phí", "手续费"),
    AccountKind.TAX_COST: Words("Tax at the shop's cost", "Thuế do cửa hàng chịu", "商家承担税款"),
    AccountKind.WRITE_OFF: Words("Given up debts", "Nợ đã xóa", "已免除欠款"),
}

SUBJECTS: Final[Mapping[Subject, Words]] = {
    Subject.ORDER: Words("Order {name}", "Đơn hàng {name}", "订单{name}"),
    Subject.PERIOD: Words("Rule “{name}”", "Quy tắc “{name}”", "规则“{name}”"),
    Subject.BONUS: Words("Bonus {name}", "Thưởng {name}", "奖励{name}"),
    Subject.PAYOUT: Words("Payout {name}", "Chi trả {name}", "打款{name}"),
    Subject.ADVANCE: Words("Advance {name}", "Tạm ứng {name}", "预付{name}"),
    Subject.CORRECTION: Words("Correction {name}", "Điều chỉnh {name}", "更正{name}"),
    Subject.REMITTANCE: Words("Tax of {name}", "Thuế kỳ {name}", "{name}税款"),
    Subject.OTHER: Words("Other {name}", "Khác {name}", "其他{name}"),
}

FLAT: Final[Mapping[Per, Words]] = {
    Per.LINE: Words("{amount} a line", "{amount} mỗi dòng", "每行{amount}"),
    Per.UNIT: Words("{amount} a piece", "{amount} mỗi sản phẩm", "每件{amount}"),
    Per.ORDER: Words("{amount} an order", "{amount} mỗi đơn", "每单{amount}"),
}


class Label(StrEnum):
    """What stands on a statement besides figures."""

    TITLE = "title"
    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"
    SELF_BILLING = "self_billing"
    NUMBER = "number"
    PERIOD = "period"
    DAYS = "days"
    ISSUED = "issued"
    CURRENCY = "currency"
    FROM = "from"
    TO = "to"
    SUPPLIER = "supplier"
    CUSTOMER = "customer"
    VAT_ID = "vat_id"
    ID = "id"
    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    REPLACES = "replaces"
    REPLACED = "replaced"
    AGREED = "agreed"
    INVOICED = "invoiced"
    SUMMARY = "summary"
    STEP = "step"
    AMOUNT = "amount"
    CHART = "chart"
    PLACES = "places"
    PLACE = "place"
    OPENING = "opening"
    IN = "in"
    OUT = "out"
    CLOSING = "closing"
    TOTAL = "total"
    PAYOUTS = "payouts"
    PAYOUT = "payout"
    PAY_ON = "pay_on"
    GROSS = "gross"
    CARRIED = "carried"
    FEE = "fee"
    TAX = "tax"
    REMAINDER = "remainder"
    NET = "net"
    CAME_BACK = "came_back"
    NOT_ACCEPTED = "not_accepted"
    ORDERS = "orders"
    LINE = "line"
    ORDERED = "ordered"
    REFUNDED = "refunded"
    BASE = "base"
    RATE = "rate"
    COMMISSION = "commission"
    IN_PERIOD = "in_period"
    SETTLED = "settled"
    CAPPED = "capped"
    VOIDED = "voided"
    ADJUSTED = "adjusted"
    SALES = "sales"
    LATER = "later"
    OTHERS = "others"
    DAY = "day"
    WHAT = "what"
    NOTHING = "nothing"
    NOTES = "notes"
    NOTE_BOOKED = "note_booked"
    NOTE_LATER = "note_later"
    NOTE_SAME = "note_same"
    NOTE_ANSWER = "note_answer"
    DIGEST = "digest"


LABELS: Final[Mapping[Label, Words]] = {
    Label.TITLE: Words("Commission statement", "Bảng kê hoa hồng", "佣金对账单"),
    Label.INVOICE: Words("Self-billed invoice for commission", "Hóa đơn hoa hồng do bên mua lập", "佣金自开发票"),
    Label.CREDIT_NOTE: Words(
        "Self-billed credit note for commission", "Hóa đơn điều chỉnh giảm do bên mua lập", "佣金自开红字发票"
    ),
    Label.SELF_BILLING: Words("Self-billing", "Self-billing (bên mua lập hóa đơn)", "Self-billing（由买方开具）"),
    Label.NUMBER: Words("Number", "Số", "编号"),
    Label.PERIOD: Words("Period", "Kỳ", "期间"),
    Label.DAYS: Words("{first} to {last}", "{first} đến {last}", "{first}至{last}"),
    Label.ISSUED: Words("Issued", "Ngày lập", "开具日期"),
    Label.CURRENCY: Words("Currency", "Loại tiền", "币种"),
    Label.FROM: Words("From", "Bên chi trả", "付款方"),
    Label.TO: Words("For", "Người nhận", "收款方"),
    Label.SUPPLIER: Words("Supplier", "Bên cung cấp", "供应方"),
    Label.CUSTOMER: Words("Customer", "Bên mua", "购买方"),
    Label.VAT_ID: Words("VAT id", "Mã số thuế GTGT", "增值税号"),
    Label.ID: Words("Id", "Mã", "标识"),
    Label.PROVISIONAL: Words(
        "Provisional: the books of these days were not closed yet. If something is booked on them, a new statement takes this one's place.",
        "Tạm thời: sổ của những ngày này chưa khóa. Nếu có phát sinh thêm, một bảng kê mới sẽ thay thế bảng này.",
        "暂定：这些日期的账簿尚未关账。如有新增入账，将以新的对账单取代本单。",
    ),
    Label.CONFIRMED: Words(
        "Confirmed on {day}: the books of these days are closed, and nothing was added since this was issued.",
        "Đã xác nhận ngày {day}: sổ của những ngày này đã khóa và không có phát sinh thêm từ khi lập bảng kê.",
        "已于{day}确认：这些日期的账簿已关账，开具后没有新增入账。",
    ),
    Label.REPLACED: Words("Replaced: {number} took its place.", "Đã được thay bằng {number}.", "已被{number}取代。"),
    Label.REPLACES: Words("In place of {number}", "Thay cho {number}", "取代{number}"),
    Label.AGREED: Words(
        "By the agreement of {day} ({reference}).",
        "Theo thỏa thuận ngày {day} ({reference}).",
        "依据{day}的协议（{reference}）。",
    ),
    Label.INVOICED: Words("Invoiced for commission", "Tiền hoa hồng được lập hóa đơn", "开票佣金金额"),
    Label.SUMMARY: Words("From what was owed to what is owed", "Từ đầu kỳ đến cuối kỳ", "从期初到期末"),
    Label.STEP: Words("Step", "Khoản", "项目"),
    Label.AMOUNT: Words("Amount", "Số tiền", "金额"),
    Label.CHART: Words("As a chart", "Biểu đồ", "图示"),
    Label.PLACES: Words("Where it stands", "Tiền đang ở đâu", "资金所在"),
    Label.PLACE: Words("Place", "Vị trí", "位置"),
    Label.OPENING: Words("Before", "Đầu kỳ", "期初"),
    Label.IN: Words("In", "Vào", "转入"),
    Label.OUT: Words("Out", "Ra", "转出"),
    Label.CLOSING: Words("After", "Cuối kỳ", "期末"),
    Label.TOTAL: Words("Total", "Tổng", "合计"),
    Label.PAYOUTS: Words("Payouts", "Các lần chi trả", "打款"),
    Label.PAYOUT: Words("Payout", "Lần chi trả", "打款单"),
    Label.PAY_ON: Words("Pay day", "Ngày chi trả", "打款日"),
    Label.GROSS: Words("Gross", "Trước khấu trừ", "税前"),
    Label.CARRIED: Words("Carried", "Chuyển từ lần trước", "上次结转"),
    Label.FEE: Words("Fee", "Phí", "手续费"),
    Label.TAX: Words("Tax", "Thuế", "税款"),
    Label.REMAINDER: Words("To the next", "Để lại", "结转"),
    Label.NET: Words("Net sent", "Thực chuyển", "实际汇出"),
    Label.CAME_BACK: Words("Came back", "Trả lại", "退回"),
    Label.NOT_ACCEPTED: Words(
        "Not sent by the end of the period; what is taken from it is told when it is sent.",
        "Chưa chuyển tính đến cuối kỳ; các khoản trừ sẽ được nêu khi chuyển.",
        "截至期末尚未汇出，扣除项目在汇出时列明。",
    ),
    Label.ORDERS: Words("Orders, line by line", "Đơn hàng, từng dòng", "订单明细"),
    Label.LINE: Words("Order and line", "Đơn và dòng hàng", "订单及商品行"),
    Label.ORDERED: Words("Ordered", "Đã đặt", "下单"),
    Label.REFUNDED: Words("Refunded", "Đã hoàn", "退款"),
    Label.BASE: Words("Base", "Cơ sở tính", "计佣金额"),
    Label.RATE: Words("Rate", "Tỷ lệ", "比例"),
    Label.COMMISSION: Words("Commission", "Hoa hồng", "佣金"),
    Label.IN_PERIOD: Words("In this period", "Trong kỳ này", "本期"),
    Label.SETTLED: Words("Settled in it", "Đối soát trong kỳ", "本期结算"),
    Label.CAPPED: Words(
        "One order earns at most so much: {amount} less.",
        "Vượt mức tối đa mỗi đơn: trừ {amount}.",
        "超过单笔封顶：减{amount}。",
    ),
    Label.VOIDED: Words(
        "Cancelled, rejected or stopped: it earns nothing.",
        "Đơn bị hủy, bị từ chối hoặc chương trình tạm dừng: không có hoa hồng.",
        "订单取消、审核未通过或计划暂停：没有佣金。",
    ),
    Label.ADJUSTED: Words(
        "Adjusted by the shop: {amount} ({reason}).",
        "Cửa hàng điều chỉnh: {amount} ({reason}).",
        "商家调整：{amount}（{reason}）。",
    ),
    Label.SALES: Words(
        "For {orders} with sales of {sales}.", "Cho {orders}, doanh số {sales}.", "对应{orders}，销售额{sales}。"
    ),
    Label.LATER: Words(
        "Changed after the period: by its end it had come to {amount}.",
        "Đã thay đổi sau kỳ: đến cuối kỳ là {amount}.",
        "期后有变动：截至期末为{amount}。",
    ),
    Label.OTHERS: Words("Other movements", "Các biến động khác", "其他变动"),
    Label.DAY: Words("Day", "Ngày", "日期"),
    Label.WHAT: Words("What", "Nội dung", "内容"),
    Label.NOTHING: Words("Nothing moved in the period.", "Không có biến động trong kỳ.", "本期没有变动。"),
    Label.NOTES: Words("Notes", "Ghi chú", "说明"),
    Label.NOTE_BOOKED: Words(
        "Movements stand on the day they were booked on, by the shop's calendar ({time_zone}).",
        "Các biến động được ghi theo ngày hạch toán theo lịch của cửa hàng ({time_zone}).",
        "各项变动按商家日历（{time_zone}）的入账日列示。",
    ),
    Label.NOTE_LATER: Words(
        "What is corrected later stands in a later statement, on the day it is booked; this one never changes.",
        "Các điều chỉnh sau này nằm trong bảng kê sau, theo ngày hạch toán; bảng này không bao giờ thay đổi.",
        "之后的更正按入账日列入后续对账单，本单不再变更。",
    ),
    Label.NOTE_SAME: Words(
        "Figures of an order are as known when the statement was issued.",
        "Số liệu của từng đơn là số liệu tại thời điểm lập bảng kê.",
        "订单数据以开具对账单时为准。",
    ),
    Label.NOTE_ANSWER: Words(
        "If something is wrong, object until {day}.",
        "Nếu có sai sót, vui lòng phản hồi đến hết ngày {day}.",
        "如有异议，请在{day}（含）前提出。",
    ),
    Label.DIGEST: Words("Digest (SHA-256)", "Mã kiểm tra (SHA-256)", "校验值（SHA-256）"),
}
