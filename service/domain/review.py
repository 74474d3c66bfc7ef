"""Why people decide as they do: a closed list of words for each thing they may decide. Codes are never renamed.

Decisions stored before the list was closed keep the words they were made with.
"""

from enum import StrEnum


class ReviewReason(StrEnum):
    """Every word there is; each decision takes some of them."""

    APPROVED = "approved"
    CHECKED = "checked"
    EVIDENCE_RECEIVED = "evidence_received"
    AMOUNT_AGREED = "amount_agreed"
    """An approval of another amount than the terms give."""
    DECIDED_BY_MISTAKE = "decided_by_mistake"
    """An earlier decision was wrong; this one takes its place."""

    CANCELLED = "cancelled"
    RETURNED = "returned"
    CREDIT_CHECK = "credit_check"
    """The buyer's payment did not stand up."""
    TERMS_BREACH = "terms_breach"
    DUPLICATE = "duplicate"
    OUT_OF_STOCK = "out_of_stock"

    FRAUD_SUSPECTED = "fraud_suspected"
    SELF_PURCHASE_SUSPECTED = "self_purchase_suspected"
    AWAITING_EVIDENCE = "awaiting_evidence"
    QUALITY_CHECK = "quality_check"

    FIXED_FEE = "fixed_fee"
    GOODWILL = "goodwill"
    MISSING_ORDER = "missing_order"
    WRONG_AMOUNT = "wrong_amount"
    WRONG_AFFILIATE = "wrong_affiliate"
    CAMPAIGN_BONUS = "campaign_bonus"

    MISSING_TOUCH = "missing_touch"
    """The order lost the click or coupon on its way to us."""
    SELF_PURCHASE = "self_purchase"

    NOT_OUR_ORDER = "not_our_order"
    NO_EVIDENCE = "no_evidence"
    CREDITED_RIGHTLY = "credited_rightly"
    AMOUNT_RIGHT = "amount_right"
    OUTSIDE_WINDOW = "outside_window"

    OTHER = "other"
    """None of these; the note says what."""


_R = ReviewReason

APPROVE_REASONS = (_R.APPROVED, _R.CHECKED, _R.EVIDENCE_RECEIVED, _R.AMOUNT_AGREED, _R.DECIDED_BY_MISTAKE, _R.OTHER)
# The list of Awin's public template for declined transactions, read 2026-11.
REJECT_REASONS = (
    _R.CANCELLED,
    _R.RETURNED,
    _R.CREDIT_CHECK,
    _R.TERMS_BREACH,
    _R.DUPLICATE,
    _R.OUT_OF_STOCK,
    _R.OTHER,
)
HOLD_REASONS = (
    _R.FRAUD_SUSPECTED,
    _R.SELF_PURCHASE_SUSPECTED,
    _R.AWAITING_EVIDENCE,
    _R.QUALITY_CHECK,
    _R.CREDIT_CHECK,
    _R.OTHER,
)
RELEASE_REASONS = (_R.CHECKED, _R.EVIDENCE_RECEIVED, _R.DECIDED_BY_MISTAKE, _R.OTHER)
ADJUST_REASONS = (
    _R.FIXED_FEE,
    _R.GOODWILL,
    _R.MISSING_ORDER,
    _R.WRONG_AMOUNT,
    _R.WRONG_AFFILIATE,
    _R.CAMPAIGN_BONUS,
    _R.OTHER,
)
ATTRIBUTE_REASONS = (
    _R.MISSING_TOUCH,
    _R.MISSING_ORDER,
    _R.WRONG_AFFILIATE,
    _R.SELF_PURCHASE,
    _R.TERMS_BREACH,
    _R.DECIDED_BY_MISTAKE,
    _R.OTHER,
)
CLAIM_REJECT_REASONS = (
    _R.NOT_OUR_ORDER,
    _R.NO_EVIDENCE,
    _R.CREDITED_RIGHTLY,
    _R.AMOUNT_RIGHT,
    _R.OUTSIDE_WINDOW,
    _R.CANCELLED,
    _R.RETURNED,
    _R.SELF_PURCHASE,
    _R.TERMS_BREACH,
    _R.DUPLICATE,
    _R.OTHER,
)
