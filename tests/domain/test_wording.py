"""Words in three languages: complete, said of the same things, and right to the last digit."""

import ast
import importlib
import pkgutil
import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from fractions import Fraction
from itertools import pairwise
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import wording
from service.domain.attribution import Credit, Reason
from service.domain.commission import CommissionReason, CommissionStatus
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
    Situation,
    SkuIn,
    SubIdIn,
    TierIn,
    TouchIn,
    WeekdayIn,
)
from service.domain.dated import Membership
from service.domain.identity import IdentityKind
from service.domain.marks import ContentType
from service.domain.order import Milestone, TouchKind
from service.domain.periods import (
    Cap,
    Ladder,
    Mark,
    Milestones,
    PeriodRule,
    Scale,
    Span,
    Step,
    Stretch,
    Sum,
    Sums,
    gives,
    period_rule_json,
)
from service.domain.program import (
    AttributionTerms,
    Base,
    BindingRank,
    Claim,
    Model,
    Precedence,
    ProgramVersion,
    SelfPurchase,
    TechnicalFee,
    Terms,
    Window,
    claims,
    versions_for,
)
from service.domain.quote import quote
from service.domain.rules import Agent, Flat, Match, Per, Percent, Plan, Rule, When
from service.domain.settlement import Approval, Roll, RollingSettlement, Settlement, StatementSettlement, Weekday
from service.domain.shares import Claim as Asked
from service.domain.shares import divide
from service.domain.wording import reasons, receipts, statuses, terms, versions
from service.domain.wording.figures import LISTED_MAX, Names, Speech
from service.domain.wording.languages import Language, Words, preferred
from service.domain.wording.statuses import STATUSES, Programme
from service.domain.wording.terms import Part, sentences
from tests.domain import strategies
from tests.domain.builders import (
    OTHER_PROGRAM,
    PROGRAM,
    a_line,
    a_refund,
    an_order,
    day,
    flat,
    netted,
    percent,
    utc,
)
from tests.domain.strategies import examples
from tests.support.house import place, python_files

EN, VI, ZH = Language.EN, Language.VI, Language.ZH
ANN, BEN, STAR, OPERATOR = (UUID(int=number) for number in (7, 8, 9, 10))
MODULES = [
    importlib.import_module(f"{wording.__name__}.{found.name}") for found in pkgutil.iter_modules(wording.__path__)
]
HAN = re.compile("[\u3400-\u9fff]")
SOME_ONLY = {"_MINE", "_NOT_MINE"}
"""Tables that hold what differs from another one."""


# Which language.


@pytest.mark.parametrize(
    ("header", "language"),
    [
        pytest.param("", EN, id="nothing said"),
        pytest.param("vi", VI, id="one"),
        pytest.param("vi-VN,vi;q=0.9,en-US;q=0.6", VI, id="a browser in Vietnam"),
        pytest.param("zh-CN,zh;q=0.9,en;q=0.8", ZH, id="a browser in China"),
        pytest.param("zh-Hant-TW", ZH, id="another script of Chinese is nearer than English"),
        pytest.param("EN;q=0.5, Vi;Q=0.75", VI, id="case and blanks"),
        pytest.param("fr,de;q=0.9,vi;q=0.1", VI, id="the first of ours"),
        pytest.param("fr", EN, id="none of ours"),
        pytest.param("*", EN, id="anything"),
        pytest.param("vi;q=0,zh;q=0.001", ZH, id="not this one"),
        pytest.param("vi;q=0.0,fr", EN, id="not this one, and nothing of ours"),
        pytest.param("vi;q=0.5,zh;q=0.5", VI, id="the first of equals"),
        pytest.param("vi;q=1.000,zh", VI, id="one is one"),
        pytest.param("vi;q=2,zh;q=0.1", ZH, id="no weight"),
        pytest.param("vi;q=1.5,zh;q=0.1", ZH, id="more than one"),
        pytest.param("vi;level=1,zh;q=0.1", ZH, id="another parameter"),
        pytest.param("vi;q=0.12345,zh;q=0.1", ZH, id="too many decimals"),
        pytest.param("vietnamese,zh;q=0.1", ZH, id="a longer word"),
        pytest.param(", ,;,vi;", VI, id="empty parts"),
        pytest.param("fr," * 50 + "vi", EN, id="what follows too many is not read"),
        pytest.param("fr," * 49 + "vi", VI, id="the last that is read"),
    ],
)
def test_a_reader_gets_the_language_it_wants_most(header: str, language: Language) -> None:
    assert preferred(header) is language


@examples(200)
@given(st.text(alphabet=st.sampled_from("vizhen-;,=q01.* \x00é"), max_size=60))
def test_whatever_a_header_says_there_is_a_language(header: str) -> None:
    assert preferred(header) in Language


# Everything is said in every language.


def _literals() -> Iterator[tuple[str, list[str]]]:
    """Every `Words(…)` of the package: its place, and what it says in each language."""
    for path in python_files("service/domain/wording"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Words":
                said = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                assert len(said) == len(node.args) == len(Language), place(path, node)
                yield place(path, node), said


LITERALS = list(_literals())


def _plain(said: str) -> str:
    """The words without their braces."""
    return "".join(text for text, *_ in string.Formatter().parse(said))


def _braces(said: str) -> set[str]:
    return {name for _, name, *_ in string.Formatter().parse(said) if name is not None}


def test_there_are_words_to_look_at() -> None:
    assert len(LITERALS) > 150


@pytest.mark.parametrize("said", [said for _, said in LITERALS], ids=[where for where, _ in LITERALS])
def test_each_language_says_the_same_in_its_own_words(said: list[str]) -> None:
    english, vietnamese, chinese = said

    assert all(said)
    if re.search("[A-Za-z]", _plain(english)):
        assert len(set(said)) == 3, "somebody forgot to translate"
        assert HAN.search(chinese)
    assert not HAN.search(english + vietnamese)
    assert unicodedata.normalize("NFC", vietnamese) == vietnamese
    # A stop ends a sentence in all three, or it is none.
    assert english.endswith(".") == vietnamese.endswith(".") == chinese.endswith("。")
    assert not re.search(r"[\u3400-\u9fff}][,;:(]|[,;:)][\u3400-\u9fff{]", chinese), "the marks of Chinese are wide"


@pytest.mark.parametrize(("where", "said"), LITERALS, ids=[where for where, _ in LITERALS])
def test_no_language_leaves_out_a_figure(where: str, said: list[str]) -> None:
    # A month has a name in English and a number elsewhere.
    is_day = _braces(said[0]) == {"day", "month", "year"}

    assert is_day or _braces(said[0]) == _braces(said[1]) == _braces(said[2])


def _tables(modules: list[ModuleType]) -> Iterator[tuple[str, Mapping[Enum, Any]]]:
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, Mapping) and value and all(isinstance(each, Enum) for each in value):
                yield name, value


def test_every_table_has_every_member_of_its_enum() -> None:
    missing = [
        f"{name}: {set(type(next(iter(table)))) - set(table)}"
        for name, table in _tables(MODULES)
        if name not in SOME_ONLY and set(table) != set(type(next(iter(table))))
    ]

    assert missing == []


def test_the_same_table_never_says_one_thing_twice() -> None:
    for name, table in _tables(MODULES):
        words = [value for value in table.values() if isinstance(value, Words)]
        assert len(set(words)) == len(words), name


def _reached(kind: Any, found: set[type]) -> set[type]:
    """All enums and dataclasses that a value of a type may hold."""
    if get_origin(kind) is not None:
        for inner in get_args(kind):
            _reached(inner, found)
    elif isinstance(kind, type) and kind not in found:
        if issubclass(kind, Enum):
            found.add(kind)
        elif is_dataclass(kind):
            found.add(kind)
            for inner in get_type_hints(kind).values():
                _reached(inner, found)
    return found


def test_whatever_terms_can_hold_has_words() -> None:
    enums = {kind for kind in _reached(Terms, set()) if issubclass(kind, Enum)}
    others = {reasons, receipts, statuses, versions}
    told = {type(next(iter(table))) for _, table in _tables([each for each in MODULES if each not in others])}

    assert {Plan, Per, Measure, TouchKind, Model, Milestone, Roll, Weekday} <= enums
    assert enums - told == set()


def test_every_reason_and_status_has_words() -> None:
    assert set(reasons.ATTRIBUTION) == set(Reason)
    assert set(reasons.COMMISSION) == set(CommissionReason)
    assert set(STATUSES) == set(CommissionStatus)
    assert all(set(status.called) == set(Programme) for status in STATUSES.values())


