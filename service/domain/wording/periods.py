"""Caps, ladders and milestones in words.

To add a kind: one case in `period_rule`, with its words in every language.
"""

from collections.abc import Iterator, Mapping
from typing import Final, assert_never

from service.domain.periods import Cap, Count, Ladder, Mark, Milestones, PeriodRule, Scale, Span, Stretch
from service.domain.program import Terms
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words

SPANS: Final[Mapping[Span, Words]] = {
    Span.DAY: Words("one day", "một ngày", "一天"),
    Span.MONTH: Words("one calendar month", "một tháng dương lịch", "一个自然月"),
    Span.QUARTER: Words("one quarter", "một quý", "一个季度"),
    Span.YEAR: Words("one calendar year", "một năm dương lịch", "一个自然年"),
    Span.CAMPAIGN: Words("the campaign", "chiến dịch", "活动期"),
}
_STRETCHES: Mapping[tuple[bool, bool], Words] = {
    (True, True): Words(
        "{span} (orders of {first} to {last})",
        "{span} (đơn đặt từ {first} đến {last})",
        "{span}（{first}至{last}下的订单）",
    ),
    (True, False): Words(
        "{span} (orders from {first} on)", "{span} (đơn đặt từ {first})", "{span}（{first}起下的订单）"
    ),
    (False, True): Words(
        "{span} (orders up to {last})", "{span} (đơn đặt đến {last})", "{span}（{last}及以前下的订单）"
    ),
}
_PERIOD_CAP = Words(
    "Period rule “{key}”: within {span} your commissions come to at most {amounts}.",
    "Quy tắc kỳ “{key}”: trong {span}, tổng hoa hồng của bạn tối đa {amounts}.",
    "周期规则“{key}”：{span}内，您的佣金合计最高{amounts}。",
)
SCALES: Final[Mapping[Scale, Words]] = {
    Scale.MARGINAL: Words(
        "Period rule “{key}”: within {span} you get a bonus on your sales, each rate for the part of them between its start and the next: "
        "{steps}.",
        "Quy tắc kỳ “{key}”: trong {span}, bạn được thưởng theo doanh số, mỗi tỷ lệ áp dụng cho phần doanh số từ mốc của nó đến mốc "
        "kế tiếp: {steps}.",
        "周期规则“{key}”：{span}内按销售额分段奖励，每个比例只适用于该档起点至下一档之间的部分：{steps}。",
    ),
    Scale.RETROACTIVE: Words(
        "Period rule “{key}”: within {span} you get a bonus on all of your sales, by the highest start they reach: {steps}.",
        "Quy tắc kỳ “{key}”: trong {span}, bạn được thưởng trên toàn bộ doanh số, theo mốc cao nhất đạt được: {steps}.",
        "周期规则“{key}”：{span}内按全部销售额奖励，比例以达到的最高档为准：{steps}。",
    ),
}
_STEP = Words("{rate} from {starts} on", "{rate} từ {starts}", "满{starts}为{rate}")
_MILESTONES = Words(
    "Period rule “{key}”: within {span} you get each of these bonuses once: {marks}.",
    "Quy tắc kỳ “{key}”: trong {span}, bạn được mỗi khoản thưởng sau một lần: {marks}.",
    "周期规则“{key}”：{span}内，以下奖励各发放一次：{marks}。",
)
COUNTS: Final[Mapping[Count, Words]] = {
    Count.SALES: Words(
        "{pays} once sales reach {starts}", "{pays} khi doanh số đạt {starts}", "销售额满{starts}奖励{pays}"
    ),
    Count.ORDERS: Words("{pays} with {orders}", "{pays} khi đạt {orders}", "满{orders}奖励{pays}"),
}
_SALES = Words(
    "Sales and orders are those that earn you a commission: goods after returns, by when the order was placed.",
    "Doanh số và số đơn là của các đơn mang lại hoa hồng cho bạn: giá trị hàng sau trả hàng, tính theo thời điểm đặt đơn.",
    "销售额和订单数只计为您带来佣金的订单：按扣除退货退款后的商品金额和下单时间计算。",
)
_STANDS_WITH_ORDERS = Words(
    "What a period gives or takes back stands where its orders stand: it is settled only as far as they are.",
    "Khoản thưởng hoặc phần vượt mức của một kỳ đi theo các đơn của kỳ: chỉ được đối soát khi các đơn đó được đối soát.",
    "周期的奖励或超出封顶的扣减与其订单同步：订单结算多少，它才结算多少。",
)
_KEEPS_RULES = Words(
    "A period keeps the rules it began with; changes to them begin with the next period.",
    "Mỗi kỳ giữ nguyên quy tắc từ lúc bắt đầu; thay đổi áp dụng từ kỳ sau.",
    "每个周期沿用开始时的规则，变更从下一周期起适用。",
)


def of_periods(terms: Terms, speech: Speech) -> Iterator[str]:
    """What comes to an affiliate by periods."""
    for rule in terms.periods:
        yield period_rule(rule, speech)
    if any(not isinstance(rule, Cap) for rule in terms.periods):
        yield speech.say(_SALES)
    if terms.periods:
        yield speech.say(_STANDS_WITH_ORDERS)
        yield speech.say(_KEEPS_RULES)


def period_rule(rule: PeriodRule, speech: Speech) -> str:
    """What a rule over many orders promises."""
    span = _span(rule.stretch, speech)
    match rule:
        case Cap(amounts_minor=amounts):
            return speech.say(_PERIOD_CAP, key=rule.key, span=span, amounts=speech.amounts(amounts))
        case Ladder(steps=steps, scale=scale):
            told = speech.listed(
                speech.say(_STEP, rate=speech.percent(step.rate), starts=speech.amounts(step.starts_minor))
                for step in steps
            )
            return speech.say(SCALES[scale], key=rule.key, span=span, steps=told)
        case Milestones(marks=marks):
            told = speech.listed(_mark(mark, speech) for mark in marks)
            return speech.say(_MILESTONES, key=rule.key, span=span, marks=told)
        case _:
            assert_never(rule)


def _span(stretch: Stretch, speech: Speech) -> str:
    span = speech.say(SPANS[stretch.span])
    first, last = stretch.first_day, stretch.last_day
    if first is None and last is None:
        return span
    return speech.say(
        _STRETCHES[first is not None, last is not None],
        span=span,
        first="" if first is None else speech.day(first),
        last="" if last is None else speech.day(last),
    )


def _mark(mark: Mark, speech: Speech) -> str:
    pays = speech.amounts(mark.pays_minor)
    if mark.orders is None:
        return speech.say(COUNTS[Count.SALES], pays=pays, starts=speech.amounts(mark.starts_minor))
    return speech.say(COUNTS[Count.ORDERS], pays=pays, orders=speech.orders(mark.orders))
