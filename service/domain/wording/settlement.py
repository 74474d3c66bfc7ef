"""When a commission becomes payable, in words, with an example of the dates.

To add a kind: one case in `of_settlement`, with its words in every language.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from service.domain.order import Milestone
from service.domain.program import Terms
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement
from service.domain.wording.figures import WEEKDAYS, Speech
from service.domain.wording.languages import Words

MILESTONES: Final[Mapping[Milestone, Words]] = {
    Milestone.PAID: Words("the order is paid", "đơn được thanh toán", "订单付款"),
    Milestone.FULFILLED: Words("the order is shipped", "đơn được gửi đi", "订单发货"),
    Milestone.DELIVERED: Words("the order is delivered", "đơn được giao thành công", "订单签收"),
    Milestone.COMPLETED: Words("the order is completed", "đơn hoàn tất", "订单交易完成"),
}
APPROVALS: Final[Mapping[Approval, Words]] = {
    Approval.AUTOMATIC: Words(
        "Nobody has to approve it.",
        "Không cần ai duyệt.",
        "无需人工审核。",
    ),
    Approval.MANUAL: Words(
        "The shop has to approve each commission first.",
        "Cửa hàng phải duyệt từng khoản hoa hồng trước.",
        "每笔佣金须先经商家审核。",
    ),
}
ROLLS: Final[Mapping[Roll, Words]] = {
    Roll.NEXT: Words(
        "If the pay day is {off}, it moves to the next business day.",
        "Nếu ngày chi trả rơi vào {off}, nó được dời sang ngày làm việc kế tiếp.",
        "结算日如遇{off}，顺延至下一个工作日。",
    ),
    Roll.PREVIOUS: Words(
        "If the pay day is {off}, it moves to the business day before.",
        "Nếu ngày chi trả rơi vào {off}, nó được dời lên ngày làm việc liền trước.",
        "结算日如遇{off}，提前至上一个工作日。",
    ),
    Roll.NONE: Words(
        "The pay day stays even if it is {off}.",
        "Ngày chi trả giữ nguyên dù rơi vào {off}.",
        "结算日如遇{off}，不作调整。",
    ),
}
_FINAL = Words(
    "A commission is final {days} after {milestone}; time in which the buyer disputes the payment does not count.",
    "Hoa hồng được chốt {days} sau khi {milestone}; thời gian người mua khiếu nại thanh toán không được tính.",
    "{milestone}后{days}佣金确认；买家对付款有争议的时间不计入。",
)
_FINAL_AT_ONCE = Words(
    "A commission is final as soon as {milestone} and no dispute about the payment is open.",
    "Hoa hồng được chốt ngay khi {milestone} và không còn khiếu nại thanh toán nào.",
    "{milestone}且付款没有未决争议时，佣金即确认。",
)
_ROLLING = Words(
    "As soon as it is final, it is settled and payable.",
    "Ngay khi được chốt, hoa hồng được đối soát và có thể chi trả.",
    "确认后即结算，可以打款。",
)
_STATEMENT = Words(
    "It is settled by monthly statements: what is final by the end of {cut_off} is on that month's statement, what comes later "
    "is on the next.",
    "Đối soát theo kỳ hằng tháng: khoản được chốt đến hết {cut_off} thuộc kỳ của tháng đó, khoản chốt sau thuộc kỳ kế tiếp.",
    "按月对账结算：截至{cut_off}结束时已确认的佣金计入当月账单，之后的计入下一期。",
)
_CUT_OFF_DAYS = (
    Words("day {day} of a month", "ngày {day} của tháng", "每月{day}日"),
    Words(
        "day {day} of a month (or its last)",
        "ngày {day} của tháng (hoặc ngày cuối tháng)",
        "每月{day}日（或当月最后一天）",
    ),
    Words("the last day of a month", "ngày cuối cùng của tháng", "每月最后一天"),
)
_PAY_DAY = Words(
    "A statement is payable on {day} of {month}.",
    "Mỗi kỳ được chi trả vào {day} của {month}.",
    "账单的结算日为{month}{day}。",
)
_PAY_DAYS = (
    Words("day {day}", "ngày {day}", "{day}日"),
    Words("day {day} (or the last)", "ngày {day} (hoặc ngày cuối tháng)", "{day}日（或最后一天）"),
    Words("the last day", "ngày cuối cùng", "最后一天"),
)
_SAME_MONTH = Words("the same month", "cùng tháng", "当月")
_NEXT_MONTH = Words("the next month", "tháng kế tiếp", "次月")
_LATER_MONTH = Words("the month {months} months later", "tháng thứ {months} sau đó", "之后第{months}个月的")
_HOLIDAYS = Words("one of these holidays: {days}", "một trong các ngày nghỉ: {days}", "以下节假日：{days}")
_AUDITED = Words(
    "The shop checks a statement within {days} of its date.",
    "Cửa hàng kiểm tra kỳ đối soát trong vòng {days} kể từ ngày chốt kỳ.",
    "商家在账单截止日后{days}内核对。",
)
_OBJECTIONS = Words(
    "You may object to a statement within {days} of its date.",
    "Bạn có thể khiếu nại về kỳ đối soát trong vòng {days} kể từ ngày chốt kỳ.",
    "您可在账单截止日后{days}内提出异议。",
)
_ADVANCED = Words(
    "Of what still waits for approval on its pay day, {rate} is paid in advance and set against what is settled later.",
    "Với khoản còn chờ duyệt vào ngày chi trả, {rate} được tạm ứng và trừ vào khoản đối soát sau đó.",
    "结算日仍待批准的佣金，先预付{rate}，从之后结算的佣金中扣回。",
)
_SILENCE = Words(
    "If nobody has decided within {days} of the order, that counts as approval; what is disputed or held stays so.",
    "Nếu trong vòng {days} kể từ khi đặt hàng chưa có quyết định nào, hoa hồng được coi là đã duyệt; khoản đang tranh chấp "
    "hoặc tạm giữ vẫn giữ nguyên.",
    "下单后{days}内无人处理的，视为已批准；有争议或被冻结的不变。",
)
_FOR_EXAMPLE = Words(
    "For example, what becomes final on {day} is payable on {pay_day}.",
    "Ví dụ, khoản được chốt vào ngày {day} sẽ được chi trả vào ngày {pay_day}.",
    "例如，{day}确认的佣金将于{pay_day}结算。",
)
_FOR_EXAMPLE_REACHED = Words(
    "For example, if {milestone} on {day}, the commission is payable on {pay_day}.",
    "Ví dụ, nếu {milestone} vào ngày {day}, hoa hồng sẽ được đối soát vào ngày {pay_day}.",
    "例如，{day}{milestone}的，佣金于{pay_day}结算。",
)


def of_settlement(terms: Terms, speech: Speech) -> Iterator[str]:
    """When a commission becomes payable, and whether somebody approves it."""
    settlement: Settlement = terms.settlement
    milestone = speech.say(MILESTONES[settlement.start])
    if settlement.hold_days:
        yield speech.say(_FINAL, days=speech.days(settlement.hold_days), milestone=milestone)
    else:
        yield speech.say(_FINAL_AT_ONCE, milestone=milestone)
    match settlement:
        case RollingSettlement():
            yield from _rolling(settlement, speech)
        case StatementSettlement():
            yield from _statement(settlement, speech)
        case _:
            assert_never(settlement)
    yield speech.say(APPROVALS[settlement.approval])
    if settlement.auto_approve_days is not None:
        yield speech.say(_SILENCE, days=speech.days(settlement.auto_approve_days))
    if isinstance(settlement, StatementSettlement) and settlement.advance is not None:
        yield speech.say(_ADVANCED, rate=speech.percent(settlement.advance))


def _rolling(settlement: RollingSettlement, speech: Speech) -> Iterator[str]:
    yield speech.say(_ROLLING)
    if speech.names.now is not None:
        pays_at = speech.names.now + timedelta(days=settlement.hold_days)
        yield speech.say(
            _FOR_EXAMPLE_REACHED,
            milestone=speech.say(MILESTONES[settlement.start]),
            day=speech.day_of(speech.names.now),
            pay_day=speech.day_of(pays_at),
        )


def _statement(settlement: StatementSettlement, speech: Speech) -> Iterator[str]:
    yield speech.say(_STATEMENT, cut_off=_day_of_month(settlement.cut_off_day, speech, _CUT_OFF_DAYS))
    month = {0: _SAME_MONTH, 1: _NEXT_MONTH}.get(settlement.months_after, _LATER_MONTH)
    yield speech.say(
        _PAY_DAY,
        day=_day_of_month(settlement.pay_day, speech, _PAY_DAYS),
        month=speech.say(month, months=settlement.months_after),
    )
    off = [speech.say(WEEKDAYS[day]) for day in sorted(settlement.off_days)]
    if settlement.holidays:
        days = speech.listed(speech.day(day) for day in sorted(settlement.holidays))
        off.append(speech.say(_HOLIDAYS, days=days))
    if off:
        yield speech.say(ROLLS[settlement.roll], off=speech.either(off))
    if settlement.audit_days is not None:
        yield speech.say(_AUDITED, days=speech.days(settlement.audit_days))
    if settlement.objection_days is not None:
        yield speech.say(_OBJECTIONS, days=speech.days(settlement.objection_days))
    if speech.names.now is not None:
        pays_at = settlement.pays_at(speech.names.now, ZoneInfo(speech.names.time_zone))
        yield speech.say(_FOR_EXAMPLE, day=speech.day_of(speech.names.now), pay_day=speech.day_of(pays_at))


def _day_of_month(day: int, speech: Speech, words: Sequence[Words]) -> str:
    """words: for a day that every month has, one that only some have, and the last of every month."""
    plain, or_last, last = words
    return speech.say(last if day == 31 else plain if day <= 28 else or_last, day=day)