def test_a_code_of_another_programme_that_two_statuses_share_says_where_it_is_vague() -> None:
    """Some tell fewer things apart than we do; no other word is given twice."""
    twice = {
        (programme.value, word)
        for programme in Programme
        for one in STATUSES.values()
        for other in STATUSES.values()
        if one is not other
        for word in set(one.called[programme]) & set(other.called[programme])
    }

    assert twice == {
        ("taobao", "13"),
        ("pdd", "4"),
        ("tiktok", "Pending"),
        ("lazada", "REJECTED"),
        ("accesstrade", "REJECTED"),
    }


# Figures.


@pytest.mark.parametrize(
    ("minor", "currency", "english", "vietnamese"),
    [
        (4_250_000, "VND", "4,250,000 VND", "4.250.000 VND"),
        (1999, "USD", "19.99 USD", "19,99 USD"),
        (123_456_789, "USD", "1,234,567.89 USD", "1.234.567,89 USD"),
        (5, "USD", "0.05 USD", "0,05 USD"),
        (0, "JPY", "0 JPY", "0 JPY"),
        (-1_250_000, "VND", "-1,250,000 VND", "-1.250.000 VND"),
        (-5, "KWD", "-0.005 KWD", "-0,005 KWD"),
        (10**15, "CNY", "10,000,000,000,000.00 CNY", "10.000.000.000.000,00 CNY"),
    ],
)
def test_money_is_written_from_minor_units(minor: int, currency: str, english: str, vietnamese: str) -> None:
    assert Speech(EN).money(minor, currency) == english
    assert Speech(VI).money(minor, currency) == vietnamese
    assert Speech(ZH).money(minor, currency) == english


@pytest.mark.parametrize(
    ("exact", "currency", "written"),
    [
        (Fraction(31_250), "VND", "31,250 VND"),
        (Fraction(450_001, 8), "VND", "56,250.125 VND"),
        (Fraction(999, 8), "USD", "1.24875 USD"),
        (Fraction(1, 2), "USD", "0.005 USD"),
        (Fraction(1, 10**8), "VND", "0.00000001 VND"),
        (Fraction(100, 3), "USD", "0.33333333… USD"),
        (Fraction(-1, 3), "VND", "-0.333333… VND"),
        (Fraction(0), "KWD", "0.000 KWD"),
    ],
)
def test_an_amount_before_rounding_is_written_out(exact: Fraction, currency: str, written: str) -> None:
    assert Speech(EN).exact(exact, currency) == written


@examples(200)
@given(st.integers(-(10**12), 10**12), st.sampled_from(["VND", "USD", "KWD", "CLF"]))
def test_a_whole_amount_reads_the_same_before_and_after_rounding(minor: int, currency: str) -> None:
    for language in Language:
        assert Speech(language).exact(Fraction(minor), currency) == Speech(language).money(minor, currency)


def test_times_are_those_of_the_shop() -> None:
    names = Names("Asia/Ho_Chi_Minh")
    at = datetime(2026, 10, 31, 17, 0, tzinfo=UTC)

    assert [Speech(language, names).moment(at) for language in Language] == [
        "1 Nov 2026, 00:00",
        "00:00 ngày 01/11/2026",
        "2026年11月1日00:00",
    ]
    assert Speech(EN, names).moment(at.replace(second=59)) == "1 Nov 2026, 00:00:59"
    assert Speech(EN).day_of(at) == "31 Oct 2026"


def test_a_long_list_is_counted_after_so_many() -> None:
    told = Speech(EN).named([f"{number:03d}" for number in range(LISTED_MAX + 7)])

    assert told.startswith("“000”, “001”")
    assert told.endswith("“049” or 7 more")


def test_people_are_called_by_name_where_one_is_known() -> None:
    speech = Speech(EN, Names(people={ANN: "Ann"}))

    assert speech.person(ANN) == "“Ann”"
    assert speech.person(UUID(int=8)) == f"“{UUID(int=8)}”"


# Terms.

EVERYTHING = percent("10")


def _told(promised: Terms, part: Part, language: Language = EN, *, names: Names | None = None) -> list[str]:
    sections = sentences(promised, language, names=names or Names())
    return [line for section in sections if section.part is part for line in section.sentences]


def _rule(rule: Rule, language: Language = EN) -> str:
    return _told(Terms((rule,)), Part.COMMISSION, language)[1]


CONDITIONS: list[tuple[Condition, str, str, str]] = [
    (
        SkuIn(frozenset({"B", "A"})),
        "the item's SKU is “A” or “B”",
        "mã SKU của sản phẩm là “A” hoặc “B”",
        "商品SKU为“A”或“B”",
    ),
    (
        CategoryIn(frozenset({"tea"})),
        "the item is of category “tea”",
        "sản phẩm thuộc danh mục “tea”",
        "商品类目为“tea”",
    ),
    (
        LineAmount(Between((("USD", 1000),), (("USD", 5000),), Measure.ORDERED)),
        "the order line is worth at least 10.00 USD and less than 50.00 USD as ordered",
        "giá trị dòng hàng (lúc đặt hàng) từ 10,00 USD đến dưới 50,00 USD",
        "商品行金额（下单时）满10.00 USD且低于50.00 USD",
    ),
    (
        OrderAmount(Between((("USD", 2000), ("VND", 500_000)))),
        "the goods of the order are worth at least 20.00 USD or at least 500,000 VND after returns",
        "giá trị hàng hóa của đơn (sau khi trừ hàng trả lại) từ 20,00 USD trở lên hoặc từ 500.000 VND trở lên",
        "订单商品总额（扣除退货退款后）满20.00 USD或满500,000 VND",
    ),
    (
        Placed(utc("2026-11-01"), utc("2027-01-01")),
        "the order is placed from 1 Nov 2026, 00:00 on and before 1 Jan 2027, 00:00",
        "đơn được đặt từ 00:00 ngày 01/11/2026 đến trước 00:00 ngày 01/01/2027",
        "下单时间从2026年11月1日00:00起至2027年1月1日00:00前",
    ),
    (
        TouchIn(frozenset({TouchKind.CLICK, TouchKind.COUPON})),
        "the order comes by a click on your link or your code",
        "đơn đến từ lượt bấm vào liên kết của bạn hoặc mã của bạn",
        "订单来自您的推广链接的点击或您的优惠码",
    ),
    (
        TouchIn(frozenset({TouchKind.CUSTOMER, TouchKind.PRODUCT, TouchKind.REORDER})),
        "the order comes by a buyer bound to you, a product bound to you or a buyer who orders again what you brought and was cancelled",
        "đơn đến từ người mua đã gắn với bạn, sản phẩm đã gắn với bạn hoặc người mua đặt lại đơn do bạn mang về đã bị hủy",
        "订单来自与您绑定的买家、与您绑定的商品或重新下单的买家（您带来的原订单已取消）",
    ),
    (
        CouponIn(frozenset({"live10"})),
        "the order comes by the code “LIVE10”",
        "đơn đến từ mã “LIVE10”",
        "订单来自优惠码“LIVE10”",
    ),
    (
        AffiliateIn(frozenset({ANN})),
        f"the KOC is “{ANN}”",
        f"KOC là “{ANN}”",
        f"达人为“{ANN}”",
    ),
    (
        TierIn(frozenset({"gold", "vip"})),
        "your tier is “gold” or “vip”",
        "hạng của bạn là “gold” hoặc “vip”",
        "您的等级为“gold”或“vip”",
    ),
    (GroupIn(frozenset({"tea"})), "you are in the group “tea”", "bạn thuộc nhóm “tea”", "您属于分组“tea”"),
    (
        ContentIn(frozenset({ContentType.LIVE, ContentType.VIDEO})),
        "the order comes by a link shown in a video or a live stream",
        "đơn đến từ liên kết đặt trong video hoặc phiên livestream",
        "订单来自发布在短视频或直播中的推广链接",
    ),
    (
        ChannelIn(frozenset({"zalo"})),
        "the order comes by a link of the channel “zalo”",
        "đơn đến từ liên kết thuộc kênh “zalo”",
        "订单来自渠道“zalo”的推广链接",
    ),
    (
        SubIdIn("sub2", frozenset({"a"})),
        "the order comes by a link whose sub2 is “a”",
        "đơn đến từ liên kết có sub2 là “a”",
        "订单来自sub2为“a”的推广链接",
    ),
    (
        WeekdayIn(frozenset({Weekday.SUN, Weekday.SAT})),
        "the order is placed on a Saturday or a Sunday",
        "đơn được đặt vào thứ Bảy hoặc Chủ nhật",
        "下单日为星期六或星期日",
    ),
    (
        HourBetween(20, 24),
        "the order is placed from 20:00 on and before 24:00 of a day",
        "đơn được đặt trong ngày, từ 20:00 đến trước 24:00",
        "下单时间在每天20:00起至24:00前",
    ),
    (
        HourBetween(22, 2),
        "the order is placed from 22:00 of a day on and before 2:00 of the next",
        "đơn được đặt từ 22:00 đến trước 2:00 hôm sau",
        "下单时间在每天22:00起至次日2:00前",
    ),
    (
        CountryIn(frozenset({"VN", "TH"})),
        "the order goes to the country TH or VN",
        "đơn được giao đến quốc gia TH hoặc VN",
        "收货国家或地区为TH或VN",
    ),
    (
        CustomerIs(CustomerKind.NEW),
        "it is the buyer's first order, cancelled ones not counted",
        "đây là đơn đầu tiên của người mua, không tính đơn đã hủy",
        "这是买家的首单（不计已取消的订单）",
    ),
    (
        CustomerIs(CustomerKind.RETURNING),
        "the buyer has ordered before, cancelled orders not counted",
        "người mua đã từng đặt hàng, không tính đơn đã hủy",
        "买家以前下过单（不计已取消的订单）",
    ),
    (
        CustomerMonths(12),
        "the order is placed less than 12 months after the buyer's first one, or is that",
        "đơn được đặt chưa đến 12 tháng sau đơn đầu tiên của người mua, kể cả chính đơn đó",
        "下单时距买家首单不足12个月（含首单）",
    ),
    (
        CustomerListed(frozenset({"staff"})),
        "the buyer is on the shop's list “staff”",
        "người mua có trong danh sách “staff” của cửa hàng",
        "买家在商家的名单“staff”中",
    ),
]


