"""Column maps of rails whose payouts leave in sheets: what a rail comes with, and what a merchant puts in its place."""

from datetime import date
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import Field, Strict
from sqlmodel import Session

from service.api.deps import Admin, Caller, Reader, ReadSession, WriteSession, lock_merchant
from service.api.etags import IfMatch
from service.api.views import Body, Currency, KeyId, Moment, Text, View
from service.domain.destination import AccountType, Destination
from service.domain.payout_file import FileRailName, Recipient, Said
from service.payouts.file_settings import newest_template
from service.payouts.providers.file_model import REFERENCE_CHARS_MAX, REFERENCE_CHARS_MIN, Header, Row, reference_of
from service.payouts.providers.sheet_file import ACCOUNTS, preset
from service.payouts.providers.sheets import (
    COLUMNS_MAX,
    PREAMBLE_MAX,
    ROWS_MAX,
    TEXT_MAX,
    AmountFormat,
    Delimiter,
    Encoding,
    Letters,
    LineEnd,
    SheetFormat,
    SheetTemplate,
    grid,
    render,
    why_unfit,
)
from service.tables.parties import MerchantRow
from service.tables.payout_files import PayoutTemplateRow

router = APIRouter(tags=["payout files"])

_CellText = Annotated[Text, Field(max_length=TEXT_MAX)]


class SheetName(StrEnum):
    """The rails that are sheets."""

    ALIPAY_FILE = FileRailName.ALIPAY_FILE.value
    WECHAT_FILE = FileRailName.WECHAT_FILE.value
    VN_BANK_FILE = FileRailName.VN_BANK_FILE.value
    PAYPAL_FILE = FileRailName.PAYPAL_FILE.value
    WISE_FILE = FileRailName.WISE_FILE.value


class SheetColumn(Body):
    """A column of a sheet."""

    title: _CellText = ""
    value: Annotated[_CellText, Field(examples=["{holder}"])]
    """What its cells are filled with: text with placeholders such as {account}, {holder} and {amount}."""
    letters: Letters = Letters.AS_IS
    chars_max: Annotated[int, Strict(), Field(ge=1, le=TEXT_MAX)] | None = None
    """Longer texts are cut; an account or id that does not fit refuses its row."""
    needed: Annotated[bool, Strict()] = False
    """An empty cell refuses its row."""
    needed_from_minor: Annotated[int, Strict(), Field(ge=1, le=10**15)] | None = None
    """From this amount on an empty cell refuses its row."""
    words: Annotated[
        dict[_CellText, _CellText],
        Field(default_factory=dict, max_length=50, examples=[{"person": "PERSON", "company": "INSTITUTION"}]),
    ]
    """What your bank calls what would stand there, such as what {recipient} is; what is not named stays."""


class SheetResults(Body):
    """How the sheet is read in which the bank or wallet tells what became of the rows."""

    reference: Annotated[_CellText, Field(min_length=1)]
    """Title of the column with the end-to-end id; it may stand at the end of a remark."""
    status: Annotated[_CellText, Field(min_length=1)]
    words: Annotated[dict[str, Said], Field(min_length=1, max_length=50, examples=[{"Success": "booked"}])]
    """What the words in the status column mean."""
    amount: _CellText = ""
    amount_format: AmountFormat = AmountFormat.DECIMAL
    reason: _CellText = ""


_OWN_COLUMNS: list[dict[str, Any]] = [
    {"title": "Account", "value": "{account}", "needed": True},
    {"title": "Amount", "value": "{amount}"},
    {"title": "Reference", "value": "{reference}"},
]


class SheetTemplateDocument(Body):
    """A column map."""

    format: SheetFormat
    columns: Annotated[list[SheetColumn], Field(min_length=1, max_length=COLUMNS_MAX, examples=[_OWN_COLUMNS])]
    rows_max: Annotated[int, Strict(), Field(ge=1, le=ROWS_MAX, examples=[1000])]
    """Most rows of one file; what is more goes into another."""
    currencies: Annotated[tuple[Currency, ...], Field(max_length=200)] = ()
    """Those it can pay; all, where it names none."""
    whole_units: Annotated[tuple[Currency, ...], Field(max_length=200)] = ()
    """Currencies with decimals that are paid without."""
    amount: AmountFormat = AmountFormat.DECIMAL
    amount_min_minor: Annotated[int, Strict(), Field(ge=1, le=10**15)] = 1
    reference_chars_max: Annotated[int, Strict(), Field(ge=REFERENCE_CHARS_MIN, le=REFERENCE_CHARS_MAX)] = (
        REFERENCE_CHARS_MAX
    )
    """Characters there is room for in an end-to-end id."""
    preamble: Annotated[
        tuple[Annotated[tuple[_CellText, ...], Field(max_length=COLUMNS_MAX)], ...], Field(max_length=PREAMBLE_MAX)
    ] = ()
    """Rows before the titles, with placeholders such as {message_id}, {date}, {total}, {count} and {payer_account}."""
    titles: Annotated[bool, Strict()] = True
    """Whether the columns' titles are written."""
    encoding: Encoding = Encoding.UTF_8
    delimiter: Delimiter = Delimiter.COMMA
    line_end: LineEnd = LineEnd.CRLF
    file_name: Annotated[_CellText, Field(min_length=1)] = "{message_id}"
    """Without its ending; the message id makes it one of a kind."""
    results: SheetResults | None = None

    def checked(self) -> dict[str, Any]:
        """Return it as JSON. Raises UnusableTemplate."""
        told = self.model_dump(mode="json")
        SheetTemplate.of_json(told)
        return told


class PayoutTemplatePut(Body):
    template: SheetTemplateDocument


