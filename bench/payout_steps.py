"""What can happen next while one payout is sent: our workers, an adversarial provider, time; in the small, but by the real rules.

What an answer, a listing or the age of a key means is asked of the service's own code: `ask`, `verdict_of_answer`,
`verdict_of_listing`, `may_send`, `next_look`. Copied here are only the conditions under which its statements change rows.
"""

from collections.abc import Iterator
from typing import NamedTuple

from bench.payout_world import (
    ABSENCE_M,
    ANCIENT_M,
    DEAD_M,
    END_M,
    EPOCH,
    GRID,
    KEY_KEPT_M,
    LEASE_M,
    STEP_M,
    TRAVELS_M,
    Attempt,
    Bounds,
    Hand,
    Key,
    Lease,
    Minutes,
    Stage,
    State,
    Variant,
    asked,
    is_settled,
    listing_of,
    looked_up,
    minutes_of,
    moment,
)
from service.domain.payout import RESEND_AFTER, AnswerKind, Outcome, may_send
from service.domain.payout import next_look as next_look_at

TIME_PASSES = "time passes"


class Step(NamedTuple):
    """calm: nothing goes wrong in it."""

    what: str
    state: State
    calm: bool = True


def steps(state: State, bounds: Bounds, variant: Variant | None = None) -> Iterator[Step]:
    """All that can happen next; what can have no effect any more is left out of the states."""
    for step in _steps(state, bounds, variant):
        yield step._replace(state=_without_the_idle(step.state, variant))


def _without_the_idle(state: State, variant: Variant | None) -> State:
    """The same without workers whose next steps change nothing, keys under which nothing can arrive, counts past counting.

    Who has no lease any more only matters while it would still send, or where it may record all the same.
    """
    workers = []
    for hand in state.workers:
        if hand.holds or variant is Variant.NO_FENCE:
            workers.append(hand)
        elif hand.stage is Stage.SEND and _would_send(hand, state.now, variant):
            workers.append(hand._replace(sends=2, listed=()))
    arriving = {number for number, _ in state.travelling}
    arriving |= {hand.number for hand in workers if hand.stage is Stage.SEND}
    attempts = state.attempts
    if attempts and not is_settled(state):
        if variant is Variant.SAME_KEY_FOR_EVER or may_send(now=moment(state.now), first_sent_at=EPOCH):
            arriving.add(len(attempts))
        else:
            # It will not be sent any more: what counts from now on is whether it was sent more than once, and whether
            # whoever sent it last is dead.
            last = attempts[-1]
            until = last.lease_until if last.lease_until + DEAD_M > state.now else ANCIENT_M
            attempts = (*attempts[:-1], last._replace(sends=min(last.sends, 2), lease_until=until))
            workers = [
                hand._replace(sends=min(hand.sends, 2), lease_until=until) if hand.holds else hand for hand in workers
            ]
    keys = tuple(key for key in state.keys if key.number in arriving)
    return state._replace(attempts=attempts, workers=_sorted(workers), keys=keys)


def _steps(state: State, bounds: Bounds, variant: Variant | None) -> Iterator[Step]:
    yield from _time(state)
    yield from _arrivals_of_travelling(state)
    if len(state.workers) < bounds.workers:
        yield from _idle(state, bounds, variant)
    for index, hand in enumerate(state.workers):
        others = state.workers[:index] + state.workers[index + 1 :]
        if state.crashes < bounds.crashes:
            yield Step("a worker dies", state._replace(workers=others, crashes=state.crashes + 1), calm=False)
        match hand.stage:
            case Stage.SEND:
                yield from _send(state, hand, others, bounds, variant)
            case Stage.LOOK:
                yield from _look(state, hand, others, bounds)
            case Stage.READ:
                yield from _read(state, hand, others, variant)
            case Stage.RECORD:
                yield _record(state, hand, others, variant)


# Time.


def _time(state: State) -> Iterator[Step]:
    last = state.attempts[-1] if state.attempts else None
    if last is None or last.outcome is Outcome.PLANNED:
        return
    is_over = last.outcome in {Outcome.ACCEPTED, Outcome.REFUSED, Outcome.ABSENT}
    if is_over and not state.workers and not state.travelling:
        return
    later = next((at for at in GRID if at > state.now), END_M + STEP_M)
    if any(at + TRAVELS_M <= later for _, at in state.travelling):
        return
    if later <= END_M:
        yield Step(TIME_PASSES, state._replace(now=later))
    elif last.next_at > state.now:
        yield Step(TIME_PASSES, _long_after(state))