@pytest.mark.parametrize(("condition", "english", "vietnamese", "chinese"), CONDITIONS)
def test_a_condition_is_a_clause(condition: Condition, english: str, vietnamese: str, chinese: str) -> None:
    rule = percent("10", when=When(every=(condition,)))

    assert _rule(rule, EN) == f"Rule 1: 10% of the value of all goods. It counts only if {english}."
    assert _rule(rule, VI) == f"Quy tắc 1: 10% giá trị của mọi sản phẩm. Chỉ áp dụng nếu {vietnamese}."
    assert _rule(rule, ZH) == f"规则1：所有商品金额的10%。仅在满足以下条件时适用：{chinese}。"


def test_every_kind_of_condition_pay_and_settlement_is_tried() -> None:
    assert {type(condition) for condition, *_ in CONDITIONS} == set(get_args(Condition))
    assert {type(rule.pays) for rule, *_ in PAYS} == set(get_args(get_type_hints(Rule)["pays"]))
    assert {type(settlement) for settlement, *_ in SETTLEMENTS} == set(get_args(Settlement))
    assert {type(rule) for rule, *_ in PERIODS} == set(get_args(PeriodRule))


def test_a_koc_reads_of_a_list_of_kocs_only_whether_it_is_on_it() -> None:
    invited = Terms((percent("10", when=When(every=(AffiliateIn(frozenset({ANN, BEN})),))),))
    people = {ANN: "Ann", BEN: "Ben"}

    by_reader = {
        reader: _told(invited, Part.COMMISSION, names=Names(people=people, reader=reader))[1]
        for reader in (None, ANN, STAR)
    }

    assert by_reader == {
        None: "Rule 1: 10% of the value of all goods. It counts only if the KOC is “Ann” or “Ben”.",
        ANN: (
            "Rule 1: 10% of the value of all goods. It counts only if you are one of the KOCs whom the shop names for it (you are)."
        ),
        STAR: (
            "Rule 1: 10% of the value of all goods. It counts only if you are one of the KOCs whom the shop names for it (you are not)."
        ),
    }
    assert terms.people_in(invited) == {ANN, BEN}


PAYS: list[tuple[Rule, str, str, str]] = [
    (
        percent("12.5"),
        "12.5% of the value of all goods",
        "12,5% giá trị của mọi sản phẩm",
        "所有商品金额的12.5%",
    ),
    (
        percent("8", skus=["A"], categories=["tea"]),
        "8% of the value of goods with SKU “A” or of category “tea”",
        "8% giá trị của sản phẩm có mã SKU “A” hoặc thuộc danh mục “tea”",
        "SKU为“A”或类目为“tea”的商品金额的8%",
    ),
    (
        flat({"USD": 150, "VND": 20_000}),
        "1.50 USD or 20,000 VND (by currency) for each order line of all goods, but never more than the line's value",
        "1,50 USD hoặc 20.000 VND (tùy loại tiền) cho mỗi dòng hàng của mọi sản phẩm, nhưng không quá giá trị dòng hàng",
        "所有商品每个商品行1.50 USD或20,000 VND（按币种），但不超过该行金额",
    ),
    (
        Rule(Flat((("VND", 5000),), Per.UNIT), Match(skus=frozenset({"A"}))),
        "5,000 VND for each piece of goods with SKU “A”, but never more than the line's value",
        "5.000 VND cho mỗi đơn vị của sản phẩm có mã SKU “A”, nhưng không quá giá trị dòng hàng",
        "SKU为“A”的商品每件5,000 VND，但不超过该行金额",
    ),
    (
        Rule(Flat((("VND", 5000),), Per.ORDER), Match(categories=frozenset({"tea"}))),
        "5,000 VND once for an order with goods of category “tea”, but never more than their value",
        "5.000 VND một lần cho mỗi đơn có sản phẩm thuộc danh mục “tea”, nhưng không quá giá trị của chúng",
        "每个含类目为“tea”的商品的订单一次性5,000 VND，但不超过这些商品的金额",
    ),
    (
        Rule(Flat((("VND", 5000),), Per.ORDER)),
        "5,000 VND once for each order, but never more than its goods are worth",
        "5.000 VND một lần cho mỗi đơn, nhưng không quá giá trị hàng hóa của đơn",
        "每个订单一次性5,000 VND，但不超过订单商品金额",
    ),
]


@pytest.mark.parametrize(("rule", "english", "vietnamese", "chinese"), PAYS)
def test_a_rule_says_what_it_pays(rule: Rule, english: str, vietnamese: str, chinese: str) -> None:
    assert _rule(rule, EN) == f"Rule 1: {english}."
    assert _rule(rule, VI) == f"Quy tắc 1: {vietnamese}."
    assert _rule(rule, ZH) == f"规则1：{chinese}。"


def test_a_rule_says_all_that_limits_it() -> None:
    tea, cup = CategoryIn(frozenset({"tea"})), CategoryIn(frozenset({"cup"}))
    staff = CouponIn(frozenset({"staff"}))
    rule = Rule(
        Percent(Fraction(15, 100)),
        when=When(every=(tea, TouchIn(frozenset({TouchKind.CLICK}))), some=(tea, cup), none=(staff, cup)),
        plan=Plan.TARGET,
        name="Tea week",
        caps_per_line_minor=(("VND", 60_000),),
    )

    assert _rule(rule) == (
        "Rule 1 (Tea week, target plan): 15% of the value of all goods, at most 60,000 VND for each order line. "
        "It counts only if the item is of category “tea” and the order comes by a click on your link. "
        "At least one of these has to be true: the item is of category “tea”; or the item is of category “cup”. "
        "It does not count if the order comes by the code “STAFF”; or the item is of category “cup”."
    )
    assert _rule(rule, ZH) == (
        "规则1（Tea week、定向计划）：所有商品金额的15%，每个商品行最高60,000 VND。"
        "仅在满足以下条件时适用：商品类目为“tea”，且订单来自您的推广链接的点击。"
        "须至少满足以下一项：商品类目为“tea”；或商品类目为“cup”。"
        "以下情况不适用：订单来自优惠码“STAFF”；或商品类目为“cup”。"
    )


def test_any_of_one_condition_is_that_condition() -> None:
    one = SkuIn(frozenset({"A"}))

    assert _rule(percent("1", when=When(some=(one,)))) == _rule(percent("1", when=When(every=(one,))))


