"""A bank's or provider's lines: from a CSV of ours, or from an account statement (camt.053) or notification (camt.054).

Pure but for the file that is read. One line at a time: memory stays flat however many entries the file has.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO
from uuid import UUID
from xml.parsers import expat

from service.domain.errors import InvalidAmount, UnknownCurrency
from service.domain.money import minor_of
from service.domain.reconciliation import BankLine, LineKind, letters_of
from service.infra import ids
from service.intake.cells import BadCell, Refused
from service.intake.import_rows import InvalidImportFile

COLUMNS = ("date", "reference", "end_to_end_id", "amount", "currency", "kind")
"""Of the CSV; kind may be left out, and one of reference and end_to_end_id."""
_NEEDED = {"date", "amount", "currency"}
_ROW_MAX = 64 * 1024
_TEXT_MAX = 500
"""Most characters of a reference that are read."""
_DEPTH_MAX = 40
"""Deepest a statement nests; ISO 20022's own go to about 15."""
_CHUNK = 64 * 1024
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_AMOUNT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,8})?")
_FEES = {"CHRG", "FEES", "COMM"}
"""Sub-families of bank transaction codes that are what the bank takes. Source: ISO 20022, External Code Sets, 2026-08."""
_PAYOUT = re.compile(r"pay([0-7][0-9a-hjkmnp-tv-z]{25})")
_NOTHING = {"NOTPROVIDED", "NONREF"}
"""Written where there is no reference, as the rules of SEPA and of SWIFT's MT940 have it."""
_STATEMENTS = {"Stmt", "Ntfctn", "Rpt"}
"""Elements that hold entries."""


class BankFormat(StrEnum):
    CSV = "csv"
    """Columns date, reference, end_to_end_id, amount, currency, kind."""
    CAMT = "camt"
    """ISO 20022 XML: camt.053 or camt.054 of any version."""


@dataclass(frozen=True, slots=True)
class NumberedLine:
    """number: its row as a spreadsheet shows it, or its place among the entries of a statement, from 1."""

    number: int
    line: BankLine


Item = NumberedLine | Refused


def payout_named(line: BankLine) -> UUID | None:
    """The payout whose public id stands in a line, however the bank wrote it: capitals, without the underscore."""
    return _payout_in(line.end_to_end_id) or _payout_in(line.reference)


def _payout_in(text: str) -> UUID | None:
    found = _PAYOUT.search(letters_of(text))
    return None if found is None else ids.decode("pay", f"pay_{found[1]}")


def read_lines(path: Path, form: BankFormat) -> Iterator[Item]:
    """Yields the lines of a file in its order; what cannot be read, refused. Raises InvalidImportFile."""
    match form:
        case BankFormat.CSV:
            yield from _csv_lines(path)
        case BankFormat.CAMT:
            with path.open("rb") as file:
                yield from _camt_lines(file)


def _line(
    *, day: str, reference: str, end_to_end_id: str, amount: str, currency: str, kind: LineKind | None
) -> BankLine:
    """kind: None where the sign of the amount says it. Raises BadCell."""
    if not _DAY.fullmatch(day):
        raise BadCell("invalid_date", f"{day[:20]!r} is not a day such as 2026-11-22.")
    try:
        booked_on = date.fromisoformat(day)
    except ValueError:
        raise BadCell("invalid_date", f"{day} is no day of the calendar.") from None
    if not _AMOUNT.fullmatch(amount):
        raise BadCell("invalid_amount", f"{amount[:30]!r} is not an amount such as 1250.00.")
    try:
        minor = minor_of(amount, currency)
    except UnknownCurrency:
        raise BadCell("unknown_currency", f"{currency[:10]!r} is not an active ISO 4217 code.") from None
    except InvalidAmount as error:
        raise BadCell("invalid_amount", str(error)) from None
    if not minor:
        raise BadCell("invalid_amount", "The amount is zero.")
    by_sign = LineKind.PAYMENT if minor > 0 else LineKind.RETURNED
    return BankLine(
        booked_on,
        kind or by_sign,
        _provided(reference),
        _provided(end_to_end_id),
        currency,
        abs(minor),
    )


def _provided(text: str) -> str:
    text = text.strip()[:_TEXT_MAX]
    return "" if text in _NOTHING else text


def _csv_lines(path: Path) -> Iterator[Item]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_short_lines(file), strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(header)
            for number, cells in enumerate(reader, start=2):
                if any(cells):
                    yield _csv_line(number, header, cells)
    except UnicodeDecodeError:
        raise InvalidImportFile("The bank file is not UTF-8. Save it as CSV in UTF-8.") from None
    except csv.Error as error:
        raise InvalidImportFile(f"The bank file is not CSV: {error}.") from None


