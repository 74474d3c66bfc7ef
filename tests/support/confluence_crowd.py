"""Confluence of orders that matter to each other, on PostgreSQL: the shop of `tests.support.crowd`, by the pure domain."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.order import Fact
from tests.support.confluence_books import Stage, rows_of
from tests.support.crowd import CROWDED, CROWDED_BEFORE
from tests.support.crowd_books import told_at_once


def _by_domain(sets: Mapping[str, Sequence[Fact]]) -> dict[str, list[tuple[Any, ...]]]:
    """What orders and periods come to, all told at once."""
    books = told_at_once({name: tuple(facts) for name, facts in sets.items()})
    expected = {name: rows for name, outcome in books.outcomes.items() if (rows := rows_of(outcome))}
    for (payee_id, program_id, rule, begins_on, currency), period in books.periods().items():
        target, held = period.given.target_minor, period.given.held_minor
        if target or held:
            row = (payee_id, currency, target, held, target)
            expected.setdefault(f"period {program_id} {rule} {begins_on}", []).append(row)
    return {name: sorted(rows, key=repr) for name, rows in expected.items()}


CROWD = Stage(CROWDED, CROWDED_BEFORE, _by_domain, batch_max=4)