class PayoutTemplateView(View):
    """The column map that files of a rail are built by."""

    name: SheetName
    version: int
    """0 for the one that the rail comes with."""
    template: SheetTemplateDocument
    created_by: KeyId | None
    created_at: Moment | None


class PayoutTemplatePreviewCreate(Body):
    template: SheetTemplateDocument | None = None
    """The map to try; without one, the map that counts now."""


class PreviewRowView(View):
    cells: list[str]


class PayoutTemplatePreviewView(View):
    """A file of three made-up payments."""

    file_name: str
    media_type: str
    bytes: int
    rows: list[PreviewRowView]
    unfit: list[str]
    """Why made-up payments could not be written by this map, if so."""


@router.get("/v1/payout-templates/{name}")
def get_payout_template(name: SheetName, caller: Reader, session: ReadSession) -> PayoutTemplateView:
    """Return the column map that files of a rail are built by now."""
    return _view(session, caller.merchant_id, name)


@router.put("/v1/payout-templates/{name}")
def set_payout_template(
    name: SheetName, asked: PayoutTemplatePut, caller: Admin, session: WriteSession, expected: IfMatch
) -> PayoutTemplateView:
    """Build files of a rail by a column map of your own from now on. Files that are built stay as they are.

    The same map again makes no new version. Try it with `POST /v1/payout-templates/{name}/preview` first.
    """
    # Two that set it at once would both number theirs alike.
    lock_merchant(session, caller)
    expected.check(_view(session, caller.merchant_id, name))
    told = asked.template.checked()
    newest = newest_template(session, caller.merchant_id, name)
    if newest is None or newest.template != told:
        session.add(
            PayoutTemplateRow(
                merchant_id=caller.merchant_id,
                rail=name,
                version=1 if newest is None else newest.version + 1,
                template=told,
                created_by=caller.key_id,
                created_at=caller.now,
            )
        )
        session.flush()
    return _view(session, caller.merchant_id, name)


@router.post("/v1/payout-templates/{name}/preview")
def preview_payout_template(
    name: SheetName, asked: PayoutTemplatePreviewCreate, caller: Reader, session: WriteSession
) -> PayoutTemplatePreviewView:
    """Show what a file would look like by a column map, with three made-up payments in your name. Nothing is kept."""
    document = asked.template or _view(session, caller.merchant_id, name).template
    template = SheetTemplate.of_json(document.checked())
    rows, header = _made_up(template, name, caller, merchant=session.get_one(MerchantRow, caller.merchant_id).name)
    flaws = [why_unfit(template, row, header) for row in rows]
    fit = [row for row, flaw in zip(rows, flaws, strict=True) if flaw is None]
    if not fit:
        return PayoutTemplatePreviewView(
            file_name="", media_type="", bytes=0, rows=[], unfit=[str(each) for each in flaws]
        )
    rendered = render(template, fit, header)
    return PayoutTemplatePreviewView(
        file_name=rendered.file_name,
        media_type=rendered.media_type,
        bytes=len(rendered.content),
        rows=[PreviewRowView(cells=[str(cell) for cell in row]) for row in grid(template, fit, header)],
        unfit=[flaw for flaw in flaws if flaw is not None],
    )


_ACCOUNTS = {
    AccountType.ALIPAY: "ann@example.com",
    AccountType.WECHAT: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
    AccountType.BANK: "0011223344",
    AccountType.IBAN: "DE89370400440532013000",
    AccountType.PAYPAL: "ann@example.com",
    AccountType.WISE: "ann@example.com",
}


_HOLDERS = (
    ("Nguyễn Thị Đào", Recipient.PERSON),
    ("王芳", Recipient.PERSON),
    ("Ann O'Neil Ltd", Recipient.COMPANY),
)


def _made_up(template: SheetTemplate, name: SheetName, caller: Caller, *, merchant: str) -> tuple[list[Row], Header]:
    """merchant: the real name, so that a map whose encoding has no letters for it is found out here."""
    account_type = min(ACCOUNTS[FileRailName(name.value)] & _ACCOUNTS.keys())
    currency = template.currencies[0] if template.currencies else "USD"
    account = _ACCOUNTS[account_type]
    rows = [
        Row(
            reference=reference_of(UUID(int=number), 1, chars_max=template.reference_chars_max),
            payout=f"pay_{number:026d}",
            amount_minor=number * 1_000_000,
            currency=currency,
            destination=Destination(
                type=account_type,
                account=account,
                holder=holder,
                bank_code="970436",
                bank_name="Ngân hàng Ngoại thương",
                branch="Hà Nội",
                country="VN",
                town="Hà Nội",
                street="1 Lý Thường Kiệt",
                postcode="100000",
            ),
            recipient=recipient,
        )
        for number, (holder, recipient) in enumerate(_HOLDERS, start=1)
    ]
    payer = Destination(type=account_type, account=account, holder="Tea Shop", bank_code="970436", bank_name="Bank")
    header = Header(
        message_id=f"{0:026d}",
        built_at=caller.now,
        pays_on=date(caller.now.year, 1, 1),
        payer=payer,
        run=f"run_{0:026d}",
        merchant=merchant,
        is_test=caller.merchant.is_test,
    )
    return rows, header


def _view(session: Session, merchant_id: UUID, name: SheetName) -> PayoutTemplateView:
    row = newest_template(session, merchant_id, name)
    template = preset(FileRailName(name.value)) if row is None else row.template
    return PayoutTemplateView(
        name=name,
        version=0 if row is None else row.version,
        template=SheetTemplateDocument.model_validate(template),
        created_by=None if row is None else row.created_by,
        created_at=None if row is None else row.created_at,
    )
