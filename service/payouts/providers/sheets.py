"""Sheets by column maps: which cell holds what, in which letters, and how the file is written. Maps are data.

A map names placeholders; a cell that is one placeholder and an amount stays a number, all others are text.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Self

from xlsxwriter import Workbook

from service.domain.destination import AccountType
from service.domain.errors import Invalid
from service.domain.latin import without_marks
from service.domain.money import EXPONENTS
from service.domain.payout_file import Said
from service.payouts.providers.file_model import REFERENCE_CHARS_MAX, REFERENCE_CHARS_MIN, Header, Rendered, Row

Cell = str | int | Decimal

ACCOUNT = frozenset({"account", "wallet", "email", "iban", "account_number"})
"""Placeholders for whom to pay. wallet: a Chinese phone number without +86, as people log in with it; email, iban,
account_number: the account where it is of that kind, else nothing, for sheets that have a column for each."""
PAYMENT = ACCOUNT | {
    "line",
    "reference",
    "payout",
    "amount",
    "holder",
    "recipient",
    "bank_code",
    "bank_name",
    "branch",
    "country",
    "town",
    "street",
    "postcode",
}
"""Placeholders of a row."""
FILE = frozenset(
    [
        "message_id",
        "run",
        "merchant",
        "date",
        "day",
        "currency",
        "total",
        "count",
        "payer_account",
        "payer_holder",
        "payer_bank_code",
        "payer_bank_name",
    ]
)
"""Placeholders of the file; a row may name them too."""
EXACT = ACCOUNT | {"reference", "bank_code"}
"""What is never cut or changed: a cell that cannot hold one whole refuses its row."""

COLUMNS_MAX, PREAMBLE_MAX, ROWS_MAX = 60, 20, 20_000
TEXT_MAX = 500
"""Characters of a title, or of what a cell is filled with."""

_BY_EMAIL = frozenset({AccountType.ALIPAY, AccountType.PAYPAL, AccountType.WISE})

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_FORMULA = "=+-@\t\r\n＝＋－＠"
"""How a cell begins that a spreadsheet would run instead of show. Source: OWASP, CSV Injection."""
_PLAIN_NUMBER = re.compile(r"\+?[0-9]+")
_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class UnusableTemplate(Invalid):
    """The column map contradicts itself, or names what there is not."""

    code = "unusable-payout-template"
    title = "The column map cannot be used"


class SheetFormat(StrEnum):
    CSV = "csv"
    XLSX = "xlsx"


class Encoding(StrEnum):
    """Of a CSV file."""

    UTF_8 = "utf-8"
    UTF_8_SIG = "utf-8-sig"
    """With a mark at its beginning, by which spreadsheets know it."""
    GB18030 = "gb18030"
    UTF_16 = "utf-16"
    WINDOWS_1252 = "windows-1252"


class LineEnd(StrEnum):
    CRLF = "crlf"
    LF = "lf"


class Delimiter(StrEnum):
    COMMA = "comma"
    SEMICOLON = "semicolon"
    TAB = "tab"
    PIPE = "pipe"


_DELIMITERS = {Delimiter.COMMA: ",", Delimiter.SEMICOLON: ";", Delimiter.TAB: "\t", Delimiter.PIPE: "|"}


class AmountFormat(StrEnum):
    DECIMAL = "decimal"
    """With as many decimals as the currency has: 12.50."""
    MINOR = "minor"
    """In minor units: 1250."""
    WHOLE = "whole"
    """Without decimals; amounts that are not whole cannot be written."""


class Letters(StrEnum):
    AS_IS = "as_is"
    PLAIN = "plain"
    """Without accents and other marks."""
    UPPER = "upper"
    """Without marks, in capitals."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. value: what its cells are filled with. chars_max: longer texts are cut, but what is EXACT never is.

    needed: an empty cell refuses its row. needed_from_minor: only from this amount on. words: what the bank calls what would
    stand there, such as a company; what it does not name stays.
    """

    title: str
    value: str
    letters: Letters = Letters.AS_IS
    chars_max: int | None = None
    needed: bool = False
    needed_from_minor: int | None = None
    words: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_exact(self) -> bool:
        return not EXACT.isdisjoint(_PLACEHOLDER.findall(self.value))


@dataclass(frozen=True, slots=True)
class ResultMap:
    """How the wallet's own sheet of results is read: titles of columns, and what its words for a status mean."""

    reference: str
    status: str
    words: Mapping[str, Said]
    amount: str = ""
    amount_format: AmountFormat = AmountFormat.DECIMAL
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SheetTemplate:
    """A column map. currencies: those it can pay; all where it is empty. whole_units: those paid without decimals.

    preamble: rows before the titles, such as a batch number with the total. file_name: without its ending.
    """

    format: SheetFormat
    columns: tuple[Column, ...]
    rows_max: int
    currencies: tuple[str, ...] = ()
    whole_units: tuple[str, ...] = ()
    amount: AmountFormat = AmountFormat.DECIMAL
    amount_min_minor: int = 1
    reference_chars_max: int = REFERENCE_CHARS_MAX
    preamble: tuple[tuple[str, ...], ...] = ()
    titles: bool = True
    encoding: Encoding = Encoding.UTF_8
    delimiter: Delimiter = Delimiter.COMMA
    line_end: LineEnd = LineEnd.CRLF
    file_name: str = "{message_id}"
    results: ResultMap | None = None

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> Self:
        """Read a map as it is stored. Raises UnusableTemplate where a rule of its own is broken."""
        columns = tuple(
            Column(
                title=each.get("title", ""),
                value=each["value"],
                letters=Letters(each.get("letters", Letters.AS_IS)),
                chars_max=each.get("chars_max"),
                needed=each.get("needed", False),
                needed_from_minor=each.get("needed_from_minor"),
                words=each.get("words", {}),
            )
            for each in told["columns"]
        )
        results = told.get("results")
        made = cls(
            format=SheetFormat(told["format"]),
            columns=columns,
            rows_max=told["rows_max"],
            currencies=tuple(told.get("currencies", ())),
            whole_units=tuple(told.get("whole_units", ())),
            amount=AmountFormat(told.get("amount", AmountFormat.DECIMAL)),
            amount_min_minor=told.get("amount_min_minor", 1),
            reference_chars_max=told.get("reference_chars_max", REFERENCE_CHARS_MAX),
            preamble=tuple(tuple(row) for row in told.get("preamble", ())),
            titles=told.get("titles", True),
            encoding=Encoding(told.get("encoding", Encoding.UTF_8)),
            delimiter=Delimiter(told.get("delimiter", Delimiter.COMMA)),
            line_end=LineEnd(told.get("line_end", LineEnd.CRLF)),
            file_name=told.get("file_name", "{message_id}"),
            results=None if results is None else _result_map(results),
        )
        made.check()
        return made

    def check(self) -> None:
        """Raise UnusableTemplate unless every payment can be told apart, paid and found again by this map."""
        if not 1 <= len(self.columns) <= COLUMNS_MAX or len(self.preamble) > PREAMBLE_MAX:
            raise UnusableTemplate(
                f"A map has 1 to {COLUMNS_MAX} columns, and at most {PREAMBLE_MAX} rows before them."
            )
        if not 1 <= self.rows_max <= ROWS_MAX:
            raise UnusableTemplate(f"rows_max lies from 1 to {ROWS_MAX}.")
        if not REFERENCE_CHARS_MIN <= self.reference_chars_max <= REFERENCE_CHARS_MAX:
            raise UnusableTemplate(
                f"reference_chars_max lies from {REFERENCE_CHARS_MIN} to {REFERENCE_CHARS_MAX}: with fewer characters two "
                "payments might have one id."
            )
        for each in self.columns:
            _check_value(each.value, PAYMENT | FILE, f"column {each.title!r}")
        for row in self.preamble:
            for cell in row:
                _check_value(cell, FILE, "the preamble")
        _check_value(self.file_name, FILE - {"payer_account"}, "file_name")
        if "{message_id}" not in self.file_name:
            raise UnusableTemplate("file_name holds {message_id}: wallets refuse a name that they have seen before.")
        filled = {name for each in self.columns for name in _PLACEHOLDER.findall(each.value)}
        for names, name, why in (
            (ACCOUNT, "account", "whom to pay"),
            ({"amount"}, "amount", "how much"),
            ({"reference"}, "reference", "which payment it is"),
        ):
            if filled.isdisjoint(names):
                raise UnusableTemplate(f"No column holds {{{name}}}; a row without it does not say {why}.")
        for each in self.columns:
            if "{amount}" in each.value and each.value != "{amount}":
                raise UnusableTemplate(f"Column {each.title!r}: an amount stands alone, so that it stays a number.")
            if each.words and (each.is_exact or "{amount}" in each.value):
                raise UnusableTemplate(
                    f"Column {each.title!r}: an account, id or amount is written as it is, without words."
                )
            written = len(_PLACEHOLDER.sub("", each.value)) + self.reference_chars_max
            if "{reference}" in each.value and each.chars_max is not None and each.chars_max < written:
                raise UnusableTemplate(
                    f"Column {each.title!r} has room for {each.chars_max} characters and its cells may have {written}: "
                    "lower reference_chars_max, or write less beside it."
                )
            exact = EXACT.intersection(_PLACEHOLDER.findall(each.value))
            # An id is in capitals anyway.
            if each.letters is not Letters.AS_IS and exact - {"reference"}:
                raise UnusableTemplate(f"Column {each.title!r}: an account is written as it is.")
        for code in (*self.currencies, *self.whole_units):
            if code not in EXPONENTS:
                raise UnusableTemplate(f"{code!r} is not an active ISO 4217 code.")
        if self.format is SheetFormat.CSV:
            self._check_letters()

    def _check_letters(self) -> None:
        """Raise UnusableTemplate where the encoding has no letter for what every file begins with."""
        for each in self.columns if self.titles else ():
            if lost := _lost(each.title, self.encoding):
                raise UnusableTemplate(
                    f"Column {each.title!r}: {self.encoding} has no {lost!r}. Choose another encoding, such as "
                    f"{Encoding.UTF_8_SIG}, or write the title in letters that it has."
                )
        for row in self.preamble:
            for cell in row:
                # As it is written, with a digit for whatever is filled in: what that is is not known yet.
                if lost := _lost(str(_guarded(_PLACEHOLDER.sub("0", cell))), self.encoding):
                    raise UnusableTemplate(
                        f"In the preamble: {self.encoding} has no {lost!r}. Choose another encoding, such as "
                        f"{Encoding.UTF_8_SIG}, or write it in letters that it has."
                    )

    @property
    def needs_payer(self) -> bool:
        """Whether it names the paying account."""
        values = [cell for row in self.preamble for cell in row] + [each.value for each in self.columns]
        return any("{payer_" in value for value in values)

    @property
    def ending(self) -> str:
        return self.format.value

    def step_minor(self, currency: str) -> int | None:
        """The smallest amount it can write, in minor units; None where it does not pay the currency."""
        if currency not in EXPONENTS or (self.currencies and currency not in self.currencies):
            return None
        is_whole = self.amount is AmountFormat.WHOLE or currency in self.whole_units
        step: int = 10 ** EXPONENTS[currency] if is_whole else 1
        return step