@pytest.mark.parametrize(
    ("rules", "order"),
    [
        pytest.param([EVERYTHING, EVERYTHING], "first rule 1, then rule 2", id="by their place"),
        pytest.param(
            [percent("1"), percent("2", plan=Plan.EXCLUSIVE), percent("3", plan=Plan.TARGET)],
            "first rule 2, then rule 3, then rule 1",
            id="by plan",
        ),
        pytest.param(
            [percent("1", priority=5), percent("2", priority=9), percent("3", priority=5)],
            "first rule 2, then of the rules 1, 3 the one that pays most for the item",
            id="by priority, then by amount",
        ),
        pytest.param(
            [percent("1", priority=5), percent("2", priority=5)],
            "of the rules 1, 2 the one that pays most for the item",
            id="by amount",
        ),
    ],
)
def test_terms_say_which_rule_counts(rules: list[Rule], order: str) -> None:
    told = _told(Terms(tuple(rules)), Part.COMMISSION)

    assert f"If several of these rules fit an item, only one counts: {order}." in told


def test_components_and_funders_are_told_apart() -> None:
    promised = Terms((percent("8"), percent("9"), percent("1", component="bonus", funder="brand")))

    told = _told(promised, Part.COMMISSION)

    assert told[4:7] == [
        "If several rules of base commission fit an item, only one of them counts: first rule 1, then rule 2.",
        "These add up for one item: base commission (rules 1, 2) and bonus (rule 3); together never more than the item's value.",
        "Who pays: the shop (rules 1, 2) and brand (rule 3).",
    ]
    assert not any("Who pays" in line for line in _told(Terms((EVERYTHING,)), Part.COMMISSION))


def test_limits_and_exclusions_stand_where_there_are_any() -> None:
    promised = Terms(
        (EVERYTHING,),
        exclude=(SkuIn(frozenset({"GIFT"})), OrderAmount(Between(below_minor=(("VND", 100_000),)))),
        caps_minor=(("VND", 1_000_000),),
    )

    assert _told(promised, Part.LIMITS, VI) == ["Mỗi đơn hàng có hoa hồng tối đa 1.000.000 VND."]
    assert _told(promised, Part.EXCLUSIONS) == [
        "An item earns nothing if the item's SKU is “GIFT”.",
        "An item earns nothing if the goods of the order are worth less than 100,000 VND after returns.",
    ]
    parts = [section.part for section in sentences(Terms((EVERYTHING,)), EN, names=Names())]
    assert parts == [Part.COMMISSION, Part.ATTRIBUTION, Part.SETTLEMENT, Part.PAYOUT, Part.CHANGES]


STARTS = (("USD", 10_000),)
MORE = (("USD", 50_000), ("VND", 1_000_000))
STEPS = (Step(STARTS, Fraction(2, 100)), Step(MORE, Fraction(45, 1000)))
PERIODS: list[tuple[PeriodRule, str, str, str]] = [
    (
        Cap("month", Stretch(Span.MONTH), (("USD", 50_000),)),
        "Period rule “month”: within one calendar month your commissions come to at most 500.00 USD.",
        "Quy tắc kỳ “month”: trong một tháng dương lịch, tổng hoa hồng của bạn tối đa 500,00 USD.",
        "周期规则“month”：一个自然月内，您的佣金合计最高500.00 USD。",
    ),
    (
        Ladder("climb", Stretch(Span.QUARTER, first_day=date(2026, 1, 1)), STEPS),
        (
            "Period rule “climb”: within one quarter (orders from 1 Jan 2026 on) you get a bonus on your sales, each rate for the part "
            "of them between its start and the next: 2% from 100.00 USD on, 4.5% from 500.00 USD or 1,000,000 VND (by currency) on."
        ),
        (
            "Quy tắc kỳ “climb”: trong một quý (đơn đặt từ 01/01/2026), bạn được thưởng theo doanh số, mỗi tỷ lệ áp dụng cho phần "
            "doanh số từ mốc của nó đến mốc kế tiếp: 2% từ 100,00 USD, 4,5% từ 500,00 USD hoặc 1.000.000 VND (tùy loại tiền)."
        ),
        (
            "周期规则“climb”：一个季度（2026年1月1日起下的订单）内按销售额分段奖励，每个比例只适用于该档起点至下一档之间的部分："
            "满100.00 USD为2%、满500.00 USD或1,000,000 VND（按币种）为4.5%。"
        ),
    ),
    (
        Ladder("all", Stretch(Span.DAY, last_day=date(2026, 1, 31)), STEPS[:1], Scale.RETROACTIVE),
        (
            "Period rule “all”: within one day (orders up to 31 Jan 2026) you get a bonus on all of your sales, by the highest start "
            "they reach: 2% from 100.00 USD on."
        ),
        (
            "Quy tắc kỳ “all”: trong một ngày (đơn đặt đến 31/01/2026), bạn được thưởng trên toàn bộ doanh số, theo mốc cao nhất đạt "
            "được: 2% từ 100,00 USD."
        ),
        "周期规则“all”：一天（2026年1月31日及以前下的订单）内按全部销售额奖励，比例以达到的最高档为准：满100.00 USD为2%。",
    ),
    (
        Milestones(
            "nov",
            Stretch(Span.CAMPAIGN, date(2026, 11, 1), date(2026, 11, 11)),
            (Mark((("USD", 500),), orders=1), Mark((("USD", 2_000),), orders=30), Mark((("USD", 900),), STARTS)),
        ),
        (
            "Period rule “nov”: within the campaign (orders of 1 Nov 2026 to 11 Nov 2026) you get each of these bonuses once: "
            "5.00 USD with 1 order, 20.00 USD with 30 orders, 9.00 USD once sales reach 100.00 USD."
        ),
        (
            "Quy tắc kỳ “nov”: trong chiến dịch (đơn đặt từ 01/11/2026 đến 11/11/2026), bạn được mỗi khoản thưởng sau một lần: "
            "5,00 USD khi đạt 1 đơn, 20,00 USD khi đạt 30 đơn, 9,00 USD khi doanh số đạt 100,00 USD."
        ),
        (
            "周期规则“nov”：活动期（2026年11月1日至2026年11月11日下的订单）内，以下奖励各发放一次："
            "满1单奖励5.00 USD、满30单奖励20.00 USD、销售额满100.00 USD奖励9.00 USD。"
        ),
    ),
]


@pytest.mark.parametrize(("rule", "english", "vietnamese", "chinese"), PERIODS)
def test_a_period_rule_is_a_sentence(rule: PeriodRule, english: str, vietnamese: str, chinese: str) -> None:
    promised = Terms((EVERYTHING,), periods=(rule,))

    assert [_told(promised, Part.PERIODS, language)[0] for language in Language] == [english, vietnamese, chinese]
    # What sales are is said where something goes by them.
    assert len(_told(promised, Part.PERIODS)) == (3 if isinstance(rule, Cap) else 4)


def test_each_span_of_a_period_is_called_something_else() -> None:
    for language in Language:
        said = {
            _told(
                Terms((EVERYTHING,), periods=(Cap("x", Stretch(span, date(2026, 1, 1)), STARTS),)),
                Part.PERIODS,
                language,
            )[0]
            for span in Span
        }
        assert len(said) == len(Span)


def test_fees_say_who_has_what_out_of_what() -> None:
    approved = utc("2026-01-02T03:04")
    promised = Terms(
        (
            percent("10", priority=1, agent=Agent(STAR, Fraction(5, 100), approved)),
            percent("12", priority=1, plan=Plan.EXCLUSIVE, agent=Agent(BEN, Fraction(1, 100), approved)),
        ),
        technical_fee=TechnicalFee(OPERATOR, Fraction(1, 10)),
    )
    names = Names(people={STAR: "Star MCN", OPERATOR: "Platform"})

    assert _told(promised, Part.FEES, names=names) == [
        "Of each commission and fee 10% goes to “Platform” as a technical fee.",
        (
            "Where rule 1 fits an item, the shop may pay “Star MCN” (approved 2 Jan 2026, 03:04) 5% of its value as a service fee on top, "
            "also if a target rule pays you; nothing of it comes out of your commission."
        ),
        (
            f"For goods that earn by rule 2 the shop pays “{BEN}” (approved 2 Jan 2026, 03:04) 1% of their value as a service fee on top; "
            "nothing of it comes out of your commission."
        ),
        (
            "For one item one service fee at most is paid: where an exclusive rule counts that of its own agency, else that of the open "
            "rule that ranks first, and of rules that give equally much that of the agency approved first. Where you have an agency of "
            "your own, no other is paid a fee for your orders."
        ),
    ]
    assert _told(promised, Part.FEES, ZH, names=names)[0] == "每笔佣金和服务费中，10%作为技术服务费归“Platform”。"
    assert terms.people_in(promised) == {STAR, BEN, OPERATOR}


