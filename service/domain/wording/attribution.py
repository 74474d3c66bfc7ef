"""Which orders count for an affiliate, in words: one line in its table for each choice."""

from collections.abc import Iterator, Mapping
from typing import Final

from service.domain.identity import IdentityKind
from service.domain.program import (
    AttributionTerms,
    BindingRank,
    Model,
    Precedence,
    SelfPurchase,
    Terms,
    Window,
)
from service.domain.wording.conditions import contents_told
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words

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


def of_attribution(terms: Terms, speech: Speech) -> Iterator[str]:
    """Which orders count for an affiliate."""
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
        marks.append(speech.say(_SHOWN_IN, contents=contents_told(window.content_types, speech)))
    if window.channels:
        marks.append(speech.say(_ON_CHANNEL, channels=speech.named(window.channels)))
    return speech.either(marks)
