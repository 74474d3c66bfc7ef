"""From the rows of one order to our generic events, by a mapping. Pure: same rows, same bytes.

What cannot be read is refused with the row and column it stands in; nothing is guessed.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from service.domain.errors import InvalidAmount, UnknownCurrency
from service.domain.money import minor_of, spread, text_of
from service.domain.order import JsonObject
from service.intake.adapters.generic import LINE_KINDS
from service.intake.mapping import ISO, ImportMapping, Layout, Spec, Specs

_OLDER = timedelta(milliseconds=1)
_NUMBER = re.compile(r"([+-]?)([0-9]{1,18})(?:\.([0-9]{1,10}))?")
_BLANKS = dict.fromkeys(map(ord, "\u00a0\u202f\u2009"), " ")
"""Spaces that programs put between thousands."""
_ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)? ?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
# Wide enough for a product of two cells, so that nothing is rounded before its time.
_EXACT = Context(prec=80)
_SHOWN_MAX = 60


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file. number: as a spreadsheet shows it, the header being 1. cells: of the columns that are used."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the file, in our generic language. row, rows: the first row it was made of, and how many."""

    row: int
    rows: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows of which no event could be made. order_id: as far as it could be read."""

    row: int
    rows: int
    reason_code: str
    detail: str
    order_id: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that the mapping leaves out."""

    row: int
    rows: int = 1


Item = Event | Refused | Skipped


class BadCell(Exception):
    """A cell that cannot be read as its field. reason_code: stable, snake_case."""

    def __init__(self, reason_code: str, detail: str) -> None:
        super().__init__(detail)
        self.reason_code = reason_code
        self.detail = detail


def clean(text: str) -> str:
    """A cell without surrounding blanks, its letters composed: some old encodings write an accent apart."""
    text = text.strip().strip("\ufeff")
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def is_skipped(mapping: ImportMapping, row: Row) -> bool:
    return any(row.cells[column] in words for column, words in mapping.skip.items())


def events_of(mapping: ImportMapping, rows: Sequence[Row]) -> list[Item]:
    """What the rows of one order, refund or status say: events, or the reason why there are none.

    One bad cell refuses all of it: an order without one of its lines would earn too little, and look right.
    """
    try:
        if mapping.status is not None:
            made = _statuses(mapping, mapping.status, rows[0])
        elif mapping.order is not None:
            made = [_order(mapping, mapping.order, rows)]
            if mapping.refund is not None:
                made += _refund_of_order(mapping, mapping.refund, made[0], rows)
        else:
            assert mapping.refund is not None
            made = [_refund(mapping, mapping.refund, rows)]
    except BadCell as error:
        return [Refused(rows[0].number, len(rows), error.reason_code, error.detail, _order_id(mapping, rows))]
    return [Event(rows[0].number, len(rows), _as_bytes(event)) for event in made]


def _as_bytes(event: JsonObject) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _order_id(mapping: ImportMapping, rows: Sequence[Row]) -> str:
    spec = mapping.order["id"] if mapping.order else (mapping.refund or mapping.status or {}).get("order_id")
    if spec is None:
        return ""
    try:
        return _text(spec, rows) or ""
    except BadCell:
        return ""


def _order(mapping: ImportMapping, specs: Specs, rows: Sequence[Row]) -> JsonObject:
    layout = mapping.layout
    event: JsonObject = {"type": "order", "id": _needed(_text(specs["id"], rows), specs["id"], rows)}
    for name in ("number", "landing_url"):
        _put(event, name, _text(specs[name], rows) if name in specs else None)
    version_at = _moment_needed(specs["updated_at"], rows, layout)
    event["updated_at"] = _iso(_revised(mapping, version_at - _OLDER if mapping.yields else version_at))
    event["placed_at"] = _iso(_moment_needed(specs["placed_at"], rows, layout))
    currency = event["currency"] = _needed(_text(specs["currency"], rows), specs["currency"], rows)
    for name in ("cancelled", "test"):
        _put(event, name, _flag(specs[name], rows) if name in specs else None)
    for name in ("click_ids", "coupon_codes"):
        _put(event, name, _list(specs[name], rows) if name in specs else None)
    customer = _texts(mapping.customer, rows)
    _put(customer, "address", _texts(mapping.address, rows))
    _put(event, "customer", customer)
    for name in ("virtual_payment", "commission"):
        amount = _amount(specs[name], rows, mapping.layout) if name in specs else None
        _put(event, name, None if amount is None else _money(amount, specs[name], rows, currency))
    _put(event, "totals", _totals(mapping, rows, currency))
    _put(event, "milestones", _moments(mapping.milestones, rows, layout))
    event["lines"] = _lines(mapping, rows, currency)
    return event


