"""Versions of terms set against one another: what changed, whether it may be a cut, and when it reaches whom."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from typing import Any

from service.domain.errors import Conflict
from service.domain.money import AMOUNT_MAX_MINOR
from service.domain.periods import Cap, Ladder, Mark, Milestones, PeriodRule, Scale, Step
from service.domain.program import (
    AttributionTerms,
    Base,
    BindingRank,
    Model,
    Precedence,
    ProgramVersion,
    SelfPurchase,
    TechnicalFee,
    Terms,
    Window,
    versions_for,
)
from service.domain.rules import Flat, Per, Percent, Rule
from service.domain.settlement import Approval, Settlement, StatementSettlement
from service.domain.written import Amounts, amounts_of, rate_of

JsonObject = dict[str, Any]

_UNLIMITED = AMOUNT_MAX_MINOR + 1
"""Stands for a cap that is not there: more than any amount."""


class NoticeTooShort(Conflict):
    """The programme promises that terms are told some hours before they can take anything away."""

    code = "notice-too-short"
    title = "The terms may be a cut and begin too soon"


# When a version reaches an affiliate.


def reaches_at(versions: Sequence[ProgramVersion], *, enrolled_at: datetime, number: int) -> datetime:
    """From when on a version counts for an affiliate without better ones before it counting too.

    It waits for each version that `versions_for` still protects and that may give more for some order; a rise and a
    newcomer wait for nothing, and neither does what changes no amount. versions: of one programme, sorted by valid_from. Never before it begins, nor before enrolled_at.
    Raises KeyError when there is no version of this number.
    """
    place = {version.number: place for place, version in enumerate(versions)}[number]
    version = versions[place]
    latest = max(version.valid_from, enrolled_at)
    for before, successor in pairwise(versions[: place + 1]):
        until = successor.valid_from + timedelta(days=before.terms.notice_days)
        if (
            successor.valid_from > enrolled_at
            and until > latest
            and not _surely_pays_no_less(old=before.terms, new=version.terms)
        ):
            latest = until
    return latest


def reached(versions: Sequence[ProgramVersion], *, enrolled_at: datetime, at: datetime) -> ProgramVersion | None:
    """The newest version that counts for an affiliate at a moment and has reached it; None before the first begins.

    Where one of two versions surely gives no less than the other, it is the one by which an order placed then is paid.
    """
    # The newest comes first.
    for version in versions_for(versions, placed_at=at, enrolled_at=enrolled_at):
        if reaches_at(versions, enrolled_at=enrolled_at, number=version.number) <= at:
            return version
    return None


def reaches_next(
    versions: Sequence[ProgramVersion], *, enrolled_at: datetime, at: datetime
) -> tuple[ProgramVersion, datetime] | None:
    """The next version to take the place of the one that has reached an affiliate, and when; None if none will."""
    now = reached(versions, enrolled_at=enrolled_at, at=at)
    moments = {version.valid_from for version in versions} | {
        reaches_at(versions, enrolled_at=enrolled_at, number=version.number) for version in versions
    }
    for moment in sorted(moment for moment in moments if moment > at):
        then = reached(versions, enrolled_at=enrolled_at, at=moment)
        if then is not None and then != now:
            return then, moment
    return None


# Whether new terms may be a cut.


def is_surely_no_cut(*, old: Terms, new: Terms) -> bool:
    """Whether new terms give every affiliate at least as much as the old for every order, no later and no less surely.

    Cautious: false where it would take thought. True needs each old rule in its place, the same but for what it pays;
    further rules only in components of their own; caps and minimums no tighter, notice no shorter, no higher technical
    fee, each rule of a period no worse, attribution and settlement no worse, and everything else equal. What agents have
    is on top, and no matter of the affiliate. (An amount per order that rises can, where the other components of a line
    already give all it is worth, still move a minor unit between lines; and so can what several share of a line that is
    rounded once.)
    """
    return (
        _surely_pays_no_less(old=old, new=new)
        and _at_least(old.payout_minimums_minor, new.payout_minimums_minor, missing=0)
        and new.notice_days >= old.notice_days
        and _attribution_no_worse(old.attribution, new.attribution)
        and _settlement_no_worse(old.settlement, new.settlement)
    )


def _surely_pays_no_less(*, old: Terms, new: Terms) -> bool:
    """Whether new terms give at least as much as the old for every order, whenever it is payable."""
    return (
        _rules_no_worse(old.rules, new.rules)
        and _at_least(new.caps_minor, old.caps_minor, missing=_UNLIMITED)
        and _fee_rate(new.technical_fee) <= _fee_rate(old.technical_fee)
        and _periods_no_worse(old.periods, new.periods)
        # What terms hold besides, also what they will hold one day, has to be the same, or to change no amount.
        and old
        == replace(
            new,
            rules=old.rules,
            caps_minor=old.caps_minor,
            payout_minimums_minor=old.payout_minimums_minor,
            notice_days=old.notice_days,
            attribution=old.attribution,
            settlement=old.settlement,
            technical_fee=old.technical_fee,
            periods=old.periods,
        )
    )


def _fee_rate(fee: TechnicalFee | None) -> Fraction:
    return Fraction(0) if fee is None else fee.rate


def _rules_no_worse(old: Sequence[Rule], new: Sequence[Rule]) -> bool:
    known = {rule.component for rule in old}
    if len(new) < len(old) or any(rule.component in known for rule in new[len(old) :]):
        return False
    # Where an amount per order competes with other rules, to raise one can move the amount to lines where it replaces more;
    # and so can another moment of an agent's approval, which decides between equal amounts.
    crowded = {
        rule.component
        for place, rule in enumerate(old)
        if _is_per_order(rule)
        and any(other.component == rule.component for index, other in enumerate(old) if index != place)
    }
    if any(
        _approval(before) != _approval(after) and before.component in crowded
        for before, after in zip(old, new, strict=False)
    ):
        return False
    return all(
        replace(after, name=before.name, agent=before.agent) == before
        or (before.component not in crowded and _rule_no_worse(before, after))
        for before, after in zip(old, new, strict=False)
    )


def _approval(rule: Rule) -> datetime | None:
    return None if rule.agent is None else rule.agent.approved_at


def _is_per_order(rule: Rule) -> bool:
    return isinstance(rule.pays, Flat) and rule.pays.per is Per.ORDER


def _rule_no_worse(old: Rule, new: Rule) -> bool:
    same = (
        replace(new, pays=old.pays, caps_per_line_minor=old.caps_per_line_minor, name=old.name, agent=old.agent) == old
    )
    return (
        same
        and _at_least(new.caps_per_line_minor, old.caps_per_line_minor, missing=_UNLIMITED)
        and _pays_no_less(old.pays, new.pays)
    )


def _pays_no_less(old: Percent | Flat, new: Percent | Flat) -> bool:
    match old, new:
        case Percent(before), Percent(after):
            return after >= before
        case Flat(before_minor, before_per), Flat(after_minor, after_per):
            return before_per is after_per and _at_least(after_minor, before_minor, missing=0)
        case _:
            return old == new


def _at_least(these: Amounts, those: Amounts, *, missing: int) -> bool:
    """Whether these are at least those in every currency. missing: what a currency that is not named stands for."""
    left, right = dict(these), dict(those)
    return all(left.get(each, missing) >= right.get(each, missing) for each in left.keys() | right.keys())


def _periods_no_worse(old: Sequence[PeriodRule], new: Sequence[PeriodRule]) -> bool:
    """Each cap of before is gone or higher, all else of before is there and gives no less, and no cap is added."""
    before, after = {rule.key: rule for rule in old}, {rule.key: rule for rule in new}
    return all(not isinstance(rule, Cap) for key, rule in after.items() if key not in before) and all(
        _period_no_worse(rule, after.get(key)) for key, rule in before.items()
    )


def _period_no_worse(old: PeriodRule, new: PeriodRule | None) -> bool:
    if new is None:
        return isinstance(old, Cap)
    if old.stretch != new.stretch:
        return False
    match old, new:
        case Cap(), Cap():
            return _at_least(new.amounts_minor, old.amounts_minor, missing=_UNLIMITED)
        case Ladder(), Ladder():
            return new.scale in {old.scale, Scale.RETROACTIVE} and _steps_no_worse(old.steps, new.steps)
        case Milestones(), Milestones():
            return _marks_no_worse(old.marks, new.marks)
        case _:
            return False


def _steps_no_worse(old: Sequence[Step], new: Sequence[Step]) -> bool:
    """Whether wherever a step of before begins, one begins at or before it in that currency, with at least its rate."""
    return all(
        any(better.rate >= step.rate and dict(better.starts_minor).get(currency, _UNLIMITED) <= start for better in new)
        for step in old
        for currency, start in step.starts_minor
    )


def _marks_no_worse(old: Sequence[Mark], new: Sequence[Mark]) -> bool:
    """Whether each mark of before has its place, is reached no later and pays no less; further ones may follow."""
    return len(new) >= len(old) and all(
        _at_least(after.pays_minor, before.pays_minor, missing=0)
        and _at_least(before.starts_minor, after.starts_minor, missing=_UNLIMITED)
        and (before.orders is None) == (after.orders is None)
        and (before.orders is None or after.orders is None or after.orders <= before.orders)
        for before, after in zip(old, new, strict=False)
    )


def _attribution_no_worse(old: AttributionTerms, new: AttributionTerms) -> bool:
    # To have one's own purchases looked at no more takes nothing from anybody.
    if new.self_purchase is SelfPurchase.ALLOW and old.self_purchase is not SelfPurchase.REJECT:
        new = replace(new, self_purchase=old.self_purchase, self_purchase_by=old.self_purchase_by)
    # A longer window adds older clicks. They take an order from nobody where the last touch counts, a click has no
    # precedence over coupons, and nothing else counts that any click beats.
    if (
        new.model is not Model.LAST
        or new.precedence is Precedence.CLICK
        or BindingRank.AFTER in {new.customer_binding, new.product_binding}
        or new.reorder_days
    ):
        return new == old
    return (
        new.window_days >= old.window_days
        and _windows_longer(old.windows, new.windows)
        and replace(new, window_days=old.window_days, windows=old.windows) == old
    )


def _windows_longer(old: Sequence[Window], new: Sequence[Window]) -> bool:
    """Whether they are for the same links, and none is shorter."""
    return len(old) == len(new) and all(
        replace(after, days=before.days) == before and after.days >= before.days
        for before, after in zip(old, new, strict=True)
    )


def _settlement_no_worse(old: Settlement, new: Settlement) -> bool:
    same = _calendar(old) == _calendar(new) and new.hold_days <= old.hold_days
    if not same or new.approval is Approval.AUTOMATIC:
        return same
    if old.approval is Approval.AUTOMATIC:
        return False
    silence = old.auto_approve_days is None or (
        new.auto_approve_days is not None and new.auto_approve_days <= old.auto_approve_days
    )
    return silence and _advance(new) >= _advance(old)


def _calendar(settlement: Settlement) -> Settlement:
    """A settlement without what only says how long it takes and who approves it."""
    plain = replace(settlement, hold_days=0, approval=Approval.MANUAL, auto_approve_days=None)
    return replace(plain, advance=None) if isinstance(plain, StatementSettlement) else plain


def _advance(settlement: Settlement) -> Fraction:
    advance = settlement.advance if isinstance(settlement, StatementSettlement) else None
    return Fraction(0) if advance is None else advance


# What changed, in the written form of terms.


class ChangeKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class ChangeEffect(StrEnum):
    """What a change alone means for affiliates as a whole."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "none"
    """It changes nothing for them."""
    UNCLEAR = "unclear"
    """It depends on the orders."""