def _long_after(state: State) -> State:
    """A quarter of an hour later, when every age that counts is reached: the clock stands, what is recent moves back."""

    def back(at: Minutes, no_further: Minutes) -> Minutes:
        return max(at - STEP_M, min(at, no_further))

    def listed(times: tuple[Minutes, ...]) -> tuple[Minutes, ...]:
        return tuple(sorted({back(at, ABSENCE_M) for at in times}))

    last = state.attempts[-1]
    moved = last._replace(next_at=back(last.next_at, state.now), listed=listed(last.listed))
    workers = [
        hand._replace(listed=listed(hand.listed), listing=(*hand.listing[:2], back(hand.listing[2], ABSENCE_M)))
        for hand in state.workers
    ]
    return state._replace(
        attempts=(*state.attempts[:-1], moved),
        workers=_sorted(workers),
        keys=tuple(key._replace(at=back(key.at, END_M - KEY_KEPT_M)) for key in state.keys),
        travelling=tuple((number, at - STEP_M) for number, at in state.travelling),
    )


def _from_now_on(state: State) -> State:
    """The same with the clock at 0: another attempt is about to be sent for the first time."""

    def earlier(at: Minutes) -> Minutes:
        return max(at - state.now, ANCIENT_M)

    workers = [
        hand._replace(
            first=earlier(hand.first),
            lease_until=earlier(hand.lease_until),
            listed=tuple(earlier(at) for at in hand.listed),
            listing=(*hand.listing[:2], earlier(hand.listing[2])),
        )
        for hand in state.workers
    ]
    return state._replace(
        now=0,
        workers=_sorted(workers),
        keys=tuple(key._replace(at=earlier(key.at)) for key in state.keys),
        travelling=tuple((number, earlier(at)) for number, at in state.travelling),
    )


def _on_grid(at: Minutes) -> Minutes:
    """The first moment of the grid that is not before it."""
    return next((point for point in GRID if point >= at), at)


# Workers.


def _idle(state: State, bounds: Bounds, variant: Variant | None) -> Iterator[Step]:
    """What a worker with free hands may do; people's word is part of planning."""
    last = state.attempts[-1] if state.attempts else None
    number = len(state.attempts)
    if last is None or last.outcome in {Outcome.REFUSED, Outcome.ABSENT}:
        if number < bounds.attempts:
            planned = (*(Attempt(each.outcome) for each in state.attempts), Attempt(Outcome.PLANNED))
            yield Step(f"attempt {number + 1} is planned", state._replace(attempts=planned, done=(*state.done, 0)))
        return
    if last.outcome is Outcome.PLANNED:
        yield Step(f"attempt {number} is leased", _leased(_from_now_on(state), last))
    if last.outcome is Outcome.IN_FLIGHT and last.lease_until < state.now:
        expired = last._replace(outcome=Outcome.UNKNOWN, next_at=state.now)
        yield Step("its lease is over, so it is unknown", _changed(state, expired, lost=True))
    if last.outcome is Outcome.UNKNOWN and last.next_at <= state.now:
        if variant is Variant.SAME_KEY_FOR_EVER:
            yield Step("it is leased again without a look-up", _leased(state, last))
            return
        waits = last._replace(next_at=_on_grid(state.now + LEASE_M))
        hand = Hand(
            Stage.LOOK, number, holds=True, sends=last.sends, first=0, lease_until=last.lease_until, listed=last.listed
        )
        yield Step("it is leased to be looked up", _changed(state, waits, lost=True, taken=hand))


def _leased(state: State, last: Attempt) -> State:
    """The newest attempt in flight, in the hand of one more worker."""
    until = state.now + LEASE_M
    # From the last of its waits on, one sending more is as many as before.
    leased = Attempt(Outcome.IN_FLIGHT, min(last.sends + 1, len(RESEND_AFTER)), until, _on_grid(until), last.listed)
    hand = Hand(
        Stage.SEND, len(state.attempts), holds=True, sends=leased.sends, first=0, lease_until=until, listed=last.listed
    )
    return _changed(state, leased, lost=True, taken=hand)


