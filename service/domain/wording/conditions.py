"""Conditions in words: when a rule holds, and what earns nothing.

To add one: one case in `clause`, with its words in every language.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

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
from service.domain.marks import ContentType
from service.domain.order import TouchKind
from service.domain.rules import When
from service.domain.wording.figures import WEEKDAYS, Speech
from service.domain.wording.languages import Words

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


def clauses(when: When, speech: Speech) -> str:
    """When a rule holds, as sentences that follow it; nothing where it always does."""
    # One of a single condition is that condition.
    every, some = (when.every, when.some) if len(when.some) > 1 else ((*when.every, *when.some), ())
    told = ""
    if every:
        told += speech.say(_IF, conditions=speech.say(_AND_ALSO).join(clause(each, speech) for each in every))
    if some:
        told += speech.say(_IF_ONE_OF, conditions=speech.say(_OR_ELSE).join(clause(each, speech) for each in some))
    if when.none:
        told += speech.say(_UNLESS, conditions=speech.say(_OR_ELSE).join(clause(each, speech) for each in when.none))
    return told


def clause(condition: Condition, speech: Speech) -> str:
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


def contents_told(content_types: frozenset[ContentType], speech: Speech) -> str:
    """One of these kinds of content."""
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
            return speech.say(words, these=contents_told(content_types, speech))
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
