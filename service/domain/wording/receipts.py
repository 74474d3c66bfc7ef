"""A commission's receipt in sentences: from what was ordered, line by line, to the amount; or from a period's sums."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from service.domain.periods import Cap, period_rule_of
from service.domain.shares import Role
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words
from service.domain.wording.periods import period_rule
from service.domain.wording.terms import label
from service.domain.written import rate_of

JsonObject = dict[str, Any]

_VERSION = Words(
    "Computed by version {version} of the terms, which was in force when the order was placed.",
    "Tính theo phiên bản {version} của điều khoản, có hiệu lực khi đặt đơn.",
    "按下单时生效的第{version}版条款计算。",
)
_BEST_VERSION = Words(
    "Computed by version {version} of the terms, which gives most: {compared}.",
    "Tính theo phiên bản {version} của điều khoản, là phiên bản có lợi nhất: {compared}.",
    "按其中最有利的第{version}版条款计算：{compared}。",
)
_COMPARED = Words("version {version} {amount}", "phiên bản {version} là {amount}", "第{version}版{amount}")
_LINE = Words("Line {line}", "Dòng hàng {line}", "商品行{line}")
_LINE_SKU = Words("Line {line} (SKU {sku})", "Dòng hàng {line} (mã SKU {sku})", "商品行{line}（SKU {sku}）")
_GOODS = Words(
    "{line}: {ordered} ordered, nothing came back; the base is {base}.",
    "{line}: đặt {ordered}, không có hoàn trả; cơ sở tính là {base}.",
    "{line}：下单金额{ordered}，无退款；计佣金额{base}。",
)
_GOODS_BACK = Words(
    "{line}: {ordered} ordered, {refunded} refunded; the base is {base}.",
    "{line}: đặt {ordered}, hoàn {refunded}; cơ sở tính là {base}.",
    "{line}：下单金额{ordered}，退款{refunded}；计佣金额{base}。",
)
_VIRTUAL = Words(
    "{line}: {virtual} of it was paid with gift cards, points or store credit and does not count.",
    "{line}: {virtual} trong đó được thanh toán bằng thẻ quà tặng, điểm hoặc số dư tại cửa hàng nên không được tính.",
    "{line}：其中{virtual}以礼品卡、积分或店铺余额支付，不计佣。",
)
_EXCLUDED = Words(
    "{line} is excluded by the terms and earns nothing.",
    "{line} bị loại trừ theo điều khoản nên không có hoa hồng.",
    "{line}按条款不计佣。",
)
_NO_RULE = Words(
    "No rule of the terms fits {line}, so it earns nothing.",
    "Không quy tắc nào của điều khoản áp dụng cho {line} nên không có hoa hồng.",
    "条款中没有规则适用于{line}，没有佣金。",
)
_RATE = Words(
    "Rule {rule}: {rate} of {base} is exactly {exact}.",
    "Quy tắc {rule}: {rate} của {base} là đúng {exact}.",
    "规则{rule}：{base}的{rate}，精确值{exact}。",
)
_RATE_LIMITED = Words(
    "Rule {rule}: {rate} of {base} would be {full}; a limit makes it {exact}.",
    "Quy tắc {rule}: {rate} của {base} lẽ ra là {full}; theo mức giới hạn còn {exact}.",
    "规则{rule}：{base}的{rate}为{full}，按限额计{exact}。",
)
_FLAT = {
    "line": Words(
        "Rule {rule}: a fixed {amount} for the line; that gives {exact}.",
        "Quy tắc {rule}: cố định {amount} cho dòng hàng; được {exact}.",
        "规则{rule}：该商品行固定{amount}，计{exact}。",
    ),
    "unit": Words(
        "Rule {rule}: a fixed {amount} for each piece of {quantity} ordered; that gives {exact}.",
        "Quy tắc {rule}: cố định {amount} cho mỗi đơn vị, đã đặt {quantity}; được {exact}.",
        "规则{rule}：每件固定{amount}，下单{quantity}件，计{exact}。",
    ),
    "order": Words(
        "Rule {rule}: a fixed {amount} once for the order; this line's part of it is {exact}.",
        "Quy tắc {rule}: cố định {amount} một lần cho cả đơn; phần của dòng hàng này là {exact}.",
        "规则{rule}：整单一次性固定{amount}，分摊到该行{exact}。",
    ),
}
_ROUNDED = Words(
    "{line} comes to exactly {exact}, rounded {rounded}.",
    "{line} cộng lại đúng {exact}, làm tròn thành {rounded}.",
    "{line}合计精确值{exact}，舍入后{rounded}。",
)
_WHOLE = Words(
    "{line} comes to {rounded}; there is nothing to round.",
    "{line} cộng lại đúng {rounded}, không cần làm tròn.",
    "{line}合计{rounded}，无需舍入。",
)
_SUM = Words(
    "All lines together: {amount}.",
    "Tổng tất cả dòng hàng: {amount}.",
    "所有商品行合计：{amount}。",
)
_CAPPED = Words(
    "One order earns at most {cap}, so of {amount} that much counts.",
    "Mỗi đơn hàng có hoa hồng tối đa {cap}, nên từ {amount} chỉ tính chừng đó.",
    "每个订单最高{cap}，因此{amount}只计该金额。",
)
_CAPPED_PART = Words(
    "This part of the order earns at most {cap}, so of {amount} that much counts.",
    "Phần này của đơn có hoa hồng tối đa {cap}, nên từ {amount} chỉ tính chừng đó.",
    "该订单的这一部分最高{cap}，因此{amount}只计该金额。",
)
_VOIDED = Words(
    "The order was cancelled, its commission rejected or the programme stopped, so it earns nothing.",
    "Đơn bị hủy, hoa hồng bị từ chối hoặc chương trình đang tạm dừng nên không có hoa hồng.",
    "订单已取消、佣金审核未通过或推广计划已暂停，没有佣金。",
)
_RESULT = Words(
    "The commission is {amount}.",
    "Hoa hồng là {amount}.",
    "佣金：{amount}。",
)
_BORNE = Words("Paid by: {funders}.", "Bên chi trả: {funders}.", "承担方：{funders}。")

# Of an order that several share, or of whose commission others have a part.

_CREDIT = Words(
    "Part {number} of {count} of this order:",
    "Phần {number}/{count} của đơn này:",
    "该订单的第{number}部分（共{count}部分）：",
)
_TOGETHER = Words("All parts together: {amount}.", "Tổng các phần: {amount}.", "各部分合计：{amount}。")
_WEIGHT = Words(
    "Of the commission on this order {part} counts here.",
    "Phần được tính ở đây là {part} hoa hồng của đơn này.",
    "此处计该订单佣金的{part}。",
)
_ONLY_SKUS = Words(
    "Only the products {skus} count here.",
    "Ở đây chỉ tính sản phẩm {skus}.",
    "此处只计商品{skus}。",
)
_SOME_LINES = Words(
    "Products of this order that are bound to somebody else are not counted here.",
    "Sản phẩm trong đơn đã gắn với người khác không được tính ở đây.",
    "订单中与他人绑定的商品不计入此处。",
)
_AGENCY = Words(
    "An agency has {share} of the commission, and {fee} of the goods on top.",
    "Đại lý được {share} hoa hồng, và thêm {fee} giá trị hàng.",
    "所属机构分得佣金的{share}，另得商品金额的{fee}。",
)
_TECHNICAL = Words(
    "Of each part {rate} is taken as a technical fee.",
    "Mỗi phần được trích {rate} làm phí kỹ thuật.",
    "每一部分中扣除{rate}作为技术服务费。",
)
_LARGEST_REMAINDER = Words(
    "Each line is rounded once as a whole; its parts share that so that the largest remainders are rounded up first.",
    "Mỗi dòng hàng được làm tròn một lần cho cả dòng; các phần chia nhau kết quả, phần dư lớn nhất được làm tròn lên trước.",
    "每个商品行整体舍入一次，各部分按余数从大到小依次进位分配。",
)
_DIVIDED = Words(
    "{line} earns exactly {exact}, which is divided:",
    "{line} được đúng {exact}, chia như sau:",
    "{line}佣金的精确值为{exact}，分配如下：",
)
ROLES: Final[Mapping[Role, Words]] = {
    Role.AFFILIATE: Words("the KOC", "KOC", "达人"),
    Role.AGENCY: Words("the agency", "đại lý", "机构"),
    Role.AGENCY_FEE: Words("the agency's fee on top", "phí trả thêm cho đại lý", "机构服务费（另付）"),
    Role.AGENT_FEE: Words("the service fee on top", "phí dịch vụ trả thêm", "团长服务费（另付）"),
    Role.TECHNICAL_FEE: Words("the technical fee", "phí kỹ thuật", "技术服务费"),
}
_FEE_OUT_OF = Words("{fee} out of that ({whose})", "{fee} trích từ đó ({whose})", "从中扣除的{fee}（{whose}）")
_CELL = Words(
    "{role}: exactly {exact}, rounded {rounded}.",
    "{role}: đúng {exact}, làm tròn thành {rounded}.",
    "{role}：精确值{exact}，舍入后{rounded}。",
)
_CELL_CAPPED = Words(
    "{role}: exactly {exact}, rounded {rounded}, after the cap {paid}.",
    "{role}: đúng {exact}, làm tròn thành {rounded}, sau mức tối đa còn {paid}.",
    "{role}：精确值{exact}，舍入后{rounded}，封顶后{paid}。",
)
_OTHERS = Words(
    "others who brought this order: exactly {exact}.",
    "những người khác cùng mang về đơn: đúng {exact}.",
    "其他推广人：精确值{exact}。",
)
_NO_FEE = Words(
    "The service fee of rule {rule} is not paid for this line, since the KOC has another agency.",
    "Phí dịch vụ của quy tắc {rule} không được trả cho dòng hàng này vì KOC thuộc đại lý khác.",
    "达人已有其他所属机构，该行不支付规则{rule}的服务费。",
)
_PART_IS = Words(
    "What counts here is {amount}, for {who}.",
    "Khoản được tính ở đây là {amount}, cho {who}.",
    "此处计{amount}，用于{who}。",
)

# Of a period.


class _Place(StrEnum):
    """Where a period's orders stand, by how a receipt calls it."""

    SETTLED = "settled"
    PENDING = "pending"
    HELD = "held"


