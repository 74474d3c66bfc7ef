"""What is withheld from a payout and why, in words: the rule, each duty with its figures, what to look at, why nothing can be decided.

To add a reason: one member of `Why` with its sentence in every language; the braces are names of steps.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from service.domain.withholding.applied import Why
from service.domain.withholding.details import Supplies
from service.domain.withholding.model import Caution, Decision, Duty, Mode, Part, Refusal, Regime
from service.domain.withholding.tables import RuleName
from service.domain.wording.figures import Speech
from service.domain.wording.languages import Words
from service.domain.written import rate_of

REGIMES: Final[Mapping[Regime, Words]] = {
    Regime.VN: Words("Vietnam, any payer", "Việt Nam, mọi tổ chức chi trả", "越南，一般付款方"),
    Regime.VN_PLATFORM: Words(
        "Vietnam, platform that pays its sellers", "Việt Nam, sàn chi trả cho người bán", "越南，向卖家付款的平台"
    ),
    Regime.CN_LABOUR: Words("China, ordinary merchant", "Trung Quốc, doanh nghiệp thông thường", "中国，一般商家"),
    Regime.CN_PLATFORM: Words(
        "China, internet platform enterprise", "Trung Quốc, doanh nghiệp nền tảng internet", "中国，互联网平台企业"
    ),
    Regime.US_NEC: Words("United States, payer of services", "Hoa Kỳ, bên trả tiền dịch vụ", "美国，服务费付款方"),
    Regime.EU_NONE: Words("European Union", "Liên minh châu Âu", "欧盟"),
}
MODES: Final[Mapping[Mode, Words]] = {
    Mode.WITHHOLD: Words(
        "The tax is taken from the payout.", "Thuế được trừ vào khoản chi trả.", "税款从应付金额中扣除。"
    ),
    Mode.WARN: Words(
        "The payout is paid in full, and the tax is recorded as owed by the shop.",
        "Khoản chi trả được trả đủ, thuế được ghi là khoản cửa hàng còn nợ.",
        "应付金额全额支付，税款记为商家的欠款。",
    ),
    Mode.OFF: Words(
        "The shop has chosen to withhold nothing.", "Cửa hàng chọn không khấu trừ thuế.", "商家选择不代扣税款。"
    ),
}
DUTIES: Final[Mapping[Duty, Words]] = {
    Duty.INCOME_TAX: Words("Income tax", "Thuế thu nhập cá nhân", "个人所得税"),
    Duty.VAT: Words("VAT", "Thuế giá trị gia tăng", "增值税"),
    Duty.BACKUP: Words("Backup withholding", "Khấu trừ dự phòng của Hoa Kỳ", "美国备用预扣税"),
    Duty.NON_RESIDENT: Words("Tax of non-residents", "Thuế của cá nhân không cư trú", "非居民所得税"),
}
RULES: Final[Mapping[RuleName, Words]] = {
    RuleName.VN_2013: Words(
        "Vietnam: Circular 111/2013/TT-BTC, payments until 30 June 2026.",
        "Việt Nam: Thông tư 111/2013/TT-BTC, các khoản trả đến ngày 30/06/2026.",
        "越南：第111/2013/TT-BTC号通知，适用于2026年6月30日及以前的付款。",
    ),
    RuleName.VN_2026_07: Words(
        "Vietnam: Decree 253/2026/NĐ-CP, payments from 1 July 2026 on.",
        "Việt Nam: Nghị định 253/2026/NĐ-CP, các khoản trả từ ngày 01/07/2026.",
        "越南：第253/2026/NĐ-CP号法令，适用于2026年7月1日起的付款。",
    ),
    RuleName.VN_117_2025: Words(
        "Vietnam: Decree 117/2025/NĐ-CP, platforms that pay sellers, until 30 June 2026.",
        "Việt Nam: Nghị định 117/2025/NĐ-CP, sàn chi trả cho người bán, đến ngày 30/06/2026.",
        "越南：第117/2025/NĐ-CP号法令，适用于平台向卖家付款，至2026年6月30日。",
    ),
    RuleName.CN_LABOUR_61_2018: Words(
        "China: Announcement 61/2018, labour remuneration by the month.",
        "Trung Quốc: Thông báo 61/2018, thù lao lao động tính theo tháng.",
        "中国：国家税务总局公告2018年第61号，劳务报酬按月预扣。",
    ),
    RuleName.CN_PLATFORM_16_2025: Words(
        "China: Announcement 16/2025, internet platforms, cumulative over the year.",
        "Trung Quốc: Thông báo 16/2025, nền tảng internet, lũy kế theo năm.",
        "中国：国家税务总局公告2025年第16号，互联网平台企业按年累计预扣。",
    ),
    RuleName.CN_VAT_2026: Words(
        "China: VAT Law Implementing Regulations, Article 35, by the day.",
        "Trung Quốc: Quy định thi hành Luật Thuế GTGT, Điều 35, tính theo ngày.",
        "中国：增值税法实施条例第三十五条，按日计算。",
    ),
    RuleName.US_NEC_2026: Words(
        "United States: backup withholding and payees from abroad, payments of 2026.",
        "Hoa Kỳ: khấu trừ dự phòng và người nhận nước ngoài, các khoản trả năm 2026.",
        "美国：备用预扣税及境外收款人，适用于2026年的付款。",
    ),
    RuleName.EU_NONE: Words(
        "European Union: nothing is withheld from self-employed people, who pay their own taxes.",
        "Liên minh châu Âu: không khấu trừ thuế của người tự kinh doanh; họ tự nộp thuế.",
        "欧盟：不对自雇人士代扣税款，由其自行纳税。",
    ),
    RuleName.NONE_COMPANY: Words(
        "The payee is a company: it invoices and pays its own taxes, so nothing is withheld.",
        "Người nhận là công ty: tự xuất hóa đơn và tự nộp thuế nên không bị khấu trừ.",
        "收款人是公司：自行开票并自行纳税，因此不代扣税款。",
    ),
    RuleName.OFF: Words(
        "The shop has chosen to withhold nothing here; who owes the tax has to declare it.",
        "Cửa hàng chọn không khấu trừ thuế ở đây; người có nghĩa vụ phải tự kê khai.",
        "商家选择在此不代扣税款，由纳税义务人自行申报。",
    ),
}
TO_BE_CONFIRMED: Final = Words(
    "To be confirmed by a tax professional before it is filed.",
    "Cần được chuyên gia thuế xác nhận trước khi nộp.",
    "申报前须经税务专业人员确认。",
)
"""What each row of a register for filing ends with."""
SUPPLIES: Final[Mapping[Supplies, Words]] = {
    Supplies.GOODS: Words("goods", "hàng hóa", "商品"),
    Supplies.SERVICES: Words("services", "dịch vụ", "服务"),
    Supplies.TRANSPORT: Words("transport", "vận tải", "运输"),
}
WHYS: Final[Mapping[Why, Words]] = {
    Why.THRESHOLD_REACHED: Words(
        "The payout of {income} reaches the threshold of {threshold}, so all of it is taxed.",
        "Khoản chi trả {income} đạt ngưỡng {threshold} nên toàn bộ phải chịu thuế.",
        "本次付款{income}达到起扣标准{threshold}，须全额计税。",
    ),
    Why.BELOW_THRESHOLD: Words(
        "The payout of {income} is below the threshold of {threshold}: nothing is to be withheld.",
        "Khoản chi trả {income} thấp hơn ngưỡng {threshold}: không phải khấu trừ.",
        "本次付款{income}低于起扣标准{threshold}，无需代扣。",
    ),
    Why.REQUESTED: Words(
        "The payout of {income} is below the threshold of {threshold}, and the payee asked to be withheld from.",
        "Khoản chi trả {income} thấp hơn ngưỡng {threshold}, nhưng người nhận đã yêu cầu khấu trừ.",
        "本次付款{income}低于起扣标准{threshold}，但收款人要求代扣。",
    ),
    Why.COMMITMENT: Words(
        "A commitment 08/CK-TNCN is valid until the end of {year}: nothing is to be withheld.",
        "Bản cam kết 08/CK-TNCN có hiệu lực đến hết năm {year}: không phải khấu trừ.",
        "08/CK-TNCN承诺书有效期至{year}年底，无需代扣。",
    ),
    Why.DECLARES_ITSELF: Words(
        "The payee is a household with a tax code and declares its own taxes: nothing is to be withheld.",
        "Người nhận là hộ kinh doanh có mã số thuế và tự kê khai thuế: không phải khấu trừ.",
        "收款人是有税号的经营户，自行申报纳税，无需代扣。",
    ),
    Why.NON_RESIDENT: Words(
        "The payee is not resident in Vietnam, so the whole payout is taxed at one rate.",
        "Người nhận không cư trú tại Việt Nam nên toàn bộ khoản chi trả chịu một thuế suất.",
        "收款人不是越南税收居民，须按单一税率全额计税。",
    ),
    Why.SALE: Words(
        "The payee sells {supplies} on the platform, which withholds from each sale.",
        "Người nhận bán {supplies} trên sàn; sàn khấu trừ trên từng giao dịch.",
        "收款人在平台上销售{supplies}，平台按每笔交易代扣。",
    ),
    Why.MONTH_FIXED: Words(
        "The month's income is {before} before and {income} now, {total} in all; {deduction} of it is deducted.",
        "Thu nhập trong tháng gồm {before} trước đó và {income} lần này, tổng cộng {total}; được trừ {deduction}.",
        "当月收入：此前{before}，本次{income}，合计{total}，减除费用{deduction}。",
    ),
    Why.MONTH_SHARE: Words(
        "The month's income is {before} before and {income} now, {total} in all; a fifth of it, {deduction}, is deducted.",
        "Thu nhập trong tháng gồm {before} trước đó và {income} lần này, tổng cộng {total}; được trừ một phần năm là {deduction}.",
        "当月收入：此前{before}，本次{income}，合计{total}，减除五分之一的费用{deduction}。",
    ),
    Why.YEAR: Words(
        "The year's income is {before} before and {income} now, {total} in all; a fifth of it, {deduction}, and {of_months} for {months} with "
        "income are deducted.",
        "Thu nhập trong năm gồm {before} trước đó và {income} lần này, tổng cộng {total}; được trừ một phần năm là {deduction} và {of_months} "
        "cho {months} có thu nhập.",
        "当年收入：此前{before}，本次{income}，合计{total}，减除五分之一的费用{deduction}，以及有收入的{months}的减除费用{of_months}。",
    ),
    Why.DAY_BELOW: Words(
        "The day's income is {before} before and {income} now, {total} in all, which is not more than {threshold}: no VAT.",
        "Thu nhập trong ngày gồm {before} trước đó và {income} lần này, tổng cộng {total}, không vượt quá {threshold}: không có thuế GTGT.",
        "当日收入：此前{before}，本次{income}，合计{total}，未超过{threshold}，不计增值税。",
    ),
    Why.DAY_ABOVE: Words(
        "The day's income is {before} before and {income} now, {total} in all, which is more than {threshold}: VAT of {rate}, contained in it, "
        "is {target}.",
        "Thu nhập trong ngày gồm {before} trước đó và {income} lần này, tổng cộng {total}, vượt quá {threshold}: thuế GTGT {rate} nằm trong đó "
        "là {target}.",
        "当日收入：此前{before}，本次{income}，合计{total}，超过{threshold}，其中按{rate}计的增值税为{target}。",
    ),
    Why.TIN_GIVEN: Words(
        "The payee gave a form W-9 with a taxpayer number: nothing is to be withheld.",
        "Người nhận đã nộp mẫu W-9 kèm mã số thuế: không phải khấu trừ.",
        "收款人已提交W-9表及纳税人识别号，无需代扣。",
    ),
    Why.BELOW_REPORTING: Words(
        "There is no valid taxpayer number, but the year's payments ({before} before, {income} now) are below {threshold} and nothing of last "
        "year asks for it: nothing is to be withheld yet.",
        "Không có mã số thuế hợp lệ, nhưng tổng chi trả trong năm (trước đó {before}, lần này {income}) thấp hơn {threshold} và năm trước không có "
        "gì đòi hỏi: chưa phải khấu trừ.",
        "没有有效的纳税人识别号，但当年付款（此前{before}，本次{income}）低于{threshold}，上一年也没有触发情形，暂无需代扣。",
    ),
    Why.BACKUP_THIS_YEAR: Words(
        "There is no valid taxpayer number, and with {before} before and {income} now the year's payments reach {threshold}.",
        "Không có mã số thuế hợp lệ, và tổng chi trả trong năm (trước đó {before}, lần này {income}) đạt {threshold}.",
        "没有有效的纳税人识别号，且当年付款（此前{before}，本次{income}）达到{threshold}。",
    ),
    Why.BACKUP_REPORTED: Words(
        "There is no valid taxpayer number, and last year's payments had to be reported ({last_year} here; the threshold was "
        "{last_year_threshold}).",
        "Không có mã số thuế hợp lệ, và chi trả của năm trước phải được báo cáo (tại đây {last_year}; ngưỡng khi đó là {last_year_threshold}).",
        "没有有效的纳税人识别号，且上一年的付款须申报（本系统内{last_year}，当时的标准为{last_year_threshold}）。",
    ),
    Why.BACKUP_WITHHELD: Words(
        "There is no valid taxpayer number, and the payee was subject to backup withholding last year ({last_year_tax} here).",
        "Không có mã số thuế hợp lệ, và năm trước người nhận đã bị khấu trừ dự phòng (tại đây {last_year_tax}).",
        "没有有效的纳税人识别号，且收款人上一年曾被备用预扣（本系统内{last_year_tax}）。",
    ),
    Why.WORK_ABROAD: Words(
        "The payee is from abroad and works outside the United States: nothing is to be withheld.",
        "Người nhận ở nước ngoài và làm việc ngoài Hoa Kỳ: không phải khấu trừ.",
        "收款人在境外，且工作在美国境外完成，无需代扣。",
    ),
    Why.WORK_IN_US: Words(
        "The payee is from abroad and works in the United States.",
        "Người nhận ở nước ngoài và làm việc tại Hoa Kỳ.",
        "收款人在境外，但在美国境内工作。",
    ),
}
CAUTIONS: Final[Mapping[Caution, Words]] = {
    Caution.SPLIT_PAYOUTS: Words(
        "Possible splitting: this month's payouts are each below the threshold and together reach it.",
        "Có thể bị chia nhỏ: từng khoản chi trả trong tháng thấp hơn ngưỡng nhưng cộng lại thì đạt ngưỡng.",
        "疑似拆分：本月每笔付款都低于起扣标准，合计却已达到。",
    ),
    Caution.NOT_WITHHELD: Words(
        "Nothing was taken from the payout; the shop owes the tax.",
        "Không trừ vào khoản chi trả; cửa hàng nợ khoản thuế này.",
        "未从付款中扣除，税款由商家承担并缴纳。",
    ),
    Caution.CERTIFICATE: Words(
        "Nothing is withheld because of a commitment or certificate; the payee is listed in the yearly register.",
        "Không khấu trừ nhờ bản cam kết hoặc giấy chứng nhận; người nhận được liệt kê trong bảng kê năm.",
        "因承诺书或证明而不代扣，收款人列入年度名册。",
    ),
}
REFUSALS: Final[Mapping[Refusal, Words]] = {
    Refusal.NO_REGIME: Words(
        "The shop has not declared how people of this country are taxed, so nothing can be paid yet.",
        "Cửa hàng chưa khai báo cách tính thuế cho người ở quốc gia này nên chưa thể chi trả.",
        "商家尚未声明如何为该国的收款人计税，暂不能付款。",
    ),
    Refusal.NO_RULE: Words(
        "No tax rule is known that holds for this payee on the pay day, so nothing can be paid yet.",
        "Không có quy tắc thuế nào áp dụng cho người nhận này vào ngày trả nên chưa thể chi trả.",
        "付款日没有适用于该收款人的税务规则，暂不能付款。",
    ),
    Refusal.CURRENCY: Words(
        "The tax rule counts in another currency than the payout, so nothing can be paid yet.",
        "Quy tắc thuế tính bằng loại tiền khác với khoản chi trả nên chưa thể chi trả.",
        "税务规则的币种与付款币种不同，暂不能付款。",
    ),
    Refusal.DETAILS_MISSING: Words(
        "The payee's tax profile is not complete, so nothing can be paid yet.",
        "Hồ sơ thuế của người nhận chưa đầy đủ nên chưa thể chi trả.",
        "收款人的税务资料不完整，暂不能付款。",
    ),
}

_PART = Words("{duty}: {tax}.", "{duty}: {tax}.", "{duty}：{tax}。")
_RATE = Words("{rate} of {income} is {tax}.", "{rate} của {income} là {tax}.", "{income}的{rate}为{tax}。")
_BRACKET = Words(
    "On {taxable} the rate is {rate}, less {quick_deduction}: {target} in all.",
    "Với {taxable}, thuế suất là {rate}, trừ nhanh {quick_deduction}: tổng cộng {target}.",
    "应纳税所得额{taxable}，税率{rate}，速算扣除数{quick_deduction}，累计税额{target}。",
)
_DIFFERENCE = Words(
    "Of this {already} was counted before, so this payout adds {tax}.",
    "Trong đó {already} đã được tính trước, nên lần này thêm {tax}.",
    "此前已计{already}，本次新增{tax}。",
)
_MORE_THAN_DUE = Words(
    "{already} was counted before, which is more, so this payout adds nothing; what is too much comes back with the annual return.",
    "Trước đó đã tính {already}, nhiều hơn mức này, nên lần này không thêm; phần thừa được hoàn khi quyết toán năm.",
    "此前已计{already}，超过应计税额，本次不再新增，多缴部分在年度汇算时退还。",
)
_BEYOND = Words(
    "{beyond} more is due, which this payout is too small for.",
    "Còn thiếu {beyond} do khoản chi trả này không đủ.",
    "另有{beyond}应缴，因本次付款不足而未扣。",
)
_GROSSED_UP = Words(
    "So that {net} is left, {gross} counts as the income, and the shop bears {borne} of tax on top.",
    "Để người nhận còn đủ {net}, thu nhập được tính là {gross} và cửa hàng chịu thêm {borne} tiền thuế.",
    "为使实得金额为{net}，按收入{gross}计算，税款{borne}由商家另行承担。",
)

_CUMULATIVE: Final = frozenset({Why.MONTH_FIXED, Why.MONTH_SHARE, Why.YEAR, Why.DAY_ABOVE})


def told(decision: Decision, *, paid_minor: int, currency: str, speech: Speech) -> list[str]:
    """A decision, sentence by sentence: its rule, each duty with what it comes to and how, and what to look at.

    paid_minor: what the payout was for before anything was decided; the decision's income is more where it is grossed up.
    """
    sentences = [speech.say(RULES[RuleName(decision.rule)])]
    if decision.gross_minor != paid_minor:
        grossed_up = {"net": paid_minor, "gross": decision.gross_minor, "borne": decision.borne_minor}
        figures = {name: speech.money(minor, currency) for name, minor in grossed_up.items()}
        sentences.append(speech.say(_GROSSED_UP, **figures))
    for each in decision.parts:
        sentences += part(each, currency, speech)
    return [*sentences, *(speech.say(CAUTIONS[each]) for each in decision.cautions)]


def part(one: Part, currency: str, speech: Speech) -> list[str]:
    """A duty with what it comes to, and each step in which that was computed."""
    duty = speech.say(DUTIES[one.key.duty])
    return [
        speech.say(_PART, duty=duty, tax=speech.money(one.tax_minor, currency)),
        *_steps(one.steps, currency, speech),
    ]


def _steps(steps: Mapping[str, Any], currency: str, speech: Speech) -> Iterator[str]:
    why = Why(steps["why"])
    figures = {name: _figure(name, value, currency, speech) for name, value in steps.items()}

    def say(words: Words) -> str:
        return speech.say(words, **figures)

    yield say(WHYS[why])
    if why in _CUMULATIVE:
        if "taxable" in steps:
            yield say(_BRACKET)
        yield say(_DIFFERENCE if steps["target"] >= steps["already"] else _MORE_THAN_DUE)
    elif why is not Why.DAY_BELOW and rate_of(steps["rate"]):
        yield say(_RATE)
    if "beyond" in steps:
        yield say(_BEYOND)


def _figure(name: str, value: Any, currency: str, speech: Speech) -> str:
    match name:
        case "why":
            return str(value)
        case "rate":
            return speech.percent(rate_of(value))
        case "supplies":
            return speech.say(SUPPLIES[Supplies(value)])
        case "months":
            return speech.months(value)
        case "year" | "payments":
            return str(value)
        case _:
            return speech.exact(Fraction(value), currency)