def _result_map(told: Mapping[str, Any]) -> ResultMap:
    return ResultMap(
        reference=told["reference"],
        status=told["status"],
        words={word: Said(said) for word, said in told["words"].items()},
        amount=told.get("amount", ""),
        amount_format=AmountFormat(told.get("amount_format", AmountFormat.DECIMAL)),
        reason=told.get("reason", ""),
    )


def _check_value(value: str, known: frozenset[str], where: str) -> None:
    strange = [name for name in _PLACEHOLDER.findall(value) if name not in known]
    rest = _PLACEHOLDER.sub("", value)
    if strange or "{" in rest or "}" in rest:
        raise UnusableTemplate(
            f"In {where}: {{{strange[0] if strange else '…'}}} is no placeholder. There are {', '.join(sorted(known))}."
        )


def _lost(text: str, encoding: Encoding) -> str:
    """The first letters that an encoding has not; empty where it has them all."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        return text[error.start : error.end]
    return ""


def why_unfit(template: SheetTemplate, row: Row, header: Header) -> str | None:
    """The first reason, as a code, why a row cannot be written; None where it can."""
    step_minor = template.step_minor(row.currency)
    if step_minor is None:
        return "currency_not_paid"
    if row.amount_minor % step_minor:
        return "amount_not_whole"
    if row.amount_minor < template.amount_min_minor:
        return "amount_too_small"
    names = _names(template, row, header, line=1) | _sums(template, header, [row])
    for column in template.columns:
        flaw = _flaw(template, column, row, names)
        if flaw is not None:
            return flaw
    written = [
        _cell(column, names)
        for column in template.columns
        if not ACCOUNT.isdisjoint(_PLACEHOLDER.findall(column.value))
    ]
    return None if any(written) else "account_missing"


def _flaw(template: SheetTemplate, column: Column, row: Row, names: Mapping[str, Cell]) -> str | None:
    cell = _cell(column, names)
    if not isinstance(cell, str):
        return None
    what = next(iter(_PLACEHOLDER.findall(column.value)), "text")
    what = "account" if what in ACCOUNT else what
    from_minor = column.needed_from_minor
    if not cell and (column.needed or (from_minor is not None and row.amount_minor >= from_minor)):
        return f"{what}_missing"
    if column.is_exact:
        if column.chars_max is not None and len(cell) > column.chars_max:
            return f"{what}_too_long"
        if cell.startswith(tuple(_FORMULA)) and not _PLAIN_NUMBER.fullmatch(cell):
            return f"{what}_not_writable"
    if template.format is SheetFormat.CSV and _lost(cell, template.encoding):
        return f"{what}_not_in_encoding"
    return None


def grid(template: SheetTemplate, rows: Sequence[Row], header: Header) -> list[list[Cell]]:
    """All cells of a file, from the preamble on. rows: such as fit."""
    sums = _sums(template, header, rows)
    cells: list[list[Cell]] = [[_guarded(_filled(cell, sums)) for cell in row] for row in template.preamble]
    if template.titles:
        cells.append([column.title for column in template.columns])
    for line, row in enumerate(rows, start=1):
        names = _names(template, row, header, line=line) | sums
        cells.append([_cell(column, names) for column in template.columns])
    return cells


def render(template: SheetTemplate, rows: Sequence[Row], header: Header) -> Rendered:
    """Write a file of rows that fit. The same rows are the same bytes.

    Raises UnusableTemplate where the encoding has no letters for a name that the preamble is filled with.
    """
    cells = grid(template, rows, header)
    name = _FILE_NAME.sub("-", str(_filled(template.file_name, _sums(template, header, rows)))).strip("-")
    name = f"{'TEST-' if header.is_test else ''}{name}.{template.ending}"
    if template.format is SheetFormat.CSV:
        return Rendered(_csv(template, cells), "text/csv", name)
    content = _xlsx(cells, header)
    return Rendered(content, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", name)


def _names(template: SheetTemplate, row: Row, header: Header, *, line: int) -> dict[str, Cell]:
    """What the placeholders of a row stand for."""
    to = row.destination
    return {
        **_file_names(header),
        "line": line,
        "reference": row.reference,
        "payout": row.payout,
        "amount": _amount(template, row.amount_minor, row.currency),
        "account": to.account,
        "wallet": to.account.removeprefix("+86"),
        "email": to.account if to.type in _BY_EMAIL else "",
        "iban": to.account if to.type is AccountType.IBAN else "",
        "account_number": to.account if to.type is AccountType.BANK else "",
        "holder": to.holder,
        "recipient": row.recipient.value,
        "bank_code": to.bank_code,
        "bank_name": to.bank_name,
        "branch": to.branch,
        "country": to.country,
        "town": to.town,
        "street": to.street,
        "postcode": to.postcode,
    }


def _file_names(header: Header) -> dict[str, Cell]:
    payer = header.payer
    return {
        "message_id": header.message_id,
        "run": header.run,
        "merchant": header.merchant,
        "date": header.pays_on.strftime("%Y%m%d"),
        "day": header.pays_on.isoformat(),
        "payer_account": payer.account if payer else "",
        "payer_holder": payer.holder if payer else "",
        "payer_bank_code": payer.bank_code if payer else "",
        "payer_bank_name": payer.bank_name if payer else "",
    }


def _sums(template: SheetTemplate, header: Header, rows: Sequence[Row]) -> dict[str, Cell]:
    """What the placeholders of the file stand for. rows: at least one, all in one currency."""
    currency = rows[0].currency
    total = _amount(template, sum(row.amount_minor for row in rows), currency)
    return {**_file_names(header), "currency": currency, "total": total, "count": len(rows)}


def _amount(template: SheetTemplate, amount_minor: int, currency: str) -> int | Decimal:
    if template.amount is AmountFormat.MINOR:
        return amount_minor
    exponent = EXPONENTS[currency]
    unit: int = 10**exponent
    return amount_minor // unit if template.step_minor(currency) == unit else Decimal(amount_minor).scaleb(-exponent)


def _cell(column: Column, names: Mapping[str, Cell]) -> Cell:
    cell = _filled(column.value, names)
    if not isinstance(cell, str):
        return cell
    cell = column.words.get(cell, cell)
    if column.letters is not Letters.AS_IS:
        cell = without_marks(cell)
    if column.letters is Letters.UPPER:
        cell = cell.upper()
    if column.is_exact:
        return cell
    cell = str(_guarded(cell))
    return cell if column.chars_max is None else cell[: column.chars_max].rstrip()


def _filled(value: str, names: Mapping[str, Cell]) -> Cell:
    alone = _PLACEHOLDER.fullmatch(value)
    if alone is not None:
        return names[alone[1]]
    return _PLACEHOLDER.sub(lambda found: _written(names[found[1]]), value)


def _guarded(cell: Cell) -> Cell:
    """A text that no spreadsheet takes for a formula. Breaks in it would end a row for some readers."""
    # Spaces first: one before a formula's beginning would hide it, and be gone afterwards.
    return " ".join(cell.split()).lstrip(f"{_FORMULA} ") if isinstance(cell, str) else cell


def _written(cell: Cell) -> str:
    return format(cell, "f") if isinstance(cell, Decimal) else str(cell)


def _csv(template: SheetTemplate, cells: Sequence[Sequence[Cell]]) -> bytes:
    out = io.StringIO(newline="")
    ends = "\r\n" if template.line_end is LineEnd.CRLF else "\n"
    writer = csv.writer(out, delimiter=_DELIMITERS[template.delimiter], lineterminator=ends)
    for row in cells:
        writer.writerow([_written(cell) for cell in row])
    if lost := _lost(out.getvalue(), template.encoding):
        raise UnusableTemplate(
            f"A name in the preamble: {template.encoding} has no {lost!r}. Choose another encoding, such as "
            f"{Encoding.UTF_8_SIG}, or leave {{merchant}} and {{payer_holder}} out of the preamble."
        )
    return out.getvalue().encode(template.encoding)


def _xlsx(cells: Sequence[Sequence[Cell]], header: Header) -> bytes:
    out = io.BytesIO()
    book = Workbook(out, {"in_memory": True})
    # Without it the file would hold the time at which it was written, and no two would be equal.
    book.set_properties({"created": header.built_at.replace(tzinfo=None)})
    text, whole = book.add_format({"num_format": "@"}), book.add_format({"num_format": "0"})
    decimals = book.add_format({"num_format": "0.00"})
    sheet = book.add_worksheet()
    for place, row in enumerate(cells):
        for number, cell in enumerate(row):
            if isinstance(cell, str):
                # As text, whatever it looks like: account numbers begin with zeros.
                sheet.write_string(place, number, cell, text)
            else:
                sheet.write_number(place, number, cell, decimals if isinstance(cell, Decimal) else whole)
    book.close()
    return out.getvalue()
