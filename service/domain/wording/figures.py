"""Amounts, rates, times and lists as each language writes them, to the last digit."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from service.domain.money import exponent, text_of
from service.domain.settlement import Weekday
from service.domain.wording.languages import Language, Words
from service.domain.written import Amounts, percent_of

WEEKDAYS: Final[Mapping[Weekday, Words]] = {
    Weekday.MON: Words("a Monday", "thứ Hai", "星期一"),
    Weekday.TUE: Words("a Tuesday", "thứ Ba", "星期二"),
    Weekday.WED: Words("a Wednesday", "thứ Tư", "星期三"),
    Weekday.THU: Words("a Thursday", "thứ Năm", "星期四"),
    Weekday.FRI: Words("a Friday", "thứ Sáu", "星期五"),
    Weekday.SAT: Words("a Saturday", "thứ Bảy", "星期六"),
    Weekday.SUN: Words("a Sunday", "Chủ nhật", "星期日"),
}

LISTED_MAX = 50
"""Of a longer list the rest is counted, not named; the written terms name all of it."""
_ENDLESS_DIGITS = 6

_DAY = Words("{day} {month} {year}", "{day:02d}/{number:02d}/{year}", "{year}年{number}月{day}日")
_MOMENT = Words("{day}, {time}", "{time} ngày {day}", "{day}{time}")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ONE_DAY = Words("{number} day", "{number} ngày", "{number}天")
_DAYS = Words("{number} days", "{number} ngày", "{number}天")
_ONE_MONTH = Words("{number} month", "{number} tháng", "{number}个月")
_MONTHS_LONG = Words("{number} months", "{number} tháng", "{number}个月")
_ONE_ORDER = Words("{number} order", "{number} đơn", "{number}单")
_ORDERS = Words("{number} orders", "{number} đơn", "{number}单")
_OR = Words(" or ", " hoặc ", "或")
_AND = Words(" and ", " và ", "和")
_COMMA = Words(", ", ", ", "、")
_BY_CURRENCY = Words("{amounts} (by currency)", "{amounts} (tùy loại tiền)", "{amounts}（按币种）")
_MORE = Words("{number} more", "{number} mục khác", "另外{number}项")


@dataclass(frozen=True, slots=True)
class Names:
    """What terms refer to and do not hold.

    time_zone: the merchant's, in which days are counted. people: what affiliates and agencies are called.
    now: the moment for which examples of dates are given; None: none are. reader: the KOC they are read to, who is told
    of no other one; None: the merchant.
    """

    time_zone: str = "UTC"
    people: Mapping[UUID, str] = field(default_factory=dict)
    now: datetime | None = None
    reader: UUID | None = None


@dataclass(frozen=True, slots=True)
class Speech:
    """Says things in one language, about one merchant's terms."""

    language: Language
    names: Names = field(default_factory=Names)

    def say(self, words: Words, **values: object) -> str:
        return words.to(self.language, **values)

    def number(self, plain: str) -> str:
        """A number in plain decimal notation, with thousands marked as the language does it."""
        sign, digits = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
        whole, point, decimals = digits.partition(".")
        written = f"{sign}{int(whole):,}{point}{decimals}"
        return written.translate(_VIETNAMESE) if self.language is Language.VI else written

    def money(self, amount_minor: int, currency: str) -> str:
        """Decimal notation with the ISO code: "1,234.50 USD", in Vietnamese "1.234,50 USD"."""
        return f"{self.number(text_of(amount_minor, currency))} {currency}"

    def exact(self, minor: Fraction, currency: str) -> str:
        """An amount before rounding. Digits without end stop after six, with "…" to say so."""
        digits, rest = 0, minor
        while rest.denominator != 1 and (digits < _ENDLESS_DIGITS or _ends(rest)):
            digits, rest = digits + 1, rest * 10
        endless = rest.denominator != 1
        whole = abs(rest.numerator) // rest.denominator
        places = digits + exponent(currency)
        text = str(whole).rjust(places + 1, "0")
        written = f"{text[:-places]}.{text[-places:]}" if places else text
        sign = "-" if minor < 0 else ""
        return f"{sign}{self.number(written)}{'…' if endless else ''} {currency}"

    def percent(self, rate: Fraction) -> str:
        return f"{self.number(percent_of(rate))}%"

    def amounts(self, amounts: Amounts) -> str:
        """One amount for each currency; an order has one of them."""
        told = self.either(self.money(amount, currency) for currency, amount in amounts)
        return told if len(amounts) < 2 else self.say(_BY_CURRENCY, amounts=told)

    def days(self, number: int) -> str:
        return self.say(_ONE_DAY if number == 1 else _DAYS, number=number)

    def months(self, number: int) -> str:
        return self.say(_ONE_MONTH if number == 1 else _MONTHS_LONG, number=number)

    def orders(self, number: int) -> str:
        return self.say(_ONE_ORDER if number == 1 else _ORDERS, number=self.number(str(number)))

    def day(self, day: date) -> str:
        return self.say(_DAY, day=day.day, month=_MONTHS[day.month - 1], number=day.month, year=day.year)

    def day_of(self, moment: datetime) -> str:
        """The day of a moment in the merchant's time zone."""
        return self.day(moment.astimezone(ZoneInfo(self.names.time_zone)).date())

    def moment(self, moment: datetime) -> str:
        """A moment to the minute, in the merchant's time zone."""
        there = moment.astimezone(ZoneInfo(self.names.time_zone))
        return self.say(
            _MOMENT, day=self.day(there.date()), time=f"{there:%H:%M}" if not there.second else f"{there:%H:%M:%S}"
        )

    def quoted(self, name: str) -> str:
        return f"“{name}”"

    def named(self, names: Collection[str]) -> str:
        """Names of the merchant's own, of which one is enough, sorted."""
        return self.either(self.quoted(name) for name in sorted(names))

    def person(self, person_id: UUID) -> str:
        """What somebody is called; the id where no name is known."""
        return self.quoted(self.names.people.get(person_id, str(person_id)))

    def listed(self, parts: Iterable[str]) -> str:
        return self.say(_COMMA).join(parts)

    def either(self, parts: Iterable[str]) -> str:
        return self._joined(list(parts), self.say(_OR))

    def all_of(self, parts: Iterable[str]) -> str:
        return self._joined(list(parts), self.say(_AND))

    def _joined(self, parts: list[str], last: str) -> str:
        if len(parts) > LISTED_MAX:
            parts = [*parts[:LISTED_MAX], self.say(_MORE, number=len(parts) - LISTED_MAX)]
        if len(parts) < 2:
            return "".join(parts)
        return self.say(_COMMA).join(parts[:-1]) + last + parts[-1]


def _ends(number: Fraction) -> bool:
    """Whether its decimals come to an end: nothing but twos and fives below the line."""
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


_VIETNAMESE = str.maketrans(",.", ".,")
