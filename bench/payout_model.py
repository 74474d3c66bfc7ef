"""Visit every state that sending one payout can come to: none may pay twice, record what is not so, or lead nowhere.

What can happen in a step, and what is taken for granted, stands in `bench/payout_steps.py`. Beside the rules as they are,
mistakes are tried, each of which has to be found out; of each the shortest way to the harm is printed.
"""

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench import show
from bench.payout_steps import TIME_PASSES, steps
from bench.payout_world import Bounds, State, Variant, is_double, is_settled, is_wrong

HARM_MAX = 20
"""The search of a mistake ends when so many states do harm; one would do."""
MISTAKES = Bounds(crashes=1, faults=2, attempts=2)
"""Within these each mistake shows."""
TOLD_EVERY = 5_000


@dataclass(slots=True)
class Found:
    """What a search came to. trace: the shortest way to the first harm."""

    states: int = 0
    steps: int = 0
    double: int = 0
    wrong: int = 0
    stuck: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """States whose newest attempt is so."""
    trace: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not (self.double or self.wrong or self.stuck)


def search(
    bounds: Bounds,
    variant: Variant | None = None,
    *,
    harm_max: int | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Found:
    """Visit all states within bounds, breadth first. harm_max: end when so many states do harm.

    A state is stuck when no record of how it ended can be reached from it although nothing goes wrong any more. What
    comes after a double payment or a wrong record is not asked.
    """
    found = Found()
    number_of: dict[State, int] = {State(): 0}
    states = [State()]
    came_from, came_by = array("q", [-1]), [""]
    calm = array("q"), array("q")
    ends: list[int] = []
    for number, state in enumerate(_growing(states)):
        if number % TOLD_EVERY == 0:
            tell(number)
        if state.attempts:
            found.outcomes[state.attempts[-1].outcome.value] += 1
        if is_settled(state):
            ends.append(number)
        if is_double(state) or is_wrong(state):
            found.double += is_double(state)
            found.wrong += is_wrong(state)
            found.trace = found.trace or _way(states, came_from, came_by, number)
            ends.append(number)
            if found.double + found.wrong == harm_max:
                break
            continue
        for step in steps(state, bounds, variant):
            found.steps += 1
            after = number_of.setdefault(step.state, len(states))
            if after == len(states):
                states.append(step.state)
                came_from.append(number)
                came_by.append(step.what)
            if step.calm:
                calm[0].append(number)
                calm[1].append(after)
    else:
        stuck = _cut_off(len(states), calm, ends)
        found.stuck = len(stuck)
        if stuck and not found.trace:
            found.trace = _way(states, came_from, came_by, stuck[0])
    found.states = len(states)
    return found


def _growing(states: list[State]) -> Iterator[State]:
    """All states, those that are found meanwhile too."""
    number = 0
    while number < len(states):
        yield states[number]
        number += 1


def _cut_off(count: int, calm: "tuple[array[int], array[int]]", ends: list[int]) -> list[int]:
    """States from which none of `ends` can be reached by calm steps."""
    # Steps by the state they lead to: those to state s are at begins[s] to begins[s + 1].
    begins = array("q", bytes(8 * (count + 1)))
    for after in calm[1]:
        begins[after + 1] += 1
    for number in range(count):
        begins[number + 1] += begins[number]
    place, leads_from = array("q", begins), array("q", bytes(8 * len(calm[0])))
    for before, after in zip(*calm, strict=True):
        leads_from[place[after]] = before
        place[after] += 1
    reached = bytearray(count)
    waiting = list(ends)
    for number in waiting:
        reached[number] = 1
    while waiting:
        number = waiting.pop()
        for before in leads_from[begins[number] : begins[number + 1]]:
            if not reached[before]:
                reached[before] = 1
                waiting.append(before)
    return [number for number in range(count) if not reached[number]]


def _way(states: list[State], came_from: "array[int]", came_by: list[str], number: int) -> list[str]:
    way: list[str] = []
    while number > 0:
        if came_by[number] != TIME_PASSES:
            way.append(f"{_age(states[number].now)} {came_by[number]}")
        number = came_from[number]
    return way[::-1]


def _age(minutes: int) -> str:
    return f"{minutes // 60}:{minutes % 60:02}"


def prove(n: int | None, seed: int | None) -> bool:
    """Search the rules with at most n crashes (3), then each mistake. Returns whether only the mistakes do harm."""
    del seed
    bounds = Bounds() if n is None else Bounds(crashes=n)
    show.say(
        f"Up to {bounds.crashes} crashes, {bounds.faults} faults of the provider, {bounds.attempts} attempts, "
        f"{bounds.workers} workers of whom any may sleep."
    )
    began = time.monotonic()
    with show.counting("States of the rules as they are") as tell:
        good = search(bounds, tell=tell)
    seconds = time.monotonic() - began
    mistakes = {}
    with show.progress("Mistakes", len(Variant)) as tell:
        for done, variant in enumerate(Variant, start=1):
            mistakes[variant] = search(MISTAKES, variant, harm_max=HARM_MAX)
            tell(done)
    _tables(good, mistakes, seconds)
    if good.trace:
        show.say("The shortest way to harm: " + "; ".join(good.trace))
    for variant, found in mistakes.items():
        show.say(f"{variant.value}, hours and minutes since first sent: {'; '.join(found.trace)}")
    for variant, found in mistakes.items():
        verdict = "PASSES and must not" if found.holds else "FAILS as it must"
        show.say(f"variant {variant.name.lower()}: {_counts(found)} {verdict}")
    show.result(
        "payout-model",
        states=good.states,
        double=good.double,
        wrong=good.wrong,
        stuck=good.stuck,
        steps=good.steps,
        mistakes=len(mistakes),
        found_out=sum(not found.holds for found in mistakes.values()),
        seconds=round(seconds),
    )
    return good.holds and not any(found.holds for found in mistakes.values())


def _counts(found: Found) -> str:
    return f"double={found.double} wrong={found.wrong} stuck={found.stuck}"


def _tables(good: Found, mistakes: dict[Variant, Found], seconds: float) -> None:
    outcomes = [(outcome, f"{number:,}") for outcome, number in good.outcomes.most_common()]
    show.table(f"{good.states:,} states, {good.steps:,} steps, {seconds:.0f} s", ("newest attempt", "states"), outcomes)
    rows = [
        (variant.value, f"{found.states:,}", f"{found.double}", f"{found.wrong}", f"{found.stuck}")
        for variant, found in mistakes.items()
    ]
    show.table(f"Mistakes, searched until {HARM_MAX} harms", ("mistake", "states", "double", "wrong", "stuck"), rows)
