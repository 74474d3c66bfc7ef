"""A statement as a page that any browser prints, and as CSV: both made of its document alone, which never changes."""

import base64
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.domain.ledger import AccountKind
from service.domain.money import text_of
from service.domain.rules import Per
from service.domain.statement import CLOSING, OPENING, MovementKind, Subject
from service.domain.withholding.stored import of_json
from service.domain.withholding.tables import RuleName
from service.domain.wording import withholding
from service.domain.wording.figures import Names, Speech
from service.domain.wording.languages import Language
from service.domain.wording.statements import ENDS, FLAT, KINDS, LABELS, PLACES, SUBJECTS, Label
from service.domain.written import rate_of

JsonObject = dict[str, Any]

_TEMPLATES = Path(__file__).parent / "templates"
_CSS = (_TEMPLATES / "statement.css").read_text(encoding="utf-8")
_CSS_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
# Nobody's name becomes markup, and a figure that is not there is an error and no blank.
_PAGES = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=False)

PAGE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load for the page: its own styles and nothing else."""

_WIDTH: Final = 1000
"""Of the chart, in its own units."""


def render_html(
    document: JsonObject,
    *,
    digest: bytes,
    language: Language,
    confirmed_at: datetime | None = None,
    replaced_by: str | None = None,
) -> str:
    """Return the page.

    document: whole, with its supplier if it has one. confirmed_at: when a provisional one was found to be what the closed
    books say. replaced_by: number of the statement that took its place.
    """
    speech = Speech(language, Names(document["period"]["time_zone"]))
    page = _Page(document, speech).told(digest)
    if replaced_by is not None:
        page["mark"] = speech.say(LABELS[Label.REPLACED], number=replaced_by)
    elif confirmed_at is not None:
        page["mark"] = speech.say(LABELS[Label.CONFIRMED], day=speech.day_of(confirmed_at))

    def label(name: str) -> str:
        return speech.say(LABELS[Label(name)])

    return _PAGES.get_template("statement.html").render(page=page, label=label, css=_CSS)


@dataclass(frozen=True, slots=True)
class _Page:
    """Everything the page shows, in the words and figures of one language."""

    document: JsonObject
    speech: Speech

    def told(self, digest: bytes) -> JsonObject:
        document, billing = self.document, self.document["self_billing"]
        period = document["period"]
        replaces = document["replaces"]
        return {
            "language": self.speech.language.value,
            "title": self._say(self._title(billing)),
            "number": document["number"],
            "replaces": None if replaces is None else self._say(Label.REPLACES, number=replaces),
            "mark": self._say(Label.PROVISIONAL) if document["provisional"] else None,
            "days": self._say(Label.DAYS, first=self._day(period["begins_on"]), last=self._day(period["ends_on"])),
            "issued_at": document["issued_at"],
            "issued": self.speech.moment(
                datetime.fromisoformat(document["issued_at"]).replace(second=0, microsecond=0)
            ),
            "currency": document["currency"],
            "parties": self._parties(billing),
            "billing": None
            if billing is None
            else {
                "agreed": self._say(
                    Label.AGREED, day=self._day(billing["agreed_on"]), reference=billing["reference"] or "–"
                ),
                "amount": self.speech.money(billing["amount_minor"], document["currency"]),
                "vat_note": billing["vat_note"],
            },
            "steps": self._steps(),
            "places": self._places(),
            "payouts": [self._payout(each) for each in document["payouts"]],
            "commissions": [self._commission(each) for each in document["commissions"]],
            "others": [self._other(each) for each in document["others"]],
            "notes": [
                self._say(Label.NOTE_BOOKED, time_zone=period["time_zone"]),
                self._say(Label.NOTE_LATER),
                self._say(Label.NOTE_SAME),
                self._say(Label.NOTE_ANSWER, day=self._day(document["answer_by"])),
            ],
            "digest": digest.hex(),
        }

    def _say(self, label: Label, **values: object) -> str:
        return self.speech.say(LABELS[label], **values)

    def _money(self, amount_minor: int) -> str:
        """Without the currency, which stands at the head."""
        return self.speech.number(text_of(amount_minor, self.document["currency"]))

    def _day(self, day: str | None) -> str:
        return "" if day is None else self.speech.day(date.fromisoformat(day))

    @staticmethod
    def _title(billing: JsonObject | None) -> Label:
        if billing is None:
            return Label.TITLE
        return Label.INVOICE if billing["amount_minor"] >= 0 else Label.CREDIT_NOTE

    def _parties(self, billing: JsonObject | None) -> list[JsonObject]:
        merchant, affiliate = self.document["merchant"], self.document["affiliate"]
        supplier = None if billing is None else billing["supplier"]
        town = "" if supplier is None else " ".join(filter(None, (supplier["postcode"], supplier["town"])))
        known_as = affiliate["external_id"] or affiliate["id"]
        payee_facts = [(self._say(Label.ID), known_as)]
        if supplier is not None:
            payee_facts.append((self._say(Label.VAT_ID), supplier["vat_id"] or "–"))
        return [
            {
                "role": self._say(Label.FROM if billing is None else Label.CUSTOMER),
                "name": merchant["name"],
                "address": merchant["address"].splitlines(),
                "facts": [(self._say(Label.VAT_ID), merchant["vat_id"])] if merchant["vat_id"] else [],
            },
            {
                "role": self._say(Label.TO if billing is None else Label.SUPPLIER),
                "name": affiliate["name"] if supplier is None else supplier["name"],
                "address": []
                if supplier is None
                else [line for line in (supplier["street"], town, supplier["country"]) if line],
                "facts": payee_facts,
            },
        ]

    def _steps(self) -> list[JsonObject]:
        """The waterfall: each step with its bar, from where the one before ended."""
        steps = self.document["waterfall"]
        spans, level = [], 0
        for step in steps:
            is_end = step["step"] in ENDS
            begin, level = (0, step["amount_minor"]) if is_end else (level, level + step["amount_minor"])
            spans.append((min(begin, level), max(begin, level)))
        low, high = min(0, *(span[0] for span in spans)), max(0, *(span[1] for span in spans))
        scale = Fraction(_WIDTH, high - low) if high > low else Fraction(0)
        return [
            {
                "name": self.speech.say(ENDS[step["step"]] if is_end else KINDS[MovementKind(step["step"])]),
                "amount": self._money(step["amount_minor"]),
                "is_end": is_end,
                "is_less": step["amount_minor"] < 0,
                "look": "whole" if is_end else "less" if step["amount_minor"] < 0 else "more",
                "x": int((begin - low) * scale),
                # As thin as can be seen, where it is nothing beside the others.
                "width": max(3, int((end - begin) * scale)) if end > begin else 0,
            }
            for step, (begin, end) in zip(steps, spans, strict=True)
            for is_end in [step["step"] in ENDS]
        ]

    def _places(self) -> list[JsonObject]:
        names = ("opening_minor", "in_minor", "out_minor", "closing_minor")
        told = [
            {
                "name": self.speech.say(PLACES[AccountKind(place["place"])]),
                "amounts": [self._money(place[name]) for name in names],
                "is_sum": False,
            }
            for place in self.document["places"]
            if any(place[name] for name in names)
        ]
        by_step = {step["step"]: step["amount_minor"] for step in self.document["waterfall"]}
        total = [self._money(by_step[OPENING]), "", "", self._money(by_step[CLOSING])]
        return [*told, {"name": self._say(Label.TOTAL), "amounts": total, "is_sum": True}]

    def _movements(self, movements: Sequence[JsonObject]) -> list[JsonObject]:
        return [
            {
                "day": self._day(each["day"]),
                "what": f"{self.speech.say(KINDS[MovementKind(each['kind'])])} ({self._way(each)})",
                "amount": self._money(each["amount_minor"]),
            }
            for each in movements
        ]

    def _way(self, movement: JsonObject) -> str:
        source, destination = (
            "–" if movement[end] is None else self.speech.say(PLACES[AccountKind(movement[end])])
            for end in ("from", "to")
        )
        return f"{source} → {destination}"

    def _payout(self, payout: JsonObject) -> JsonObject:
        split = payout["split"]
        parts = ("fee_minor", "tax_minor", "remainder_minor", "net_minor")
        return {
            "id": payout["id"],
            "pay_on": self._day(payout["pay_on"]),
            "amounts": [
                self._money(payout["gross_minor"]),
                self._money(payout["carried_minor"]),
                *("" if split is None else self._money(split[part]) for part in parts),
                self._money(payout["came_back_minor"]) if payout["came_back_minor"] else "",
            ],
            "movements": self._movements(payout["movements"]),
            "words": list(self._tax(payout)),
        }

    def _tax(self, payout: JsonObject) -> Iterator[str]:
        split = payout["split"]
        if split is None:
            if not payout["came_back_minor"]:
                yield self._say(Label.NOT_ACCEPTED)
        elif split["tax"] is None:
            yield self.speech.say(withholding.RULES[RuleName(split["tax_rule"])])
        else:
            yield from withholding.told(
                of_json(split["tax"]),
                paid_minor=payout["gross_minor"],
                currency=self.document["currency"],
                speech=self.speech,
            )

    def _commission(self, commission: JsonObject) -> JsonObject:
        name = commission["rule"] if commission["subject"] == Subject.PERIOD else commission["order_number"]
        about = [commission["program"], self._day(commission["placed_on"])]
        movements = commission["movements"]
        return {
            "name": self.speech.say(SUBJECTS[Subject(commission["subject"])], name=name or "").strip(),
            "about": self.speech.listed(each for each in about if each),
            "total": self._money(commission["total_minor"]),
            "effect": self._money(commission["effect_minor"]),
            "is_less": commission["effect_minor"] < 0,
            "settled": self._money(commission["settled_minor"]),
            "lines": [self._line(line) for line in commission["receipt"]["lines"]],
            "words": list(self._said_of(commission)),
            # What was earned and settled stands in the columns already.
            "movements": self._movements([each for each in movements if each["kind"] not in _IN_COLUMNS]),
        }

    def _line(self, line: JsonObject) -> JsonObject:
        return {
            "name": line["sku"] or line["line_id"],
            "amounts": [self._money(line[name]) for name in ("ordered_minor", "refunded_minor", "base_minor")],
            "rate": " + ".join(self._rate(each) for each in line["rates"]) or "–",
            "commission": self._money(line["commission_minor"]),
        }

    def _rate(self, told: JsonObject) -> str:
        if told["rate"] is not None:
            return self.speech.percent(rate_of(told["rate"]))
        return self.speech.say(FLAT[Per(told["per"])], amount=self._money(told["flat_minor"]))

    def _said_of(self, commission: JsonObject) -> Iterator[str]:
        receipt = commission["receipt"]
        if receipt["voided"]:
            yield self._say(Label.VOIDED)
        if receipt["capped_minor"]:
            yield self._say(Label.CAPPED, amount=self._money(receipt["capped_minor"]))
        for each in receipt["adjustments"]:
            yield self._say(Label.ADJUSTED, amount=self._money(each["amount_minor"]), reason=each["reason_code"])
        if commission["subject"] == Subject.PERIOD:
            orders, sales = self.speech.orders(receipt["orders"]), self._money(receipt["sales_minor"])
            yield self._say(Label.SALES, orders=orders, sales=sales)
        if not commission["explained"]:
            yield self._say(Label.LATER, amount=self._money(commission["total_minor"]))

    def _other(self, other: JsonObject) -> JsonObject:
        name = other.get("order_number") or other.get("period") or ""
        subject = self.speech.say(SUBJECTS[Subject(other["subject"])], name=name).strip()
        return {
            "day": self._day(other["day"]),
            "what": f"{self.speech.say(KINDS[MovementKind(other['kind'])])} ({subject})",
            "way": self._way(other),
            "amount": self._money(other["amount_minor"]),
        }


_IN_COLUMNS: Final = frozenset({MovementKind.EARNED, MovementKind.TAKEN_BACK, MovementKind.SETTLED})


_FORMULA: Final = re.compile("^[-=+@\t\r\n＝＋－＠]")
"""How a cell begins that a spreadsheet would run instead of show; as in reports."""

CSV_COLUMNS: Final = (
    "row",
    "number",
    "affiliate_id",
    "currency",
    "day",
    "kind",
    "from",
    "to",
    "amount_minor",
    "amount",
    "owed_minor",
    "owed",
    "subject",
    "id",
    "order_number",
    "program",
    "line_id",
    "sku",
    "quantity",
    "ordered_minor",
    "refunded_minor",
    "base_minor",
    "rate",
    "commission_minor",
)
"""`owed` of the rows opening and movement adds up to that of closing; rows `line` explain and are in no sum."""


def render_csv(document: JsonObject) -> str:
    """Return the statement as CSV: what was owed by place, every movement, every order line, and what is owed by place."""
    written = io.StringIO(newline="")
    writer = csv.DictWriter(written, CSV_COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    head = {
        "number": document["number"],
        "affiliate_id": document["affiliate"]["id"],
        "currency": document["currency"],
    }
    for row in _csv_rows(document):
        for name in ("amount", "owed"):
            if f"{name}_minor" in row:
                row[name] = text_of(row[f"{name}_minor"], document["currency"])
        writer.writerow({**head, **{name: _guarded(value) for name, value in row.items()}})
    return written.getvalue()


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def _is_formula(text: str) -> bool:
    # An amount below zero is a number and stays one.
    return _FORMULA.match(text) is not None and not re.fullmatch(r"-[0-9]+(\.[0-9]+)?", text)


def _csv_rows(document: JsonObject) -> Iterator[JsonObject]:
    period = document["period"]
    for place in document["places"]:
        yield {
            "row": OPENING,
            "day": period["begins_on"],
            "to": place["place"],
            "owed_minor": place["opening_minor"],
        }
    for commission in document["commissions"]:
        about = {
            "subject": commission["subject"],
            "id": commission["id"],
            "order_number": commission["order_number"] or commission["rule"] or "",
            "program": commission["program"] or "",
        }
        for movement in commission["movements"]:
            yield _csv_movement(movement) | about
        for line in commission["receipt"]["lines"]:
            yield {
                "row": "line",
                **about,
                **{name: line[name] for name in ("line_id", "sku", "quantity")},
                **{name: line[name] for name in ("ordered_minor", "refunded_minor", "base_minor", "commission_minor")},
                "rate": " + ".join(_csv_rate(each) for each in line["rates"]),
            }
    for payout in document["payouts"]:
        for movement in payout["movements"]:
            yield _csv_movement(movement) | {"subject": Subject.PAYOUT.value, "id": payout["id"]}
    for other in document["others"]:
        about = {"subject": other["subject"], "order_number": other.get("order_number") or ""}
        yield _csv_movement(other) | about | {"id": other.get("correction_id") or other.get("remittance_id") or ""}
    for place in document["places"]:
        yield {"row": CLOSING, "day": period["ends_on"], "to": place["place"], "owed_minor": place["closing_minor"]}


def _csv_movement(movement: JsonObject) -> JsonObject:
    return {
        "row": "movement",
        "day": movement["day"],
        "kind": movement["kind"],
        "from": movement["from"] or "",
        "to": movement["to"] or "",
        "amount_minor": movement["amount_minor"],
        "owed_minor": movement["effect_minor"],
    }


def _csv_rate(told: JsonObject) -> str:
    return f"{told['rate']}%" if told["rate"] is not None else f"{told['flat_minor']} per {told['per']}"
