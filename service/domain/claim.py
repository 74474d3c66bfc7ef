"""Claims: what a KOC says is wrong with what an order earned, and what the books answer at once."""

from enum import StrEnum


class ClaimKind(StrEnum):
    MISSING_ORDER = "missing_order"
    """The order is not among the KOC's commissions."""
    WRONG_AMOUNT = "wrong_amount"
    """It is, and earns another amount than it should."""
    WRONG_KOC = "wrong_koc"
    """It was credited to somebody else."""


class ClaimState(StrEnum):
    OPEN = "open"
    """The merchant decides. Silence decides nothing, however late it is."""
    ANSWERED = "answered"
    """The books answered it: the order is the claimant's already. Nobody has to decide."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class ClaimOutcome(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"


class AnswerCode(StrEnum):
    """What the books say of the order now; the first of these that is true."""

    UNKNOWN_ORDER = "unknown_order"
    """No order of this number has come here."""
    TOO_EARLY = "too_early"
    """Only events about the order have come, not the order itself: who brought it cannot be said yet."""
    CREDITED_TO_YOU = "credited_to_you"
    CREDITED_TO_ANOTHER = "credited_to_another"
    CREDITED_TO_NOBODY = "credited_to_nobody"


def answer_code(*, known: bool, arrived: bool, yours: bool, credited: bool) -> AnswerCode:
    """yours: the claimant is credited with the order or earns on it. credited: somebody is."""
    if not known:
        return AnswerCode.UNKNOWN_ORDER
    if yours:
        return AnswerCode.CREDITED_TO_YOU
    if not arrived:
        return AnswerCode.TOO_EARLY
    return AnswerCode.CREDITED_TO_ANOTHER if credited else AnswerCode.CREDITED_TO_NOBODY


def settles_itself(kind: ClaimKind, code: AnswerCode) -> bool:
    """Whether the answer leaves nothing to decide: who earns too little on an own order still has a claim."""
    return code is AnswerCode.CREDITED_TO_YOU and kind is not ClaimKind.WRONG_AMOUNT


def bare_number(told: str) -> str:
    """An order number as people write it, without blanks around it and the sign many shops put before it."""
    return told.strip().removeprefix("#").strip()
