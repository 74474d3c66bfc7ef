"""Payouts that leave in a file: the rails without a network, what a bank says of a line, and what that means."""

import re
import unicodedata
from collections.abc import Collection, Iterable
from enum import StrEnum

from service.domain.payout import Outcome
from service.domain.withholding.model import PayeeKind


class FileRailName(StrEnum):
    """Rails whose payouts people hand over in a file."""

    SEPA_FILE = "sepa_file"
    """ISO 20022 credit transfers in euros: pain.001.001.09."""
    ALIPAY_FILE = "alipay_file"
    """Alipay's sheet for many payments at once."""
    WECHAT_FILE = "wechat_file"
    """A sheet of transfers to WeChat balances, in fen."""
    VN_BANK_FILE = "vn_bank_file"
    """A neutral sheet for Vietnamese banks; each bank's own is a column map away."""
    PAYPAL_FILE = "paypal_file"
    """PayPal's file of mass payments."""
    WISE_FILE = "wise_file"
    """Wise's sheet of payments to e-mail addresses."""


class Recipient(StrEnum):
    """What a sheet says that somebody is who is paid by it."""

    PERSON = "person"
    """Also a household, or a trader without a company."""
    COMPANY = "company"


def recipient_of(tax_kind: PayeeKind | None, *, is_taxed_as_company: bool, is_koc: bool) -> Recipient:
    """What a payee is, by its tax rule and profile; where these do not say, an agency and an operator are companies.

    tax_kind: of the tax profile, None without one.
    """
    if is_taxed_as_company or tax_kind is PayeeKind.COMPANY:
        return Recipient.COMPANY
    return Recipient.PERSON if tax_kind is not None or is_koc else Recipient.COMPANY


class FileState(StrEnum):
    """Where a file stands. What became of its lines is told by their payouts."""

    BUILT = "built"
    """Frozen and stored; nobody has had it."""
    HANDED_OVER = "handed_over"
    """Somebody has had its bytes, so all in it may be paid."""
    VOID = "void"
    """Withdrawn before anybody had it; it is given to nobody any more."""


class Said(StrEnum):
    """What a bank or wallet says of one line."""

    ACCEPTED = "accepted"
    """It took the line; nothing is booked."""
    REJECTED = "rejected"
    BOOKED = "booked"
    RETURNED = "returned"
    """The money came back; amount: all that came back so far."""


class Attested(StrEnum):
    """What two persons say of a line, by evidence, where the bank says nothing."""

    PAID = "paid"
    NOT_SENT = "not_sent"


_OF_COPIES = frozenset({"AM05", "DU01", "DU02", "DU03", "DU04", "DU05", "DUPL"})
"""By which a bank says that it has such a message, payment or id already. Source: ISO 20022, external code sets, status
and return reasons, read 2026-11."""

# Not "trùng" alone: "không trùng khớp" is a name that does not match.
_WORDS_FOR_COPIES = (
    "duplic",
    "duplik",
    "doppel",
    "dubbel",
    "doublon",
    "重复",
    "重複",
    "trùng lặp",
    "bị trùng",
    "trùng giao dịch",
    "giao dịch trùng",
    "trung lap",
)


def is_of_a_copy(said: Said, reasons: Iterable[str]) -> bool:
    """Whether what did not go, or came back, is a copy of a payment that the bank has: of the payment itself it tells nothing.

    reasons: all there are, as codes or in words. A file that is uploaded twice is rejected the second time, while all in
    it was paid by the first: who took that for a refusal would pay twice. One word too many only makes people look.
    """
    return said in {Said.REJECTED, Said.RETURNED} and any(_names_a_copy(each) for each in reasons)


def _names_a_copy(reason: str) -> bool:
    if not _OF_COPIES.isdisjoint(re.split(r"[^0-9A-Z]+", reason.upper())):
        return True
    written = unicodedata.normalize("NFKC", reason).casefold()
    return any(word in written for word in _WORDS_FOR_COPIES)


def meant(said: Collection[Said]) -> Outcome:
    """What all that a bank said of a line proves, in whatever order it came. Money that came back had been booked.

    A booking counts for more than a rejection: it is the money itself, the other a word about it.
    """
    if Said.BOOKED in said or Said.RETURNED in said:
        return Outcome.ACCEPTED
    return Outcome.REFUSED if Said.REJECTED in said else Outcome.UNKNOWN


def contradict(said: Collection[Said]) -> bool:
    """Whether a bank said of one line that it rejected and that it booked it: then people have to look."""
    return Said.REJECTED in said and meant(said) is Outcome.ACCEPTED
