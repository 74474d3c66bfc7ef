"""The review of a payout run: what is told of real runs, and that it takes a fixed number of statements."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Engine, event

from service.domain.payout import Excluded
from service.domain.payout_control import LimitKind
from service.domain.review_of_run import FIRST_TIMES, TIMES, RunCaution, Unusual
from service.domain.withholding.model import Mode, Regime
from service.infra.db import execute, read_session, unit_of_work
from service.infra.ids import new_id
from service.payouts.release import release
from service.reports.run_review import LISTED_MAX, TOP, Listed, Review, chart, review
from service.tables.control import EVERYBODY, PayoutLimitRow
from service.tables.payouts import PayoutRunRow
from tests.support.payouts import MAKER, Desk


@pytest.fixture
def desk(engine: Engine) -> Desk:
    return Desk.opened(engine)


def reviewed(desk: Desk, run: PayoutRunRow) -> Review:
    with read_session(desk.engine) as session:
        return review(session, session.get_one(PayoutRunRow, (run.merchant_id, run.id)))


def payee(desk: Desk, payable: int, name: str, **more: object) -> UUID:
    made = desk.payee(payable, destination=f"sandbox_ok_{name}", **more)  # type: ignore[arg-type] # as payee takes them
    desk.change(made, name=name)
    return made


def paid_run(desk: Desk, *payees: UUID) -> PayoutRunRow:
    run = desk.an_executing_run(*payees)
    desk.work(run)
    desk.later(days=7)
    return run


def names(listed: Listed) -> list[str]:
    return [each.name for each in listed.payouts]


def test_sums_are_those_of_the_payouts_that_hold_their_money(desk: Desk) -> None:
    for amount, name in ((100, "a"), (300, "b"), (200, "c"), (50, "out")):
        payee(desk, amount, name, carried=10)
    run = desk.reserve()
    out = next(row.id for row in desk.rows("SELECT id FROM payout_item WHERE net_minor = 60"))
    desk.do(release, item_id=out, when=desk.when, now=desk.now)

    totals = reviewed(desk, run).totals

    assert (totals.payees, totals.released) == (3, 1)
    assert (totals.gross_minor, totals.carried_minor, totals.net_minor) == (600, 30, 630)
    assert (totals.smallest_minor, totals.median_minor, totals.largest_minor) == (110, 210, 310)


def test_tax_that_the_merchant_bears_is_summed_apart(engine: Engine) -> None:
    desk = Desk.opened(engine, currency="CNY")
    desk.declare("CN", Regime.CN_LABOUR, gross_up=True)
    people = [payee(desk, 504_000, name) for name in ("li", "wu", "out")]
    for each in people:
        desk.tax(each, "CN")
    run = desk.reserve()
    desk.do(release, item_id=desk.item(people[-1]).id, when=desk.when, now=desk.now)

    totals = reviewed(desk, run).totals

    assert (totals.gross_minor, totals.tax_minor, totals.net_minor) == (1_008_000, 0, 1_008_000)
    assert totals.tax_borne_minor == 2 * 96_000


def test_sums_by_country_and_group_add_up_to_the_whole(desk: Desk) -> None:
    for amount, name, country in ((100, "a", "VN"), (300, "b", "VN"), (250, "c", None), (9, "d", "TH")):
        desk.change(payee(desk, amount, name), country=country)

    found = reviewed(desk, desk.reserve())

    assert [(each.country, each.payees, each.net_minor) for each in found.countries] == [
        ("VN", 2, 400),
        (None, 1, 250),
        ("TH", 1, 9),
    ]
    assert [(each.from_minor, each.below_minor, each.payees) for each in found.buckets if each.payees] == [
        (5, 10, 1),
        (100, 200, 1),
        (200, None, 2),
    ]
    assert sum(each.net_minor for each in found.buckets) == found.totals.net_minor


def test_the_largest_are_named(desk: Desk) -> None:
    for number in range(TOP + 2):
        payee(desk, 100 + number, f"{number:02}")

    top = reviewed(desk, desk.reserve()).top

    assert [each.name for each in top] == [f"{number:02}" for number in range(TOP + 1, 1, -1)]


def test_what_is_far_above_what_somebody_got_before_stands_out(desk: Desk) -> None:
    ann, ben, new = payee(desk, 100, "ann"), payee(desk, 100, "ben"), payee(desk, 0, "new")
    for amount in (100, 110, 900):
        paid_run(desk, ann, ben)
        desk.earn(ann, amount)
        desk.earn(ben, amount)
    paid_run(desk, ann, ben)
    # Both got 100, 100, 110 and 900: the smaller of the two in the middle is 100.
    desk.earn(ann, TIMES * 100)
    desk.earn(ben, TIMES * 100 - 1)
    desk.earn(new, 100)

    found = reviewed(desk, desk.reserve())

    assert [
        (each.payout.name, each.reason, each.earlier_payouts, each.earlier_median_minor) for each in found.unusual
    ] == [("ann", Unusual.ABOVE_EARLIER, 4, 100)]
    assert found.unusual_total == 1


def test_a_large_first_payout_stands_out(desk: Desk) -> None:
    for number in range(4):
        payee(desk, 100, f"usual {number}")
    payee(desk, FIRST_TIMES * 100, "large")
    payee(desk, FIRST_TIMES * 100 - 1, "almost")

    found = reviewed(desk, desk.reserve())

    assert [(each.payout.name, each.reason, each.earlier_median_minor) for each in found.unusual] == [
        ("large", Unusual.LARGE_FIRST, None)
    ]


def test_what_was_released_counts_as_no_earlier_payout(desk: Desk) -> None:
    ann = payee(desk, 10, "ann")
    run = desk.reserve()
    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)
    desk.later(days=1)
    desk.earn(ann, 1000)

    found = reviewed(desk, desk.reserve())

    assert names(found.first) == ["ann"]
    assert found.unusual == []
    assert found.earlier is None
    assert reviewed(desk, run).totals.payees == 0


def test_changes_since_the_last_run_on_the_rail(desk: Desk) -> None:
    ann = payee(desk, 100, "ann")
    payee(desk, 200, "ben")
    before = paid_run(desk)
    desk.earn(ann, 150)
    payee(desk, 300, "cat")

    found = reviewed(desk, desk.reserve())

    assert found.earlier is not None
    assert (found.earlier.id, found.earlier.payees, found.earlier.net_minor) == (before.id, 2, 300)
    assert (names(found.new), found.new.net_minor) == (["cat"], 300)
    assert (names(found.gone), found.gone.net_minor) == (["ben"], 200)
    assert names(found.first) == ["cat"]
    assert [each.net_minor for each in found.runs] == [300, 450]


def test_a_payee_who_moved_is_told_from_one_who_did_not(desk: Desk) -> None:
    ann, ben, _ = (payee(desk, 100, name) for name in ("ann", "ben", "cat"))
    paid_run(desk, ann, ben)
    desk.method(ann, "sandbox_ok_new")
    # Back where it was at the last payout: no change to look at.
    desk.method(ben, "sandbox_ok_other")
    desk.method(ben, "sandbox_ok_ben")
    for each in (ann, ben):
        desk.earn(each, 100)

    found = reviewed(desk, desk.reserve())

    assert names(found.moved) == ["ann"]
    assert found.totals.payees == 3
    assert RunCaution.DESTINATION_CHANGED in found.cautions


def test_who_moved_to_another_rail_moved(desk: Desk) -> None:
    ann, ben = payee(desk, 100, "ann"), payee(desk, 100, "ben")
    paid_run(desk, ann, ben)
    with unit_of_work(desk.engine) as session:
        execute(session, "UPDATE payout_run SET rail = 'stripe_connect'")
    desk.method(ann, "sandbox_ok_here")
    for each in (ann, ben):
        desk.earn(each, 100)

    assert names(reviewed(desk, desk.reserve()).moved) == ["ann"]


def test_accounts_of_several_payees_are_told(desk: Desk) -> None:
    for name in ("ann", "ben"):
        desk.change(desk.payee(100, destination="sandbox_ok_same"), name=name)
    payee(desk, 100, "cat")

    found = reviewed(desk, desk.reserve())

    assert sorted(names(found.shared)) == ["ann", "ben"]
    assert found.shared.net_minor == 200
    assert RunCaution.DESTINATION_SHARED in found.cautions


def test_payouts_that_may_have_been_split_are_told(engine: Engine) -> None:
    desk = Desk.opened(engine, currency="VND")
    desk.declare("VN", Regime.VN)
    people = {name: payee(desk, 3_000_000, name) for name in ("lan", "mai")}
    for each in people.values():
        desk.tax(each, "VN")
    # One after the other below the threshold of five million, in the same month.
    paid_run(desk, people["lan"])
    desk.earn(people["lan"], 2_000_000)

    run = desk.reserve()
    found = reviewed(desk, run)

    assert (names(found.split), found.split.net_minor) == (["lan"], 2_000_000)
    assert RunCaution.SPLIT_PAYOUTS in found.cautions
    assert found.not_withheld.payees == 0

    desk.do(release, item_id=desk.item(people["lan"]).id, when=desk.when, now=desk.now)

    assert reviewed(desk, run).split.payees == 0


@pytest.mark.parametrize("mode", [Mode.WARN, Mode.WITHHOLD])
def test_payouts_of_which_the_merchant_owes_the_tax_are_told(engine: Engine, mode: Mode) -> None:
    desk = Desk.opened(engine, currency="VND")
    desk.declare("VN", Regime.VN, mode=mode)
    for name, amount in (("lan", 6_000_000), ("mai", 1_000_000), ("off", 9_000_000)):
        made = payee(desk, amount, name)
        if name != "off":
            desk.tax(made, "VN")

    found = reviewed(desk, desk.reserve())

    is_warned = mode is Mode.WARN
    assert (names(found.not_withheld), found.not_withheld.net_minor) == ((["lan"], 6_000_000) if is_warned else ([], 0))
    assert (RunCaution.NOT_WITHHELD in found.cautions) is is_warned
    assert found.split.payees == 0


def test_who_was_left_out_is_summed_by_reason(desk: Desk) -> None:
    payee(desk, 100, "ann")
    payee(desk, 70, "no rule", tax_rule=None)
    payee(desk, 30, "no rule either", tax_rule=None, carried=5)
    payee(desk, -40, "owes")

    found = reviewed(desk, desk.reserve())

    assert [(each.reason, each.payees, each.payable_minor, each.carried_minor) for each in found.left_out] == [
        (Excluded.NO_TAX_RULE, 2, 100, 5),
        (Excluded.IN_DEBT, 1, -40, 0),
    ]
    assert RunCaution.LEFT_OUT in found.cautions


def over_the_limit(desk: Desk) -> None:
    limit = PayoutLimitRow(
        merchant_id=desk.merchant_id,
        id=new_id(),
        kind=LimitKind.PAYOUT,
        currency=desk.currency,
        key_id=EVERYBODY,
        amount_minor=10_000,
        set_by=MAKER,
        created_at=desk.now,
    )
    with unit_of_work(desk.engine) as session:
        session.add(limit)
    payee(desk, 10_001, "large")


def shared(desk: Desk) -> None:
    desk.choose(shared_accounts="hold")
    for _ in range(2):
        desk.payee(100, destination="sandbox_ok_same")


def without_details(desk: Desk) -> None:
    desk.declare("VN", Regime.VN)
    desk.tax(payee(desk, 100, "lan"), "VN", resident=None)


def in_another_currency(desk: Desk) -> None:
    desk.declare("VN", Regime.VN)
    desk.tax(payee(desk, 100, "lan"), "VN")


def out_of_the_regime(desk: Desk) -> None:
    desk.declare("US", Regime.EU_NONE)
    desk.tax(payee(desk, 100, "lan"), "US")


def cooling(desk: Desk) -> None:
    desk.method(desk.payee(100, destination=None), "sandbox_ok_new", usable_from=desk.now + timedelta(days=3))


@pytest.mark.parametrize(
    ("somebody", "reason", "is_told"),
    [
        (lambda desk: desk.payee(100, destination=None), Excluded.NO_PAYOUT_METHOD, True),
        (lambda desk: desk.payee(100, tax_rule=None), Excluded.NO_TAX_RULE, True),
        (lambda desk: desk.tax(payee(desk, 100, "lan"), "VN"), Excluded.NO_TAX_REGIME, True),
        (without_details, Excluded.TAX_DETAILS_MISSING, True),
        (in_another_currency, Excluded.TAX_CURRENCY, True),
        (out_of_the_regime, Excluded.NO_TAX_RULE_IN_FORCE, True),
        (over_the_limit, Excluded.OVER_LIMIT, True),
        (shared, Excluded.SHARED_ACCOUNT, True),
        (lambda desk: desk.payee(100, status="applied"), Excluded.AFFILIATE_NOT_APPROVED, True),
        (lambda desk: desk.payee(-100, status="applied"), Excluded.AFFILIATE_NOT_APPROVED, False),
        (lambda desk: desk.payee(100, status="suspended"), Excluded.AFFILIATE_SUSPENDED, False),
        (lambda desk: desk.payee(-100), Excluded.IN_DEBT, False),
        (cooling, Excluded.METHOD_COOLING, False),
    ],
)
def test_who_waits_for_somebody_is_told(
    desk: Desk, somebody: Callable[[Desk], object], reason: Excluded, *, is_told: bool
) -> None:
    payee(desk, 100, "paid")
    somebody(desk)

    found = reviewed(desk, desk.reserve())

    assert [each.reason for each in found.left_out] == [reason]
    assert (RunCaution.LEFT_OUT in found.cautions) is is_told


def test_a_long_list_names_the_largest_and_sums_all(desk: Desk) -> None:
    for number in range(LISTED_MAX + 3):
        payee(desk, 100 + number, f"{number:02}")

    first = reviewed(desk, desk.reserve()).first

    assert (first.payees, len(first.payouts)) == (LISTED_MAX + 3, LISTED_MAX)
    assert first.net_minor == sum(100 + number for number in range(LISTED_MAX + 3))
    assert first.payouts[0].name == f"{LISTED_MAX + 2}"


def test_series_are_ready_to_draw(desk: Desk) -> None:
    payee(desk, 150, "ann")
    payee(desk, 2000, "ben")

    drawn = {each.name: each for each in chart(reviewed(desk, desk.reserve()), "USD")}

    assert drawn["distribution"].points == [("1.00 - 2.00", 1), ("2.00 - 5.00", 0), ("5.00 - 10.00", 0),
                                            ("10.00 - 20.00", 0), ("20.00 +", 1)]  # fmt: skip
    assert drawn["top"].points == [("ben", 2000), ("ann", 150)]
    assert drawn["runs"].points == [(desk.when.day.isoformat(), 2150)]
    assert drawn["excluded"].points == []


def test_a_run_of_which_nothing_is_left_can_be_looked_at(desk: Desk) -> None:
    ann = payee(desk, 100, "ann")
    run = desk.reserve()
    desk.do(release, item_id=desk.item(ann).id, when=desk.when, now=desk.now)

    found = reviewed(desk, run)

    assert (found.totals.payees, found.totals.net_minor, found.top) == (0, 0, [])
    assert found.cautions == [RunCaution.NO_EARLIER_RUN]


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_it_takes_as_many_statements_for_a_thousand_payouts_as_for_one(desk: Desk) -> None:
    ann = payee(desk, 100, "ann")
    run = desk.reserve(ann)
    with counted(desk.engine) as few:
        reviewed(desk, run)
    with unit_of_work(desk.engine) as session:
        given = {"merchant_id": desk.merchant_id, "item": desk.item(ann).id}
        for table, instead in (
            ("affiliate", "'id', md5('a' || number), 'name', number"),
            ("payout_method", "'id', md5('m' || number), 'affiliate_id', md5('a' || number), 'fingerprint', number"),
            (
                "payout_item",
                "'id', md5('i' || number), 'payee_id', md5('a' || number), 'fingerprint', number",
            ),
        ):
            of = "one.id = :item" if table == "payout_item" else "one.merchant_id = :merchant_id AND :item IS NOT NULL"
            execute(
                session,
                f"""
                INSERT INTO {table} SELECT (jsonb_populate_record(one, jsonb_build_object({instead}))).*
                FROM {table} AS one, generate_series(1, 1000) AS number WHERE {of}
                """,
                {"item": given["item"]} if table == "payout_item" else given,
            )

    with counted(desk.engine) as many:
        found = reviewed(desk, run)

    assert found.totals.payees == 1001
    assert len(many) == len(few) < 20