def _revised(mapping: ImportMapping, version_at: datetime) -> datetime:
    return version_at + timedelta(microseconds=mapping.revision)


def _lines(mapping: ImportMapping, rows: Sequence[Row], currency: str) -> list[JsonObject]:
    specs = mapping.line
    lines: list[JsonObject] = []
    for place, row in enumerate(rows, start=1):
        alone = (row,)
        line: JsonObject = {
            "id": _needed(_text(specs["id"], alone), specs["id"], alone) if "id" in specs else str(place)
        }
        for name in ("sku", "category", "kind"):
            _put(line, name, _text(specs[name], alone) if name in specs else None)
        if "quantity" in specs:
            quantity = _amount(specs["quantity"], alone, mapping.layout)
            _put(line, "quantity", None if quantity is None else format(quantity, "f"))
        net = _amount(specs["net"], alone, mapping.layout)
        line["net"] = _money(_needed(net, specs["net"], alone), specs["net"], alone, currency)
        lines.append(line)
    for name in ("lines_less", "lines_come_to"):
        spec = (mapping.order or {}).get(name)
        amount = None if spec is None else _amount(spec, rows, mapping.layout)
        if spec is not None and amount is not None:
            _spread(lines, amount, spec, rows, currency, is_sum=name == "lines_come_to")
    return lines


def _spread(
    lines: list[JsonObject], amount: Decimal, spec: Spec, rows: Sequence[Row], currency: str, *, is_sum: bool
) -> None:
    """Take what the file says of the whole order off its goods lines, in proportion, to the last minor unit.

    is_sum: the amount is what remains of them, not what comes off.
    """
    goods = [line for line in lines if LINE_KINDS.get(line.get("kind", "goods"), False)]
    nets = [_minor(Decimal(line["net"]), spec, rows, currency) for line in goods]
    told = _minor(amount, spec, rows, currency)
    off = sum(nets) - told if is_sum else told
    if not 0 <= off <= sum(nets):
        raise BadCell(
            "discount_above_lines",
            f"{_at(spec, rows)}: {text_of(told, currency)} does not fit goods of {text_of(sum(nets), currency)}.",
        )
    for line, net, part in zip(goods, nets, spread(off, nets), strict=True):
        line["net"] = text_of(net - part, currency)


def _totals(mapping: ImportMapping, rows: Sequence[Row], currency: str) -> JsonObject:
    found: JsonObject = {}
    for name, spec in mapping.totals.items():
        amount = _amount(spec, rows, mapping.layout)
        _put(found, name, None if amount is None else _money(amount, spec, rows, currency))
    return found


def _refund_of_order(mapping: ImportMapping, specs: Specs, order: JsonObject, rows: Sequence[Row]) -> list[JsonObject]:
    """The refund that stands in an order's own row; none where its amount is blank or zero."""
    amount = _amount(specs["amount"], rows, mapping.layout)
    if not amount:
        return []
    return [_told_refund(mapping, specs, rows, order["id"], order["currency"], amount)]


def _refund(mapping: ImportMapping, specs: Specs, rows: Sequence[Row]) -> JsonObject:
    order_id = _needed(_text(specs["order_id"], rows), specs["order_id"], rows)
    currency = _needed(_text(specs["currency"], rows), specs["currency"], rows)
    amount = _amount(specs["amount"], rows, mapping.layout) if "amount" in specs else None
    event = _told_refund(mapping, specs, rows, order_id, currency, amount)
    if mapping.line:
        lines = []
        for row in rows:
            line_id = _text(mapping.line["id"], (row,))
            net = _amount(mapping.line["net"], (row,), mapping.layout)
            if line_id is not None or net is not None:
                spec = mapping.line["net"]
                net = _needed(net, spec, (row,))
                line_id = _needed(line_id, mapping.line["id"], (row,))
                lines.append({"line_id": line_id, "net": _money(net, spec, (row,), currency)})
        _put(event, "lines", lines)
    return event