_STANDS: Mapping[_Place, Words] = {
    _Place.SETTLED: Words(
        "Settled: {orders}, sales {sales}, commissions {commission}.",
        "Đã đối soát: {orders}, doanh số {sales}, hoa hồng {commission}.",
        "已结算：{orders}，销售额{sales}，佣金{commission}。",
    ),
    _Place.PENDING: Words(
        "Waiting: {orders}, sales {sales}, commissions {commission}.",
        "Đang chờ: {orders}, doanh số {sales}, hoa hồng {commission}.",
        "待结算：{orders}，销售额{sales}，佣金{commission}。",
    ),
    _Place.HELD: Words(
        "On hold: {orders}, sales {sales}, commissions {commission}.",
        "Tạm giữ: {orders}, doanh số {sales}, hoa hồng {commission}.",
        "冻结：{orders}，销售额{sales}，佣金{commission}。",
    ),
}
_NO_ORDERS = Words(
    "No order of the period earns anything now.",
    "Hiện không có đơn nào trong kỳ mang lại hoa hồng.",
    "该周期目前没有计佣订单。",
)
_BEST_RULE = Words(
    "Of these rules the one that gives most counts.",
    "Trong các quy tắc này, quy tắc có lợi nhất được áp dụng.",
    "以上规则中按最有利的一条计算。",
)
_GIVES = Words(
    "What is settled gives {settled}, with what waits {pending} more, with what is on hold {held} more.",
    "Phần đã đối soát cho {settled}, cộng phần đang chờ thêm {pending}, cộng phần tạm giữ thêm {held}.",
    "已结算部分计{settled}，加上待结算部分再计{pending}，加上冻结部分再计{held}。",
)
_BONUS = Words("The bonus is {amount}.", "Khoản thưởng là {amount}.", "奖励：{amount}。")
_TAKEN_BACK = Words(
    "Above the cap {amount} is taken back.", "Phần vượt mức tối đa bị trừ {amount}.", "超出封顶的{amount}被扣回。"
)


