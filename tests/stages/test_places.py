"""Where settled money stands and what status follows: SQL says what the domain says, whatever payouts did."""

import random

import pytest
from sqlalchemy import Engine

from service.commissions.assess import load_intervals
from service.domain.commission import CommissionReason, CommissionStatus, Places, status_of
from service.domain.payout import holder
from service.infra.db import fetch, read_session
from service.ledger.audit import check
from service.reports.places import PAYABLE_MINOR, STANDING, STATUS
from tests.support.full_books import Books, full_books


def _by_sql(books: Books) -> dict[str, tuple[CommissionStatus, int, int, int]]:
    with read_session(books.engine) as session:
        rows = fetch(
            session,
            f"""
            SELECT commission.id, {STATUS} AS status, {PAYABLE_MINOR} AS payable, in_payout_minor, paid_minor
            FROM commission {STANDING}
            """,
        )
    return {
        str(row.id): (CommissionStatus(row.status), row.payable, row.in_payout_minor, row.paid_minor) for row in rows
    }


def _by_domain(books: Books) -> dict[str, tuple[CommissionStatus, int, int, int]]:
    with read_session(books.engine) as session:
        commissions = fetch(session, "SELECT * FROM commission")
        entries = fetch(session, "SELECT * FROM commission_entry WHERE payable_version IS NOT NULL")
        live = {row.id: row.live for row in fetch(session, "SELECT id, live FROM payout_item")}
        intervals = load_intervals(session, {(row.merchant_id, row.payee_id, row.currency) for row in commissions})
    result = {}
    for row in commissions:
        in_item = paid = 0
        for entry in entries:
            if entry.commission_id != row.id:
                continue
            change = entry.amount_minor if entry.destination == "payable" else -entry.amount_minor
            item = holder(entry.payable_version, intervals.get((row.merchant_id, row.payee_id, row.currency), []))
            if item is not None and live[item.item_id]:
                in_item += change
            elif item is not None:
                paid += change
        status = status_of(
            target_minor=row.target_minor,
            places=Places(row.pending_minor, row.held_minor, row.settled_minor),
            reason=CommissionReason(row.reason_code),
            approved_minor=row.approved_minor,
            in_item_minor=in_item,
            paid_minor=paid,
        )
        result[str(row.id)] = (status, row.settled_minor - in_item - paid, in_item, paid)
    return result


def test_sql_and_domain_agree_on_books_in_which_everything_happened(engine: Engine) -> None:
    books = full_books(engine)

    assert _by_sql(books) == _by_domain(books)


@pytest.mark.parametrize("seed", range(6))
def test_sql_and_domain_agree_whatever_payouts_did(engine: Engine, seed: int) -> None:
    books, chance = Books(engine).open(), random.Random(seed)
    orders = 0

    for _ in range(8):
        books.order(f"{orders}", brought_by="ann", goods_minor=chance.randint(1_000, 9_000))
        orders += 1
        if chance.random() < 0.5:
            books.refund(f"{chance.randrange(orders)}", chance.randint(100, 900))
        books.settle()
        if books.payable("ann") <= 0:
            continue
        _, item_id = books.reserve("ann")
        match chance.choice(["release", "stay", "send", "part", "whole"]):
            case "release":
                books.release(item_id)
            case "stay":
                assert _by_sql(books) == _by_domain(books)
                books.release(item_id)
            case "send" | "part" | "whole" as what:
                books.hand_over(item_id)
                assert _by_sql(books) == _by_domain(books)
                books.accept(item_id)
                if what == "part":
                    books.give_back(item_id, 1)
                if what == "whole":
                    books.give_back(item_id, books.net(item_id))

    assert _by_sql(books) == _by_domain(books)
    with read_session(engine) as session:
        assert check(session, None) == []