@dataclass(frozen=True, slots=True)
class Change:
    """One place in which two terms differ. pointer: RFC 6901. old, new: JSON values, None where it was added or removed."""

    pointer: str
    kind: ChangeKind
    old: Any
    new: Any
    effect: ChangeEffect


_ABSENT = object()
_Path = tuple[str | int, ...]


def differences(old: JsonObject, new: JsonObject) -> list[Change]:
    """Where two terms differ, both complete and in their written form, in the order in which they are written.

    Rules and conditions are compared place by place. Lists of words, days or amounts, and things of another kind in one
    place, are told whole.
    """
    return list(_differences(old, new, ()))


def _differences(old: Any, new: Any, path: _Path) -> Iterator[Change]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind"):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name, _ABSENT), new.get(name, _ABSENT), (*path, name))
    elif _goes_by_place(old) and _goes_by_place(new):
        for place in range(max(len(old), len(new))):
            before, after = (each[place] if place < len(each) else _ABSENT for each in (old, new))
            yield from _differences(before, after, (*path, place))
    else:
        yield _change(old, new, path)


def _goes_by_place(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and "kind" in each for each in value)


def _change(old: Any, new: Any, path: _Path) -> Change:
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    if old is _ABSENT:
        return Change(pointer, ChangeKind.ADDED, None, new, _effect_of_more(new, path))
    if new is _ABSENT:
        return Change(pointer, ChangeKind.REMOVED, old, None, _OPPOSITE[_effect_of_more(old, path)])
    return Change(pointer, ChangeKind.CHANGED, old, new, _effect(old, new, path))


