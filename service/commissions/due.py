"""What falls due by a merchant's clock, in the order in which one part makes way for the next."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from service.commissions.advance import give_due
from service.commissions.budgets import watch_budgets
from service.commissions.reassess import reassess_due
from service.commissions.settle import settle_due


@dataclass(frozen=True, slots=True)
class Done:
    """settled: commissions of which something became payable. advanced: advances given on what is late for its pay day."""

    settled: int
    advanced: int


def do_due(engine: Engine, merchant_id: UUID) -> Done:
    """Assess again what waits for it, settle, give advances, and look at the budgets.

    In units of work of its own: each is short, and what they settled stays settled if a later one fails. Safe to run
    twice at once and to repeat.
    """
    reassess_due(engine, merchant_id)
    settled = settle_due(engine, merchant_id=merchant_id)
    advanced = give_due(engine, merchant_id=merchant_id)
    watch_budgets(engine, merchant_id)
    return Done(settled, advanced)
