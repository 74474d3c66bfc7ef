"""What a merchant has set for its files: the account that pays, and column maps of its own. Both only get new versions."""

from dataclasses import dataclass
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.destination import Destination
from service.domain.errors import Conflict
from service.infra.security import Security
from service.payouts.providers import FILE_RAILS, FileRail, Payable
from service.tables.payout_files import PayerAccountRow, PayoutTemplateRow

PAYER = "payer-account"
"""What paying accounts are encrypted for."""


class PayerAccountMissing(Conflict):
    code = "payer-account-missing"
    title = "The rail's files need to know which account pays"


@dataclass(frozen=True, slots=True)
class FileSettings:
    """A rail as a merchant has set it. template_version: 0 where the column map is the one it comes with."""

    rail: FileRail
    template_version: int
    payer: Destination | None
    payer_version: int | None


def settings_of(session: Session, security: Security, merchant_id: UUID, rail: FileRail) -> FileSettings:
    """Return a rail with the newest versions of what the merchant has set for it."""
    template = newest_template(session, merchant_id, rail.name)
    payer = newest_payer(session, merchant_id, rail.name)
    return FileSettings(
        rail=rail if template is None else rail.adapted(template.template),
        template_version=0 if template is None else template.version,
        payer=None if payer is None else account_of(security, payer),
        payer_version=None if payer is None else payer.version,
    )


def rail_of_file(session: Session, merchant_id: UUID, rail: str, template_version: int) -> FileRail:
    """Return the rail as it was when a file was built."""
    if not template_version:
        return FILE_RAILS[rail]
    template = session.get_one(PayoutTemplateRow, (merchant_id, rail, template_version))
    return FILE_RAILS[rail].adapted(template.template)


def demand_payer(session: Session, merchant_id: UUID, rail: Payable) -> None:
    """Raise PayerAccountMissing where a rail's files name the paying account and the merchant has set none."""
    known = FILE_RAILS.get(rail.name)
    if known is None:
        return
    template = newest_template(session, merchant_id, rail.name)
    adapted = known if template is None else known.adapted(template.template)
    if adapted.needs_payer and newest_payer(session, merchant_id, rail.name) is None:
        raise PayerAccountMissing(f"Name the account with PUT /v1/payer-accounts/{rail.name} first.")


def account_of(security: Security, row: PayerAccountRow) -> Destination:
    """Return a paying account in the clear."""
    return Destination.of_text(security.decrypt(row.account, purpose=PAYER).decode())


def newest_payer(session: Session, merchant_id: UUID, rail: str) -> PayerAccountRow | None:
    """Return the account that pays now, None where none was set."""
    return session.exec(
        select(PayerAccountRow)
        .where(col(PayerAccountRow.merchant_id) == merchant_id, col(PayerAccountRow.rail) == rail)
        .order_by(col(PayerAccountRow.version).desc())
        .limit(1)
    ).one_or_none()


def newest_template(session: Session, merchant_id: UUID, rail: str) -> PayoutTemplateRow | None:
    """Return the merchant's own column map, None where it has none."""
    return session.exec(
        select(PayoutTemplateRow)
        .where(col(PayoutTemplateRow.merchant_id) == merchant_id, col(PayoutTemplateRow.rail) == rail)
        .order_by(col(PayoutTemplateRow.version).desc())
        .limit(1)
    ).one_or_none()