_OPPOSITE = {
    ChangeEffect.BETTER: ChangeEffect.WORSE,
    ChangeEffect.WORSE: ChangeEffect.BETTER,
    ChangeEffect.NONE: ChangeEffect.NONE,
    ChangeEffect.UNCLEAR: ChangeEffect.UNCLEAR,
}


def _effect_of_more(added: Any, path: _Path) -> ChangeEffect:
    """What it means that something is there which was not."""
    match path:
        case ("periods", _):
            return ChangeEffect.WORSE if added["kind"] == "cap" else ChangeEffect.BETTER
        case _:
            return ChangeEffect.UNCLEAR


def _effect(old: Any, new: Any, path: _Path) -> ChangeEffect:
    match path:
        case ("attribution", *_):
            return _effect_on_attribution(old, new, path)
        case ("periods", *_):
            return _effect_on_periods(old, new, path)
        case ("technical_fee",):
            return ChangeEffect.WORSE if old is None else ChangeEffect.BETTER
        case ("technical_fee", "rate"):
            return ChangeEffect.BETTER if rate_of(new) < rate_of(old) else ChangeEffect.WORSE
        case ("base",):
            return ChangeEffect.BETTER if new == Base.NET else ChangeEffect.WORSE
        case ("rules", _, "name") | ("rules", _, "agent", *_) | ("technical_fee", "payee_id"):
            # An agent's fee is on top, and its approval decides between equal amounts.
            return ChangeEffect.NONE
        case ("rules", _, "rate"):
            return ChangeEffect.BETTER if rate_of(new) > rate_of(old) else ChangeEffect.WORSE
        case ("rules", _, "amounts"):
            return _by_currency(_amounts(old), _amounts(new), missing=0)
        case ("rules", _, "cap_per_line") | ("cap_per_order",):
            return _by_currency(_amounts(old), _amounts(new), missing=_UNLIMITED)
        case ("payout_minimums",):
            return _by_currency(_amounts(new), _amounts(old), missing=0)
        case ("notice_days",):
            return ChangeEffect.BETTER if new > old else ChangeEffect.WORSE
        case ("settlement", "hold_days"):
            return ChangeEffect.BETTER if new < old else ChangeEffect.WORSE
        case ("settlement", "approval"):
            return ChangeEffect.BETTER if new == Approval.AUTOMATIC else ChangeEffect.WORSE
        case _:
            return ChangeEffect.UNCLEAR


