"""A programme's terms in sentences, made from the same value the machine computes with.

To add a kind: of condition, one case in `_condition`; of a rule's pay, one in `_pays`; of a period's rule, one in `period_rule`;
of settlement, one in `_settlement`; of a choice, one line in its table below; of a part of terms, one function in `_SECTIONS`.
Each brings its words in every language.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final, assert_never
from uuid import UUID
from zoneinfo import ZoneInfo

from service.domain.conditions import (
    AffiliateIn,
    Between,
    CategoryIn,
    ChannelIn,
    Condition,
    ContentIn,
    CountryIn,
    CouponIn,
    CustomerIs,
    CustomerKind,
    CustomerListed,
    CustomerMonths,
    GroupIn,
    HourBetween,
    LineAmount,
    Measure,
    OrderAmount,
    Placed,
    SkuIn,
    SubIdIn,
    TierIn,
    TouchIn,
    WeekdayIn,
)
from service.domain.identity import IdentityKind
from service.domain.marks import ContentType
from service.domain.order import Milestone, TouchKind
from service.domain.periods import Cap, Count, Ladder, Mark, Milestones, PeriodRule, Scale, Span, Stretch
from service.domain.program import (
    AttributionTerms,
    Base,
    BindingRank,
    Model,
    Precedence,
    SelfPurchase,
    TechnicalFee,
    Terms,
    Window,
)
from service.domain.rules import BASE, MERCHANT, Agent, Flat, Match, Per, Percent, Plan, Rule, When
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement, Weekday
from service.domain.wording.figures import Names, Speech
from service.domain.wording.languages import Language, Words


class Part(StrEnum):
    """What a section is about, in the order in which sections are read."""

    COMMISSION = "commission"
    LIMITS = "limits"
    PERIODS = "periods"
    FEES = "fees"
    EXCLUSIONS = "exclusions"
    ATTRIBUTION = "attribution"
    SETTLEMENT = "settlement"
    PAYOUT = "payout"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Section:
    part: Part
    title: str
    sentences: tuple[str, ...]


TITLES: Final[Mapping[Part, Words]] = {
    Part.COMMISSION: Words("What you earn", "Hoa hồng của bạn", "佣金"),
    Part.LIMITS: Words("Limits", "Mức tối đa", "佣金上限"),
    Part.PERIODS: Words("Bonuses and caps by period", "Thưởng và mức tối đa theo kỳ", "周期奖励与封顶"),
    Part.FEES: Words("Fees and agencies", "Phí và đại lý", "服务费与机构"),
    Part.EXCLUSIONS: Words("What earns nothing", "Trường hợp không có hoa hồng", "不计佣情况"),
    Part.ATTRIBUTION: Words("Which orders count for you", "Đơn hàng được tính cho bạn", "订单归属"),
    Part.SETTLEMENT: Words("When it becomes payable", "Khi nào được đối soát", "结算"),
    Part.PAYOUT: Words("Payout", "Chi trả", "打款"),
    Part.CHANGES: Words("When these terms change", "Khi điều khoản thay đổi", "条款变更"),
}


def sentences(terms: Terms, language: Language, *, names: Names) -> list[Section]:
    """What terms promise, section by section; parts that a programme does not use are left out.

    names: what the terms refer to; with `now`, settlement shows an example of its dates.
    """
    speech = Speech(language, names)
    told = ((part, tuple(tell(terms, speech))) for part, tell in _SECTIONS.items())
    return [Section(part, speech.say(TITLES[part]), lines) for part, lines in told if lines]


def people_in(terms: Terms) -> frozenset[UUID]:
    """Whom the sentences may call by name."""
    conditions = [*terms.exclude, *(each for rule in terms.rules for each in rule.when.conditions())]
    invited = [each.affiliates for each in conditions if isinstance(each, AffiliateIn)]
    return terms.payees.union(*invited)


# What is earned.

BASES: Final[Mapping[Base, Words]] = {
    Base.NET: Words(
        "Commission is computed on what the buyer pays for the goods: after discounts, without tax, shipping, fees and gift cards, "
        "less what was returned or refunded.",
        "Hoa hồng tính trên số tiền người mua trả cho hàng hóa: sau giảm giá, không gồm thuế, phí vận chuyển, phụ phí và thẻ quà "
        "tặng, trừ phần đã trả hàng hoặc hoàn tiền.",
        "佣金按买家实付的商品金额计算：扣除优惠，不含税费、运费、手续费和礼品卡，并扣除退货退款部分。",
    ),
    Base.CASH: Words(
        "Commission is computed on what the buyer pays for the goods in money: after discounts, without tax, shipping, fees and gift "
        "cards, less what was returned or refunded, and less the part that was paid with gift cards, points or store credit.",
        "Hoa hồng tính trên số tiền người mua thực trả bằng tiền cho hàng hóa: sau giảm giá, không gồm thuế, phí vận chuyển, phụ phí "
        "và thẻ quà tặng, trừ phần đã trả hàng hoặc hoàn tiền, và trừ phần thanh toán bằng thẻ quà tặng, điểm hoặc số dư tại cửa hàng.",
        "佣金按买家以现金实付的商品金额计算：扣除优惠，不含税费、运费、手续费和礼品卡，并扣除退货退款部分，以及用礼品卡、积分或店铺余额支付的部分。",
    ),
}
PLANS: Final[Mapping[Plan, Words]] = {
    Plan.EXCLUSIVE: Words("exclusive plan", "kế hoạch độc quyền", "专属计划"),
    Plan.TARGET: Words("target plan", "kế hoạch mục tiêu", "定向计划"),
    Plan.OPEN: Words("open plan", "kế hoạch mở", "普通计划"),
}
LABELS: Final[Mapping[str, Words]] = {
    BASE: Words("base commission", "hoa hồng cơ bản", "基础佣金"),
    MERCHANT: Words("the shop", "cửa hàng", "商家"),
}
"""The service's own names of a component and a funder; others are the merchant's words."""

_ROUNDED = Words(
    "For each order line the exact amount is rounded once to the smallest unit of its currency; a half is rounded up.",
    "Với mỗi dòng hàng, số tiền chính xác được làm tròn một lần đến đơn vị tiền nhỏ nhất; phần nửa được làm tròn lên.",
    "每个商品行的精确金额只舍入一次，四舍五入到该币种的最小单位。",
)
_RULE = Words(
    "Rule {number}{about}: {pays}{cap}.{conditions}",
    "Quy tắc {number}{about}: {pays}{cap}.{conditions}",
    "规则{number}{about}：{pays}{cap}。{conditions}",
)
_ABOUT = Words(" ({about})", " ({about})", "（{about}）")
_CAP_PER_LINE = Words(
    ", at most {amounts} for each order line", ", tối đa {amounts} cho mỗi dòng hàng", "，每个商品行最高{amounts}"
)
_WHICH = Words(
    "If several of these rules fit an item, only one counts: {order}.",
    "Nếu nhiều quy tắc cùng áp dụng cho một sản phẩm, chỉ một quy tắc được tính: {order}.",
    "如果多条规则适用于同一商品，只按其中一条计算：{order}。",
)
_WHICH_OF = Words(
    "If several rules of {component} fit an item, only one of them counts: {order}.",
    "Nếu nhiều quy tắc của “{component}” cùng áp dụng cho một sản phẩm, chỉ một quy tắc trong đó được tính: {order}.",
    "如果“{component}”的多条规则适用于同一商品，只按其中一条计算：{order}。",
)
_ONE_OF_RANK = Words("rule {number}", "quy tắc {number}", "规则{number}")
_SOME_OF_RANK = Words(
    "of the rules {numbers} the one that pays most for the item",
    "trong các quy tắc {numbers}, quy tắc trả nhiều nhất cho sản phẩm đó",
    "规则{numbers}中对该商品佣金最高的一条",
)
_FIRST_OF_ALL = Words("first {first}", "trước hết là {first}", "首先是{first}")
_THEN = Words(", then {next}", ", rồi đến {next}", "，其次是{next}")
_ADDS_UP = Words(
    "These add up for one item: {components}; together never more than the item's value.",
    "Các khoản sau được cộng lại cho cùng một sản phẩm: {components}; tổng cộng không vượt quá giá trị sản phẩm.",
    "以下各项对同一商品可叠加：{components}；合计不超过该商品的金额。",
)
_WITH_RULE = Words("{label} (rule {numbers})", "{label} (quy tắc {numbers})", "{label}（规则{numbers}）")
_WITH_RULES = Words("{label} (rules {numbers})", "{label} (các quy tắc {numbers})", "{label}（规则{numbers}）")
_BORNE = Words("Who pays: {funders}.", "Bên chi trả: {funders}.", "佣金承担方：{funders}。")


def _commission(terms: Terms, speech: Speech) -> Iterator[str]:
    yield speech.say(BASES[terms.base])
    for place, rule in enumerate(terms.rules):
        yield _rule(place, rule, speech)
    components = _by(terms.rules, lambda rule: rule.component)
    for component, places in components.items():
        if len(places) > 1:
            order = _order(terms.rules, places, speech)
            if len(components) == 1:
                yield speech.say(_WHICH, order=order)
            else:
                yield speech.say(_WHICH_OF, component=label(component, speech), order=order)
    if len(components) > 1:
        yield speech.say(_ADDS_UP, components=_with_rules(components, speech))
    funders = _by(terms.rules, lambda rule: rule.funder)
    if set(funders) != {MERCHANT}:
        yield speech.say(_BORNE, funders=_with_rules(funders, speech))
    yield speech.say(_ROUNDED)


def label(name: str, speech: Speech) -> str:
    """A component or funder: our own in words, the merchant's as it is called."""
    return speech.say(LABELS[name]) if name in LABELS else name


