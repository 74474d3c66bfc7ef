"""Pass withheld tax on: everything withheld under one rule, duty and period that was not passed on before, at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from uuid import UUID

from sqlalchemy import Row
from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.withholding.model import Key
from service.infra import ids
from service.infra.db import execute, fetch
from service.ledger.post import post
from service.payouts.withhold import lock_bases
from service.tables.taxes import TaxRemittanceRow


class NothingToRemit(Conflict):
    code = "tax-remittance-empty"
    title = "There is nothing to pass on"


@dataclass(frozen=True, slots=True)
class Asked:
    """A payment to an authority. reference: the authority's or the bank's number of it. paid_on: when it was made."""

    merchant_id: UUID
    key: Key
    currency: str
    reference: str
    paid_on: date
    by: UUID
    external_id: str | None = None


def remit(session: Session, asked: Asked, *, when: MerchantTime) -> TaxRemittanceRow:
    """Book that what is owed to the authority for a period was paid. Raises NothingToRemit."""
    owing = partial(owed_by_payee, session, asked.merchant_id, asked.key, asked.currency)
    owed = owing()
    held = {row.payee_id for row in owed}
    lock_bases(session, asked.merchant_id, ((payee_id, asked.key.rule) for payee_id in held))
    # Again, of those held: what was accepted, undone or passed on meanwhile counts.
    owed = [row for row in owing() if row.payee_id in held]
    if not owed:
        raise NothingToRemit(
            f"Nothing withheld by {asked.key.rule} for {asked.key.duty} of {asked.key.period} in {asked.currency} "
            "is still to be passed on; GET /v1/tax-due lists what is."
        )
    row = TaxRemittanceRow(
        merchant_id=asked.merchant_id,
        id=ids.new_id(),
        external_id=asked.external_id,
        rule=asked.key.rule,
        duty=asked.key.duty,
        period=asked.key.period,
        currency=asked.currency,
        amount_minor=sum(each.owed_minor for each in owed),
        payees=len(owed),
        reference=asked.reference,
        paid_on=asked.paid_on,
        recorded_by=asked.by,
        created_at=when.now,
    )
    session.add(row)
    session.flush()
    postings = [_posting(row, seq, each.payee_id, each.owed_minor) for seq, each in enumerate(owed)]
    post(session, postings, when={asked.merchant_id: when})
    execute(
        session,
        """
        INSERT INTO tax_remittance_line (merchant_id, remittance_id, payee_id, amount_minor, posting_id)
        SELECT :merchant_id, :remittance_id, payee_id, amount_minor, posting_id
        FROM unnest(CAST(:payee_ids AS uuid[]), CAST(:amounts AS bigint[]), CAST(:posting_ids AS uuid[]))
             AS made (payee_id, amount_minor, posting_id)
        """,
        {
            "merchant_id": asked.merchant_id,
            "remittance_id": row.id,
            "payee_ids": [posting.debit.owner_id for posting in postings],
            "amounts": [posting.amount_minor for posting in postings],
            "posting_ids": [posting.id for posting in postings],
        },
    )
    return row


def owed_by_payee(
    session: Session, merchant_id: UUID, key: Key, currency: str, *, payee_id: UUID | None = None
) -> Sequence[Row[tuple[UUID, int]]]:
    """Payees with what is still owed for them to the authority (payee_id, owed_minor), in the order of their ids.

    payee_id: of this one alone. Openings are no money that ever was here.
    """
    return fetch(
        session,
        """
        SELECT payee_id, CAST(sum(amount_minor) AS bigint) AS owed_minor
        FROM (
            SELECT payee_id, tax_minor AS amount_minor FROM tax_entry
            WHERE merchant_id = :merchant_id AND rule = :rule AND duty = :duty AND period = :period
              AND currency = :currency AND kind <> 'opening'
            UNION ALL
            SELECT line.payee_id, -line.amount_minor
            FROM tax_remittance_line AS line
            JOIN tax_remittance AS remittance
              ON remittance.merchant_id = line.merchant_id AND remittance.id = line.remittance_id
            WHERE line.merchant_id = :merchant_id AND remittance.rule = :rule AND remittance.duty = :duty
              AND remittance.period = :period AND remittance.currency = :currency
        ) AS part
        WHERE payee_id = coalesce(:payee_id, payee_id)
        GROUP BY payee_id
        HAVING sum(amount_minor) > 0
        ORDER BY payee_id
        """,
        {
            "merchant_id": merchant_id,
            "rule": key.rule,
            "duty": key.duty.value,
            "period": key.period,
            "currency": currency,
            "payee_id": payee_id,
        },
    )


def _posting(row: TaxRemittanceRow, seq: int, payee_id: UUID, amount_minor: int) -> Posting:
    def account(kind: AccountKind) -> Account:
        return Account(row.merchant_id, payee_id, kind, row.currency)

    return Posting(
        ids.new_id(),
        event=f"remittance/{row.id}",
        seq=seq,
        debit=account(AccountKind.TAX_WITHHELD),
        credit=account(AccountKind.REMITTED),
        amount_minor=amount_minor,
    )
