"""The rail sepa_file: credit transfers in euros as ISO 20022 pain.001.001.09, by the sepaxml library.

Addresses are structured, with town and country, or left out: banks refuse unstructured ones since 15 November 2026
(European Payments Council, SEPA Credit Transfer rulebook). Each transfer is asked to be booked alone, so that a statement
names its end-to-end id.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self
from xml.etree.ElementTree import SubElement

from schwifty import IBAN
from schwifty.exceptions import SchwiftyException
from sepaxml import SepaTransfer  # type: ignore[import-untyped] # the library has no types

from service.domain.destination import AccountType, Destination
from service.domain.latin import without_marks
from service.domain.payout_file import FileRailName
from service.payouts.providers import result_sheet, result_xml
from service.payouts.providers.file_model import (
    REFERENCE_CHARS_MAX,
    Header,
    Rendered,
    ResultFile,
    Row,
    UnusablePayer,
    frozen_row,
)
from service.payouts.providers.model import Sending

SCHEMA = "pain.001.001.09"
CURRENCY = "EUR"
AMOUNT_MAX_MINOR = 99_999_999_999
"""The largest transfer of the scheme: 999,999,999.99 EUR."""
NAME_MAX, TOWN_MAX, STREET_MAX, POSTCODE_MAX = 70, 35, 70, 16

# The letters that every bank of the scheme takes: EPC217-08, "SEPA conversion table".
_REFUSED = re.compile(r"[^A-Za-z0-9/?:().,'+ -]+")
_BIC = re.compile(r"[A-Z0-9]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?")
_COUNTRY = re.compile(r"[A-Z]{2}")


class SepaFileRail:
    """Pays to IBANs in euros. Its files name the merchant's own account."""

    name = FileRailName.SEPA_FILE.value
    accounts = frozenset({AccountType.IBAN})
    needs_payer = True
    rows_max = 10_000
    reference_chars_max = REFERENCE_CHARS_MAX

    def adapted(self, template: Mapping[str, Any] | None) -> Self:  # noqa: ARG002 - what a bank wants is a standard, no column map
        return self

    def serves(self, *, is_test: bool) -> bool:  # noqa: ARG002 - a file moves nothing by itself, and a test merchant's says so in its name
        return True

    def step_minor(self, currency: str) -> int | None:
        return 1 if currency == CURRENCY else None

    def build_request(self, sending: Sending) -> bytes:
        return frozen_row(sending)

    def check_payer(self, payer: Destination) -> None:
        if not _is_iban(payer.account):
            raise UnusablePayer("The account is no IBAN: write it whole, with its country and check digits.")
        if not _epc(payer.holder):
            raise UnusablePayer("Name the account's holder, in Latin letters, as the bank knows it.")
        if payer.bank_code and not _BIC.fullmatch(payer.bank_code):
            raise UnusablePayer("bank_code is a BIC of 8 or 11 capital letters and digits, or left out.")
        if bool(payer.town) != bool(payer.country):
            raise UnusablePayer("An address has a town and a country, or is left out: banks refuse half of one.")

    def why_unfit(self, row: Row, header: Header) -> str | None:  # noqa: ARG002 - hangs on nothing of the file
        to = row.destination
        if to.type not in self.accounts:
            return "other_kind_of_account"
        if not _is_iban(to.account):
            return "account_not_writable"
        if row.currency != CURRENCY:
            return "currency_not_paid"
        if not 0 < row.amount_minor <= AMOUNT_MAX_MINOR:
            return "amount_too_large"
        if not to.holder:
            return "holder_missing"
        return None if _epc(to.holder) else "holder_not_latin"

    def render(self, rows: Sequence[Row], header: Header) -> Rendered:
        payer = header.payer
        assert payer is not None
        account = {
            "name": _epc(payer.holder)[:NAME_MAX],
            "IBAN": payer.account,
            "batch": True,
            "currency": CURRENCY,
            "address": _address(payer),
        }
        if payer.bank_code:
            account["BIC"] = payer.bank_code
        transfer = _Transfer(account, header)
        for row in rows:
            to = row.destination
            payment = {
                "name": _epc(to.holder)[:NAME_MAX],
                "IBAN": to.account,
                "amount": row.amount_minor,
                "execution_date": header.pays_on,
                "description": f"Commission {row.payout.removeprefix('pay_')}",
                "endtoend_id": row.reference,
                "address": _address(to),
            }
            if _BIC.fullmatch(to.bank_code):
                payment["BIC"] = to.bank_code
            transfer.add_payment(payment)
        content: bytes = transfer.export(validate=False)
        name = f"{'TEST-' if header.is_test else ''}sepa-{header.message_id}.xml"
        return Rendered(content, "application/xml", name)

    def read_result(self, content: bytes, *, currency: str) -> ResultFile:
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return result_xml.read(content)
        return result_sheet.read(content, currency=currency)


class _Transfer(SepaTransfer):  # type: ignore[misc] # the library has no types
    """The library's file with our ids and times in it, where it would take random ones and its own clock."""

    def __init__(self, account: dict[str, Any], header: Header) -> None:
        self._header = header
        super().__init__(account, schema=SCHEMA, clean=False)

    def _finalize_batch(self) -> None:
        super()._finalize_batch()
        ours = {
            "MsgId": self._header.message_id,
            "CreDtTm": self._header.built_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "PmtInfId": f"{self._header.message_id}-1",
            "BtchBookg": "false",
        }
        for node in self._xml.iter():
            if node.tag in ours:
                node.text = ours[node.tag]
            elif node.tag == "FinInstnId" and not len(node):
                # What the scheme wants where the BIC is left to be found by the IBAN.
                SubElement(SubElement(node, "Othr"), "Id").text = "NOTPROVIDED"


def _address(of: Destination) -> dict[str, str]:
    """A structured address where there is a whole one, else none: half a one is refused, and none is needed in the EEA."""
    town = _epc(of.town)[:TOWN_MAX]
    if not town or not _COUNTRY.fullmatch(of.country):
        return {}
    street, postcode = _epc(of.street)[:STREET_MAX], _epc(of.postcode)[:POSTCODE_MAX]
    parts = {"street_name": street, "postcode": postcode, "town": town, "country": of.country}
    return {name: text for name, text in parts.items() if text}


def _epc(text: str) -> str:
    """A text in the letters that banks take; empty where letters of another script are in it, which nobody may guess."""
    plain = without_marks(text)
    if any(letter.isalpha() and not letter.isascii() for letter in plain):
        return ""
    plain = " ".join(_REFUSED.sub(" ", plain.replace("&", "+")).split())
    # The scheme reads a slash at either end, and two together, as marks of its own.
    return re.sub("//+", "/", plain).strip("/ ")


def _is_iban(text: str) -> bool:
    try:
        IBAN(text)
    except SchwiftyException:
        return False
    return text == text.replace(" ", "").upper()