def test_attribution_says_each_choice() -> None:
    said = {
        (model, precedence, purchase, customer, product): tuple(
            _told(
                Terms(
                    (EVERYTHING,),
                    attribution=AttributionTerms(
                        7,
                        model=model,
                        precedence=precedence,
                        self_purchase=purchase,
                        customer_binding=customer,
                        product_binding=product,
                    ),
                ),
                Part.ATTRIBUTION,
            )
        )
        for model in Model
        for precedence in Precedence
        for purchase in SelfPurchase
        for customer in BindingRank
        for product in BindingRank
    }

    assert len(set(said.values())) == len(said)
    assert all("within 7 days" in lines[0] for lines in said.values())
    one_day = Terms((EVERYTHING,), attribution=AttributionTerms(1))
    assert "within 1 day after it" in _told(one_day, Part.ATTRIBUTION)[0]


def test_attribution_says_what_is_measured_and_for_how_long() -> None:
    attribution = AttributionTerms(
        30,
        (
            Window(3, frozenset({ContentType.LIVE}), frozenset({"zalo", "web"})),
            Window(1, channels=frozenset({"sms"})),
            Window(9),
        ),
        Model.POSITION,
        Fraction(1, 2),
        Fraction(1, 5),
        self_purchase=SelfPurchase.REVIEW,
        self_purchase_by=frozenset({"phone", "email"}),
        reorder_days=14,
    )

    told = _told(Terms((EVERYTHING,), attribution=attribution), Part.ATTRIBUTION)

    assert told[:4] == [
        "A click on your link counts for orders placed within 30 days after it.",
        "For a link shown in a live stream or of the channel “web” or “zalo” that is within 3 days.",
        "For a link of the channel “sms” that is within 1 day.",
        "If several of these fit a link, the first one counts.",
    ]
    assert told[6].startswith(
        "If several clicks or codes could count, the first has 50% of the commission and the last 20%,"
    )
    assert "again within 14 days of having placed it" in told[9]
    assert told[10:] == [
        "What you buy yourself through your own link or code is on hold until the shop has looked at it.",
        "That a buyer is you is seen by the e-mail address or the phone number.",
    ]
    allowed = AttributionTerms(self_purchase=SelfPurchase.ALLOW)
    assert not any("is seen by" in line for line in _told(Terms((EVERYTHING,), attribution=allowed), Part.ATTRIBUTION))
    assert {kind.value for kind in IdentityKind} == AttributionTerms().self_purchase_by


def test_the_base_is_said() -> None:
    said = {
        language: {_told(Terms((EVERYTHING,), base=base), Part.COMMISSION, language)[0] for base in Base}
        for language in Language
    }

    assert all(len(each) == len(Base) for each in said.values())


NOW = utc("2026-10-18")
SETTLEMENTS: list[tuple[Settlement, list[str]]] = [
    (
        RollingSettlement(Milestone.DELIVERED, 15),
        [
            (
                "A commission is final 15 days after the order is delivered; time in which the buyer disputes the payment does not "
                "count."
            ),
            "As soon as it is final, it is settled and payable.",
            "For example, if the order is delivered on 18 Oct 2026, the commission is payable on 2 Nov 2026.",
            "Nobody has to approve it.",
        ],
    ),
    (
        RollingSettlement(Milestone.PAID, 0, Approval.MANUAL),
        [
            "A commission is final as soon as the order is paid and no dispute about the payment is open.",
            "As soon as it is final, it is settled and payable.",
            "For example, if the order is paid on 18 Oct 2026, the commission is payable on 18 Oct 2026.",
            "The shop has to approve each commission first.",
        ],
    ),
    (
        StatementSettlement(Milestone.COMPLETED, 1, cut_off_day=15, months_after=0, pay_day=20),
        [
            "A commission is final 1 day after the order is completed; time in which the buyer disputes the payment does not count.",
            (
                "It is settled by monthly statements: what is final by the end of day 15 of a month is on that month's statement, what "
                "comes later is on the next."
            ),
            "A statement is payable on day 20 of the same month.",
            "For example, what becomes final on 18 Oct 2026 is payable on 20 Nov 2026.",
            "Nobody has to approve it.",
        ],
    ),
    (
        StatementSettlement(
            Milestone.FULFILLED,
            0,
            cut_off_day=31,
            months_after=2,
            pay_day=30,
            roll=Roll.PREVIOUS,
            off_days=frozenset({Weekday.SUN, Weekday.SAT}),
            holidays=frozenset({date(2026, 12, 30)}),
        ),
        [
            "A commission is final as soon as the order is shipped and no dispute about the payment is open.",
            (
                "It is settled by monthly statements: what is final by the end of the last day of a month is on that month's statement, "
                "what comes later is on the next."
            ),
            "A statement is payable on day 30 (or the last) of the month 2 months later.",
            "If the pay day is a Saturday, a Sunday or one of these holidays: 30 Dec 2026, it moves to the business day before.",
            "For example, what becomes final on 18 Oct 2026 is payable on 29 Dec 2026.",
            "Nobody has to approve it.",
        ],
    ),
]


@pytest.mark.parametrize(("settlement", "told"), SETTLEMENTS)
def test_settlement_says_what_is_waited_for_and_a_date(settlement: Settlement, told: list[str]) -> None:
    promised = Terms((EVERYTHING,), settlement=settlement)

    assert _told(promised, Part.SETTLEMENT, names=Names(now=NOW)) == told
    without = [line for line in told if not line.startswith("For example")]
    assert _told(promised, Part.SETTLEMENT) == without


def test_payout_and_changes_say_what_is_promised() -> None:
    promised = Terms((EVERYTHING,), payout_minimums_minor=(("VND", 200_000),), notice_days=30)
    bare = Terms((EVERYTHING,), notice_days=0)

    assert _told(promised, Part.PAYOUT, ZH) == ["可打款金额满200,000 VND才打款，不足部分结转至下次。"]
    assert _told(bare, Part.PAYOUT) == ["There is no minimum for a payout."]
    assert "worse ones only after 30 days" in _told(promised, Part.CHANGES)[1]
    assert _told(bare, Part.CHANGES)[1].endswith("also where they are worse.")
    assert _told(bare, Part.CHANGES)[2].startswith("The shop may stop the programme from a moment on")
    assert _told(bare, Part.CHANGES, names=Names("Asia/Shanghai"))[-1].endswith("Asia/Shanghai.")


def test_words_of_the_merchant_are_repeated_as_they_are() -> None:
    rule = percent("1", skus=["{skus}", "%s"], name="{number} \\ “x”")

    assert _rule(rule) == "Rule 1 ({number} \\ “x”): 1% of the value of goods with SKU “%s” or “{skus}”."


agents = st.builds(Agent, st.sampled_from([STAR, BEN]), strategies.rates, strategies.times)
asking = st.builds(
    lambda rule, agent, condition: replace(rule, agent=agent, when=replace(rule.when, every=(condition,))),
    strategies.rules,
    st.none() | agents,
    strategies.every_condition,
)
technical_fees = st.builds(TechnicalFee, st.just(OPERATOR), strategies.rates)
promises = st.builds(
    Terms,
    rules=st.lists(asking, min_size=1, max_size=4).map(tuple),
    base=st.sampled_from(Base),
    exclude=st.lists(strategies.every_condition, max_size=2).map(tuple),
    caps_minor=st.one_of(st.just(()), strategies.some_amounts),
    attribution=strategies.attributions,
    technical_fee=st.none() | technical_fees,
    periods=strategies.periods,
    settlement=st.one_of(
        st.builds(RollingSettlement, st.sampled_from(Milestone), st.integers(0, 30), st.sampled_from(Approval)),
        st.builds(
            StatementSettlement,
            st.sampled_from(Milestone),
            st.integers(0, 30),
            cut_off_day=st.integers(1, 31),
            months_after=st.integers(1, 3),
            pay_day=st.integers(1, 31),
            roll=st.sampled_from(Roll),
            off_days=st.frozensets(st.sampled_from(Weekday), max_size=2),
            holidays=st.frozensets(st.dates(date(2026, 1, 1), date(2027, 1, 1)), max_size=2),
        ),
    ),
    payout_minimums_minor=st.one_of(st.just(()), strategies.some_amounts),
    notice_days=st.integers(0, 60),
)


