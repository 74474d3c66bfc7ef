"""Budgets: what a programme is to cost at most, and what follows when it does."""

from enum import StrEnum
from fractions import Fraction
from typing import assert_never

from service.domain.dated import PauseEffect

WARNS_AT = Fraction(4, 5)
"""The part of a budget from which on its merchant is told."""


class AtLimit(StrEnum):
    """What happens once a budget is taken. Always for orders placed from a moment to come on: none that is placed loses."""

    STOP = "stop"
    """Orders earn nothing any more."""
    REVIEW = "review"
    """They earn, and wait for a person's approval."""
    TELL = "tell"
    """Nothing; the merchant is told."""


def effect_of(at_limit: AtLimit) -> PauseEffect:
    """How the programme runs once a budget is taken."""
    match at_limit:
        case AtLimit.STOP:
            return PauseEffect.STOP
        case AtLimit.REVIEW:
            return PauseEffect.REVIEW
        case AtLimit.TELL:
            return PauseEffect.NONE
        case _:
            assert_never(at_limit)


def is_near(used_minor: int, limit_minor: int) -> bool:
    return used_minor >= limit_minor * WARNS_AT
