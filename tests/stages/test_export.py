"""The export of a merchant: every row of its own, none of another's, no secret, and an end that says it is whole."""

import base64
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from service.infra.clock import utc_now
from service.infra.db import execute, fetch, read_session, unit_of_work
from service.infra.ids import new_id
from service.infra.security import hash_api_key, new_api_key
from service.ledger.chain import chain
from service.reports import export as exporting
from service.reports.export import OWNED_BY, NoSuchMerchant, export, exported_tables, is_withheld, told_as
from service.tables.parties import ApiKeyRow, SourceSettingsRow
from tests.support.full_books import Books, full_books

AT = datetime(2026, 11, 22, tzinfo=UTC)
KEY = new_api_key(is_test=True)
CANARIES = (b"canary-secret", b"canary-destination", b"canary-request", hash_api_key(KEY))


def furnished(engine: Engine) -> Books:
    """Full books of a merchant with a key, settings of its source, a secret and a chain."""
    books = full_books(engine)
    with unit_of_work(engine) as session:
        session.add(
            ApiKeyRow(
                id=new_id(),
                merchant_id=books.merchant_id,
                hash=hash_api_key(KEY),
                hint="koc_test_…abcd",
                name="key",
                scopes=["admin"],
                created_at=utc_now(),
            )
        )
        session.add(SourceSettingsRow(source_id=books.source_id, version=1, settings={"a": 1}, created_at=utc_now()))
        chain(session, books.merchant_id, now=utc_now())
        for column in ("source.secret", "payout_method.destination", "payout_attempt.request"):
            table, _, name = column.partition(".")
            assert execute(session, f"UPDATE {table} SET {name} = CAST('canary-{name}' AS bytea)")
    return books


def exported(engine: Engine, books: Books) -> tuple[bytes, list[Any]]:
    written = b"".join(export(engine, books.merchant_id, at=AT))
    return written, [json.loads(line) for line in written.splitlines()]


def test_every_row_of_a_merchant_is_in_its_export_and_none_of_another(engine: Engine) -> None:
    books, other = furnished(engine), full_books(engine)

    written, lines = exported(engine, books)

    first, *rows, end = lines
    found = Counter(line["kind"] for line in rows)
    with read_session(engine) as session:
        wanted = {
            table.name: fetch(
                session,
                f"SELECT count(*) FROM {table.name} WHERE "
                + OWNED_BY.get(table.name, "merchant_id = %(merchant_id)s").replace("%(merchant_id)s", ":merchant_id"),
                {"merchant_id": books.merchant_id},
            )[0][0]
            for table in exported_tables()
        }
    assert (first["kind"], first["format"], first["exported_at"]) == ("export", 1, "2026-11-22T00:00:00+00:00")
    assert found == Counter({name: number for name, number in wanted.items() if number})
    assert end["rows"] == wanted
    assert sum(1 for number in wanted.values() if number) > 20
    assert str(other.merchant_id).encode() not in written


def test_a_line_has_every_column_that_is_not_withheld(engine: Engine) -> None:
    books = furnished(engine)

    _, lines = exported(engine, books)

    by_kind = {line["kind"]: line for line in lines}
    for table in exported_tables():
        if table.name in by_kind:
            columns = {told_as(column) for column in table.columns if not is_withheld(column)}
            assert set(by_kind[table.name]) == columns | {"kind"}


def test_deliveries_are_exported_byte_for_byte(engine: Engine) -> None:
    books = furnished(engine)

    _, lines = exported(engine, books)

    bodies = [line for line in lines if line["kind"] == "inbox"]
    assert bodies
    for line in bodies:
        assert hashlib.sha256(base64.b64decode(line["body"], validate=True)).hexdigest() == line["body_hash"]


def test_the_last_line_counts_and_signs_all_before_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BLOCK_BYTES", 100)
    written, lines = exported(engine, furnished(engine))

    before, _, last = written.removesuffix(b"\n").rpartition(b"\n")

    assert json.loads(last)["sha256"] == hashlib.sha256(before + b"\n").hexdigest()
    assert json.loads(last)["lines"] == len(lines) - 1


def test_no_secret_and_no_hash_of_a_key_is_in_it(engine: Engine) -> None:
    written, _ = exported(engine, furnished(engine))

    for canary in CANARIES:
        for form in (canary, canary.hex().encode(), base64.b64encode(canary)):
            assert form not in written


def test_the_export_is_of_one_moment(engine: Engine) -> None:
    books = furnished(engine)
    blocks = export(engine, books.merchant_id, at=AT)
    with read_session(engine) as session:
        [(before,)] = fetch(session, "SELECT count(*) FROM posting")

    exporting_first = next(blocks)
    books.order("late", brought_by="ann")
    written = exporting_first + b"".join(blocks)

    assert json.loads(written.splitlines()[-1])["rows"]["posting"] == before


def test_nobodys_export_is_refused_before_its_first_line(engine: Engine) -> None:
    with pytest.raises(NoSuchMerchant):
        next(export(engine, new_id(), at=AT))