@examples(150)
@given(promises, st.sampled_from([None, NOW]))
def test_any_terms_can_be_said_in_every_language(promised: Terms, now: datetime | None) -> None:
    names = Names("Asia/Ho_Chi_Minh", now=now)
    told = {language: sentences(promised, language, names=names) for language in Language}

    for sections in told.values():
        assert [section.part for section in sections] == [section.part for section in told[EN]]
        assert [len(section.sentences) for section in sections] == [len(section.sentences) for section in told[EN]]
        assert all(line and "{" not in line for section in sections for line in section.sentences)
    for one, other in ((EN, VI), (VI, ZH), (ZH, EN)):
        shared = {line for section in told[one] for line in section.sentences} & {
            line for section in told[other] for line in section.sentences
        }
        assert shared == set()
    assert len(told[EN][0].sentences) >= len(promised.rules) + 2


@examples(150)
@given(promises)
def test_terms_that_differ_never_read_the_same(promised: Terms) -> None:
    """Every field is said: changing one changes a sentence."""
    changed = [
        Terms(**{**_fields(promised), "notice_days": promised.notice_days + 1}),
        Terms(**{**_fields(promised), "caps_minor": (("EUR", 12_345),)}),
        Terms(**{**_fields(promised), "payout_minimums_minor": (("EUR", 12_345),)}),
        Terms(**{**_fields(promised), "exclude": (*promised.exclude, SkuIn(frozenset({"NEW"})))}),
        Terms(**{**_fields(promised), "rules": (*promised.rules, EVERYTHING)}),
        Terms(**{**_fields(promised), "technical_fee": TechnicalFee(ANN, Fraction(1, 3_000))}),
        Terms(**{**_fields(promised), "periods": (*promised.periods, Cap("new", Stretch(Span.DAY), STARTS))}),
        Terms(**{**_fields(promised), "base": Base.NET if promised.base is Base.CASH else Base.CASH}),
        *(
            Terms(**{**_fields(promised), "attribution": replace(promised.attribution, **change)})
            for change in _changes(promised.attribution)
        ),
    ]

    for language in Language:
        read = sentences(promised, language, names=Names())
        assert all(sentences(other, language, names=Names()) != read for other in changed)


def _changes(attribution: AttributionTerms) -> list[dict[str, Any]]:
    def other(members: type[Enum], now: Enum) -> Enum:
        return next(each for each in members if each is not now)

    return [
        {"window_days": attribution.window_days + 1},
        {"windows": (*attribution.windows, Window(1, frozenset({ContentType.POST})))},
        {"model": other(Model, attribution.model)},
        {"precedence": other(Precedence, attribution.precedence)},
        {"customer_binding": other(BindingRank, attribution.customer_binding)},
        {"product_binding": other(BindingRank, attribution.product_binding)},
        {"self_purchase": other(SelfPurchase, attribution.self_purchase)},
        {"reorder_days": attribution.reorder_days + 1},
    ]


def _fields(promised: Terms) -> dict[str, Any]:
    return {name: getattr(promised, name) for name in get_type_hints(Terms)}


# Reasons.


def test_a_candidate_says_from_when_on_it_would_have_counted() -> None:
    speech = Speech(EN, Names("Asia/Ho_Chi_Minh"))

    assert reasons.candidate(Reason.NOT_ENROLLED, speech, holds_from=utc("2026-11-01")) == (
        "The KOC did not take part in the programme when the order was placed. "
        "For orders placed from 1 Nov 2026, 07:00 on it is different."
    )
    assert reasons.candidate(Reason.SELF_PURCHASE, speech) == reasons.ATTRIBUTION[Reason.SELF_PURCHASE].en


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("reason", Reason)
def test_an_outcome_can_be_said_from_every_side(reason: Reason, language: Language) -> None:
    said = {mine: reasons.outcome(reason, Speech(language), is_mine=mine) for mine in (None, True, False)}

    assert said[None] == reasons.ATTRIBUTION[reason].to(language)
    depends = reason in {Reason.WON, Reason.DECIDED}
    assert len(set(said.values())) == (3 if depends else 1)
    shared = {mine: reasons.outcome(reason, Speech(language), is_mine=mine, is_shared=True) for mine in said}
    # Of a part that somebody else has, a KOC is told what it is told of the whole.
    assert {mine for mine in said if shared[mine] != said[mine]} == ({None, True} if reason is Reason.WON else set())


def test_a_candidate_says_what_part_it_has() -> None:
    third = reasons.candidate(Reason.WON, Speech(EN), weight=Fraction(1, 3))

    assert third == "This brought the order, so the commission counts for it. Its part is 1/3."
    assert reasons.candidate(Reason.WON, Speech(EN)) == reasons.ATTRIBUTION[Reason.WON].en
    # A weight is that of a winner.
    assert (
        reasons.candidate(Reason.NOT_LAST, Speech(EN), weight=Fraction(1, 3)) == reasons.ATTRIBUTION[Reason.NOT_LAST].en
    )


# Receipts.


def _receipt(promised: Terms, *parts: Any, voided: bool = False) -> dict[str, Any]:
    lines = netted(*parts)
    order = Situation.of(lines, placed_at=day(0), currency="USD", touch=TouchKind.CLICK)
    quoted = quote(ProgramVersion(PROGRAM, 2, day(-30), promised), lines, order)
    return quoted.receipt(considered=[quoted], voided=voided, payable=0 if voided else quoted.total_minor)


def test_a_receipt_walks_from_the_goods_to_the_amount() -> None:
    promised = Terms(
        (
            percent("12.5", categories=["tea"]),
            Rule(Flat((("USD", 100),), Per.ORDER), component="bonus", funder="brand"),
        ),
        exclude=(SkuIn(frozenset({"GIFT"})),),
        caps_minor=(("USD", 500),),
    )
    order = an_order(
        a_line(3_333, id="1", sku="OOLONG", category="tea"),
        a_line(2_000, id="2", sku="CUP"),
        a_line(1_000, id="3", sku="GIFT"),
    )

    told = receipts.sentences(_receipt(promised, order, a_refund({"2": 500})), Speech(EN))

    assert told == [
        "Computed by version 2 of the terms, which was in force when the order was placed.",
        "Line 1 (SKU OOLONG): 33.33 USD ordered, nothing came back; the base is 33.33 USD.",
        "Rule 1: 12.5% of 33.33 USD is exactly 4.16625 USD.",
        "Rule 2: a fixed 1.00 USD once for the order; this line's part of it is 0.69 USD.",
        "Line 1 (SKU OOLONG) comes to exactly 4.85625 USD, rounded 4.86 USD.",
        "Line 2 (SKU CUP): 20.00 USD ordered, 5.00 USD refunded; the base is 15.00 USD.",
        "Rule 2: a fixed 1.00 USD once for the order; this line's part of it is 0.31 USD.",
        "Line 2 (SKU CUP) comes to 0.31 USD; there is nothing to round.",
        "Line 3 (SKU GIFT): 10.00 USD ordered, nothing came back; the base is 10.00 USD.",
        "Line 3 (SKU GIFT) is excluded by the terms and earns nothing.",
        "All lines together: 5.17 USD.",
        "One order earns at most 5.00 USD, so of 5.17 USD that much counts.",
        "The commission is 5.00 USD.",
        "Paid by: the shop 4.03 USD and brand 0.97 USD.",
    ]


def test_a_receipt_says_where_a_limit_was_and_where_no_rule_is() -> None:
    promised = Terms(
        (
            Rule(Percent(Fraction(1, 2)), Match(skus=frozenset({"A"})), caps_per_line_minor=(("USD", 300),)),
            Rule(Flat((("USD", 100),), Per.UNIT), Match(skus=frozenset({"B"}))),
            Rule(Flat((("USD", 100),), Per.LINE), Match(skus=frozenset({"C"}))),
        )
    )
    order = an_order(
        a_line(1_000, id="1", sku="A"),
        a_line(1_000, id="2", sku="B", quantity="3"),
        a_line(50, id="3", sku="C"),
        a_line(7, id="4", sku=""),
    )

    told = receipts.sentences(_receipt(promised, order, voided=True), Speech(EN))

    assert "Rule 1: 50% of 10.00 USD would be 5.00 USD; a limit makes it 3.00 USD." in told
    assert "Rule 2: a fixed 1.00 USD for each piece of 3 ordered; that gives 3.00 USD." in told
    assert "Rule 3: a fixed 1.00 USD for the line; that gives 0.50 USD." in told
    assert "No rule of the terms fits Line 4, so it earns nothing." in told
    assert told[-2:] == [
        "The order was cancelled, its commission rejected or the programme stopped, so it earns nothing.",
        "The commission is 0.00 USD.",
    ]


