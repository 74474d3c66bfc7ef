"""The accounts that a merchant's files are paid from, one for each rail."""

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import Field, Strict
from sqlmodel import Session

from service.api.deps import Caller, FinanceMaker, Reader, ReadSession, Services, WriteSession, lock_merchant
from service.api.etags import IfMatch
from service.api.views import Body, KeyId, Moment, Name, Text, View
from service.domain.destination import Destination
from service.domain.errors import Missing
from service.domain.payout_file import FileRailName
from service.payouts.file_settings import PAYER, account_of, newest_payer
from service.payouts.providers import FILE_RAILS
from service.tables.payout_files import PayerAccountRow

router = APIRouter(tags=["payout files"])

_Part = Annotated[Text, Field(max_length=140)]
_HINT_CHARACTERS = 4


class PayerAccountPut(Body):
    """An account of the merchant."""

    account: Annotated[
        str, Strict(), Field(min_length=1, max_length=100, pattern=r"^\S(.*\S)?$", examples=["DE89370400440532013000"])
    ]
    """What it is known by: an IBAN for sepa_file, the login's e-mail address for alipay_file. Shown to nobody afterwards."""
    holder: Name
    """As the bank knows it."""
    bank_code: _Part = ""
    """A BIC for sepa_file; it may be left out."""
    bank_name: _Part = ""
    country: Annotated[str, Strict(), Field(pattern=r"^([A-Z]{2})?$")] = ""
    """Of the address, ISO 3166-1 alpha-2. An address has a town and a country, or is left out."""
    town: _Part = ""
    street: _Part = ""
    postcode: _Part = ""


class PayerAccountView(View):
    """An account of the merchant, masked."""

    rail: FileRailName
    version: int
    """Files name the version they were built with."""
    holder: str
    account_hint: str
    """The account's last characters."""
    created_by: KeyId
    created_at: Moment

    @classmethod
    def of(cls, row: PayerAccountRow, account: Destination) -> Self:
        return cls(
            rail=FileRailName(row.rail),
            version=row.version,
            holder=account.holder,
            account_hint=row.hint,
            created_by=row.created_by,
            created_at=row.created_at,
        )


@router.get("/v1/payer-accounts/{rail}")
def get_payer_account(rail: FileRailName, caller: Reader, session: ReadSession, service: Services) -> PayerAccountView:
    """Return the account that files of a rail are paid from."""
    found = _view(session, caller, service, rail)
    if found is None:
        raise Missing(f"No account is set for {rail}.")
    return found


@router.put("/v1/payer-accounts/{rail}")
def set_payer_account(
    rail: FileRailName,
    asked: PayerAccountPut,
    caller: FinanceMaker,
    session: WriteSession,
    service: Services,
    expected: IfMatch,
) -> PayerAccountView:
    """Say which account files of a rail are paid from. It counts for files that are built from now on.

    The same account again makes no new version.
    """
    # Two that set it at once would both number theirs alike.
    lock_merchant(session, caller)
    expected.check(_view(session, caller, service, rail))
    file_rail = FILE_RAILS[rail]
    account = Destination(
        # Of several kinds any will do: it is the merchant's own, and only written down.
        type=min(file_rail.accounts),
        account="".join(asked.account.split()).upper() if rail is FileRailName.SEPA_FILE else asked.account,
        holder=asked.holder,
        bank_code=asked.bank_code,
        bank_name=asked.bank_name,
        country=asked.country,
        town=asked.town,
        street=asked.street,
        postcode=asked.postcode,
    )
    file_rail.check_payer(account)
    newest = newest_payer(session, caller.merchant_id, rail)
    if newest is not None and account_of(service.security, newest) == account:
        return PayerAccountView.of(newest, account)
    shown = min(_HINT_CHARACTERS, len(account.account) // 3)
    row = PayerAccountRow(
        merchant_id=caller.merchant_id,
        rail=rail,
        version=1 if newest is None else newest.version + 1,
        account=service.security.encrypt(account.to_text().encode(), purpose=PAYER),
        hint="•••" + account.account[len(account.account) - shown :],
        created_by=caller.key_id,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    return PayerAccountView.of(row, account)


def _view(session: Session, caller: Caller, service: Services, rail: FileRailName) -> PayerAccountView | None:
    row = newest_payer(session, caller.merchant_id, rail)
    return None if row is None else PayerAccountView.of(row, account_of(service.security, row))
