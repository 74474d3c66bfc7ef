"""Above all: any order, repetition and batching of the same facts gives the same targets and the same places."""

import random
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from service.domain.assessment import Assessment
from service.domain.commission import Places, Target
from service.domain.order import Fact, FactKind
from tests.domain import strategies
from tests.domain.books import Books
from tests.domain.builders import a_shop, a_version, day, flat, percent
from tests.domain.strategies import examples

SHOP = a_shop(
    a_version(percent("15", skus=["MUG"]), percent("7.5"), number=1, since=day(-50), cap={"USD": 2_500}),
    a_version(flat({"USD": 333}, categories=["tea"]), percent("9.99"), number=2, since=day(-20)),
    a_version(percent("6"), number=3, since=day(0, hours=1)),
)


def earning(outcome: Assessment) -> list[Target]:
    """Targets above nothing; a commission at 0 exists only where something was earned on the way."""
    return [target for target in outcome.targets if target.target_minor]


def standing(books: Books) -> dict[tuple[UUID, str], Places]:
    return {key: places for key, places in books.places.items() if places.posted_minor}


def shuffled(facts: list[Fact], dice: random.Random) -> list[list[Fact]]:
    """The facts in another order, some twice or thrice, in batches of one to four."""
    told = [*facts, *dice.choices(facts, k=dice.randrange(len(facts) + 1))]
    dice.shuffle(told)
    batches: list[list[Fact]] = []
    while told:
        size = dice.randint(1, 4)
        batches.append(told[:size])
        told = told[size:]
    return batches


fact_sets = st.builds(
    lambda order, more: [order, *more], strategies.order_facts, st.lists(strategies.facts, max_size=9)
)
dice = st.randoms(use_true_random=False)


@examples(300)
@given(fact_sets, dice)
def test_any_order_repetition_and_batching_gives_the_same_answer(facts: list[Fact], rolled: random.Random) -> None:
    at_once = Books(SHOP)
    expected = at_once.receive(facts)

    for _ in range(2):
        books = Books(SHOP)
        outcome = [books.receive(batch) for batch in shuffled(facts, rolled)][-1]

        assert earning(outcome) == earning(expected)
        assert (outcome.frozen, outcome.net_minor) == (expected.frozen, expected.net_minor)
        assert outcome.trace == expected.trace
        assert outcome.attribution.affiliate_id == expected.attribution.affiliate_id
        # Every target above 0 stands in one place: held while frozen, else pending. No history shows.
        assert standing(books) == standing(at_once)


@examples(200)
@given(fact_sets, dice)
def test_settling_on_the_way_changes_no_target_and_once_nothing_is_frozen_no_place(
    facts: list[Fact], rolled: random.Random
) -> None:
    at_once = Books(SHOP)
    expected = at_once.receive(facts)
    at_once.settle(expected)

    books, outcome = Books(SHOP), expected
    for batch in shuffled(facts, rolled):
        outcome = books.receive(batch)
        if rolled.random() < 0.5:
            books.settle(outcome)
    books.settle(outcome)

    assert earning(outcome) == earning(expected)
    assert {key: each.posted_minor for key, each in standing(books).items()} == {
        key: each.posted_minor for key, each in standing(at_once).items()
    }
    if expected.frozen:
        # Everything is still here, so all of it is held, however much was settled on the way.
        assert standing(books) == standing(at_once)
    elif all(target.settles_at is not None and target.approved_minor is None for target in earning(expected)):
        assert standing(books) == standing(at_once)


@examples(80)
@given(fact_sets, dice)
def test_erasing_people_between_any_two_deliveries_changes_nothing(facts: list[Fact], rolled: random.Random) -> None:
    """Matches are made when a customer is first seen; the order's customer must be known before the erasure."""
    first, *rest = facts
    kept, erased = Books(a_shop(*SHOP.versions[next(iter(SHOP.versions))])), Books(a_shop())
    erased.inputs.versions = kept.inputs.versions
    kept.receive([first])
    erased.receive([first])
    erased.inputs.identities = {}
    same_people = [fact for fact in rest if fact.kind is not FactKind.ORDER]

    for batch in shuffled(same_people, rolled) if same_people else []:
        assert earning(erased.receive(batch)) == earning(kept.receive(batch))
        assert erased.places == kept.places