def _by(rules: Sequence[Rule], key: Callable[[Rule], str]) -> dict[str, list[int]]:
    """Places of rules in the terms by a property, in the order in which the terms name it first."""
    found: dict[str, list[int]] = {}
    for place, rule in enumerate(rules):
        found.setdefault(key(rule), []).append(place)
    return found


def _with_rules(found: Mapping[str, Sequence[int]], speech: Speech) -> str:
    return speech.all_of(
        speech.say(
            _WITH_RULE if len(places) == 1 else _WITH_RULES,
            label=label(name, speech),
            numbers=_numbers(places, speech),
        )
        for name, places in found.items()
    )


def _numbers(places: Iterable[int], speech: Speech) -> str:
    """Rules as people count them, from 1."""
    return speech.listed(str(place + 1) for place in places)


def _order(rules: Sequence[Rule], places: Sequence[int], speech: Speech) -> str:
    """Which rule of a component counts: by rank, and of one rank by the amount. Two of one plan and priority have one rank."""
    ranked = sorted(places, key=lambda place: (rules[place].rank(place), place))
    ranks = []
    for _, same in groupby(ranked, key=lambda place: rules[place].rank(place)):
        few = list(same)
        if len(few) == 1:
            ranks.append(speech.say(_ONE_OF_RANK, number=few[0] + 1))
        else:
            ranks.append(speech.say(_SOME_OF_RANK, numbers=_numbers(few, speech)))
    if len(ranks) == 1:
        return ranks[0]
    return speech.say(_FIRST_OF_ALL, first=ranks[0]) + "".join(speech.say(_THEN, next=rank) for rank in ranks[1:])


