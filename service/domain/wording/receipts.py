"""A commission's receipt in sentences: from what was ordered, line by line, to the amount."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words
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
_VOIDED = Words(
    "The order was cancelled or its commission rejected, so it earns nothing.",
    "Đơn bị hủy hoặc hoa hồng bị từ chối nên không có hoa hồng.",
    "订单已取消或佣金审核未通过，没有佣金。",
)
_RESULT = Words(
    "The commission is {amount}.",
    "Hoa hồng là {amount}.",
    "佣金：{amount}。",
)
_BORNE = Words("Paid by: {funders}.", "Bên chi trả: {funders}.", "承担方：{funders}。")


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

    receipt: as `Quote.receipt` makes it or once made it, or empty.
    """
    if not receipt:
        return []
    adjusted = receipt.get("adjustments")
    by_rules = receipt | {"target_minor": receipt["rules_minor"]} if adjusted is not None else receipt
    told = list(_read(by_rules, speech)) if "lines" in receipt else []
    return told if adjusted is None else [*told, *_adjustments(receipt, speech)]


def _read(receipt: JsonObject, speech: Speech) -> Iterator[str]:
    currency = receipt["currency"]

    def money(amount_minor: int) -> str:
        return speech.money(amount_minor, currency)

    yield _version(receipt, speech)
    for line in receipt["lines"]:
        yield from _line(line, currency, speech)
    sum_minor, cap_minor = receipt["sum_of_lines_minor"], receipt["cap_minor"]
    yield speech.say(_SUM, amount=money(sum_minor))
    if cap_minor is not None and cap_minor < sum_minor:
        yield speech.say(_CAPPED, cap=money(cap_minor), amount=money(sum_minor))
    if receipt["voided"]:
        yield speech.say(_VOIDED)
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


def _line(line: JsonObject, currency: str, speech: Speech) -> Iterator[str]:
    name = speech.say(_LINE_SKU if line["sku"] else _LINE, line=line["line_id"], sku=line["sku"])
    yield speech.say(
        _GOODS_BACK if line["refunded_minor"] else _GOODS,
        line=name,
        ordered=speech.money(line["ordered_minor"], currency),
        refunded=speech.money(line["refunded_minor"], currency),
        base=speech.money(line["base_minor"], currency),
    )
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
    yield speech.say(
        _WHOLE if exact.denominator == 1 else _ROUNDED,
        line=name,
        exact=speech.exact(exact, currency),
        rounded=speech.money(line["commission_minor"], currency),
    )


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