def _told_refund(
    mapping: ImportMapping, specs: Specs, rows: Sequence[Row], order_id: str, currency: str, amount: Decimal | None
) -> JsonObject:
    refunded_at = _moment_needed(specs["refunded_at"], rows, mapping.layout)
    version_at = _moment(specs["updated_at"], rows, mapping.layout) if "updated_at" in specs else refunded_at
    event: JsonObject = {
        "type": "refund",
        "id": _needed(_text(specs["id"], rows), specs["id"], rows),
        "order_id": order_id,
        "updated_at": _iso(_revised(mapping, _needed(version_at, specs.get("updated_at", specs["refunded_at"]), rows))),
        "refunded_at": _iso(refunded_at),
        "currency": currency,
    }
    _put(event, "dispute_id", _text(specs["dispute_id"], rows) if "dispute_id" in specs else None)
    _put(event, "amount", None if amount is None else _money(amount, specs["amount"], rows, currency))
    return event


def _statuses(mapping: ImportMapping, specs: Specs, row: Row) -> list[JsonObject]:
    alone = (row,)
    order_id = _needed(_text(specs["order_id"], alone), specs["order_id"], alone)
    reached = _moments({name: spec for name, spec in specs.items() if name != "order_id"}, alone, mapping.layout)
    if not reached:
        raise BadCell("missing_cell", f"Row {row.number}: no milestone is filled.")
    return [
        {"type": "status", "order_id": order_id, "milestone": name.removesuffix("_at"), "at": at}
        for name, at in reached.items()
    ]


# Fields of one kind each. A field of an order is read from the first of its rows that fills it: many exports say what
# belongs to the order in its first row only.


def _put(event: JsonObject, name: str, value: object) -> None:
    """What is not told is left out, as our own grammar wants it."""
    if value is not None and value not in ({}, []):
        event[name] = value


def _needed(value: Any, spec: Spec, rows: Sequence[Row]) -> Any:
    if value is None:
        raise BadCell("missing_cell", f"{_at(spec, rows)}: is empty, and {spec.where} is needed.")
    return value


def _at(spec: Spec, rows: Sequence[Row]) -> str:
    columns = ", ".join(repr(column) for column in spec.named) or spec.where
    return f"Row {rows[0].number}, {columns}"


def _cell(columns: Sequence[str], rows: Sequence[Row]) -> str:
    for row in rows:
        for column in columns:
            if row.cells[column]:
                return row.cells[column]
    return ""


def _text(spec: Spec, rows: Sequence[Row]) -> str | None:
    if spec.value is not None:
        return str(spec.value)
    text = _cell(spec.columns, rows)
    if spec.words is not None:
        text = _mapped(spec, text, rows) or ""
    return spec.prefix + text if text else None


def _mapped(spec: Spec, text: str, rows: Sequence[Row]) -> Any:
    assert spec.words is not None
    if text in spec.words:
        return spec.words[text]
    if spec.others is not None:
        return spec.others
    if not text:
        return None
    raise BadCell("unknown_word", f"{_at(spec, rows)}: {text[:_SHOWN_MAX]!r} is not in the map of {spec.where}.")


def _texts(specs: Specs, rows: Sequence[Row]) -> JsonObject:
    found: JsonObject = {}
    for name, spec in specs.items():
        _put(found, name, _text(spec, rows))
    return found


def _flag(spec: Spec, rows: Sequence[Row]) -> bool | None:
    if spec.value is not None:
        return bool(spec.value)
    text = _cell(spec.columns, rows)
    if spec.filled:
        return bool(text)
    value: bool | None = _mapped(spec, text, rows)
    return value


def _list(spec: Spec, rows: Sequence[Row]) -> list[str]:
    if spec.value is not None:
        return list(spec.value)
    text = _cell(spec.columns, rows)
    parts = [part.strip() for part in (text.split(spec.split) if spec.split else [text])]
    return [part for part in parts if part]


def _moments(specs: Specs, rows: Sequence[Row], layout: Layout) -> JsonObject:
    found: JsonObject = {}
    for name, spec in specs.items():
        at = _moment(spec, rows, layout)
        _put(found, name, None if at is None else _iso(at))
    return found


def _moment_needed(spec: Spec, rows: Sequence[Row], layout: Layout) -> datetime:
    at: datetime = _needed(_moment(spec, rows, layout), spec, rows)
    return at


def _moment(spec: Spec, rows: Sequence[Row], layout: Layout) -> datetime | None:
    if spec.value is not None:
        return _read_moment(spec.value, spec, rows, layout)
    if spec.latest:
        filled = [text for column in spec.columns if (text := _cell((column,), rows))]
        return max((_read_moment(text, spec, rows, layout) for text in filled), default=None)
    text = _cell(spec.columns, rows)
    return _read_moment(text, spec, rows, layout) if text else None