def test_a_receipt_names_the_versions_it_was_chosen_from() -> None:
    receipt = _receipt(Terms((EVERYTHING,)), an_order(a_line(1_000, id="1")))
    receipt["versions_considered"] = [
        {"version": 3, "standing": "in_force", "total_minor": 80},
        {"version": 2, "standing": "protected", "total_minor": 100},
    ]

    assert receipts.sentences(receipt, Speech(ZH))[0] == "按其中最有利的第2版条款计算：第3版0.80 USD和第2版1.00 USD。"


def test_a_receipt_of_the_first_release_is_still_read() -> None:
    line = {"line_id": "1", "sku": "A", "ordered_minor": 999, "refunded_minor": 0, "base_minor": 999}
    receipt = {
        "program_version": 1,
        "versions_considered": [{"version": 1, "standing": "in_force", "total_minor": 125}],
        "currency": "USD",
        "lines": [
            {**line, "rule": 0, "rate": "12.5", "flat_minor": None, "exact_minor": "999/8", "commission_minor": 125},
            {**line, "rule": 1, "rate": None, "flat_minor": 50, "exact_minor": "50", "commission_minor": 50},
            {**line, "rule": None, "rate": None, "flat_minor": None, "exact_minor": "0", "commission_minor": 0},
        ],
        "sum_of_lines_minor": 175,
        "cap_minor": None,
        "voided": False,
        "target_minor": 175,
    }

    told = receipts.sentences(receipt, Speech(EN))

    assert "Rule 1: 12.5% of 9.99 USD is exactly 1.24875 USD." in told
    assert "Rule 2: a fixed 0.50 USD for the line; that gives 0.50 USD." in told
    assert "No rule of the terms fits Line 1 (SKU A), so it earns nothing." in told
    assert told[-1] == "The commission is 1.75 USD."


def _divided(promised: Terms, *asked: Credit, agency: Membership | None = None, ordered: int = 10_000) -> list[Any]:
    """Divisions of an order of one line of "TEA" and one of "CUP", each of 100.00 USD unless told."""
    lines = netted(an_order(a_line(ordered, id="1", sku="TEA"), a_line(ordered, id="2", sku="CUP")))
    taken = frozenset[str]().union(*(credit.skus or frozenset() for credit in asked))
    claimed = []
    for credit in asked:
        own = [
            line
            for line in lines
            if (line.line.sku in credit.skus if credit.skus is not None else line.line.sku not in taken)
        ]
        order = Situation.of(lines, placed_at=day(0), currency="USD", affiliate_id=credit.affiliate_id)
        quoted = quote(ProgramVersion(PROGRAM, 2, day(-30), promised), own, order)
        claimed.append(Asked(credit, (quoted,), agency, some_lines=len(own) < len(lines)))
    return divide(claimed)


def test_a_receipt_says_what_agency_agent_and_operator_have() -> None:
    promised = Terms(
        (percent("10", priority=1, agent=Agent(BEN, Fraction(5, 100), day(-40))),),
        caps_minor=(("USD", 1_000),),
        technical_fee=TechnicalFee(OPERATOR, Fraction(1, 10)),
    )
    agency = Membership(day(-50), STAR, Fraction(3, 10), Fraction(2, 100))
    [division] = _divided(promised, Credit(ANN, PROGRAM), agency=agency)

    told = receipts.sentences(division.receipt(ANN, voided=False), Speech(EN))

    assert told[:4] == [
        "Computed by version 2 of the terms, which was in force when the order was placed.",
        "An agency has 30% of the commission, and 2% of the goods on top.",
        "Of each part 10% is taken as a technical fee.",
        "Each line is rounded once as a whole; its parts share that so that the largest remainders are rounded up first.",
    ]
    assert told[4:14] == [
        "Line 1 (SKU TEA): 100.00 USD ordered, nothing came back; the base is 100.00 USD.",
        "Rule 1: 10% of 100.00 USD is exactly 10.00 USD.",
        "Line 1 (SKU TEA) earns exactly 10.00 USD, which is divided:",
        "the KOC: exactly 6.30 USD, rounded 6.30 USD, after the cap 3.15 USD.",
        "the technical fee out of that (the KOC): exactly 0.70 USD, rounded 0.70 USD, after the cap 0.35 USD.",
        "the agency: exactly 2.70 USD, rounded 2.70 USD, after the cap 1.35 USD.",
        "the technical fee out of that (the agency): exactly 0.30 USD, rounded 0.30 USD, after the cap 0.15 USD.",
        "the agency's fee on top: exactly 1.80 USD, rounded 1.80 USD.",
        "the technical fee out of that (the agency's fee on top): exactly 0.20 USD, rounded 0.20 USD.",
        "The service fee of rule 1 is not paid for this line, since the KOC has another agency.",
    ]
    assert told[-4:] == [
        "All lines together: 20.00 USD.",
        "One order earns at most 10.00 USD, so of 20.00 USD that much counts.",
        "The commission is 10.00 USD.",
        "What counts here is 6.30 USD, for the KOC.",
    ]
    last = {
        payee: receipts.sentences(division.receipt(payee, voided=False), Speech(EN))[-1] for payee in (STAR, OPERATOR)
    }
    assert last == {
        STAR: "What counts here is 6.30 USD, for the agency and the agency's fee on top.",
        OPERATOR: "What counts here is 1.40 USD, for the technical fee.",
    }
    voided = receipts.sentences(division.receipt(STAR, voided=True), Speech(ZH))
    assert voided[-3:] == [
        "订单已取消、佣金审核未通过或推广计划已暂停，没有佣金。",
        "佣金：0.00 USD。",
        "此处计0.00 USD，用于机构和机构服务费（另付）。",
    ]


def test_an_agent_without_another_agency_has_its_fee() -> None:
    [division] = _divided(
        Terms((percent("10", priority=1, agent=Agent(BEN, Fraction(5, 100), day(-40))),)), Credit(ANN, PROGRAM)
    )

    told = receipts.sentences(division.receipt(BEN, voided=False), Speech(VI))

    assert "phí dịch vụ trả thêm: đúng 5,00 USD, làm tròn thành 5,00 USD." in told
    assert told[-2:] == ["Hoa hồng là 20,00 USD.", "Khoản được tính ở đây là 10,00 USD, cho phí dịch vụ trả thêm."]


def test_a_shared_order_says_what_part_it_is_and_names_nobody() -> None:
    third = Fraction(1, 3)
    promised = Terms((EVERYTHING,), caps_minor=(("USD", 100),))
    divisions = _divided(
        promised,
        Credit(ANN, PROGRAM, weight=third),
        Credit(BEN, PROGRAM, weight=2 * third),
        Credit(STAR, PROGRAM, skus=frozenset({"TEA"})),
        ordered=1_001,
    )

    told = receipts.sentences(divisions[0].receipt(ANN, voided=False), Speech(EN))
    bound = receipts.sentences(divisions[2].receipt(STAR, voided=False), Speech(EN))

    assert told == [
        "Computed by version 2 of the terms, which was in force when the order was placed.",
        "Of the commission on this order 1/3 counts here.",
        "Products of this order that are bound to somebody else are not counted here.",
        "Each line is rounded once as a whole; its parts share that so that the largest remainders are rounded up first.",
        "Line 2 (SKU CUP): 10.01 USD ordered, nothing came back; the base is 10.01 USD.",
        "Rule 1: 10% of 10.01 USD is exactly 1.001 USD.",
        "Line 2 (SKU CUP) earns exactly 1.001 USD, which is divided:",
        "the KOC: exactly 0.33366666… USD, rounded 0.33 USD.",
        "others who brought this order: exactly 0.66733333… USD.",
        "All lines together: 0.33 USD.",
        "The commission is 0.33 USD.",
        "What counts here is 0.33 USD, for the KOC.",
    ]
    assert bound[1] == "Only the products “TEA” count here."
    assert bound[-1] == "The commission is 1.00 USD."
    [capped] = _divided(replace(promised, caps_minor=(("USD", 90),)), Credit(ANN, PROGRAM, weight=third), ordered=1_001)
    assert "This part of the order earns at most 0.30 USD, so of 0.66 USD that much counts." in receipts.sentences(
        capped.receipt(ANN, voided=False), Speech(EN)
    )


def test_a_receipt_of_several_credits_is_read_one_after_the_other() -> None:
    divisions = _divided(
        Terms((EVERYTHING,)), Credit(ANN, PROGRAM), Credit(ANN, OTHER_PROGRAM, skus=frozenset({"TEA"}))
    )
    parts = [division.receipt(ANN, voided=False) for division in divisions]

    told = receipts.sentences({"credits": parts, "target_minor": 2_000}, Speech(EN))

    first, second = (receipts.sentences(each, Speech(EN)) for each in parts)
    assert told == [
        "Part 1 of 2 of this order:",
        *first,
        "Part 2 of 2 of this order:",
        *second,
        "All parts together: 20.00 USD.",
    ]


