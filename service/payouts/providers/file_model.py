"""What every rail without a network looks like to the stage: rows to write, a file of them, and what comes back."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol, Self
from uuid import UUID

from service.domain.destination import AccountType, Destination
from service.domain.errors import Invalid
from service.domain.payout_file import Recipient, Said
from service.infra import ids
from service.payouts.providers.model import Payable, Sending

REFERENCE_CHARS_MIN, REFERENCE_CHARS_MAX = 16, 35
"""Of an end-to-end id. ISO 20022 allows 35; fewer than 16 could name two lines by one."""

RESULT_LINES_MAX = 20_000
REASON_CHARS_MAX = 100
"""Of a bank's reason that are kept."""


class UnreadableResult(Invalid):
    """A result is XML (pain.002, camt.052, camt.053, camt.054) or a CSV with the columns end_to_end_id and status."""

    code = "unreadable-payout-result"
    title = "The file of results cannot be read"


@dataclass(frozen=True, slots=True)
class Row:
    """One payment in a file. reference: its end-to-end id. payout: the item's public id. recipient: what the payee is."""

    reference: str
    payout: str
    amount_minor: int
    currency: str
    destination: Destination
    recipient: Recipient = Recipient.PERSON


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. message_id: never used for another. pays_on: by the merchant's calendar, today or later.

    payer: the merchant's own account, None where it has named none. run: its public id.
    """

    message_id: str
    built_at: datetime
    pays_on: date
    payer: Destination | None
    run: str
    merchant: str
    is_test: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file as it is handed over."""

    content: bytes
    media_type: str
    file_name: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a result says of one line. reference: None for every line of the file.

    amount_minor, currency, account: as the bank has them; None and empty where it does not say. reason: its code.
    is_of_a_copy: the bank says it of a copy of the payment, and nothing of the payment itself.
    """

    reference: str | None
    said: Said
    amount_minor: int | None = None
    currency: str = ""
    account: str = ""
    reason: str = ""
    booked_on: date | None = None
    is_of_a_copy: bool = False


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A bank's answer, read. message_id: of the file it answers, empty where it answers none in particular."""

    format: str
    told: tuple[Told, ...]
    message_id: str = ""


class FileRail(Payable, Protocol):
    """A way for money to leave in a file that people hand over. Pure: the same rows are the same bytes."""

    @property
    def accounts(self) -> frozenset[AccountType]:
        """The kinds of accounts it pays to."""

    @property
    def needs_payer(self) -> bool:
        """Whether its files name the merchant's own account."""

    @property
    def rows_max(self) -> int:
        """Most rows of one file."""

    @property
    def reference_chars_max(self) -> int:
        """Characters of an end-to-end id that its files have room for."""

    def adapted(self, template: Mapping[str, Any] | None) -> Self:
        """Return it as a merchant's own column map has it; as it is where there is none."""

    def check_payer(self, payer: Destination) -> None:
        """Raise UnusablePayer unless its files can be paid from this account."""

    def why_unfit(self, row: Row, header: Header) -> str | None:
        """Return the first reason, as a code, why a row cannot stand in a file; None where it can."""

    def render(self, rows: Sequence[Row], header: Header) -> Rendered:
        """Write a file of rows that fit."""

    def read_result(self, content: bytes, *, currency: str) -> ResultFile:
        """Read what a bank answered. Raises UnreadableResult."""


class UnusablePayer(Invalid):
    """The rail's files need more of the paying account, or it is written otherwise."""

    code = "unusable-payer-account"
    title = "The rail's files cannot be paid from this account"


def frozen_row(sending: Sending) -> bytes:
    """The content of a row, fixed when its attempt is planned: whom, where and how much."""
    return json.dumps(
        {
            "item": str(sending.item_id),
            "attempt": sending.number,
            "destination": sending.destination,
            "amount_minor": sending.amount_minor,
            "currency": sending.currency,
        },
        sort_keys=True,
        ensure_ascii=False,
    ).encode()


def row_of(request: bytes, *, reference_chars_max: int, recipient: Recipient = Recipient.PERSON) -> Row:
    """Return the row that `frozen_row` fixed, with its end-to-end id."""
    frozen = json.loads(request)
    item_id = UUID(frozen["item"])
    return Row(
        reference=reference_of(item_id, frozen["attempt"], chars_max=reference_chars_max),
        payout=ids.encode("pay", item_id),
        amount_minor=frozen["amount_minor"],
        currency=frozen["currency"],
        destination=Destination.of_text(frozen["destination"]),
        recipient=recipient,
    )


def reference_of(item_id: UUID, number: int, *, chars_max: int) -> str:
    """The end-to-end id of an attempt: capital letters and digits, made of the item and the attempt alone.

    The item's id and the number where there is room for both, else as many digits of a hash of them as there is room for.
    """
    written = f"{_digits(item_id)}{number}"
    if len(written) <= chars_max:
        return written
    digest = hashlib.sha256(item_id.bytes + number.to_bytes(4)).digest()
    # An id's first digit holds three bits only; the others are full.
    return _digits(UUID(bytes=digest[:16]))[1:][:chars_max]


def message_id_of(file_id: UUID) -> str:
    """What a file is known by at the bank: 26 capital letters and digits."""
    return _digits(file_id)


def _digits(value: UUID) -> str:
    return ids.encode("", value)[1:].upper()
