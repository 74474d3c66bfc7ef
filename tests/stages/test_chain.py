"""The chain over postings: it covers every booking once, does not fork, and whatever is changed afterwards is found."""

import os
import random
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.chain import GENESIS
from service.infra.db import read_session, unit_of_work
from service.infra.ids import encode
from service.ledger import verify as verify_module
from service.ledger.chain import chain
from service.ledger.findings import FindingCode
from service.ledger.verify import NotedHead, through, verify
from tests.support.chains import NOW, ChainBooks, Tamperer

TAMPERINGS = 1_000


@pytest.fixture
def books(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> ChainBooks:
    return ChainBooks(engine, monkeypatch)


@pytest.fixture
def chosen() -> random.Random:
    """Random choices whose seed is printed when the test fails; KOC_TEST_SEED chooses the same again."""
    seed = int(os.environ.get("KOC_TEST_SEED", secrets.randbits(32)))
    print(f"KOC_TEST_SEED={seed}")
    return random.Random(seed)


def blocks(books: ChainBooks) -> list[tuple[object, ...]]:
    return [
        tuple(row)
        for row in books.rows(
            "SELECT day, slot, first_booking, last_booking, postings FROM chain_block"
            " WHERE merchant_id = :merchant_id ORDER BY number"
        )
    ]


def test_a_merchant_who_booked_nothing_has_no_chain(books: ChainBooks) -> None:
    done = books.chain()

    assert (done.blocks, done.postings, done.head.number, done.head.digest) == (0, 0, 0, GENESIS)
    assert books.findings() == []


@pytest.mark.parametrize("postings_max", [1, 7, 50, 10_000])
def test_every_posting_is_covered_once_however_large_the_pieces(
    books: ChainBooks, chosen: random.Random, postings_max: int
) -> None:
    books.book_much(chosen)

    done = books.chain_all(postings_max=postings_max)

    [booked] = books.rows("SELECT count(*) AS number FROM posting WHERE merchant_id = :merchant_id")
    covered = books.rows(
        """
        SELECT count(*) AS number FROM posting JOIN chain_block AS block USING (merchant_id, day, slot)
        WHERE merchant_id = :merchant_id AND booking BETWEEN first_booking AND last_booking
        """
    )[0]
    assert done.postings == booked.number == covered.number
    assert books.findings() == []


def test_the_same_pieces_at_the_same_time_make_the_same_digests(books: ChainBooks, chosen: random.Random) -> None:
    books.book_much(chosen)

    first = books.chain_all(postings_max=20)
    books.change("DELETE FROM chain_block WHERE merchant_id = :merchant_id")
    books.change("DELETE FROM chain_head WHERE merchant_id = :merchant_id")
    second = books.chain_all(postings_max=20)

    assert first == second
    assert first.blocks > 10


def test_a_chain_goes_on_where_it_stood(books: ChainBooks) -> None:
    books.book(2)
    books.book(1)
    books.chain()
    books.book(3)
    books.book(1, slot=1)

    books.chain()

    day = NOW.date().replace(day=2)
    assert blocks(books) == [(day, 0, 1, 2, 3), (day, 0, 3, 3, 3), (day, 1, 1, 1, 1)]
    assert books.findings() == []


def test_a_block_ends_with_a_whole_booking(books: ChainBooks) -> None:
    for _ in range(3):
        books.book(4)

    books.chain(postings_max=5)

    assert [row[2:] for row in blocks(books)] == [(1, 2, 8)]


def test_days_are_covered_one_after_the_other(books: ChainBooks) -> None:
    for day in (2, 0, 1):
        books.book(day=day, slot=day)

    done = [books.chain().blocks for _ in range(4)]

    assert done == [1, 1, 1, 0]
    assert [row[1] for row in blocks(books)] == [0, 1, 2]


def test_what_is_booked_while_the_chain_is_made_is_neither_waited_for_nor_left_out(books: ChainBooks) -> None:
    books.book(slot=1)

    with unit_of_work(books.engine) as open_unit:
        books.book(session=open_unit)
        books.book(slot=1, session=open_unit)
        meanwhile = books.chain_all()
    afterwards = books.chain_all()

    assert (meanwhile.postings, afterwards.postings) == (1, 2)
    assert books.findings() == []


def test_a_unit_of_work_that_fails_leaves_no_gap_in_the_numbers(books: ChainBooks) -> None:
    books.book()
    with Session(books.engine) as never_committed:
        books.book(session=never_committed)
    books.book()

    assert [row.booking for row in books.rows("SELECT booking FROM posting ORDER BY id")] == [1, 2]
    assert books.findings() == []


def test_chaining_is_in_nobodys_way_who_books(books: ChainBooks) -> None:
    books.book()

    with unit_of_work(books.engine) as chaining:
        done = chain(chaining, books.merchant_id, now=NOW)
        books.book()

    assert (done.postings, books.chain_all().postings) == (1, 1)
    assert books.findings() == []


def test_many_who_chain_and_book_at_once_make_one_chain(books: ChainBooks, chosen: random.Random) -> None:
    books.book_much(chosen)
    start = threading.Barrier(6)

    def chains(_: int) -> int:
        start.wait()
        return sum(books.chain(postings_max=9).blocks for _ in range(12))

    def bookings(_: int) -> int:
        start.wait()
        for _ in range(15):
            books.book(2)
        return 0

    with ThreadPoolExecutor(6) as together:
        futures = [together.submit(chains, each) for each in range(4)]
        futures += [together.submit(bookings, each) for each in range(2)]
        counted = [future.result() for future in futures]
    last = books.chain_all()

    numbers = [row.number for row in books.rows("SELECT number FROM chain_block WHERE merchant_id = :merchant_id")]
    assert sorted(numbers) == list(range(1, sum(counted) + last.blocks + 1))
    assert books.findings() == []


def test_a_booking_on_the_day_before_is_covered_at_the_next_turn(books: ChainBooks) -> None:
    books.book(day=2)
    books.chain_all()
    books.book(day=1)

    assert books.chain_all().postings == 1


def test_a_booking_on_a_day_long_past_is_covered_by_the_next_days_first_turn(books: ChainBooks) -> None:
    books.book(day=2)
    books.chain_all()
    books.book(day=-30)

    today, tomorrow = books.chain_all(), books.chain_all(now=NOW + timedelta(days=1))

    assert (today.postings, tomorrow.postings) == (0, 1)


def test_a_booking_whose_postings_are_gone_stops_nothing_and_stays_found(books: ChainBooks) -> None:
    books.book()
    books.book()
    books.change("DELETE FROM posting WHERE merchant_id = :merchant_id AND booking = 2")

    books.chain_all()
    books.book(day=1)
    books.chain_all()

    assert [row[2:] for row in blocks(books)] == [(1, 2, 1), (1, 1, 1)]
    assert [finding.code for finding in books.findings()] == [FindingCode.POSTING_BOOKING]


def test_a_change_is_found_as_soon_as_the_posting_was_covered(books: ChainBooks) -> None:
    books.book()
    books.chain_all()
    books.book()
    raise_newest = "UPDATE posting SET amount_minor = amount_minor + 1 WHERE merchant_id = :merchant_id AND booking = 2"
    books.change(raise_newest)
    before = books.findings()

    books.chain_all()
    books.change(raise_newest)

    assert before == []
    [finding] = books.findings()
    assert finding.code is FindingCode.CHAIN_DIGEST
    assert "block 2" in finding.detail
    assert "2026-11-02 slot 0, bookings 2 to 2" in finding.detail


def test_who_makes_one_block_anew_breaks_the_link_to_the_next(books: ChainBooks) -> None:
    for _ in range(3):
        books.book()
        books.chain_all()
    books.change("UPDATE posting SET amount_minor = amount_minor + 1 WHERE merchant_id = :merchant_id AND booking = 2")

    [changed] = books.findings()
    books.change(
        "UPDATE chain_block SET digest = decode(:digest, 'hex') WHERE merchant_id = :merchant_id AND number = 2",
        digest=changed.found,
    )

    [unlinked] = books.findings()
    assert unlinked.code is FindingCode.CHAIN_LINK
    assert "block 3" in unlinked.detail
    assert unlinked.expected == f"after {changed.found}"


def test_a_finding_says_how_many_postings_are_missing(books: ChainBooks) -> None:
    books.book(3)
    books.chain_all()
    books.change("DELETE FROM posting WHERE merchant_id = :merchant_id AND seq = 1")

    [finding] = books.findings()

    assert (finding.expected, finding.found) == ("3 postings", "2 postings")


def test_each_merchant_has_a_chain_of_its_own(
    books: ChainBooks, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ChainBooks(engine, monkeypatch)
    for each in (books, other):
        each.book(2)
        each.chain_all()

    books.change("UPDATE posting SET amount_minor = 7 WHERE merchant_id = :merchant_id")

    with read_session(engine) as session:
        assert {finding.merchant_id for finding in verify(session, None)} == {books.merchant_id}
    assert other.findings() == []


def test_books_are_read_in_parts_and_none_is_left_out(
    books: ChainBooks, engine: Engine, chosen: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ChainBooks(engine, monkeypatch)
    for each in (books, other):
        each.book_much(chosen)
        each.chain_all(postings_max=10)
    changed = books.change("UPDATE chain_block SET digest = previous_digest WHERE merchant_id = :merchant_id")

    monkeypatch.setattr(verify_module, "BLOCKS_AT_ONCE", 3)
    monkeypatch.setattr(verify_module, "POSTINGS_AT_ONCE", 7)
    with read_session(engine) as session:
        findings = verify(session, None)

    assert {finding.merchant_id for finding in findings} == {books.merchant_id}
    assert sum(finding.code is FindingCode.CHAIN_DIGEST for finding in findings) == changed


def test_a_head_noted_outside_finds_what_was_rewritten_with_its_chain(books: ChainBooks) -> None:
    books.book(3)
    noted = books.chain_all().head
    books.book()
    books.chain_all()
    head = NotedHead(noted.number, noted.digest.hex())
    with read_session(books.engine) as session:
        before = through(session, books.merchant_id, [head, NotedHead(noted.number, noted.digest.hex()[:16])])

    books.change("UPDATE posting SET amount_minor = amount_minor + 1 WHERE merchant_id = :merchant_id")
    books.change("DELETE FROM chain_block WHERE merchant_id = :merchant_id")
    books.change("DELETE FROM chain_head WHERE merchant_id = :merchant_id")
    books.chain_all()

    assert before == []
    assert books.findings() == []
    with read_session(books.engine) as session:
        [rewritten] = through(session, books.merchant_id, [head])
        [shortened] = through(session, books.merchant_id, [NotedHead(99, "ab")])
    assert (rewritten.code, rewritten.expected) == (FindingCode.CHAIN_HEAD, head.digest)
    assert rewritten.subject == encode("mer", books.merchant_id)
    assert shortened.found == "no such block"


def test_a_thousand_random_tamperings_are_all_found(books: ChainBooks, chosen: random.Random) -> None:
    books.book_much(chosen)
    books.chain_all(postings_max=20)
    missed: list[str] = []
    done: Counter[str] = Counter()

    with Session(books.engine) as session:
        tamperer = Tamperer(session, books.merchant_id, chosen)
        for _ in range(TAMPERINGS):
            kind = chosen.choice(Tamperer.KINDS)
            with session.begin_nested() as change:
                told = tamperer.do(kind)
                found = verify(session, books.merchant_id)
                change.rollback()
            done[kind] += 1
            if not found:
                missed.append(told)
            # What was undone is as if it had never been: a finding now would be a false alarm.
            if sum(done.values()) % 20 == 0:
                assert verify(session, books.merchant_id) == []

    assert missed == []
    assert set(done) == set(Tamperer.KINDS)