def _rule(place: int, rule: Rule, speech: Speech) -> str:
    about = [rule.name] if rule.name else []
    if rule.plan is not Plan.OPEN:
        about.append(speech.say(PLANS[rule.plan]))
    caps = rule.caps_per_line_minor
    return speech.say(
        _RULE,
        number=place + 1,
        about=speech.say(_ABOUT, about=speech.listed(about)) if about else "",
        pays=_pays(rule, speech),
        cap=speech.say(_CAP_PER_LINE, amounts=speech.amounts(caps)) if caps else "",
        conditions=_when(rule.when, speech),
    )


def _pays(rule: Rule, speech: Speech) -> str:
    goods = _goods(rule.match, speech)
    match rule.pays:
        case Percent(rate):
            words = Words("{rate} of the value of {goods}", "{rate} giá trị của {goods}", "{goods}金额的{rate}")
            return speech.say(words, rate=speech.percent(rate), goods=goods)
        case Flat(amounts, per):
            once = per is Per.ORDER and rule.match == Match()
            return speech.say(_ONCE if once else PER[per], amounts=speech.amounts(amounts), goods=goods)
        case _:
            assert_never(rule.pays)


PER: Final[Mapping[Per, Words]] = {
    Per.LINE: Words(
        "{amounts} for each order line of {goods}, but never more than the line's value",
        "{amounts} cho mỗi dòng hàng của {goods}, nhưng không quá giá trị dòng hàng",
        "{goods}每个商品行{amounts}，但不超过该行金额",
    ),
    Per.UNIT: Words(
        "{amounts} for each piece of {goods}, but never more than the line's value",
        "{amounts} cho mỗi đơn vị của {goods}, nhưng không quá giá trị dòng hàng",
        "{goods}每件{amounts}，但不超过该行金额",
    ),
    Per.ORDER: Words(
        "{amounts} once for an order with {goods}, but never more than their value",
        "{amounts} một lần cho mỗi đơn có {goods}, nhưng không quá giá trị của chúng",
        "每个含{goods}的订单一次性{amounts}，但不超过这些商品的金额",
    ),
}
_ONCE = Words(
    "{amounts} once for each order, but never more than its goods are worth",
    "{amounts} một lần cho mỗi đơn, nhưng không quá giá trị hàng hóa của đơn",
    "每个订单一次性{amounts}，但不超过订单商品金额",
)
_ALL_GOODS = Words("all goods", "mọi sản phẩm", "所有商品")
_GOODS_SKU = Words("goods with SKU {skus}", "sản phẩm có mã SKU {skus}", "SKU为{skus}的商品")
_GOODS_CATEGORY = Words(
    "goods of category {categories}", "sản phẩm thuộc danh mục {categories}", "类目为{categories}的商品"
)
_GOODS_BOTH = Words(
    "goods with SKU {skus} or of category {categories}",
    "sản phẩm có mã SKU {skus} hoặc thuộc danh mục {categories}",
    "SKU为{skus}或类目为{categories}的商品",
)


def _goods(match: Match, speech: Speech) -> str:
    skus, categories = speech.named(match.skus), speech.named(match.categories)
    words = {
        (False, False): _ALL_GOODS,
        (True, False): _GOODS_SKU,
        (False, True): _GOODS_CATEGORY,
        (True, True): _GOODS_BOTH,
    }[bool(skus), bool(categories)]
    return speech.say(words, skus=skus, categories=categories)


# Conditions.

_IF = Words(
    " It counts only if {conditions}.", " Chỉ áp dụng nếu {conditions}.", "仅在满足以下条件时适用：{conditions}。"
)
_IF_ONE_OF = Words(
    " At least one of these has to be true: {conditions}.",
    " Phải đúng ít nhất một điều sau: {conditions}.",
    "须至少满足以下一项：{conditions}。",
)
_UNLESS = Words(
    " It does not count if {conditions}.", " Không áp dụng nếu {conditions}.", "以下情况不适用：{conditions}。"
)
_AND_ALSO = Words(" and ", " và ", "，且")
_OR_ELSE = Words("; or ", "; hoặc ", "；或")


def _when(when: When, speech: Speech) -> str:
    # One of a single condition is that condition.
    every, some = (when.every, when.some) if len(when.some) > 1 else ((*when.every, *when.some), ())
    told = ""
    if every:
        told += speech.say(_IF, conditions=speech.say(_AND_ALSO).join(_condition(each, speech) for each in every))
    if some:
        told += speech.say(_IF_ONE_OF, conditions=speech.say(_OR_ELSE).join(_condition(each, speech) for each in some))
    if when.none:
        told += speech.say(
            _UNLESS, conditions=speech.say(_OR_ELSE).join(_condition(each, speech) for each in when.none)
        )
    return told


