"""What keeps money in: limits of payouts, runs, days and months, and whether a rail has the money it is to send."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class LimitKind(StrEnum):
    PAYOUT = "payout"
    """The largest single payout; whoever is owed more is left out of runs. Limits of a day or a month do the same."""
    RUN = "run"
    """The most a run may send; a larger one is neither submitted nor approved."""
    APPROVAL = "approval"
    """The most a run may send that one key approves."""
    DAY = "day"
    """The most that is handed to rails on one day of the merchant's; the rest waits for the next."""
    MONTH = "month"
    """The most that is handed to rails in one month of the merchant's: its budget."""


_OF_ONE_PAYOUT = (LimitKind.PAYOUT, LimitKind.DAY, LimitKind.MONTH)


def largest_payout(limits: Mapping[LimitKind, int]) -> int | None:
    """The largest single payout that limits let pass, in minor units; None where nothing limits it.

    One that is larger than a day's or a month's limit would wait for ever.
    """
    return min((limits[kind] for kind in _OF_ONE_PAYOUT if kind in limits), default=None)


class WaitsFor(StrEnum):
    """Why an executing run hands nothing over now."""

    RAIL_STOPPED = "rail_stopped"
    GATE_CLOSED = "gate_closed"
    """The database was restored: nothing is sent until it was compared with the rails."""
    FUNDS = "funds"
    """The rail has less than the run still has to send."""
    FUNDS_UNKNOWN = "funds_unknown"
    """The rail could not say what it has."""
    DAY_LIMIT = "day_limit"
    MONTH_LIMIT = "month_limit"


class FundingState(StrEnum):
    NOT_KEPT = "not_kept"
    """The rail keeps no balance that could be asked for."""
    ENOUGH = "enough"
    SHORT = "short"
    UNKNOWN = "unknown"
    """It was asked and did not say."""


@dataclass(frozen=True, slots=True)
class Room:
    """What may still be handed over. minor: None where nothing limits it. binds: the narrowest limit."""

    minor: int | None = None
    binds: WaitsFor | None = None

    def narrowed(self, limit_minor: int | None, used_minor: int, binds: WaitsFor) -> "Room":
        """This room under one more limit."""
        if limit_minor is None:
            return self
        left_minor = max(0, limit_minor - used_minor)
        return self if self.minor is not None and self.minor <= left_minor else Room(left_minor, binds)


def fitting(amounts: Iterable[tuple[UUID, int]], room: Room) -> frozenset[UUID]:
    """Which payouts fit, in the order in which they come; one too large for what is left lets smaller ones pass."""
    left = room.minor
    if left is None:
        return frozenset(each for each, _ in amounts)
    fit: set[UUID] = set()
    for each, amount_minor in amounts:
        if amount_minor <= left:
            fit.add(each)
            left -= amount_minor
    return frozenset(fit)


def funding_of(*, needed_minor: int, available_minor: int | None, is_known: bool) -> FundingState:
    """available_minor: what the rail says it has; None where it keeps no balance. is_known: False when it did not say."""
    if not is_known:
        return FundingState.UNKNOWN
    if available_minor is None:
        return FundingState.NOT_KEPT
    return FundingState.ENOUGH if available_minor >= needed_minor else FundingState.SHORT
