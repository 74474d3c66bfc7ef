"""What accounting calls our accounts, as the journal and the trial balance write it."""

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import Field
from sqlmodel import Session

from service.api.deps import Admin, Reader, ReadSession, WriteSession
from service.api.etags import IfMatch
from service.api.views import Body, Name, View
from service.domain.accounting import AccountName, chart
from service.domain.errors import Invalid
from service.domain.ledger import AccountKind
from service.infra.db import execute
from service.tables.books import AccountingChartRow

router = APIRouter(tags=["ledger"])


class AccountingAccountBody(Body):
    account: AccountKind
    """One of ours."""
    code: Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[0-9A-Za-z][0-9A-Za-z./-]*$", examples=["3351"])]
    """The account in your own chart."""
    name: Name


class AccountingAccountsBody(Body):
    accounts: Annotated[tuple[AccountingAccountBody, ...], Field(max_length=len(AccountKind))]
    """Those you call otherwise than we do. All others are called as they are usually."""


class AccountingAccountView(View):
    account: AccountKind
    code: str
    name: str
    usual: bool
    """You have not said otherwise."""


class AccountingAccountsView(View):
    accounts: list[AccountingAccountView]

    @classmethod
    def of(cls, row: AccountingChartRow | None) -> Self:
        said = {kind: AccountName(**each) for kind, each in row.accounts.items()} if row else {}
        return cls(
            accounts=[
                AccountingAccountView(account=AccountKind(kind), code=each.code, name=each.name, usual=kind not in said)
                for kind, each in chart(said, list(AccountKind)).items()
            ]
        )


@router.get("/v1/accounting/accounts")
def get_accounting_accounts(caller: Reader, session: ReadSession) -> AccountingAccountsView:
    """Return what accounting calls each account."""
    return AccountingAccountsView.of(session.get(AccountingChartRow, caller.merchant_id))


@router.put("/v1/accounting/accounts")
def put_accounting_accounts(
    asked: AccountingAccountsBody, caller: Admin, session: WriteSession, expected: IfMatch
) -> AccountingAccountsView:
    """Say what accounting calls our accounts. Replaces all that was said before; reports use it from now on."""
    kinds = [each.account for each in asked.accounts]
    if len(set(kinds)) != len(kinds):
        raise Invalid("Name each account once.")
    row = _locked(session, caller)
    expected.check(AccountingAccountsView.of(row))
    row.accounts = {each.account.value: {"code": each.code, "name": each.name} for each in asked.accounts}
    row.updated_at = caller.now
    session.add(row)
    session.flush()
    return AccountingAccountsView.of(row)


def _locked(session: Session, caller: Admin) -> AccountingChartRow:
    # Made first, so that two who say it for the first time at once do so one after the other.
    execute(
        session,
        """
        INSERT INTO accounting_chart (merchant_id, accounts, updated_at) VALUES (:merchant_id, CAST('{}' AS jsonb), :now)
        ON CONFLICT DO NOTHING
        """,
        {"merchant_id": caller.merchant_id, "now": caller.now},
    )
    return session.get_one(AccountingChartRow, caller.merchant_id, with_for_update=True)
