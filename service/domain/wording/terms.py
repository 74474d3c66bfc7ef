"""A programme's terms in sentences, made from the same value the machine computes with.

To add a kind: of condition, one case in `_condition`; of a rule's pay, one in `_pays`; of settlement, one in `_settlement`;
of a choice, one line in its table below; of a part of terms, one function in `_SECTIONS`. Each brings its words in every language.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Final, assert_never
from zoneinfo import ZoneInfo

from service.domain.conditions import (
    Between,
    CategoryIn,
    Condition,
    CouponIn,
    LineAmount,
    Measure,
    OrderAmount,
    Placed,
    SkuIn,
    TouchIn,
)
from service.domain.order import Milestone, TouchKind
from service.domain.program import AttributionTerms, Base, Model, Precedence, SelfPurchase, Terms
from service.domain.rules import BASE, MERCHANT, Flat, Match, Per, Percent, Plan, Rule, When
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement, Weekday
from service.domain.wording.figures import Names, Speech
from service.domain.wording.languages import Language, Words


class Part(StrEnum):
    """What a section is about, in the order in which sections are read."""

    COMMISSION = "commission"
    LIMITS = "limits"
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


# What is earned.

BASES: Final[Mapping[Base, Words]] = {
    Base.NET: Words(
        "Commission is computed on what the buyer pays for the goods: after discounts, without tax, shipping, fees and gift cards, "
        "less what was returned or refunded.",
        "Hoa hồng tính trên số tiền người mua trả cho hàng hóa: sau giảm giá, không gồm thuế, phí vận chuyển, phụ phí và thẻ quà "
        "tặng, trừ phần đã trả hàng hoặc hoàn tiền.",
        "佣金按买家实付的商品金额计算：扣除优惠，不含税费、运费、手续费和礼品卡，并扣除退货退款部分。",
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
        case _:
            assert_never(condition)


MEASURES: Final[Mapping[Measure, Words]] = {
    Measure.LEFT: Words("after returns", "sau khi trừ hàng trả lại", "扣除退货退款后"),
    Measure.ORDERED: Words("as ordered", "lúc đặt hàng", "下单时"),
}
TOUCHES: Final[Mapping[TouchKind, Words]] = {
    TouchKind.CLICK: Words("a click on your link", "lượt bấm vào liên kết của bạn", "您的推广链接的点击"),
    TouchKind.COUPON: Words("your code", "mã của bạn", "您的优惠码"),
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
}
_WINDOW = Words(
    "A click on your link counts for orders placed within {days} after it.",
    "Lượt bấm vào liên kết của bạn được tính cho các đơn đặt trong vòng {days} sau đó.",
    "您的推广链接被点击后，{days}内下的订单有效。",
)
_CODE = Words(
    "Your code counts whenever the buyer uses it in the order, without any click.",
    "Mã của bạn được tính mỗi khi người mua dùng nó trong đơn, không cần lượt bấm.",
    "买家在订单中使用您的优惠码即有效，无需点击。",
)


def _attribution(terms: Terms, speech: Speech) -> Iterator[str]:
    attribution: AttributionTerms = terms.attribution
    yield speech.say(_WINDOW, days=speech.days(attribution.window_days))
    yield speech.say(_CODE)
    yield speech.say(PRECEDENCES[attribution.precedence])
    yield speech.say(MODELS[attribution.model])
    yield speech.say(SELF_PURCHASES[attribution.self_purchase])


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
    yield speech.say(_TIME_ZONE, zone=speech.names.time_zone)


_SECTIONS: Final[Mapping[Part, Callable[[Terms, Speech], Iterator[str]]]] = {
    Part.COMMISSION: _commission,
    Part.LIMITS: _limits,
    Part.EXCLUSIONS: _exclusions,
    Part.ATTRIBUTION: _attribution,
    Part.SETTLEMENT: _settlement,
    Part.PAYOUT: _payout,
    Part.CHANGES: _changes,
}
