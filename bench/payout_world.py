"""A payout being sent, in the small: what the database, the workers and the provider have, and the service's own words on it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import NamedTuple, cast
from uuid import UUID

from service.domain.payout import (
    ABSENCE_AFTER,
    LISTINGS_APART,
    OWNER_DEAD_AFTER,
    SEND_WINDOW,
    Answer,
    AnswerKind,
    Outcome,
)
from service.payouts.execute import verdict_of_answer, verdict_of_listing
from service.payouts.providers.model import Listing, Rail, Transfer
from service.payouts.send import LEASE, Leased, ask

Minutes = int
"""Since the newest attempt was first sent; what is older is below zero."""


def minutes_of(span: timedelta) -> Minutes:
    return span // timedelta(minutes=1)


LEASE_M, WINDOW_M, ABSENCE_M, DEAD_M = (
    minutes_of(span) for span in (LEASE, SEND_WINDOW, ABSENCE_AFTER, OWNER_DEAD_AFTER)
)
KEY_KEPT_M = 24 * 60
"""A provider may forget a key that is older. Source: Stripe documentation, Idempotent requests, read 2026-11."""
TRAVELS_M = ABSENCE_M - WINDOW_M
"""A request arrives within this time or never. A process that sleeps between its last look at the clock and the first byte
counts as such a request."""
STEP_M = minutes_of(LISTINGS_APART) + 5
END_M = ABSENCE_M + 1 + 2 * STEP_M
GRID = (0, 30, 4 * 60, WINDOW_M - 5, WINDOW_M + 1, KEY_KEPT_M + 30, ABSENCE_M + 1, ABSENCE_M + 1 + STEP_M, END_M)
"""Moments at which anything may be done: just sent, lease over, first and second sending both on their way, just before
and after the last sending, key forgotten, absence provable once, twice, and for ever after."""
ANCIENT_M = -3000

Lease = tuple[int, int, Minutes, Minutes]
"""(number of the attempt, its sendings, when it was first sent, end of the lease)."""

EPOCH = datetime(2026, 11, 20, tzinfo=UTC)
_NOBODY = UUID(int=0)


class Variant(StrEnum):
    """Mistakes. Each changes one thing of the rules."""

    NEW_KEY_ON_ANY_ERROR = "new key on any error"
    """Every answer but success counts as a failure, and is tried again under a new key."""
    SAME_KEY_FOR_EVER = "same key for ever"
    """What is unknown is sent again with its key, however old that is."""
    NOT_LISTED_SO_AGAIN = "not listed, so again"
    """A single listing without it proves that it was not done, whenever it is made."""
    SECOND_REFUSAL_TRUSTED = "second refusal trusted"
    """A refusal counts although an earlier sending may still travel."""
    SLEEPER_SENDS = "sleeper sends"
    """A worker does not look at its lease and the age of the key before it sends."""
    NO_FENCE = "no fence"
    """A worker records although its lease is somebody else's by now."""
    OLD_LISTING_TRUSTED = "old listing trusted"
    """A worker that slept sends again because of what it saw before it slept."""
    REFUSED_LOOK_UP_TRUSTED = "refused look-up trusted"
    """That a look-up was refused counts as a refusal of what was sent."""
    WAITS_FOR_EVER = "waits for ever"
    """What no look-up finds stays unknown."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may go wrong in one history."""

    crashes: int = 3
    faults: int = 4
    attempts: int = 3
    workers: int = 2


class Stage(StrEnum):
    """What a worker does next with the attempt it has in hand."""

    SEND = "send"
    LOOK = "look"
    READ = "read"
    """It has a listing."""
    RECORD = "record"


class Attempt(NamedTuple):
    """A row. lease_until, next_at, listed: as the service's columns."""

    outcome: Outcome
    sends: int = 0
    lease_until: Minutes = 0
    next_at: Minutes = 0
    listed: tuple[Minutes, ...] = ()