def _condition(condition: Condition, speech: Speech) -> str:
    """A condition as a clause that follows "if"."""
    match condition:
        case SkuIn(skus):
            words = Words("the item's SKU is {these}", "mã SKU của sản phẩm là {these}", "商品SKU为{these}")
            return speech.say(words, these=speech.named(skus))
        case CategoryIn(categories):
            words = Words("the item is of category {these}", "sản phẩm thuộc danh mục {these}", "商品类目为{these}")
            return speech.say(words, these=speech.named(categories))
        case LineAmount(between):
            words = Words(
                "the order line is worth {bounds} {measured}",
                "giá trị dòng hàng ({measured}) {bounds}",
                "商品行金额（{measured}）{bounds}",
            )
            return speech.say(words, bounds=_bounds(between, speech), measured=speech.say(MEASURES[between.measure]))
        case OrderAmount(between):
            words = Words(
                "the goods of the order are worth {bounds} {measured}",
                "giá trị hàng hóa của đơn ({measured}) {bounds}",
                "订单商品总额（{measured}）{bounds}",
            )
            return speech.say(words, bounds=_bounds(between, speech), measured=speech.say(MEASURES[between.measure]))
        case Placed(since, until):
            return _placed(since, until, speech)
        case TouchIn(kinds):
            words = Words("the order comes by {these}", "đơn đến từ {these}", "订单来自{these}")
            return speech.say(words, these=speech.either(speech.say(TOUCHES[kind]) for kind in sorted(kinds)))
        case CouponIn(codes):
            words = Words("the order comes by the code {these}", "đơn đến từ mã {these}", "订单来自优惠码{these}")
            # Codes are kept in small letters, and known to people in capitals.
            return speech.say(words, these=speech.named([code.upper() for code in codes]))
        case WeekdayIn() | HourBetween():
            return _by_clock(condition, speech)
        case AffiliateIn(affiliates):
            return _invited(affiliates, speech)
        case TierIn() | GroupIn() | ContentIn() | ChannelIn() | SubIdIn():
            return _of_affiliate(condition, speech)
        case CountryIn() | CustomerIs() | CustomerMonths() | CustomerListed():
            return _of_customer(condition, speech)
        case _:
            assert_never(condition)


_ONE_DAY_LONG = Words(
    "the order is placed from {since} on and before {until} of a day",
    "đơn được đặt trong ngày, từ {since} đến trước {until}",
    "下单时间在每天{since}起至{until}前",
)
_OVER_MIDNIGHT = Words(
    "the order is placed from {since} of a day on and before {until} of the next",
    "đơn được đặt từ {since} đến trước {until} hôm sau",
    "下单时间在每天{since}起至次日{until}前",
)


def _by_clock(condition: WeekdayIn | HourBetween, speech: Speech) -> str:
    match condition:
        case WeekdayIn(days):
            words = Words("the order is placed on {these}", "đơn được đặt vào {these}", "下单日为{these}")
            return speech.say(words, these=speech.either(speech.say(WEEKDAYS[day]) for day in sorted(days)))
        case HourBetween(since, until):
            words = _ONE_DAY_LONG if since < until else _OVER_MIDNIGHT
            return speech.say(words, since=f"{since}:00", until=f"{until}:00")
        case _:
            assert_never(condition)


_KOC_IS = Words("the KOC is {these}", "KOC là {these}", "达人为{these}")
_YOU_ARE_INVITED = Words(
    "you are one of the KOCs whom the shop names for it (you are)",
    "bạn nằm trong số KOC được cửa hàng chỉ định (bạn có trong đó)",
    "您在商家指定的达人之列（您在其中）",
)
_YOU_ARE_NOT_INVITED = Words(
    "you are one of the KOCs whom the shop names for it (you are not)",
    "bạn nằm trong số KOC được cửa hàng chỉ định (bạn không có trong đó)",
    "您在商家指定的达人之列（您不在其中）",
)


def _invited(affiliates: frozenset[UUID], speech: Speech) -> str:
    """To a KOC only whether it is one of them: the others are nobody's business but the merchant's."""
    reader = speech.names.reader
    if reader is not None:
        return speech.say(_YOU_ARE_INVITED if reader in affiliates else _YOU_ARE_NOT_INVITED)
    return speech.say(_KOC_IS, these=speech.either(sorted(speech.person(each) for each in affiliates)))


CONTENTS: Final[Mapping[ContentType, Words]] = {
    ContentType.POST: Words("a post", "bài đăng", "图文"),
    ContentType.VIDEO: Words("a video", "video", "短视频"),
    ContentType.LIVE: Words("a live stream", "phiên livestream", "直播"),
    ContentType.OTHER: Words("other content", "nội dung khác", "其他内容"),
}


def _contents(content_types: frozenset[ContentType], speech: Speech) -> str:
    return speech.either(speech.say(CONTENTS[each]) for each in ContentType if each in content_types)


def _of_affiliate(condition: TierIn | GroupIn | ContentIn | ChannelIn | SubIdIn, speech: Speech) -> str:
    match condition:
        case TierIn(tiers):
            words = Words("your tier is {these}", "hạng của bạn là {these}", "您的等级为{these}")
            return speech.say(words, these=speech.named(tiers))
        case GroupIn(groups):
            words = Words("you are in the group {these}", "bạn thuộc nhóm {these}", "您属于分组{these}")
            return speech.say(words, these=speech.named(groups))
        case ContentIn(content_types):
            words = Words(
                "the order comes by a link shown in {these}",
                "đơn đến từ liên kết đặt trong {these}",
                "订单来自发布在{these}中的推广链接",
            )
            return speech.say(words, these=_contents(content_types, speech))
        case ChannelIn(channels):
            words = Words(
                "the order comes by a link of the channel {these}",
                "đơn đến từ liên kết thuộc kênh {these}",
                "订单来自渠道{these}的推广链接",
            )
            return speech.say(words, these=speech.named(channels))
        case SubIdIn(name, values):
            words = Words(
                "the order comes by a link whose {name} is {these}",
                "đơn đến từ liên kết có {name} là {these}",
                "订单来自{name}为{these}的推广链接",
            )
            return speech.say(words, name=name, these=speech.named(values))
        case _:
            assert_never(condition)


CUSTOMERS: Final[Mapping[CustomerKind, Words]] = {
    CustomerKind.NEW: Words(
        "it is the buyer's first order, cancelled ones not counted",
        "đây là đơn đầu tiên của người mua, không tính đơn đã hủy",
        "这是买家的首单（不计已取消的订单）",
    ),
    CustomerKind.RETURNING: Words(
        "the buyer has ordered before, cancelled orders not counted",
        "người mua đã từng đặt hàng, không tính đơn đã hủy",
        "买家以前下过单（不计已取消的订单）",
    ),
}


