"""What a second person is shown before approving a payout run: what in it is unusual, by rules that are stated."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import assert_never

from service.domain.money import round_half_away
from service.domain.payout import Excluded
from service.domain.withholding.model import Caution

TIMES = 3
"""A payout of at least so many times the median of the payee's earlier ones is unusual."""
EARLIER_MAX = 12
"""Of so many of the newest earlier payouts in the currency the median is taken, released ones left out."""
FIRST_TIMES = 5
"""A first payout of at least so many times the median of the run is unusual."""
CONCENTRATED = Fraction(1, 4)
"""A payee who gets at least this part of a run is worth a look, in a run of more than four."""
JUMPED = 2
"""A run of at least so many times the last one, or that part of it, is worth a look."""
BUCKETS_MAX = 12


class Unusual(StrEnum):
    """Why a payout stands out."""

    ABOVE_EARLIER = "above_earlier"
    """Far above what this payee got before."""
    LARGE_FIRST = "large_first"
    """The payee's first payout ever in the currency, and far above what others get."""


class RunCaution(StrEnum):
    """What is worth a look before a run is approved. None of it stops a run."""

    UNUSUAL_AMOUNTS = "unusual_amounts"
    DESTINATION_CHANGED = "destination_changed"
    """Somebody is paid to another account than the last time."""
    DESTINATION_SHARED = "destination_shared"
    """Several payees are paid to one account."""
    FIRST_PAYOUTS = "first_payouts"
    """Somebody is paid for the first time."""
    CONCENTRATED = "concentrated"
    """One payee gets a large part of it."""
    SUM_JUMPED = "sum_jumped"
    """It is far larger, or smaller, than the last run on this rail and in this currency."""
    NO_EARLIER_RUN = "no_earlier_run"
    """There is nothing to compare it with."""
    SPLIT_PAYOUTS = Caution.SPLIT_PAYOUTS.value
    """Somebody's payouts of a month are each below the threshold of a tax rule, and together reach it."""
    NOT_WITHHELD = Caution.NOT_WITHHELD.value
    """Somebody is paid gross because the merchant only has itself warned, and owes the tax."""
    LEFT_OUT = "left_out"
    """Money that is owed stays behind until somebody does something."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What cautions are decided by. earlier_net_minor: of the last run, None where there is none.

    left_out: payees who are owed something and wait for somebody, as `needs_somebody` says.
    """

    payees: int
    net_minor: int
    largest_minor: int
    unusual: int
    changed_destinations: int
    shared_destinations: int
    first_payouts: int
    split_payouts: int
    not_withheld: int
    left_out: int
    earlier_net_minor: int | None


def why_unusual(net_minor: int, *, earlier_median_minor: int | None, run_median_minor: int) -> Unusual | None:
    """Why a payout stands out, or None. earlier_median_minor: None where it is the payee's first.

    Of an even number the median is the smaller of the two in the middle, so that it is an amount that was paid.
    """
    if earlier_median_minor is None:
        return Unusual.LARGE_FIRST if net_minor >= FIRST_TIMES * max(1, run_median_minor) else None
    return Unusual.ABOVE_EARLIER if net_minor >= TIMES * max(1, earlier_median_minor) else None


def needs_somebody(reason: Excluded) -> bool:
    """Whether a payee who is left out for a reason stays unpaid, in this currency on this rail, until somebody does something."""
    match reason:
        case Excluded.AFFILIATE_NOT_APPROVED | Excluded.NO_PAYOUT_METHOD | Excluded.ACCOUNT_NOT_READY:
            return True
        case Excluded.SHARED_ACCOUNT | Excluded.OVER_LIMIT:
            return True
        case Excluded.NO_TAX_RULE | Excluded.TAX_DETAILS_MISSING:
            return True
        case Excluded.NO_TAX_REGIME | Excluded.NO_TAX_RULE_IN_FORCE | Excluded.TAX_CURRENCY:
            return True
        case Excluded.IN_DEBT | Excluded.BELOW_MINIMUM | Excluded.BELOW_RAIL_STEP:
            # There is nothing to pay yet; later commissions change that.
            return False
        case Excluded.METHOD_COOLING:
            # Time ends it, and nobody can shorten it.
            return False
        case Excluded.LIVE_ITEM | Excluded.OTHER_RAIL:
            # The other run pays, and its own states say where somebody is wanted.
            return False
        case Excluded.AFFILIATE_SUSPENDED:
            # Not a gap, but what somebody decided.
            return False
        case Excluded.METHOD_CHANGED | Excluded.TAX_RULE_CHANGED | Excluded.TAX_CHANGED | Excluded.CONTENT_CHANGED:
            # Dropped from a run that was approved; the next run pays what holds by then.
            return False
        case _:
            assert_never(reason)


def cautions(figures: Figures) -> list[RunCaution]:
    """What is worth a look, in the order of `RunCaution`."""
    found = {
        RunCaution.UNUSUAL_AMOUNTS: figures.unusual > 0,
        RunCaution.DESTINATION_CHANGED: figures.changed_destinations > 0,
        RunCaution.DESTINATION_SHARED: figures.shared_destinations > 0,
        RunCaution.FIRST_PAYOUTS: figures.first_payouts > 0,
        RunCaution.CONCENTRATED: figures.payees > 1 / CONCENTRATED
        and figures.largest_minor >= CONCENTRATED * figures.net_minor,
        RunCaution.SUM_JUMPED: figures.earlier_net_minor is not None
        and not figures.earlier_net_minor < JUMPED * figures.net_minor < JUMPED * JUMPED * figures.earlier_net_minor,
        RunCaution.NO_EARLIER_RUN: figures.earlier_net_minor is None,
        RunCaution.SPLIT_PAYOUTS: figures.split_payouts > 0,
        RunCaution.NOT_WITHHELD: figures.not_withheld > 0,
        RunCaution.LEFT_OUT: figures.left_out > 0,
    }
    return [caution for caution in RunCaution if found[caution]]


def bounds(smallest_minor: int, largest_minor: int) -> list[int]:
    """Round amounts, ascending, that part all amounts between two into at most BUCKETS_MAX groups, or few more of decades.

    A group begins at its bound; the first bound lies at or below the smallest amount. Both amounts: zero or more.
    """
    candidates = [_bounds(steps, smallest_minor, largest_minor) for steps in ((1, 2, 5), (1, 5), (1,))]
    return next((found for found in candidates if len(found) <= BUCKETS_MAX), candidates[-1])


def _bounds(steps: tuple[int, ...], smallest_minor: int, largest_minor: int) -> list[int]:
    rounds = [step * 10**power for power in range(len(str(largest_minor))) for step in steps]
    below = max((each for each in rounds if each <= smallest_minor), default=0)
    return [each for each in (0, *rounds) if below <= each <= largest_minor]


def percent(part: int, whole: int) -> str | None:
    """A part in percent with one decimal, "12.5", rounded half away from zero; None of nothing."""
    if not whole:
        return None
    tenths = round_half_away(Fraction(1000 * part, whole))
    sign = "-" if tenths < 0 else ""
    return f"{sign}{abs(tenths) // 10}.{abs(tenths) % 10}"


def change(now: int, before: int) -> str | None:
    """By how much something rose or fell, in percent with its sign: "+12.5", "-3.0", "0.0"; None where it was nothing."""
    told = percent(now - before, before)
    return f"+{told}" if told is not None and now > before and told != "0.0" else told
