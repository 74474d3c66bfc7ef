"""Reconciliations made straight in the tables, and carried through by the stages."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import col, select

from service.infra.db import fetch, read_session, unit_of_work
from service.infra.ids import new_id
from service.infra.security import Security
from service.intake.reconcile_file import add_part, read_files
from service.reports import reconcile
from service.tables.reconciliations import (
    FileKind,
    ReconciliationDifferenceRow,
    ReconciliationRow,
    ReconciliationStage,
    ReconciliationState,
)

Json = dict[str, Any]


@dataclass
class Matched:
    """A reconciliation of one merchant."""

    engine: Engine
    merchant_id: UUID
    id: UUID = field(default_factory=new_id)

    @classmethod
    def of(
        cls,
        engine: Engine,
        merchant_id: UUID,
        *,
        begins_on: date,
        until: date,
        source_id: UUID | None = None,
        mapping: Json | None = None,
        orders: bytes | None = None,
        bank: bytes | None = None,
        bank_format: str = "csv",
        only_payouts: bool = True,
        rail: str | None = None,
        currency: str | None = None,
    ) -> "Matched":
        """With its files sent, and nothing done yet."""
        made = cls(engine, merchant_id)
        with unit_of_work(engine) as session:
            session.add(
                ReconciliationRow(
                    merchant_id=merchant_id,
                    id=made.id,
                    begins_on=begins_on,
                    until=until,
                    source_id=source_id,
                    mapping=mapping if orders is not None else None,
                    bank_format=bank_format if bank is not None else None,
                    only_payouts=only_payouts,
                    rail=rail,
                    currency=currency,
                    state=ReconciliationState.QUEUED,
                    stage=ReconciliationStage.ORDERS_FILE if orders is not None else ReconciliationStage.BANK_FILE,
                    created_by=new_id(),
                    created_at=fetch(session, "SELECT now() AS now")[0].now,
                )
            )
            session.flush()
            for file, content in ((FileKind.ORDERS, orders), (FileKind.BANK, bank)):
                half = len(content or b"") // 2
                for number, part in ((1, (content or b"")[:half]), (2, (content or b"")[half:])):
                    if content is not None:
                        add_part(session, merchant_id, made.id, file=file, number=number, body=part)
        return made

    def turn(self, go_on: Callable[[], bool] = lambda: True) -> bool:
        """One turn as the worker does it; whether something is left."""
        read_files(self.engine, Security(bytes(32)), self.merchant_id, self.id, go_on)
        return reconcile.advance(self.engine, self.merchant_id, self.id, go_on)

    def run(self) -> "Matched":
        assert not self.turn()
        return self

    @property
    def row(self) -> ReconciliationRow:
        with read_session(self.engine) as session:
            return session.get_one(ReconciliationRow, (self.merchant_id, self.id))

    @property
    def differences(self) -> Sequence[ReconciliationDifferenceRow]:
        row = ReconciliationDifferenceRow
        with read_session(self.engine) as session:
            return session.exec(
                select(row)
                .where(col(row.merchant_id) == self.merchant_id, col(row.reconciliation_id) == self.id)
                .order_by(col(row.about), col(row.external_id), col(row.kind))
            ).all()

    @property
    def told(self) -> list[tuple[str, str, int | None, int | None, str | None]]:
        """Each difference in short: what of, kind, both amounts, and what explains it."""
        return [
            (each.external_id, each.kind, each.theirs_minor, each.ours_minor, each.explained_by)
            for each in self.differences
        ]


def bank_file(*rows: Json) -> bytes:
    """Lines as CSV; each has a day, an amount and a currency, and what the caller names."""
    columns = ("date", "reference", "end_to_end_id", "amount", "currency", "kind")
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, restval="")
    writer.writeheader()
    writer.writerows({"date": "2026-11-20", "currency": "USD", **row} for row in rows)
    return out.getvalue().encode()
