"""Rails whose payouts leave in a sheet: a preset column map each, in whose place a merchant may put its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from service.domain.destination import AccountType, Destination
from service.domain.payout_file import FileRailName
from service.payouts.providers import result_sheet, result_xml, sheets
from service.payouts.providers.file_model import Header, Rendered, ResultFile, Row, UnusablePayer, frozen_row
from service.payouts.providers.model import Sending
from service.payouts.providers.sheets import SheetTemplate

_PRESETS = Path(__file__).resolve().parents[1] / "templates"

ACCOUNTS: Mapping[FileRailName, frozenset[AccountType]] = {
    FileRailName.ALIPAY_FILE: frozenset({AccountType.ALIPAY}),
    FileRailName.WECHAT_FILE: frozenset({AccountType.WECHAT}),
    FileRailName.VN_BANK_FILE: frozenset({AccountType.BANK}),
    FileRailName.PAYPAL_FILE: frozenset({AccountType.PAYPAL}),
    FileRailName.WISE_FILE: frozenset({AccountType.WISE, AccountType.IBAN, AccountType.BANK}),
}
"""The rails that are sheets, and what they pay to."""


def preset(name: FileRailName) -> dict[str, Any]:
    """Return the column map that a rail comes with, as JSON."""
    made: dict[str, Any] = json.loads((_PRESETS / f"{name}.json").read_text(encoding="utf-8"))
    return made


@dataclass(frozen=True)
class SheetFileRail:
    """One such rail."""

    name: str
    accounts: frozenset[AccountType]
    template: SheetTemplate

    @classmethod
    def of_preset(cls, name: FileRailName) -> Self:
        """Return the rail with the column map it comes with."""
        return cls(name.value, ACCOUNTS[name], SheetTemplate.of_json(preset(name)))

    def adapted(self, template: Mapping[str, Any] | None) -> Self:
        return self if template is None else replace(self, template=SheetTemplate.of_json(template))

    @property
    def needs_payer(self) -> bool:
        return self.template.needs_payer

    @property
    def rows_max(self) -> int:
        return self.template.rows_max

    @property
    def reference_chars_max(self) -> int:
        return self.template.reference_chars_max

    def serves(self, *, is_test: bool) -> bool:  # noqa: ARG002 - a file moves nothing by itself, and a test merchant's says so in its name
        return True

    def step_minor(self, currency: str) -> int | None:
        return self.template.step_minor(currency)

    def build_request(self, sending: Sending) -> bytes:
        return frozen_row(sending)

    def check_payer(self, payer: Destination) -> None:
        if self.needs_payer and not payer.holder:
            raise UnusablePayer("Its sheet names the account's holder; say who that is.")

    def why_unfit(self, row: Row, header: Header) -> str | None:
        if row.destination.type not in self.accounts:
            return "other_kind_of_account"
        if row.destination.type is AccountType.BANK and not (row.destination.bank_code or row.destination.bank_name):
            return "bank_missing"
        return sheets.why_unfit(self.template, row, header)

    def render(self, rows: Sequence[Row], header: Header) -> Rendered:
        return sheets.render(self.template, rows, header)

    def read_result(self, content: bytes, *, currency: str) -> ResultFile:
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return result_xml.read(content)
        return result_sheet.read(content, currency=currency, template=self.template)