def _effect_on_attribution(old: Any, new: Any, path: _Path) -> ChangeEffect:
    match path:
        case (_, "window_days") | (_, "reorder_days"):
            return ChangeEffect.BETTER if new > old else ChangeEffect.WORSE
        case (_, "windows"):
            before, after = ([_window(each) for each in windows] for windows in (old, new))
            return _by_order(is_no_worse=_windows_longer(before, after), is_no_better=_windows_longer(after, before))
        case (_, "self_purchase"):
            return _by_order(
                is_no_worse=(old, new) == (SelfPurchase.REVIEW, SelfPurchase.ALLOW),
                is_no_better=(old, new) == (SelfPurchase.ALLOW, SelfPurchase.REVIEW),
            )
        case (_, "customer_binding") | (_, "product_binding"):
            # What was ignored and now comes last takes an order from nobody.
            return _by_order(
                is_no_worse=(old, new) == (BindingRank.IGNORED, BindingRank.AFTER),
                is_no_better=(old, new) == (BindingRank.AFTER, BindingRank.IGNORED),
            )
        case _:
            return ChangeEffect.UNCLEAR


def _effect_on_periods(old: Any, new: Any, path: _Path) -> ChangeEffect:
    match path:
        case (_, _, "amounts"):
            return _by_currency(_amounts(old), _amounts(new), missing=_UNLIMITED)
        case (_, _, "scale"):
            return ChangeEffect.BETTER if new == Scale.RETROACTIVE else ChangeEffect.WORSE
        case (_, _, "steps"):
            steps, next_steps = (
                [Step(amounts_of(each["from"]), rate_of(each["rate"])) for each in those] for those in (old, new)
            )
            return _by_order(
                is_no_worse=_steps_no_worse(steps, next_steps), is_no_better=_steps_no_worse(next_steps, steps)
            )
        case (_, _, "marks"):
            marks, next_marks = (
                [Mark(amounts_of(each["pays"]), amounts_of(each["sales"]), each["orders"]) for each in those]
                for those in (old, new)
            )
            return _by_order(
                is_no_worse=_marks_no_worse(marks, next_marks), is_no_better=_marks_no_worse(next_marks, marks)
            )
        case _:
            return ChangeEffect.UNCLEAR


