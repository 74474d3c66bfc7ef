"""A programme's terms in sentences, made from the same value the machine computes with.

Conditions, periods, attribution and settlement have their words beside this. To add a kind of a rule's pay: one case in
`_pays`; of a choice, one line in its table; of a part of terms, one function in `_SECTIONS`. Each brings its words in every
language.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Final, assert_never
from uuid import UUID

from service.domain.conditions import AffiliateIn
from service.domain.program import Base, TechnicalFee, Terms
from service.domain.rules import BASE, MERCHANT, Agent, Flat, Match, Per, Percent, Plan, Rule
from service.domain.wording.attribution import of_attribution
from service.domain.wording.conditions import clause, clauses
from service.domain.wording.figures import Names, Speech
from service.domain.wording.languages import Language, Words
from service.domain.wording.periods import of_periods
from service.domain.wording.settlement import of_settlement


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
        conditions=clauses(rule.when, speech),
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
        yield speech.say(_EXCLUDED, condition=clause(condition, speech))


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
    Part.PERIODS: of_periods,
    Part.FEES: _fees,
    Part.EXCLUSIONS: _exclusions,
    Part.ATTRIBUTION: of_attribution,
    Part.SETTLEMENT: of_settlement,
    Part.PAYOUT: _payout,
    Part.CHANGES: _changes,
}