def _changed(state: State, last: Attempt, *, lost: bool = False, taken: Hand | None = None) -> State:
    """The newest attempt's row changed. lost: its fence rose, so whoever had it has it no more. taken: who has it now."""
    number = len(state.attempts)
    workers = [hand._replace(holds=False) if lost and hand.number == number else hand for hand in state.workers]
    if taken is not None:
        workers.append(taken)
    return state._replace(attempts=(*state.attempts[:-1], last), workers=_sorted(workers))


def _lease_to_ask(hand: Hand, now: Minutes, variant: Variant | None) -> Lease:
    """What `ask` goes by."""
    match variant:
        case Variant.SECOND_REFUSAL_TRUSTED:
            return hand.number, 1, hand.first, hand.lease_until
        case Variant.SAME_KEY_FOR_EVER:
            return hand.number, hand.sends, now, hand.lease_until
        case Variant.SLEEPER_SENDS:
            return hand.number, hand.sends, now, now + LEASE_M
        case _:
            return hand.number, hand.sends, hand.first, hand.lease_until


def _would_send(hand: Hand, now: Minutes, variant: Variant | None) -> bool:
    return asked(_lease_to_ask(hand, now, variant), now, AnswerKind.UNKNOWN, ())[0]


def _send(
    state: State, hand: Hand, others: tuple[Hand, ...], bounds: Bounds, variant: Variant | None
) -> Iterator[Step]:
    lease = _lease_to_ask(hand, state.now, variant)
    if not _would_send(hand, state.now, variant):
        told = hand._replace(stage=Stage.RECORD, verdict=Outcome.UNKNOWN.value)
        yield Step("it slept, so it does not send", state._replace(workers=_sorted([*others, told])))
        return
    for arrival in _arrivals(state, hand.number):
        if arrival.fault and state.faults >= bounds.faults:
            continue
        _, outcome = asked(lease, state.now, arrival.answers, arrival.state.done)
        if variant is Variant.NEW_KEY_ON_ANY_ERROR and outcome is Outcome.UNKNOWN:
            outcome = Outcome.REFUSED
        told = hand._replace(stage=Stage.RECORD, verdict=outcome.value)
        after = arrival.state._replace(workers=_sorted([*others, told]), faults=state.faults + arrival.fault)
        yield Step(arrival.what, after, calm=not arrival.fault)


def _look(state: State, hand: Hand, others: tuple[Hand, ...], bounds: Bounds) -> Iterator[Step]:
    for trouble in ("", AnswerKind.UNKNOWN.value, AnswerKind.REFUSED.value):
        if trouble and state.faults >= bounds.faults:
            return
        read = hand._replace(stage=Stage.READ, listing=(trouble, () if trouble else state.done, state.now))
        after = state._replace(workers=_sorted([*others, read]), faults=state.faults + bool(trouble))
        yield Step(f"the look-up is answered: {trouble or state.done}", after, calm=not trouble)


def _read(state: State, hand: Hand, others: tuple[Hand, ...], variant: Variant | None) -> Iterator[Step]:
    trouble, done, asked_at = hand.listing
    listing = listing_of(trouble, done)
    if listing.is_empty_for(hand.number) and may_send(now=moment(state.now), first_sent_at=moment(hand.first)):
        if variant is Variant.NOT_LISTED_SO_AGAIN:
            yield Step("it is not listed", _with_verdict(state, hand, others, Outcome.ABSENT, hand.listed))
            return
        last = state.attempts[-1]
        is_fresh = last.next_at > state.now or variant is Variant.OLD_LISTING_TRUSTED
        if hand.holds and last.outcome is Outcome.UNKNOWN and is_fresh:
            yield Step("it is not listed, so it is leased again", _leased(state._replace(workers=others), last))
        else:
            slept = _with_verdict(state, hand, others, Outcome.UNKNOWN, ())
            yield Step("it is not listed, but it slept since it asked", slept)
        return
    lease = (hand.number, hand.sends, hand.first, hand.lease_until)
    outcome, listed = looked_up(lease, hand.listed, trouble, done, asked_at)
    if variant is Variant.WAITS_FOR_EVER and outcome is Outcome.ABSENT:
        outcome = Outcome.UNKNOWN
    if variant is Variant.REFUSED_LOOK_UP_TRUSTED and trouble == AnswerKind.REFUSED and hand.sends == 1:
        outcome = Outcome.REFUSED
    yield Step(f"the listing says {outcome.value}", _with_verdict(state, hand, others, outcome, listed))