def _window(written: JsonObject) -> Window:
    return Window(written["days"], frozenset(written["content_types"]), frozenset(written["channels"]))


def _by_order(*, is_no_worse: bool, is_no_better: bool) -> ChangeEffect:
    """From how two things compare, each way."""
    if is_no_worse and is_no_better:
        return ChangeEffect.NONE
    if is_no_worse:
        return ChangeEffect.BETTER
    return ChangeEffect.WORSE if is_no_better else ChangeEffect.UNCLEAR


def _amounts(written: Sequence[JsonObject]) -> Mapping[str, int]:
    return {each["currency"]: each["amount_minor"] for each in written}


def _by_currency(less: Mapping[str, int], more: Mapping[str, int], *, missing: int) -> ChangeEffect:
    """Better where `more` is nowhere below `less`, worse where it is nowhere above, else unclear."""
    gained = [more.get(each, missing) - less.get(each, missing) for each in less.keys() | more.keys()]
    if all(each >= 0 for each in gained):
        return ChangeEffect.BETTER if any(gained) else ChangeEffect.NONE
    return ChangeEffect.WORSE if all(each <= 0 for each in gained) else ChangeEffect.UNCLEAR


def terms_hash(stored: JsonObject) -> str:
    """SHA-256, in hexadecimal digits, of terms as they are stored, written canonically (RFC 8785).

    Of the stored form and not of what is shown: that gains fields with later releases, and what was accepted does not.
    """
    written = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(written.encode()).hexdigest()