_ADJUSTED = Words(
    "The shop adjusted it by {amount} ({reason}).",
    "Cửa hàng điều chỉnh {amount} ({reason}).",
    "商家调整{amount}（{reason}）。",
)
_ADJUSTED_IN_VAIN = Words(
    "An adjustment of {amount} ({reason}) does not count: the shop rejected the commission afterwards.",
    "Khoản điều chỉnh {amount} ({reason}) không được tính: sau đó cửa hàng đã từ chối hoa hồng này.",
    "{amount}的调整（{reason}）不计入：商家之后驳回了这笔佣金。",
)
_COMES_TO = Words("It comes to {amount}.", "Tổng cộng là {amount}.", "合计{amount}。")


def _adjustments(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    """What people added or took, after what the rules give."""
    for each in receipt["adjustments"]:
        amount = speech.money(each["amount_minor"], receipt["currency"])
        words = _ADJUSTED if each["counts"] else _ADJUSTED_IN_VAIN
        yield speech.say(words, amount=amount, reason=each["reason_code"])
    yield speech.say(_COMES_TO, amount=speech.money(receipt["target_minor"], receipt["currency"]))


def sentences(receipt: JsonObject, speech: Speech) -> list[str]:
    """The receipt read aloud, in the order in which it is computed; nothing where there is none.

    receipt: as `Division.receipt` or `period_receipt` makes it or once made it; several of one order as `credits`; or empty.
    It names nobody but by role: whose it is may not know the others.
    """
    if not receipt:
        return []
    if "sums" in receipt:
        return list(_read_period(receipt, speech))
    adjusted = receipt.get("adjustments")
    by_rules = receipt | {"target_minor": receipt["rules_minor"]} if adjusted is not None else receipt
    told: list[str] = []
    if "credits" in receipt:
        told = list(_read_credits(by_rules, speech))
    elif "lines" in receipt:
        told = list(_read(by_rules, speech))
    return told if adjusted is None else [*told, *_adjustments(receipt, speech)]


def _read_credits(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    parts = receipt["credits"]
    for number, part in enumerate(parts, start=1):
        yield speech.say(_CREDIT, number=number, count=len(parts))
        yield from _read(part, speech)
    yield speech.say(_TOGETHER, amount=speech.money(receipt["target_minor"], parts[0]["currency"]))


def _read_period(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    currency = receipt["currency"]

    def money(amount_minor: int) -> str:
        return speech.money(amount_minor, currency)

    rules = [period_rule_of(rule) for rule in receipt["rules"]]
    for rule in rules:
        yield period_rule(rule, speech)
    if len(rules) > 1:
        yield speech.say(_BEST_RULE)
    standing = [(place, receipt["sums"][place]) for place in _Place if any(receipt["sums"][place].values())]
    for place, told in standing:
        yield speech.say(
            _STANDS[place],
            orders=speech.orders(told["orders"]),
            sales=money(told["sales_minor"]),
            commission=money(told["commission_minor"]),
        )
    if standing:
        gives = {place.value: money(receipt["gives"][f"{place}_minor"]) for place in _Place}
        yield speech.say(_GIVES, **gives)
    else:
        yield speech.say(_NO_ORDERS)
    if isinstance(rules[0], Cap):
        yield speech.say(_TAKEN_BACK, amount=money(-receipt["target_minor"]))
    else:
        yield speech.say(_BONUS, amount=money(receipt["target_minor"]))


def _read(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    currency = receipt["currency"]

    def money(amount_minor: int) -> str:
        return speech.money(amount_minor, currency)

    yield _version(receipt, speech)
    yield from _covers(receipt, speech)
    for line in receipt["lines"]:
        yield from _line(line, receipt, speech)
    sum_minor, cap_minor = receipt["sum_of_lines_minor"], receipt["cap_minor"]
    yield speech.say(_SUM, amount=money(sum_minor))
    if cap_minor is not None and cap_minor < sum_minor:
        words = _CAPPED if Fraction(receipt.get("weight", "1")) == 1 else _CAPPED_PART
        yield speech.say(words, cap=money(cap_minor), amount=money(sum_minor))
    if receipt["voided"]:
        yield speech.say(_VOIDED)
    if "payee_id" in receipt:
        whole_minor = sum_minor if cap_minor is None else min(sum_minor, cap_minor)
        yield speech.say(_RESULT, amount=money(0 if receipt["voided"] else whole_minor))
        yield speech.say(_PART_IS, who=_who(receipt, speech), amount=money(receipt["target_minor"]))
    else:
        yield speech.say(_RESULT, amount=money(receipt["target_minor"]))
    if len(receipt.get("borne_by", ())) > 1:
        shares = (f"{label(name, speech)} {money(amount_minor)}" for name, amount_minor in receipt["borne_by"].items())
        yield speech.say(_BORNE, funders=speech.all_of(shares))


def _version(receipt: JsonObject, speech: Speech) -> str:
    considered = receipt["versions_considered"]
    if len(considered) == 1:
        return speech.say(_VERSION, version=receipt["program_version"])
    compared = speech.all_of(
        speech.say(_COMPARED, version=each["version"], amount=speech.money(each["total_minor"], receipt["currency"]))
        for each in considered
    )
    return speech.say(_BEST_VERSION, version=receipt["program_version"], compared=compared)


def _covers(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    """What part of the order a receipt is about, and who else has a part of it."""
    if receipt.get("weight", "1") != "1":
        yield speech.say(_WEIGHT, part=receipt["weight"])
    if receipt.get("only_skus"):
        yield speech.say(_ONLY_SKUS, skus=speech.all_of(speech.quoted(sku) for sku in receipt["only_skus"]))
    if receipt.get("some_lines"):
        yield speech.say(_SOME_LINES)
    if receipt.get("agency"):
        share, fee = (f"{speech.number(receipt['agency'][name])}%" for name in ("share", "fee"))
        yield speech.say(_AGENCY, share=share, fee=fee)
    if receipt.get("technical_fee"):
        yield speech.say(_TECHNICAL, rate=f"{speech.number(receipt['technical_fee']['rate'])}%")
    if "payee_id" in receipt:
        yield speech.say(_LARGEST_REMAINDER)


def _who(receipt: JsonObject, speech: Speech) -> str:
    """As what somebody has what a receipt gives; the KOC where nothing is divided."""
    roles = {
        Role(cell["role"])
        for line in receipt["lines"]
        for cell in line["division"]
        if cell["payee_id"] == receipt["payee_id"]
    } or {Role.AFFILIATE}
    return speech.all_of(speech.say(words) for role, words in ROLES.items() if role in roles)


def _line(line: JsonObject, receipt: JsonObject, speech: Speech) -> Iterator[str]:
    currency = receipt["currency"]
    name = speech.say(_LINE_SKU if line["sku"] else _LINE, line=line["line_id"], sku=line["sku"])
    yield speech.say(
        _GOODS_BACK if line["refunded_minor"] else _GOODS,
        line=name,
        ordered=speech.money(line["ordered_minor"], currency),
        refunded=speech.money(line["refunded_minor"], currency),
        base=speech.money(line["base_minor"], currency),
    )
    if line.get("virtual_minor"):
        yield speech.say(_VIRTUAL, line=name, virtual=speech.money(line["virtual_minor"], currency))
    if line.get("excluded"):
        yield speech.say(_EXCLUDED, line=name)
        return
    parts = _parts_of(line)
    if not parts:
        yield speech.say(_NO_RULE, line=name)
        return
    for part in parts:
        yield _part(part, line, currency, speech)
    exact = Fraction(line["exact_minor"])
    if "division" in line:
        yield speech.say(_DIVIDED, line=name, exact=speech.exact(exact, currency))
        yield from _division(line, receipt, speech)
        return
    yield speech.say(
        _WHOLE if exact.denominator == 1 else _ROUNDED,
        line=name,
        exact=speech.exact(exact, currency),
        rounded=speech.money(line["commission_minor"], currency),
    )


def _division(line: JsonObject, receipt: JsonObject, speech: Speech) -> Iterator[str]:
    currency = receipt["currency"]
    for cell in line["division"]:
        yield speech.say(
            _CELL if cell["paid_minor"] == cell["rounded_minor"] else _CELL_CAPPED,
            role=_role(cell, speech),
            exact=speech.exact(Fraction(cell["exact_minor"]), currency),
            rounded=speech.money(cell["rounded_minor"], currency),
            paid=speech.money(cell["paid_minor"], currency),
        )
    others = sum((Fraction(each) for each in (*line["others_before"], *line["others_after"])), Fraction(0))
    if others:
        yield speech.say(_OTHERS, exact=speech.exact(others, currency))
    fee, agency = line["fee"], receipt["agency"]
    if fee is not None and agency is not None and agency["payee_id"] != fee["payee_id"]:
        yield speech.say(_NO_FEE, rule=fee["rule"] + 1)


def _role(cell: JsonObject, speech: Speech) -> str:
    role = speech.say(ROLES[Role(cell["role"])])
    if cell["of"] is None:
        return role
    return speech.say(_FEE_OUT_OF, fee=role, whose=speech.say(ROLES[Role(cell["of"])]))


def _parts_of(line: JsonObject) -> list[JsonObject]:
    """What pays for a line. Receipts of the first release have one rule for each line, and its amount beside it."""
    if "parts" in line:
        parts: list[JsonObject] = line["parts"]
        return parts
    return [] if line["rule"] is None else [{**line, "per": "line"}]


def _part(part: JsonObject, line: JsonObject, currency: str, speech: Speech) -> str:
    exact = Fraction(part["exact_minor"])
    rule = part["rule"] + 1
    if part["rate"] is None:
        return speech.say(
            _FLAT[part["per"]],
            rule=rule,
            amount=speech.money(part["flat_minor"], currency),
            quantity=speech.number(line.get("quantity", "1")),
            exact=speech.exact(exact, currency),
        )
    full = max(line["base_minor"], 0) * rate_of(part["rate"])
    return speech.say(
        _RATE if exact == full else _RATE_LIMITED,
        rule=rule,
        rate=f"{speech.number(part['rate'])}%",
        base=speech.money(line["base_minor"], currency),
        full=speech.exact(full, currency),
        exact=speech.exact(exact, currency),
    )
