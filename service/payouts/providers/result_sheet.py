"""Reads results in sheets: our own neutral CSV, and the sheets of wallets by the column map of their rail."""

import csv
import io
from collections.abc import Sequence
from datetime import date

from service.domain.errors import ServiceError
from service.domain.money import AMOUNT_MAX_MINOR, minor_of
from service.domain.payout_file import Said, is_of_a_copy
from service.domain.text import made_visible
from service.payouts.providers.file_model import REASON_CHARS_MAX, RESULT_LINES_MAX, ResultFile, Told, UnreadableResult
from service.payouts.providers.sheets import AmountFormat, ResultMap, SheetTemplate

NEUTRAL = "end_to_end_id, status, amount, currency, reason, booked_on"
_DELIMITERS = ",;\t|"
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
"""How a workbook begins: .xlsx and .ods, which are archives, and the older .xls."""
_TITLES_WITHIN = 30
"""Rows before the titles that a wallet's sheet may have."""


_DIGITS_MAX = len(str(AMOUNT_MAX_MINOR))
"""Of an amount in minor units. Python refuses to read numbers of thousands of digits, and no payment has as many."""


def read(content: bytes, *, currency: str, template: SheetTemplate | None = None) -> ResultFile:
    """Return what a sheet says. currency: of the file it answers. Raises UnreadableResult."""
    rows = _rows(_text(content, template))
    if rows and {"end_to_end_id", "status"} <= set(rows[0]):
        return ResultFile("csv", _neutral(rows, currency))
    if template is not None and template.results is not None:
        found = _by_map(rows, template.results, currency)
        if found is not None:
            return ResultFile("sheet", found)
    raise UnreadableResult(
        f"Its first row does not name the columns {NEUTRAL}, of which the first two are needed, and it has not the titles "
        "that the rail's column map gives for results."
    )


def _text(content: bytes, template: SheetTemplate | None) -> str:
    if content.startswith(_WORKBOOKS):
        raise UnreadableResult(
            "It is a workbook (.xlsx, .xls or .ods). Open it in a spreadsheet, save it as CSV in UTF-8, and send that."
        )
    # Sheets in the old encoding are hardly ever UTF-8 by chance, so that is tried first.
    for encoding in ("utf-8-sig", template.encoding if template is not None else "utf-8"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnreadableResult("It is neither UTF-8 nor in the encoding of the rail's column map.")


def _rows(text: str) -> list[list[str]]:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UnreadableResult(f"It is no CSV: {error}.") from None
    if len(rows) > RESULT_LINES_MAX:
        raise UnreadableResult(f"It has more than {RESULT_LINES_MAX} rows; send it in parts.")
    return rows


def _neutral(rows: Sequence[Sequence[str]], file_currency: str) -> tuple[Told, ...]:
    titles = rows[0]
    told = []
    for number, row in enumerate(rows[1:], start=2):
        cells = dict(zip(titles, row, strict=False))
        said = cells.get("status", "")
        if said not in set(Said):
            raise UnreadableResult(f"Row {number}: the status is one of {', '.join(Said)}.")
        currency = cells.get("currency") or file_currency
        told.append(
            Told(
                cells.get("end_to_end_id", ""),
                Said(said),
                _amount(cells.get("amount", ""), currency, number),
                currency if cells.get("amount") else "",
                reason=made_visible(cells.get("reason", ""))[:REASON_CHARS_MAX],
                booked_on=_day(cells.get("booked_on", ""), number),
                is_of_a_copy=is_of_a_copy(Said(said), [cells.get("reason", "")]),
            )
        )
    return tuple(told)


def _by_map(rows: Sequence[Sequence[str]], results: ResultMap, currency: str) -> tuple[Told, ...] | None:
    """None where no row has the titles."""
    place = next(
        (at for at, row in enumerate(rows[:_TITLES_WITHIN]) if {results.reference, results.status} <= set(row)), None
    )
    if place is None:
        return None
    titles = rows[place]
    told = []
    for number, row in enumerate(rows[place + 1 :], start=place + 2):
        cells = dict(zip(titles, row, strict=False))
        word, reason = cells.get(results.status, ""), cells.get(results.reason, "")
        said = results.words.get(word)
        if said is None:
            raise UnreadableResult(
                f"Row {number}: its status is none of {', '.join(results.words)}. Add the word to the rail's column map."
            )
        written = cells.get(results.amount, "").replace(",", "")
        amount_minor = _mapped_amount(written, results, currency, number)
        told.append(
            Told(
                # The id may stand at the end of a remark.
                (cells.get(results.reference, "").split() or [""])[-1],
                said,
                amount_minor,
                "" if amount_minor is None else currency,
                reason=made_visible(reason)[:REASON_CHARS_MAX],
                # Also by the word itself: a map knows no better meaning for "duplicate" than rejected.
                is_of_a_copy=is_of_a_copy(said, [word, reason]),
            )
        )
    return tuple(told)


def _mapped_amount(written: str, results: ResultMap, currency: str, number: int) -> int | None:
    if results.amount_format is not AmountFormat.MINOR:
        return _amount(written, currency, number)
    if written and not (written.isdecimal() and len(written) <= _DIGITS_MAX):
        raise UnreadableResult(f"Row {number}: the amount is a number of minor units, of at most {_DIGITS_MAX} digits.")
    return int(written) if written else None


def _amount(written: str, currency: str, number: int) -> int | None:
    try:
        return minor_of(written, currency) if written else None
    except ServiceError:
        raise UnreadableResult(f"Row {number}: the amount is no decimal number of {currency[:3]}.") from None


def _day(written: str, number: int) -> date | None:
    try:
        return date.fromisoformat(written) if written else None
    except ValueError:
        raise UnreadableResult(f"Row {number}: booked_on is a day such as 2026-11-20.") from None
