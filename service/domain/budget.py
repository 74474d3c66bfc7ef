"""Budgets: what a programme is to cost at most, and what follows when it does."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
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


class Turn(StrEnum):
    """What became of a budget since it was looked at."""

    NEAR = "near"
    """Most of it is taken."""
    REACHED = "reached"
    """All of it is."""
    REOPENED = "reopened"
    """It was raised above the limit that was reached, and above what is taken."""


def turn(*, used_minor: int, limit_minor: int, reached_limit_minor: int | None, warned: bool) -> Turn | None:
    """What became of a budget; None where nothing did.

    reached_limit_minor: the limit that was reached, if one was. warned: whether its merchant knows that it is near.
    """
    if reached_limit_minor is not None:
        return Turn.REOPENED if used_minor < limit_minor and limit_minor > reached_limit_minor else None
    if used_minor >= limit_minor:
        return Turn.REACHED
    return Turn.NEAR if is_near(used_minor, limit_minor) and not warned else None


@dataclass(frozen=True, slots=True)
class Running:
    """How a programme runs by its newest word, also if that is yet to begin. since: None where nobody ever said."""

    since: datetime | None = None
    effect: PauseEffect = PauseEffect.NONE
    by_budget: bool = False


def effect_once_taken(at_limit: AtLimit, running: Running) -> PauseEffect | None:
    """How a programme is to run once a budget is taken; None where it runs so already, or is stopped altogether."""
    effect = effect_of(at_limit)
    if effect in {PauseEffect.NONE, running.effect} or running.effect is PauseEffect.STOP:
        return None
    return effect


def effect_once_raised(others: Iterable[AtLimit], running: Running) -> PauseEffect | None:
    """How a programme is to run once a budget is raised; None where it goes on, as when a person has said how.

    others: what the programme's other budgets do that are taken.
    """
    if not running.by_budget:
        return None
    effects = {effect_of(each) for each in others}
    strictest = next((each for each in (PauseEffect.STOP, PauseEffect.REVIEW) if each in effects), PauseEffect.NONE)
    return None if strictest is running.effect else strictest