def _of_customer(condition: CountryIn | CustomerIs | CustomerMonths | CustomerListed, speech: Speech) -> str:
    match condition:
        case CountryIn(countries):
            words = Words(
                "the order goes to the country {these}", "đơn được giao đến quốc gia {these}", "收货国家或地区为{these}"
            )
            return speech.say(words, these=speech.either(sorted(countries)))
        case CustomerIs(kind):
            return speech.say(CUSTOMERS[kind])
        case CustomerMonths(below):
            words = Words(
                "the order is placed less than {months} after the buyer's first one, or is that",
                "đơn được đặt chưa đến {months} sau đơn đầu tiên của người mua, kể cả chính đơn đó",
                "下单时距买家首单不足{months}（含首单）",
            )
            return speech.say(words, months=speech.months(below))
        case CustomerListed(lists):
            words = Words(
                "the buyer is on the shop's list {these}",
                "người mua có trong danh sách {these} của cửa hàng",
                "买家在商家的名单{these}中",
            )
            return speech.say(words, these=speech.named(lists))
        case _:
            assert_never(condition)


MEASURES: Final[Mapping[Measure, Words]] = {
    Measure.LEFT: Words("after returns", "sau khi trừ hàng trả lại", "扣除退货退款后"),
    Measure.ORDERED: Words("as ordered", "lúc đặt hàng", "下单时"),
}
TOUCHES: Final[Mapping[TouchKind, Words]] = {
    TouchKind.CLICK: Words("a click on your link", "lượt bấm vào liên kết của bạn", "您的推广链接的点击"),
    TouchKind.COUPON: Words("your code", "mã của bạn", "您的优惠码"),
    TouchKind.CUSTOMER: Words("a buyer bound to you", "người mua đã gắn với bạn", "与您绑定的买家"),
    TouchKind.PRODUCT: Words("a product bound to you", "sản phẩm đã gắn với bạn", "与您绑定的商品"),
    TouchKind.REORDER: Words(
        "a buyer who orders again what you brought and was cancelled",
        "người mua đặt lại đơn do bạn mang về đã bị hủy",
        "重新下单的买家（您带来的原订单已取消）",
    ),
}
_FROM_TO = Words("at least {least} and less than {below}", "từ {least} đến dưới {below}", "满{least}且低于{below}")
_FROM = Words("at least {least}", "từ {least} trở lên", "满{least}")
_BELOW = Words("less than {below}", "dưới {below}", "低于{below}")


def _bounds(between: Between, speech: Speech) -> str:
    """By currency; an order has one of them."""
    least, below = dict(between.at_least_minor), dict(between.below_minor)

    def said(currency: str) -> str:
        words = {(True, True): _FROM_TO, (True, False): _FROM, (False, True): _BELOW}[
            currency in least, currency in below
        ]
        return speech.say(
            words,
            least=speech.money(least.get(currency, 0), currency),
            below=speech.money(below.get(currency, 0), currency),
        )

    return speech.either(said(currency) for currency in sorted({*least, *below}))


def _placed(since: datetime | None, until: datetime | None, speech: Speech) -> str:
    words = {
        (True, True): Words(
            "the order is placed from {since} on and before {until}",
            "đơn được đặt từ {since} đến trước {until}",
            "下单时间从{since}起至{until}前",
        ),
        (True, False): Words(
            "the order is placed from {since} on", "đơn được đặt từ {since} trở đi", "下单时间从{since}起"
        ),
        (False, True): Words("the order is placed before {until}", "đơn được đặt trước {until}", "下单时间在{until}前"),
        (False, False): Words("the order is placed at any time", "đơn được đặt bất kỳ lúc nào", "下单时间不限"),
    }[since is not None, until is not None]
    return speech.say(
        words,
        since="" if since is None else speech.moment(since),
        until="" if until is None else speech.moment(until),
    )


# Limits and exclusions.

_CAP = Words(
    "One order earns at most {amounts}.", "Mỗi đơn hàng có hoa hồng tối đa {amounts}.", "每个订单的佣金最高{amounts}。"
)
_EXCLUDED = Words(
    "An item earns nothing if {condition}.",
    "Sản phẩm không có hoa hồng nếu {condition}.",
    "以下情况商品不计佣：{condition}。",
)


def _limits(terms: Terms, speech: Speech) -> Iterator[str]:
    if terms.caps_minor:
        yield speech.say(_CAP, amounts=speech.amounts(terms.caps_minor))


# Periods.

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


def _periods(terms: Terms, speech: Speech) -> Iterator[str]:
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


# Fees.