def _read_moment(text: str, spec: Spec, rows: Sequence[Row], layout: Layout) -> datetime:
    """Return a time in UTC. A time that a clock put back shows twice is the first of the two; one it skips is refused."""
    for one in layout.dates:
        at = _parsed(text, one)
        if at is None:
            continue
        if at.tzinfo is not None:
            break
        if layout.time_zone is None:
            raise BadCell(
                "no_time_zone", f"{_at(spec, rows)}: {text[:_SHOWN_MAX]!r} has no offset, and the mapping no time_zone."
            )
        local = at.replace(tzinfo=layout.time_zone)
        if local.astimezone(UTC).astimezone(layout.time_zone).replace(tzinfo=None) != at:
            raise BadCell("no_such_time", f"{_at(spec, rows)}: {text!r} does not exist in {layout.time_zone.key}.")
        at = local
        break
    else:
        formats = " or ".join(repr(one) for one in layout.dates)
        raise BadCell("invalid_date", f"{_at(spec, rows)}: {text[:_SHOWN_MAX]!r} is not written as {formats}.")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise BadCell("invalid_date", f"{_at(spec, rows)}: the year is out of bounds.") from None


def _parsed(text: str, form: str) -> datetime | None:
    try:
        if form != ISO:
            return datetime.strptime(text, form)  # noqa: DTZ007 - its zone is put on by the caller
        return datetime.fromisoformat(text.replace(" +", "+").replace(" -", "-")) if _ISO.fullmatch(text) else None
    except (ValueError, OverflowError):
        return None


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _amount(spec: Spec, rows: Sequence[Row], layout: Layout) -> Decimal | None:
    """The exact number of the cells; None where they are blank."""
    if spec.value is not None:
        return _number(spec.value, spec, rows, layout)
    if spec.sum:
        filled = [text for column in spec.columns if (text := _cell((column,), rows))]
        if not filled:
            return None
        amount = sum((_number(text, spec, rows, layout) for text in filled), Decimal(0))
    else:
        text = _cell(spec.columns, rows)
        if not text:
            return None
        amount = _number(text, spec, rows, layout)
    if spec.times:
        times = _cell((spec.times,), rows)
        amount = _EXACT.multiply(amount, _number(times, spec, rows, layout)) if times else amount
    for column in spec.less:
        text = _cell((column,), rows)
        if text:
            amount = _EXACT.subtract(amount, _number(text, spec, rows, layout))
    return amount


def _number(text: str, spec: Spec, rows: Sequence[Row], layout: Layout) -> Decimal:
    """Return the number of a cell, written with the signs that the mapping tells and no others."""
    written = text
    for sign in layout.currency_signs:
        written = written.removeprefix(sign).removesuffix(sign).strip()
    if layout.thousands:
        written = written.translate(_BLANKS) if layout.thousands == " " else written
        whole, point, rest = written.partition(layout.decimal)
        head, *groups = whole.split(layout.thousands)
        if groups and not (1 <= len(head.lstrip("+-")) <= 3 and all(len(group) == 3 for group in groups)):
            raise _no_amount(text, spec, rows, layout)
        written = head + "".join(groups) + point + rest
    if layout.decimal != ".":
        if "." in written:
            raise _no_amount(text, spec, rows, layout)
        written = written.replace(layout.decimal, ".", 1)
    found = _NUMBER.fullmatch(written)
    if found is None:
        raise _no_amount(text, spec, rows, layout)
    return Decimal(written)


def _no_amount(text: str, spec: Spec, rows: Sequence[Row], layout: Layout) -> BadCell:
    thousands = f", thousands {layout.thousands!r}" if layout.thousands else ", no thousands sign"
    return BadCell(
        "invalid_number",
        f"{_at(spec, rows)}: {text[:_SHOWN_MAX]!r} is not a number written with decimal {layout.decimal!r}{thousands}.",
    )


def _money(amount: Decimal, spec: Spec, rows: Sequence[Row], currency: str) -> str:
    """An amount as our grammar takes it. A product is rounded once, half away from zero; what a cell says is exact."""
    return text_of(_minor(amount, spec, rows, currency), currency)


def _minor(amount: Decimal, spec: Spec, rows: Sequence[Row], currency: str) -> int:
    if amount < 0:
        raise BadCell("negative_amount", f"{_at(spec, rows)}: comes to {amount}, which is below zero.")
    try:
        return minor_of(amount, currency, strict=not spec.times)
    except UnknownCurrency:
        raise BadCell("unknown_currency", f"Row {rows[0].number}: {currency[:10]!r} is not an ISO 4217 code.") from None
    except InvalidAmount as error:
        raise BadCell("invalid_amount", f"{_at(spec, rows)}: {error}") from None
