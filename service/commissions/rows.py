"""Commissions and their entries on their way to the database, as every verb that moves them holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlmodel import Session

from service.domain.commission import Move, Place, Places
from service.domain.ledger import Account, MerchantTime, account_of, touches_payable
from service.infra.db import execute
from service.ledger.balance import Kept


@dataclass(slots=True)
class Commission:
    """A commission on its way from one state to the next.

    order_id: its order; None where its subject is a period. entry_seq: number of its newest entry. target_minor: what it
    comes to. volume_minor, periods: what it counted for, and in which periods, when it was last stored.
    """

    id: UUID
    merchant_id: UUID
    order_id: UUID | None
    payee_id: UUID
    currency: str
    places: Places
    entry_seq: int = 0
    is_new: bool = True
    target_minor: int = 0
    moves: list[Move] = field(default_factory=list)
    volume_minor: int = 0
    periods: Sequence[Sequence[str]] = ()

    def account(self, place: Place) -> Account:
        return account_of(place, merchant_id=self.merchant_id, payee_id=self.payee_id, currency=self.currency)


@dataclass(frozen=True, slots=True)
class Entry:
    """One difference to one commission, ready to be stored."""

    commission: Commission
    seq: int
    move: Move
    posting_id: UUID


def store_entries(
    session: Session, entries: Sequence[Entry], kept: Mapping[Account, Kept], when: Mapping[UUID, MerchantTime]
) -> None:
    """Insert commission entries, those on payable with the version `post` returned."""
    if not entries:
        return

    def version(entry: Entry) -> int | None:
        return kept[entry.commission.account(Place.PAYABLE)].version if touches_payable(entry.move) else None

    execute(
        session,
        """
        INSERT INTO commission_entry (merchant_id, commission_id, seq, kind, source, destination, amount_minor,
                                      posting_id, payable_version, created_at)
        SELECT * FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:commission_ids AS uuid[]), CAST(:seqs AS integer[]),
                             CAST(:kinds AS text[]), CAST(:sources AS text[]), CAST(:destinations AS text[]),
                             CAST(:amounts AS bigint[]), CAST(:posting_ids AS uuid[]), CAST(:versions AS bigint[]),
                             CAST(:created AS timestamptz[]))
        """,
        {
            "merchant_ids": [entry.commission.merchant_id for entry in entries],
            "commission_ids": [entry.commission.id for entry in entries],
            "seqs": [entry.seq for entry in entries],
            "kinds": [entry.move.kind.value for entry in entries],
            "sources": [entry.move.source.value for entry in entries],
            "destinations": [entry.move.destination.value for entry in entries],
            "amounts": [entry.move.amount_minor for entry in entries],
            "posting_ids": [entry.posting_id for entry in entries],
            "versions": [version(entry) for entry in entries],
            "created": [when[entry.commission.merchant_id].now for entry in entries],
        },
    )
