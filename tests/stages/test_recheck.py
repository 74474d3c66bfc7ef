"""Orders computed anew: nothing differs in honest books, and what was changed behind the rules' back is found."""

import pytest
from sqlalchemy import Engine, text
from sqlmodel import Session

from service.infra.db import read_session
from service.ledger.audit import check
from service.ledger.findings import Finding
from service.reports.recheck import RecheckCode, recheck
from tests.support.full_books import Books, full_books


def test_books_in_which_everything_happened_come_out_the_same(engine: Engine) -> None:
    books = full_books(engine)

    with read_session(engine) as session:
        assert check(session, books.merchant_id) == []
        assert recheck(session, books.merchant_id, sample=None) == []


def test_a_merchant_without_orders_has_nothing_to_differ(engine: Engine) -> None:
    books = Books(engine).open()

    with read_session(engine) as session:
        assert recheck(session, books.merchant_id) == []


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        pytest.param(
            "UPDATE fact SET payload = jsonb_set(payload, '{lines,0,2}', '999') WHERE kind = 'order'"
            " AND payload ->> 'number' = '#pending'",
            {RecheckCode.TARGET, RecheckCode.ATTRIBUTION},
            id="a fact was changed",
        ),
        pytest.param(
            "UPDATE commission SET target_minor = 1, pending_minor = 1 WHERE pending_minor = 300",
            {RecheckCode.TARGET},
            id="a target was changed",
        ),
        pytest.param(
            "UPDATE commission SET settles_at = settles_at - interval '1 day' WHERE pending_minor > 0",
            {RecheckCode.TARGET},
            id="a clock was turned",
        ),
        pytest.param(
            "UPDATE commission SET reason_code = 'earned' WHERE held_minor > 0",
            {RecheckCode.TARGET},
            id="a reason was changed",
        ),
        pytest.param(
            "UPDATE assessment SET attribution_reason = 'decided' WHERE number = '#pending'",
            {RecheckCode.ATTRIBUTION},
            id="an attribution was changed",
        ),
        pytest.param(
            "DELETE FROM commission WHERE pending_minor = 300", {RecheckCode.TARGET}, id="a commission is gone"
        ),
    ],
)
def test_what_was_changed_behind_the_rules_is_found(engine: Engine, statement: str, code: set[RecheckCode]) -> None:
    books = full_books(engine)

    findings = _findings_after(engine, books, statement)

    assert {finding.code for finding in findings} == code


def test_a_sample_is_spread_over_all_orders(engine: Engine) -> None:
    books = full_books(engine)
    spoil = "UPDATE assessment SET net_minor = net_minor + 1 WHERE net_minor IS NOT NULL"

    everything = _findings_after(engine, books, spoil, sample=None)
    some = _findings_after(engine, books, spoil, sample=3)

    assert len(everything) == 8
    assert 0 < len(some) <= 3
    assert {finding.subject for finding in some} < {finding.subject for finding in everything}


def _findings_after(engine: Engine, books: Books, statement: str, *, sample: int | None = None) -> list[Finding]:
    with Session(engine) as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        assert session.execute(text(statement)).rowcount > 0  # type: ignore[attr-defined] # a statement that changes rows
        return recheck(session, books.merchant_id, sample=sample)