def _with_verdict(
    state: State, hand: Hand, others: tuple[Hand, ...], outcome: Outcome, listed: tuple[Minutes, ...]
) -> State:
    told = hand._replace(stage=Stage.RECORD, verdict=outcome.value, listed=listed, listing=("", (), 0))
    return state._replace(workers=_sorted([*others, told]))


def _record(state: State, hand: Hand, others: tuple[Hand, ...], variant: Variant | None) -> Step:
    free, number = state._replace(workers=others), len(state.attempts)
    last = state.attempts[-1]
    has_fence = hand.holds or variant is Variant.NO_FENCE
    if hand.number != number or not has_fence or last.outcome not in {Outcome.IN_FLIGHT, Outcome.UNKNOWN}:
        return Step(f"{hand.verdict} of attempt {hand.number} is not recorded: it has it no more", free)
    outcome = Outcome(hand.verdict)
    if outcome is not Outcome.UNKNOWN:
        return Step(f"recorded: {outcome.value}", _changed(free, Attempt(outcome)))
    again = next_look_at(now=moment(state.now), first_sent_at=moment(hand.first), sends=hand.sends)
    row = last._replace(outcome=outcome, next_at=_on_grid(minutes_of(again - EPOCH)), listed=hand.listed)
    return Step("recorded: unknown", _changed(free, row))


def _sorted(workers: list[Hand]) -> tuple[Hand, ...]:
    # Who is who does not matter.
    return tuple(sorted(workers))


# The provider.


class _Arrival(NamedTuple):
    """What becomes of a request. answers: as its adapter reads it."""

    what: str
    state: State
    answers: AnswerKind
    fault: bool


def _arrivals(state: State, number: int) -> Iterator[_Arrival]:
    """All that a provider may do with a request that was just sent."""
    unknown = AnswerKind.UNKNOWN
    known = next((key for key in state.keys if key.number == number), None)
    if known is not None:
        yield _Arrival(f"the key is known: {known.says} again", state, AnswerKind(known.says), fault=False)
    if known is None or state.now - known.at >= KEY_KEPT_M:
        done = _done(state, number, AnswerKind.ACCEPTED)
        failed_done, failed = _done(state, number, unknown), _kept(state, number, unknown)
        yield _Arrival("done", done, AnswerKind.ACCEPTED, fault=False)
        yield _Arrival("done, its answer lost", done, unknown, fault=True)
        yield _Arrival("done, and answered 500", failed_done, unknown, fault=True)
        yield _Arrival("not done, 500 kept under its key", failed, unknown, fault=True)
        refused = _kept(state, number, AnswerKind.REFUSED)
        yield _Arrival("refused, kept under its key", refused, AnswerKind.REFUSED, fault=True)
    yield _Arrival("refused before its key is looked at", state, AnswerKind.REFUSED, fault=True)
    yield _Arrival("429, or the line breaks", state, unknown, fault=True)
    travels = tuple(sorted((*state.travelling, (number, state.now))))
    yield _Arrival("still travelling", state._replace(travelling=travels), unknown, fault=True)


def _arrivals_of_travelling(state: State) -> Iterator[Step]:
    """Requests that were under way and that nobody waits for any more arrive, or never will."""
    for index, (number, _) in enumerate(state.travelling):
        if index and state.travelling[index - 1] == state.travelling[index]:
            continue
        left = state._replace(travelling=state.travelling[:index] + state.travelling[index + 1 :])
        yield Step(f"a travelling request of attempt {number} is lost", left)
        known = next((key for key in state.keys if key.number == number), None)
        if known is None or state.now - known.at >= KEY_KEPT_M:
            yield Step(f"a travelling request of attempt {number} is done", _done(left, number, AnswerKind.ACCEPTED))


def _done(state: State, number: int, says: AnswerKind) -> State:
    done = tuple(made + (index == number) for index, made in enumerate(state.done, start=1))
    return _kept(state._replace(done=done), number, says)


def _kept(state: State, number: int, says: AnswerKind) -> State:
    keys = [key for key in state.keys if key.number != number]
    return state._replace(keys=tuple(sorted([*keys, Key(number, says.value, state.now)])))