_TECHNICAL_FEE = Words(
    "Of each commission and fee {rate} goes to {payee} as a technical fee.",
    "Mỗi khoản hoa hồng và phí được trích {rate} cho {payee} làm phí kỹ thuật.",
    "每笔佣金和服务费中，{rate}作为技术服务费归{payee}。",
)
_SERVICE_FEE = Words(
    "For goods that earn by rule {number} the shop pays {agent} (approved {moment}) {rate} of their value as a service fee on top; "
    "nothing of it comes out of your commission.",
    "Với hàng được tính theo quy tắc {number}, cửa hàng trả thêm cho {agent} (duyệt lúc {moment}) {rate} giá trị hàng làm phí dịch vụ; "
    "khoản này không trừ vào hoa hồng của bạn.",
    "按规则{number}计佣的商品，商家另向{agent}（{moment}通过）支付商品金额{rate}的服务费，不从您的佣金中扣除。",
)
_COMPETING_FEE = Words(
    "Where rule {number} fits an item, the shop may pay {agent} (approved {moment}) {rate} of its value as a service fee on top, also if a "
    "target rule pays you; nothing of it comes out of your commission.",
    "Khi quy tắc {number} áp dụng cho một sản phẩm, cửa hàng có thể trả thêm cho {agent} (duyệt lúc {moment}) {rate} giá trị sản phẩm làm phí "
    "dịch vụ, kể cả khi hoa hồng của bạn tính theo quy tắc mục tiêu; khoản này không trừ vào hoa hồng của bạn.",
    "规则{number}适用于商品时，即使您的佣金按定向计划计算，商家也可另向{agent}（{moment}通过）支付商品金额{rate}的服务费，不从您的佣金中扣除。",
)
_ONE_FEE = Words(
    "For one item one service fee at most is paid: where an exclusive rule counts that of its own agency, else that of the open rule that "
    "ranks first, and of rules that give equally much that of the agency approved first. Where you have an agency of your own, no other "
    "is paid a fee for your orders.",
    "Mỗi sản phẩm chỉ trả tối đa một khoản phí dịch vụ: nếu quy tắc độc quyền được tính thì của đại lý ghi trong quy tắc đó, nếu không thì "
    "của quy tắc mở được xếp trước; khi bằng nhau thì của đại lý được duyệt trước. Nếu bạn thuộc một đại lý, không đại lý nào khác được "
    "nhận phí cho đơn của bạn.",
    "每个商品最多支付一笔服务费：按专属规则计佣的，归该规则的机构；否则归排序在先的普通规则，佣金相同时归先通过的机构。"
    "如您已有所属机构，您的订单不再向其他机构支付服务费。",
)


def _fees(terms: Terms, speech: Speech) -> Iterator[str]:
    if terms.technical_fee is not None:
        fee: TechnicalFee = terms.technical_fee
        yield speech.say(_TECHNICAL_FEE, rate=speech.percent(fee.rate), payee=speech.person(fee.payee_id))
    agents = [(place, rule, rule.agent) for place, rule in enumerate(terms.rules) if rule.agent is not None]
    for place, rule, agent in agents:
        yield _agent(place, rule, agent, speech)
    if agents:
        yield speech.say(_ONE_FEE)


def _agent(place: int, rule: Rule, agent: Agent, speech: Speech) -> str:
    return speech.say(
        _SERVICE_FEE if rule.plan is Plan.EXCLUSIVE else _COMPETING_FEE,
        number=place + 1,
        agent=speech.person(agent.payee_id),
        moment=speech.moment(agent.approved_at),
        rate=speech.percent(agent.fee),
    )


def _exclusions(terms: Terms, speech: Speech) -> Iterator[str]:
    for condition in terms.exclude:
        yield speech.say(_EXCLUDED, condition=_condition(condition, speech))


# Attribution.

