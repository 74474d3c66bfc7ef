"""A register for filing as CSV: one statement and so one moment, a payee at a time, in flat memory however many there are."""

import csv
import io
import json
import re
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, cast
from uuid import UUID

import psycopg
from psycopg import sql
from sqlmodel import Session

from service.domain.money import text_of
from service.domain.withholding.forms import PERSON, Dac7Field, missing_of
from service.domain.withholding.model import PayeeKind, Profile
from service.domain.wording.languages import Language
from service.domain.wording.withholding import TO_BE_CONFIRMED
from service.infra.db import let_statements_take
from service.infra.ids import encode
from service.infra.security import Security
from service.reports.define import Column, Kind
from service.reports.registers import Line, Period, Register
from service.reports.render_csv import BLOCK_BYTES, FORMULA
from service.reports.stream import REPORT_TIMEOUT_MS

_TYPES = {Kind.MONEY: "int8", Kind.COUNT: "int8", Kind.TEXT: "text"}
"""Of what registers count."""
_PAYEE = {
    "payee_id": "uuid",
    "currency": "text",
    "external_id": "text",
    "name": "text",
    "kind": "text",
    "country": "text",
    "details": "jsonb",
    "has_tax_code": "bool",
    "person": "bytea",
    "account_rail": "text",
    "account": "text",
}
"""What is read of each payee, with its type."""


def render(
    session: Session,
    register: Register,
    period: Period,
    *,
    merchant_id: UUID,
    today: date,
    language: Language,
    security: Security,
) -> Generator[bytes]:
    """Yields a register as CSV in UTF-8 with a header row, in blocks of about 64 KiB, payees in the order of their ids.

    today: by the merchant's calendar. Close the generator before the session when it is left before its end.
    """
    let_statements_take(session, REPORT_TIMEOUT_MS)
    constant = {
        "period": str(period),
        "provisional": "yes" if period.last >= today else "no",
        "notice": TO_BE_CONFIRMED.to(language),
    }
    page = io.StringIO(newline="")
    writer = csv.writer(page, lineterminator="\r\n")
    writer.writerow([cell for column in register.columns for cell in column.cells])
    for found in _found(session, register, period, merchant_id):
        told = _told(register, period, found, security)
        if told is None:
            continue
        values = {**constant, **told}
        writer.writerow(
            [cell for column in register.columns for cell in _cells(column, values, str(found["currency"]))]
        )
        if page.tell() >= BLOCK_BYTES:
            yield page.getvalue().encode()
            page.seek(0)
            page.truncate()
    yield page.getvalue().encode()


def _found(session: Session, register: Register, period: Period, merchant_id: UUID) -> Generator[Mapping[str, Any]]:
    """Yields what is known of payees and what was counted of them, by column."""
    counted = {column.source: _TYPES[column.kind] for column in register.figures} | dict.fromkeys(register.also, "int8")
    parameters = {"merchant_id": merchant_id, "year": str(period.year), "first": period.first, "last": period.last}
    names, types = [*_PAYEE, *counted], [*_PAYEE.values(), *counted.values()]
    connection = cast("psycopg.Connection", session.connection().connection.driver_connection)
    # COPY takes no parameters of the server's own; the driver writes them into the statement as literals.
    with connection.cursor() as cursor, cursor.copy(_copy(register, counted), parameters) as copy:
        copy.set_types(types)
        for row in copy.rows():
            yield dict(zip(names, row, strict=True))


def _copy(register: Register, counted: Iterable[str]) -> sql.Composed:
    account = """
    LEFT JOIN LATERAL (
        SELECT rail, destination_hint FROM payout_method
        WHERE merchant_id = affiliate.merchant_id AND affiliate_id = affiliate.id AND replaced_at IS NULL
        ORDER BY id DESC LIMIT 1
    ) AS method ON true
    """
    is_asked = Dac7Field.ACCOUNT in register.asked
    return sql.SQL(
        """
        COPY (
            SELECT counted.payee_id, counted.currency, affiliate.external_id, affiliate.name, profile.kind,
                   profile.country, profile.details, profile.tax_code_hint IS NOT NULL, profile.person, {account},
                   {counted}
            FROM ({query}) AS counted
            JOIN affiliate ON affiliate.merchant_id = %(merchant_id)s AND affiliate.id = counted.payee_id
            LEFT JOIN tax_profile AS profile
              ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
            {method}
            ORDER BY {order}
        ) TO STDOUT
        """
    ).format(
        account=sql.SQL("method.rail, method.destination_hint" if is_asked else "NULL, NULL"),
        counted=sql.SQL(", ").join(sql.Identifier("counted", name) for name in counted),
        query=sql.SQL(register.query),
        method=sql.SQL(account if is_asked else ""),
        order=sql.SQL(", ").join(sql.Identifier("counted", name) for name in register.order),
    )


def _told(
    register: Register, period: Period, found: Mapping[str, Any], security: Security
) -> Mapping[str, object] | None:
    """The values of a row by column; None where the payee does not stand in the register."""
    profile = None
    if found["kind"] is not None:
        profile = Profile(
            kind=PayeeKind(found["kind"]),
            country=found["country"],
            has_tax_code=found["has_tax_code"],
            details=found["details"],
        )
    standing = register.stands(Line(profile, found, period.year))
    if standing is None:
        return None
    person: dict[str, str] = {}
    if found["person"] is not None:
        person = json.loads(security.decrypt(bytes(found["person"]), purpose=PERSON))
    # Its own country is that of the address; the row has one of tax residence too.
    shown = {**person, "address_country": person.get("country"), "account": found["account"]}
    kind = None if profile is None else profile.kind
    return {
        **found,
        **{name: value for name, value in shown.items() if name != "country"},
        "check": " ".join(standing),
        "missing": " ".join(missing_of(register.asked, kind, _known(shown))),
        "affiliate_id": found["payee_id"],
        "affiliate_external_id": found["external_id"],
        "affiliate_name": found["name"],
    }


def _known(shown: Mapping[str, object]) -> Collection[Dac7Field]:
    needed = {
        Dac7Field.NAME: ("legal_name",),
        # Not every country has postcodes.
        Dac7Field.ADDRESS: ("street", "town", "address_country"),
        Dac7Field.TIN: ("tax_code",),
        Dac7Field.BORN_ON: ("born_on",),
        Dac7Field.VAT_ID: ("vat_id",),
        Dac7Field.ACCOUNT: ("account",),
    }
    return {field for field, names in needed.items() if all(shown.get(name) for name in names)}


_RUNS = re.compile(FORMULA)


def _cells(column: Column, values: Mapping[str, Any], currency: str) -> Sequence[str]:
    """The cells of a column, as `render_csv` has PostgreSQL write them."""
    value = values.get(column.source)
    if value is None:
        return [""] * len(column.cells)
    match column.kind:
        case Kind.MONEY:
            return [str(value), text_of(value, currency)]
        case Kind.ID:
            return [encode(column.prefix, value)]
        case Kind.TEXT:
            return [f"'{value}" if _RUNS.match(value) else value]
        case Kind.COUNT | Kind.DAY | Kind.MOMENT:
            return [str(value)]