class Hand(NamedTuple):
    """A worker with an attempt in hand, as it read it. holds: its fence is still the row's.

    listing: what it saw, READ only: (trouble, transfers by attempt, when asked). verdict: RECORD only.
    """

    stage: Stage
    number: int
    holds: bool
    sends: int
    first: Minutes
    lease_until: Minutes
    listed: tuple[Minutes, ...]
    listing: tuple[str, tuple[int, ...], Minutes] = ("", (), 0)
    verdict: str = ""


class Key(NamedTuple):
    """A key that the provider knows, and what it says to it again and again."""

    number: int
    says: str
    at: Minutes


class State(NamedTuple):
    """All there is. done: transfers by attempt. travelling: (attempt, when sent)."""

    now: Minutes = 0
    attempts: tuple[Attempt, ...] = ()
    workers: tuple[Hand, ...] = ()
    keys: tuple[Key, ...] = ()
    travelling: tuple[tuple[int, Minutes], ...] = ()
    done: tuple[int, ...] = ()
    faults: int = 0
    crashes: int = 0


def is_double(state: State) -> bool:
    """Whether the money is out twice."""
    return sum(state.done) > 1


def is_wrong(state: State) -> bool:
    """Whether a record contradicts what the provider has done."""
    return any(
        made > 0
        if attempt.outcome in {Outcome.REFUSED, Outcome.ABSENT}
        else attempt.outcome is Outcome.ACCEPTED and not made
        for attempt, made in zip(state.attempts, state.done, strict=True)
    )


def is_settled(state: State) -> bool:
    """Whether the record says how it ended: paid, or certainly not, so that a person may decide."""
    return bool(state.attempts) and state.attempts[-1].outcome in {Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ABSENT}


# The service's own words.


@cache
def moment(minutes: Minutes) -> datetime:
    return EPOCH + timedelta(minutes=minutes)


@cache
def listing_of(trouble: str, done: tuple[int, ...]) -> Listing:
    if trouble:
        return Listing(trouble=Answer(AnswerKind(trouble), code="told"))
    return Listing(
        tuple(
            Transfer(_NOBODY, number, f"tr_{number}_{again}", 100, 0, "USD", "acct")
            for number, made in enumerate(done, start=1)
            for again in range(made)
        )
    )


class _Told:
    """A rail that answers what was decided for it, and lists what is there then."""

    def __init__(self, answer: Answer, listing: Listing) -> None:
        self._answer = answer
        self._listing = listing
        self.was_asked = False

    def send(self, _request: bytes, _idempotency_key: str) -> Answer:
        self.was_asked = True
        return self._answer

    def find(self, _request: bytes) -> Listing:
        return self._listing


def _as_leased(lease: Lease, listed: tuple[Minutes, ...] = ()) -> Leased:
    number, sends, first, until = lease
    return Leased(
        merchant_id=_NOBODY,
        id=_NOBODY,
        item_id=_NOBODY,
        number=number,
        key=str(number),
        request=b"",
        fence=0,
        sends=sends,
        first_sent_at=moment(first),
        lease_until=moment(until),
        listed_empty=tuple(moment(at) for at in listed),
    )


@cache
def asked(lease: Lease, now: Minutes, answers: AnswerKind, done: tuple[int, ...]) -> tuple[bool, Outcome]:
    """Whether a worker sends, and what it then makes of the answer."""
    attempt = _as_leased(lease)
    rail = _Told(Answer(answers, code="told"), listing_of("", done))
    answer = ask(cast("Rail", rail), attempt, lambda: moment(now))
    return rail.was_asked, verdict_of_answer(attempt, answer).outcome


@cache
def looked_up(
    lease: Lease,
    listed: tuple[Minutes, ...],
    trouble: str,
    done: tuple[int, ...],
    asked_at: Minutes,
) -> tuple[Outcome, tuple[Minutes, ...]]:
    verdict = verdict_of_listing(_as_leased(lease, listed), listing_of(trouble, done), at=moment(asked_at))
    return verdict.outcome, tuple(sorted({minutes_of(at - EPOCH) for at in verdict.listed_empty}))