def _short_lines(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if len(line) > _ROW_MAX:
            raise csv.Error(f"a row has more than {_ROW_MAX} characters")
        yield line


def _check_header(header: list[str]) -> None:
    missing = sorted(_NEEDED - set(header))
    if missing or not {"reference", "end_to_end_id"} & set(header):
        wanted = ", ".join(missing) or "reference or end_to_end_id"
        raise InvalidImportFile(
            f"The bank file lacks {wanted}: its first row names the columns {', '.join(COLUMNS)}, divided by commas."
        )
    twice = sorted({name for name in header if name in COLUMNS and header.count(name) > 1})
    if twice:
        raise InvalidImportFile(f"The bank file has several columns {', '.join(twice)}; keep one of each.")


def _csv_line(number: int, header: list[str], cells: list[str]) -> Item:
    if len(cells) != len(header):
        return Refused(number, 1, "row_shape", f"Row {number} has {len(cells)} cells, the header {len(header)}.")
    if any("\0" in cell for cell in cells):
        # PostgreSQL keeps no text with it: one row would end the whole reconciliation.
        return Refused(number, 1, "unreadable_row", f"Row {number} holds the character NUL.")
    told = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    try:
        kind = LineKind(told["kind"]) if told.get("kind") else None
    except ValueError:
        return Refused(number, 1, "unknown_word", f"Row {number}, kind: takes {', '.join(LineKind)}, or nothing.")
    try:
        line = _line(
            day=told["date"],
            reference=told.get("reference", ""),
            end_to_end_id=told.get("end_to_end_id", ""),
            amount=told["amount"],
            currency=told["currency"],
            kind=kind,
        )
    except BadCell as error:
        return Refused(number, 1, error.reason_code, f"Row {number}: {error.detail}")
    return NumberedLine(number, line)


@dataclass(slots=True)
class _Told:
    """What elements said of an entry, or of one payment in it: by the path below it."""

    texts: dict[str, str] = field(default_factory=dict)

    def get(self, *paths: str) -> str:
        return next((self.texts[path] for path in paths if self.texts.get(path)), "")

    def has(self, beginning: str) -> bool:
        return any(path.startswith(beginning) for path in self.texts)


class _Statement:
    """Hears the elements of a statement one by one, and keeps those of one entry at a time.

    Source: ISO 20022 message definition reports, camt.053.001.02 to .13 and camt.054.001.02 to .13, read 2026-11.
    """

    def __init__(self) -> None:
        self.found: list[Item] = []
        self.entries = 0
        self.is_statement = False
        self._path: list[str] = []
        self._text: list[str] = []
        self._entry = _Told()
        self._payment: _Told | None = None
        self._unpriced: _Told | None = None
        self._payments = 0
        self._references: set[str] = set()
        self._statement_id = ""
        # Whatever the document says of its encoding: ISO 20022 is UTF-8, and another would be a way around the checks.
        self._parser = expat.ParserCreate("utf-8", " ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse_doctype
        self._parser.EntityDeclHandler = self._refuse_doctype
        self._parser.StartElementHandler = self._begin
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._hear

    def feed(self, chunk: bytes, *, is_last: bool) -> None:
        """Raises InvalidImportFile."""
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise InvalidImportFile(f"The bank file is not XML: {error}.") from None

    def _refuse_doctype(self, *_told: object) -> None:
        # Entities can stand for files, other servers, or more text than memory holds; no statement has any.
        raise InvalidImportFile("The bank file has a DOCTYPE; an account statement has none.")

    def _begin(self, name: str, attributes: Mapping[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self._path.append(local)
        if len(self._path) > _DEPTH_MAX:
            raise InvalidImportFile(f"The bank file nests deeper than {_DEPTH_MAX} elements.")
        self._text.clear()
        if local in {"BkToCstmrStmt", "BkToCstmrDbtCdtNtfctn", "BkToCstmrAcctRpt"}:
            self.is_statement = True
        elif local in _STATEMENTS:
            self._statement_id = ""
        elif local == "Ntry":
            self._entry, self._payment, self._unpriced, self._payments = _Told(), None, None, 0
            self._references.clear()
        elif local == "TxDtls":
            self._payment = _Told()
        currency = attributes.get("Ccy")
        if currency:
            self._keep("@Ccy", currency)

    def _hear(self, text: str) -> None:
        if sum(map(len, self._text)) < _TEXT_MAX:
            self._text.append(text[:_TEXT_MAX])

    def _end(self, name: str) -> None:
        text = "".join(self._text).strip()
        self._text.clear()
        if text:
            self._keep("", text)
        local = name.rpartition(" ")[2]
        if local == "Id" and _STATEMENTS.intersection(self._path[-2:]):
            self._statement_id = text
        elif local == "TxDtls" and self._payment is not None:
            self._add_payment(self._payment)
            self._payment = None
        elif local == "Ntry":
            self._end_entry()
        self._path.pop()

    def _keep(self, suffix: str, text: str) -> None:
        if "Ntry" not in self._path:
            return
        told, begins = self._entry, self._path.index("Ntry")
        if self._payment is not None:
            told, begins = self._payment, self._path.index("TxDtls")
        told.texts.setdefault("/".join(self._path[begins + 1 :]) + suffix, text)

    def _add_payment(self, payment: _Told) -> None:
        self._payments += 1
        if payment.get("Amt", "AmtDtls/TxAmt/Amt"):
            self._add(payment)
        elif self._payments == 1:
            # Alone in its entry, its amount is the entry's.
            self._unpriced = payment
            return
        else:
            self._refuse_unpriced()
        if self._unpriced is not None:
            self._refuse_unpriced()
            self._unpriced = None

    def _end_entry(self) -> None:
        if self._unpriced is not None:
            self._add(self._unpriced)
        elif not self._payments:
            self._add(_Told())

    def _refuse_unpriced(self) -> None:
        self._refuse("no_amount", "it is one of several of its entry and has no amount of its own")

    def _refuse(self, reason_code: str, detail: str) -> None:
        self.entries += 1
        self.found.append(Refused(self.entries, 1, reason_code, f"Payment {self.entries}: {detail}."))

    def _add(self, payment: _Told) -> None:
        entry = self._entry
        status = entry.get("Sts/Cd", "Sts")
        if status and status != "BOOK":
            # Announced only; it comes again when it is booked.
            return
        leaves = (payment.get("CdtDbtInd") or entry.get("CdtDbtInd")) == "DBIT"
        came_back = payment.has("RtrInf") or entry.get("RvslInd") in {"true", "1"}
        is_fee = payment.get("BkTxCd/Domn/Fmly/SubFmlyCd") or entry.get("BkTxCd/Domn/Fmly/SubFmlyCd")
        self.entries += 1
        try:
            line = _line(
                day=entry.get("BookgDt/Dt", "BookgDt/DtTm", "ValDt/Dt", "ValDt/DtTm")[:10],
                reference=self._reference(payment),
                end_to_end_id=_sent_along(payment),
                amount=payment.get("Amt", "AmtDtls/TxAmt/Amt") or entry.get("Amt"),
                currency=payment.get("Amt@Ccy", "AmtDtls/TxAmt/Amt@Ccy") or entry.get("Amt@Ccy"),
                kind=LineKind.FEE if is_fee in _FEES else LineKind.PAYMENT if leaves else LineKind.RETURNED,
            )
        except BadCell as error:
            self.found.append(Refused(self.entries, 1, error.reason_code, f"Payment {self.entries}: {error.detail}"))
            return
        # Money that came in and is nobody's return is what the merchant's customers pay.
        if leaves or came_back or line.kind is LineKind.FEE or payout_named(line) is not None:
            self.found.append(NumberedLine(self.entries, line))

    def _reference(self, payment: _Told) -> str:
        """What the bank calls this payment and no other; empty where it calls it nothing.

        InstrId is none of the bank's: whoever pays makes it, and some banks repeat it as theirs.
        """
        told = (payment.get("Refs/AcctSvcrRef"), payment.get("Refs/TxId"), self._entry.get("AcctSvcrRef"))
        instructed = payment.get("Refs/InstrId")
        reference = next((each for each in told if _provided(each) and each != instructed), "")
        number = self._entry.get("NtryRef")
        if not reference and number and self._statement_id:
            # Many banks count the entries of each statement from 1.
            reference = f"{self._statement_id}/{number}"
        if not reference:
            return ""
        if reference in self._references:
            # Several payments in one entry are several, though a bank calls all of them what it calls the entry.
            reference = f"{reference}/{self._payments}"
        self._references.add(reference)
        return reference


def _sent_along(payment: _Told) -> str:
    """What the payer sent along: of two texts the one that names a payout of ours, else the first."""
    told = [each for each in map(payment.get, ("Refs/EndToEndId", "Refs/InstrId")) if _provided(each)]
    return next((each for each in told if _payout_in(each)), told[0] if told else "")


def _camt_lines(file: BinaryIO) -> Iterator[Item]:
    statement = _Statement()
    is_last = False
    while not is_last:
        chunk = file.read(_CHUNK)
        is_last = not chunk
        statement.feed(chunk, is_last=is_last)
        yield from statement.found
        statement.found.clear()
    if not statement.is_statement:
        raise InvalidImportFile("The bank file is XML, but neither camt.053 nor camt.054.")