MODELS: Final[Mapping[Model, Words]] = {
    Model.LAST: Words(
        "If several clicks or codes could count, the last one before the order wins.",
        "Nếu có nhiều lượt bấm hoặc mã hợp lệ, lần cuối cùng trước khi đặt đơn sẽ thắng.",
        "有多次有效点击或优惠码时，以下单前的最后一次为准。",
    ),
    Model.FIRST: Words(
        "If several clicks or codes could count, the first one wins.",
        "Nếu có nhiều lượt bấm hoặc mã hợp lệ, lần đầu tiên sẽ thắng.",
        "有多次有效点击或优惠码时，以第一次为准。",
    ),
    Model.LINEAR: Words(
        "If several clicks or codes could count, they share the commission equally.",
        "Nếu có nhiều lượt bấm hoặc mã hợp lệ, hoa hồng được chia đều cho tất cả.",
        "有多次有效点击或优惠码时，佣金平均分配。",
    ),
    Model.POSITION: Words(
        "If several clicks or codes could count, the first has {first} of the commission and the last {last}, and those between share the "
        "rest equally; two alone share all of it in that proportion.",
        "Nếu có nhiều lượt bấm hoặc mã hợp lệ, lần đầu được {first} hoa hồng, lần cuối được {last}, các lần ở giữa chia đều phần còn lại; "
        "nếu chỉ có hai lần, hai lần chia toàn bộ theo tỷ lệ đó.",
        "有多次有效点击或优惠码时，首次得佣金的{first}，末次得{last}，其余平分剩余部分；只有两次时，按此比例分配全部佣金。",
    ),
}
CUSTOMER_BINDINGS: Final[Mapping[BindingRank, Words]] = {
    BindingRank.BEFORE: Words(
        "An order of a buyer whom the shop has bound to you counts for you, whatever clicks and codes it carries.",
        "Đơn của người mua được cửa hàng gắn với bạn luôn được tính cho bạn, dù đơn có lượt bấm hay mã nào.",
        "商家与您绑定的买家下的订单归您，不论订单带有哪些点击和优惠码。",
    ),
    BindingRank.AFTER: Words(
        "An order of a buyer whom the shop has bound to you counts for you where no click and no code counts.",
        "Đơn của người mua được cửa hàng gắn với bạn được tính cho bạn khi không có lượt bấm hay mã nào hợp lệ.",
        "商家与您绑定的买家下的订单，没有有效点击和优惠码时归您。",
    ),
    BindingRank.IGNORED: Words(
        "That a buyer is bound to you brings you no orders here.",
        "Việc người mua được gắn với bạn không mang lại đơn nào trong chương trình này.",
        "在此推广计划中，买家绑定不带来订单。",
    ),
}
PRODUCT_BINDINGS: Final[Mapping[BindingRank, Words]] = {
    BindingRank.BEFORE: Words(
        "Products that the shop has bound to you count for you in every order, whoever brought the rest of it.",
        "Sản phẩm được cửa hàng gắn với bạn được tính cho bạn trong mọi đơn, dù ai mang về phần còn lại.",
        "商家与您绑定的商品在任何订单中都归您，不论订单其余部分由谁带来。",
    ),
    BindingRank.AFTER: Words(
        "Products that the shop has bound to you count for you in orders that nobody else brought.",
        "Sản phẩm được cửa hàng gắn với bạn được tính cho bạn trong các đơn không do ai khác mang về.",
        "商家与您绑定的商品，在没有其他推广人的订单中归您。",
    ),
    BindingRank.IGNORED: Words(
        "That a product is bound to you brings you no orders here.",
        "Việc sản phẩm được gắn với bạn không mang lại đơn nào trong chương trình này.",
        "在此推广计划中，商品绑定不带来订单。",
    ),
}
PRECEDENCES: Final[Mapping[Precedence, Words]] = {
    Precedence.COUPON: Words(
        "A code used in the order beats every click.",
        "Mã được dùng trong đơn được ưu tiên hơn mọi lượt bấm.",
        "订单中使用的优惠码优先于所有点击。",
    ),
    Precedence.CLICK: Words(
        "A click beats every code used in the order.",
        "Lượt bấm được ưu tiên hơn mọi mã được dùng trong đơn.",
        "点击优先于订单中使用的优惠码。",
    ),
    Precedence.LATEST: Words(
        "Clicks and codes are treated alike: only time decides, and a code counts as used when the order was placed.",
        "Lượt bấm và mã được xét như nhau: chỉ xét thời gian, mã được coi là dùng vào lúc đặt đơn.",
        "点击与优惠码同等对待：只看时间先后，优惠码以下单时间为准。",
    ),
}
SELF_PURCHASES: Final[Mapping[SelfPurchase, Words]] = {
    SelfPurchase.REJECT: Words(
        "What you buy yourself through your own link or code earns nothing.",
        "Bạn tự mua qua liên kết hoặc mã của mình thì không có hoa hồng.",
        "您通过自己的链接或优惠码购买没有佣金。",
    ),
    SelfPurchase.ALLOW: Words(
        "What you buy yourself through your own link or code earns as well.",
        "Bạn tự mua qua liên kết hoặc mã của mình vẫn có hoa hồng.",
        "您通过自己的链接或优惠码购买同样有佣金。",
    ),
    SelfPurchase.REVIEW: Words(
        "What you buy yourself through your own link or code is on hold until the shop has looked at it.",
        "Bạn tự mua qua liên kết hoặc mã của mình thì hoa hồng bị tạm giữ cho đến khi cửa hàng xem xét.",
        "您通过自己的链接或优惠码购买的，佣金冻结至商家核查。",
    ),
}
IDENTITIES: Final[Mapping[IdentityKind, Words]] = {
    IdentityKind.ADDRESS: Words("the address", "địa chỉ", "地址"),
    IdentityKind.EMAIL: Words("the e-mail address", "email", "电子邮箱"),
    IdentityKind.ID: Words("the customer number", "mã khách hàng", "客户编号"),
    IdentityKind.PAYMENT: Words("the means of payment", "phương tiện thanh toán", "支付方式"),
    IdentityKind.PHONE: Words("the phone number", "số điện thoại", "电话号码"),
}
_SEEN_BY = Words(
    "That a buyer is you is seen by {kinds}.",
    "Người mua được nhận ra là bạn qua {kinds}.",
    "通过{kinds}识别买家是否为您本人。",
)
_WINDOW = Words(
    "A click on your link counts for orders placed within {days} after it.",
    "Lượt bấm vào liên kết của bạn được tính cho các đơn đặt trong vòng {days} sau đó.",
    "您的推广链接被点击后，{days}内下的订单有效。",
)
_WINDOW_OF = Words(
    "For a link {marked} that is within {days}.",
    "Với liên kết {marked}, thời hạn đó là {days}.",
    "{marked}的推广链接，期限为{days}。",
)
_SHOWN_IN = Words("shown in {contents}", "đặt trong {contents}", "发布在{contents}中")
_ON_CHANNEL = Words("of the channel {channels}", "thuộc kênh {channels}", "渠道为{channels}")
_FIRST_WINDOW = Words(
    "If several of these fit a link, the first one counts.",
    "Nếu nhiều thời hạn trên cùng phù hợp với một liên kết, thời hạn đầu tiên được áp dụng.",
    "同一链接符合以上多项的，以第一项为准。",
)
_REORDER = Words(
    "If a buyer cancels an order that you brought and orders one of its products again within {days} of having placed it, that counts for "
    "you where nothing else does.",
    "Nếu người mua hủy đơn do bạn mang về rồi đặt lại một sản phẩm trong đó trong vòng {days} kể từ khi đặt đơn cũ, đơn mới được tính cho bạn "
    "nếu không có gì khác được tính.",
    "买家取消您带来的订单后，在原订单下单起{days}内重新购买其中商品的，如无其他有效归属，新订单归您。",
)
_CODE = Words(
    "Your code counts whenever the buyer uses it in the order, without any click.",
    "Mã của bạn được tính mỗi khi người mua dùng nó trong đơn, không cần lượt bấm.",
    "买家在订单中使用您的优惠码即有效，无需点击。",
)