def test_what_was_not_paid_in_money_is_said() -> None:
    receipt = _receipt(Terms((EVERYTHING,)), an_order(a_line(1_000, id="1")))
    receipt["lines"][0] |= {"virtual_minor": 400, "base_minor": 600}

    told = receipts.sentences(receipt, Speech(EN))

    assert told[2] == "Line 1: 4.00 USD of it was paid with gift cards, points or store credit and does not count."


def _period(sums: Sums, *rules: PeriodRule) -> dict[str, Any]:
    """As `period_receipt` makes it."""
    given = gives(rules, sums, "USD")
    parts = {"pending": sums.pending, "held": sums.held, "settled": sums.settled}
    return {
        "currency": "USD",
        "rules": [period_rule_json(rule) for rule in rules],
        "sums": {place: asdict(each) for place, each in parts.items()},
        "gives": asdict(given),
        "target_minor": given.target_minor,
    }


def test_a_period_s_receipt_walks_from_its_sums_to_what_it_gives() -> None:
    ladder = Ladder("climb", Stretch(Span.MONTH), (Step((("USD", 10_000),), Fraction(1, 10)),))
    sums = Sums(pending=Sum(800, 8_000, 1), settled=Sum(1_200, 12_000, 3))

    told = receipts.sentences(_period(sums, ladder), Speech(EN))

    assert told[1:] == [
        "Settled: 3 orders, sales 120.00 USD, commissions 12.00 USD.",
        "Waiting: 1 order, sales 80.00 USD, commissions 8.00 USD.",
        "What is settled gives 2.00 USD, with what waits 8.00 USD more, with what is on hold 0.00 USD more.",
        "The bonus is 10.00 USD.",
    ]
    assert told[0].startswith("Period rule “climb”: within one calendar month you get a bonus")


def test_a_cap_s_receipt_says_what_is_taken_back() -> None:
    caps = [Cap("month", Stretch(Span.MONTH), (("USD", most),)) for most in (1_000, 1_500)]
    sums = Sums(held=Sum(500, 5_000, 1), settled=Sum(1_200, 12_000, 3))

    told = receipts.sentences(_period(sums, *caps), Speech(VI))

    assert told[2:] == [
        "Trong các quy tắc này, quy tắc có lợi nhất được áp dụng.",
        "Đã đối soát: 3 đơn, doanh số 120,00 USD, hoa hồng 12,00 USD.",
        "Tạm giữ: 1 đơn, doanh số 50,00 USD, hoa hồng 5,00 USD.",
        "Phần đã đối soát cho 0,00 USD, cộng phần đang chờ thêm 0,00 USD, cộng phần tạm giữ thêm -2,00 USD.",
        "Phần vượt mức tối đa bị trừ 2,00 USD.",
    ]
    empty = receipts.sentences(_period(Sums(), *caps[:1]), Speech(EN))
    assert empty[1:] == ["No order of the period earns anything now.", "Above the cap 0.00 USD is taken back."]


def test_where_nothing_was_computed_there_is_nothing_to_read() -> None:
    assert receipts.sentences({}, Speech(EN)) == []


@examples(150)
@given(strategies.snapshots, promises, st.sampled_from(Language))
def test_any_receipt_can_be_read(snapshot: Any, promised: Terms, language: Language) -> None:
    speech = Speech(language)
    receipt = _receipt(promised, snapshot)

    told = receipts.sentences(receipt, speech)

    assert all(line and "{" not in line for line in told)
    assert any(
        line == receipts._RESULT.to(language, amount=speech.money(receipt["target_minor"], "USD")) for line in told
    )


members = st.builds(Membership, st.just(day(-50)), st.just(STAR), strategies.rates, strategies.rates)


@examples(150)
@given(promises, st.none() | members, st.booleans(), st.sampled_from(Language))
def test_any_division_can_be_read_by_each_of_its_payees(
    promised: Terms, agency: Membership | None, voided: bool, language: Language
) -> None:
    half = Fraction(1, 2)
    divisions = _divided(
        promised, Credit(ANN, PROGRAM, weight=half), Credit(BEN, PROGRAM, weight=half), agency=agency, ordered=9_999
    )

    for division in divisions:
        for payee, amount in division.by_payee().items():
            told = receipts.sentences(division.receipt(payee, voided=voided), Speech(language))
            assert all(line and "{" not in line for line in told)
            assert Speech(language).money(0 if voided else amount, "USD") in " ".join(told[-2:])


@examples(150)
@given(strategies.period_rule, st.tuples(*[strategies.amounts] * 4), st.sampled_from(Language))
def test_any_period_s_receipt_can_be_read(rule: PeriodRule, drawn: tuple[int, ...], language: Language) -> None:
    commission, sales, more, orders = drawn
    sums = Sums(Sum(commission, sales, orders), Sum(more, more, 1), Sum(sales, more, orders))
    receipt = _period(sums, rule)

    told = receipts.sentences(receipt, Speech(language))

    sign = -1 if isinstance(rule, Cap) else 1
    assert all(line and "{" not in line for line in told)
    assert Speech(language).money(sign * receipt["target_minor"], "USD") in told[-1]


# Versions.


def _version(number: int, begins: int, notice_days: int = 30) -> ProgramVersion:
    return ProgramVersion(PROGRAM, number, day(begins), Terms((EVERYTHING,), notice_days=notice_days))


def test_what_counts_now_and_what_comes_is_told() -> None:
    known = [_version(1, -100), _version(2, -10), _version(3, 20, notice_days=5)]

    counting = claims(known, at=day(0), enrolled_at=day(-50))

    assert [(claim.version.number, claim.until) for claim in counting] == [(2, day(50)), (1, day(20))]
    assert versions.worse_from(known[2], counting) == day(50)
    speech = Speech(EN)
    assert versions.sentences(counting, known[2], speech) == [
        "For each order placed now, the one of these versions counts that gives you most: 2 or 1.",
        f"Version 1 was replaced and goes on for orders placed before {speech.moment(day(20))}.",
        (
            f"Version 3 begins on {speech.moment(day(20))}: from then on it counts for you wherever it gives you more. Where it "
            f"gives you less, it counts only for orders placed from {speech.moment(day(50))} on."
        ),
    ]


def test_without_notice_the_next_version_counts_at_once() -> None:
    known = [_version(1, -100, notice_days=0), _version(2, 10)]

    counting = claims(known, at=day(0), enrolled_at=day(-50))

    assert counting == [Claim(known[0], day(10))]
    assert versions.sentences(counting, known[1], Speech(EN))[1].endswith("counts for all orders placed from then on.")


def test_before_the_first_terms_that_is_said() -> None:
    known = [_version(1, 10)]

    assert claims(known, at=day(0), enrolled_at=day(-1)) == []
    assert versions.sentences([], known[0], Speech(EN))[0] == "No terms are in force now."
    assert versions.sentences([], None, Speech(VI)) == ["Hiện chưa có điều khoản nào có hiệu lực."]
    assert versions.worse_from(known[0], []) == day(10)


@examples(200)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=5),
    st.integers(0, 150),
    st.integers(0, 150),
)
def test_a_claim_ends_when_the_machine_ends_it(steps: list[tuple[int, int]], at_day: int, enrolled_before: int) -> None:
    """`until` is the first moment at which an order no longer may claim the version."""
    known, begins = [], 0
    for number, (gap, notice) in enumerate(steps, 1):
        begins += gap
        known.append(_version(number, begins, notice))
    at, enrolled_at = day(at_day), day(at_day - enrolled_before)

    def numbers(placed_at: datetime) -> list[int]:
        return [each.number for each in versions_for(known, placed_at=placed_at, enrolled_at=enrolled_at)]

    counting = claims(known, at=at, enrolled_at=enrolled_at)

    assert [claim.version.number for claim in counting] == numbers(at)
    for claim in counting:
        if claim.until is None:
            assert claim.version is known[-1]
        else:
            assert at < claim.until
            assert claim.version.number in numbers(claim.until - timedelta(seconds=1))
            assert claim.version.number not in numbers(claim.until)
    upcoming = next((version for version in known if version.valid_from > at), None)
    if upcoming is not None:
        alone_from = versions.worse_from(upcoming, counting)
        last = upcoming.number == known[-1].number
        assert not last or numbers(alone_from) == [upcoming.number]
    assert [one.valid_from < other.valid_from for one, other in pairwise(known)] == [True] * (len(known) - 1)
