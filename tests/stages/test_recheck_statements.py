"""What check-books sees of statements: nothing while they are as issued, and each change by its name."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy import Engine

from service.domain.ledger import MerchantTime
from service.infra.db import execute, read_session, unit_of_work
from service.ledger.findings import Finding
from service.reports.recheck_statements import recheck_statements
from service.reports.statement_books import Days
from tests.support.payouts import Desk
from tests.support.statements import SECURITY, issue

JULY = Days(date(2026, 7, 1), date(2026, 7, 31))


@pytest.fixture
def desk(engine: Engine) -> Desk:
    """Return a desk with three statements of July."""
    desk = Desk.opened(engine, now=datetime(2026, 7, 10, 12, tzinfo=UTC))
    for amount in (100, 200, 300):
        desk.payee(amount)
    issue(engine, desk.merchant_id, JULY, when=MerchantTime(datetime(2026, 8, 3, 9, tzinfo=UTC), "UTC"))
    return desk


def found(desk: Desk) -> list[Finding]:
    with read_session(desk.engine) as session:
        return recheck_statements(session, SECURITY, desk.merchant_id)


def test_statements_as_they_were_issued_are_found_well(desk: Desk) -> None:
    assert found(desk) == []


@pytest.mark.parametrize(
    ("statement", "code", "detail"),
    [
        pytest.param(
            "UPDATE statement SET document = jsonb_set(document, '{issued_on}', '\"2026-08-02\"') WHERE number = 2",
            "statement-digest",
            "2026-000002",
            id="what one says was changed",
        ),
        pytest.param(
            "UPDATE statement SET closing_minor = closing_minor + 1 WHERE number = 2",
            "statement-digest",
            "2026-000002 closes with",
            id="what is listed of one is not what it says",
        ),
        pytest.param(
            "UPDATE statement SET document = '{}' WHERE number = 2", "statement-digest", "2026-000002", id="all is gone"
        ),
        pytest.param(
            "UPDATE statement SET supplier = 'x' WHERE number = 2",
            "statement-digest",
            "2026-000002",
            id="the supplier cannot be read",
        ),
        pytest.param(
            "DELETE FROM statement WHERE number = 3",
            "statement-number",
            "statements of 2026",
            id="the newest is gone",
        ),
        pytest.param("DELETE FROM statement", "statement-number", "statements of 2026", id="all are gone"),
        pytest.param(
            "DELETE FROM statement WHERE number = 2", "statement-number", "statements of 2026", id="one is gone"
        ),
    ],
)
def test_a_change_is_found(desk: Desk, statement: str, code: str, detail: str) -> None:
    with unit_of_work(desk.engine) as session:
        execute(session, statement)

    assert [(each.code, each.detail) for each in found(desk)] == [(code, detail)]