def _attribution(terms: Terms, speech: Speech) -> Iterator[str]:
    attribution: AttributionTerms = terms.attribution
    yield speech.say(_WINDOW, days=speech.days(attribution.window_days))
    windows = [window for window in attribution.windows if window.content_types or window.channels]
    for window in windows:
        yield speech.say(_WINDOW_OF, marked=_marked(window, speech), days=speech.days(window.days))
    if len(windows) > 1:
        yield speech.say(_FIRST_WINDOW)
    yield speech.say(_CODE)
    yield speech.say(PRECEDENCES[attribution.precedence])
    yield speech.say(
        MODELS[attribution.model],
        first=speech.percent(attribution.position_first),
        last=speech.percent(attribution.position_last),
    )
    yield speech.say(CUSTOMER_BINDINGS[attribution.customer_binding])
    yield speech.say(PRODUCT_BINDINGS[attribution.product_binding])
    if attribution.reorder_days:
        yield speech.say(_REORDER, days=speech.days(attribution.reorder_days))
    yield speech.say(SELF_PURCHASES[attribution.self_purchase])
    if attribution.self_purchase is not SelfPurchase.ALLOW:
        kinds = [kind for kind in IdentityKind if kind in attribution.self_purchase_by]
        yield speech.say(_SEEN_BY, kinds=speech.either(speech.say(IDENTITIES[kind]) for kind in kinds))


def _marked(window: Window, speech: Speech) -> str:
    marks = []
    if window.content_types:
        marks.append(speech.say(_SHOWN_IN, contents=_contents(window.content_types, speech)))
    if window.channels:
        marks.append(speech.say(_ON_CHANNEL, channels=speech.named(window.channels)))
    return speech.either(marks)


# Settlement.

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
WEEKDAYS: Final[Mapping[Weekday, Words]] = {
    Weekday.MON: Words("a Monday", "thứ Hai", "星期一"),
    Weekday.TUE: Words("a Tuesday", "thứ Ba", "星期二"),
    Weekday.WED: Words("a Wednesday", "thứ Tư", "星期三"),
    Weekday.THU: Words("a Thursday", "thứ Năm", "星期四"),
    Weekday.FRI: Words("a Friday", "thứ Sáu", "星期五"),
    Weekday.SAT: Words("a Saturday", "thứ Bảy", "星期六"),
    Weekday.SUN: Words("a Sunday", "Chủ nhật", "星期日"),
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


def _settlement(terms: Terms, speech: Speech) -> Iterator[str]:
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


# Payout and changes.

_MINIMUM = Words(
    "What is payable is paid out from {amounts} on; less than that is carried to the next payout.",
    "Số dư được chi trả khi đạt từ {amounts}; ít hơn thì chuyển sang đợt chi trả sau.",
    "可打款金额满{amounts}才打款，不足部分结转至下次。",
)
_NO_MINIMUM = Words(
    "There is no minimum for a payout.",
    "Không có mức tối thiểu để được chi trả.",
    "打款没有最低金额。",
)
_TIME_ZONE = Words(
    "Days and times are those of the shop's time zone, {zone}.",
    "Ngày giờ được tính theo múi giờ của cửa hàng, {zone}.",
    "日期和时间按商家所在时区{zone}计算。",
)
_NOTICE = Words(
    "Better terms count for you at once; worse ones only after {days}: until then each order counts by whichever terms give "
    "you more. This protects those who take part before the change.",
    "Điều khoản tốt hơn có hiệu lực với bạn ngay; điều khoản kém hơn chỉ có hiệu lực sau {days}: đến lúc đó, mỗi đơn được tính "
    "theo điều khoản có lợi hơn cho bạn. Quy định này bảo vệ người đã tham gia trước khi thay đổi.",
    "条款变优立即对您生效；条款变差在{days}后才生效：在此之前，每个订单按对您更有利的条款计算。此保护适用于变更前已加入的达人。",
)
_NO_NOTICE = Words(
    "New terms count for all orders placed after they begin, also where they are worse.",
    "Điều khoản mới áp dụng cho mọi đơn đặt sau khi có hiệu lực, kể cả khi kém hơn.",
    "新条款生效后下的所有订单均按新条款计算，即使条款变差。",
)
_BY_PLACING = Words(
    "What counts for an order are the terms of the time when it was placed.",
    "Mỗi đơn áp dụng điều khoản tại thời điểm đặt đơn.",
    "每个订单按下单时的条款计算。",
)


_PAUSES = Words(
    "The shop may stop the programme from a moment on, or have all of it checked: orders placed while it is stopped earn nothing, orders "
    "placed before are not touched.",
    "Cửa hàng có thể dừng chương trình hoặc chuyển sang duyệt từng đơn kể từ một thời điểm: đơn đặt trong lúc dừng không có hoa hồng, "
    "đơn đặt trước đó không bị ảnh hưởng.",
    "商家可从某一时刻起暂停推广计划或改为逐笔审核：暂停期间下的订单没有佣金，之前下的订单不受影响。",
)


def _payout(terms: Terms, speech: Speech) -> Iterator[str]:
    if terms.payout_minimums_minor:
        yield speech.say(_MINIMUM, amounts=speech.amounts(terms.payout_minimums_minor))
    else:
        yield speech.say(_NO_MINIMUM)


def _changes(terms: Terms, speech: Speech) -> Iterator[str]:
    yield speech.say(_BY_PLACING)
    if terms.notice_days:
        yield speech.say(_NOTICE, days=speech.days(terms.notice_days))
    else:
        yield speech.say(_NO_NOTICE)
    yield speech.say(_PAUSES)
    yield speech.say(_TIME_ZONE, zone=speech.names.time_zone)


_SECTIONS: Final[Mapping[Part, Callable[[Terms, Speech], Iterator[str]]]] = {
    Part.COMMISSION: _commission,
    Part.LIMITS: _limits,
    Part.PERIODS: _periods,
    Part.FEES: _fees,
    Part.EXCLUSIONS: _exclusions,
    Part.ATTRIBUTION: _attribution,
    Part.SETTLEMENT: _settlement,
    Part.PAYOUT: _payout,
    Part.CHANGES: _changes,
}
