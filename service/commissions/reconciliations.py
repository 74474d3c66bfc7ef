"""A reconciliation's row: read, moved on page by page so that nothing is added twice, and ended."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlmodel import Session

from service.commissions.work import ask_for, forget_all_of
from service.domain.reconciliation import About, Difference, Explanation, Span
from service.infra.db import execute, fetch
from service.infra.ids import encode, new_id
from service.tables.reconciliations import ReconciliationStage, ReconciliationState

JsonObject = dict[str, Any]

MATCH_FILES = "match_files"
"""Kind of the job; its subject is the reconciliation."""
REFUSALS_KEPT = 20
"""Rows of files that are shown with why they could not be read; all are counted."""

_OPEN = (ReconciliationState.QUEUED, ReconciliationState.RUNNING)
_WORKING_TABLES = ("reconciliation_part", "reconciliation_order", "reconciliation_line")
_TABLES = (*_WORKING_TABLES, "reconciliation_difference")


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """A reconciliation that is under way. page: how many units of work have added something to it.

    rail, currency: whose payouts the bank's file has; None: of all. clock_offset: how far the merchant's clock is ahead
    of ours.
    """

    merchant_id: UUID
    id: UUID
    span: Span
    source_id: UUID | None
    mapping: JsonObject | None
    bank_format: str | None
    only_payouts: bool
    rail: str | None
    currency: str | None
    stage: ReconciliationStage
    page: int
    cursor: JsonObject
    refusals_kept: int
    clock_offset: timedelta
    is_test: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A difference with what it is about. theirs, ours: what each side says; rows: of the file, the first few."""

    about: About
    external_id: str
    difference: Difference
    order_id: UUID | None = None
    item_id: UUID | None = None
    theirs: JsonObject | None = None
    ours: JsonObject | None = None
    rows: tuple[int, ...] = ()


def load(session: Session, merchant_id: UUID, reconciliation_id: UUID) -> Reconciliation | None:
    """A reconciliation that has something to do; None where it is over, gone, or waits for its files."""
    rows = fetch(
        session,
        """
        SELECT reconciliation.*, time_zone, clock_offset_s, is_test
        FROM reconciliation JOIN merchant ON merchant.id = reconciliation.merchant_id
        WHERE reconciliation.merchant_id = :merchant_id AND reconciliation.id = :id
          AND state = ANY(CAST(:open AS text[]))
        """,
        {"merchant_id": merchant_id, "id": reconciliation_id, "open": list(_OPEN)},
    )
    if not rows:
        return None
    [row] = rows
    return Reconciliation(
        merchant_id,
        reconciliation_id,
        Span(row.begins_on, row.until, row.time_zone),
        row.source_id,
        row.mapping,
        row.bank_format,
        row.only_payouts,
        row.rail,
        row.currency,
        ReconciliationStage(row.stage),
        row.page,
        row.cursor,
        len(row.refusals),
        timedelta(seconds=row.clock_offset_s),
        row.is_test,
    )


def move_on(
    session: Session,
    known: Reconciliation,
    *,
    stage: ReconciliationStage,
    cursor: Mapping[str, Any],
    now: datetime,
    read: int = 0,
    compared: int = 0,
    left_out: int = 0,
    refused: Sequence[JsonObject] = (),
) -> bool:
    """Take a reconciliation one page further, first in the unit of work that adds what the page came to.

    Returns False where the page was added already, or the reconciliation is gone: then nothing may be added. now: by our
    clock.
    """
    shown = refused[: max(0, REFUSALS_KEPT - known.refusals_kept)]
    touched = execute(
        session,
        """
        UPDATE reconciliation
        SET page = page + 1, state = 'running', stage = :stage, cursor = CAST(:cursor AS jsonb), read = read + :read,
            compared = compared + :compared, left_out = left_out + :left_out, rows_refused = rows_refused + :refused,
            refusals = refusals || CAST(:refusals AS jsonb), started_at = coalesce(started_at, :now)
        WHERE merchant_id = :merchant_id AND id = :id AND page = :page AND state = ANY(CAST(:open AS text[]))
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "page": known.page,
            "open": list(_OPEN),
            "stage": stage,
            "cursor": json.dumps(dict(cursor)),
            "read": read,
            "compared": compared,
            "left_out": left_out,
            "refused": len(refused),
            "refusals": json.dumps(list(shown)),
            "now": now + known.clock_offset,
        },
    )
    return touched == 1


def add(session: Session, known: Reconciliation, found: Sequence[Found]) -> None:
    """Store differences. One that nothing explains, and that an earlier reconciliation found just so, is explained by that."""
    earlier = _found_earlier(session, known, [each for each in found if each.difference.explained_by is None])
    differences = [
        each.difference.unless_explained(
            Explanation.EARLIER_DIFFERENCE if (ref := earlier.get(_name(each))) else None, ref or ""
        )
        for each in found
    ]
    execute(
        session,
        """
        INSERT INTO reconciliation_difference (
            merchant_id, id, reconciliation_id, about, kind, external_id, order_id, item_id, currency, theirs_minor,
            ours_minor, theirs, ours, rows, explained_by, explained_ref, note)
        SELECT :merchant_id, id, :reconciliation_id, about, kind, external_id, order_id, item_id, currency, theirs_minor,
               ours_minor, CAST(theirs AS jsonb), CAST(ours AS jsonb), CAST(rows AS jsonb), explained_by, explained_ref, ''
        FROM unnest(CAST(:ids AS uuid[]), CAST(:abouts AS text[]), CAST(:kinds AS text[]),
                    CAST(:external_ids AS text[]), CAST(:order_ids AS uuid[]), CAST(:item_ids AS uuid[]),
                    CAST(:currencies AS text[]), CAST(:theirs_minor AS bigint[]), CAST(:ours_minor AS bigint[]),
                    CAST(:theirs AS text[]), CAST(:ours AS text[]), CAST(:rows AS text[]),
                    CAST(:explained_by AS text[]), CAST(:explained_ref AS text[]))
             AS made (id, about, kind, external_id, order_id, item_id, currency, theirs_minor, ours_minor, theirs, ours,
                      rows, explained_by, explained_ref)
        """,
        {
            "merchant_id": known.merchant_id,
            "reconciliation_id": known.id,
            "ids": [new_id() for _ in found],
            "abouts": [each.about.value for each in found],
            "kinds": [each.kind.value for each in differences],
            "external_ids": [each.external_id for each in found],
            "order_ids": [each.order_id for each in found],
            "item_ids": [each.item_id for each in found],
            "currencies": [each.currency for each in differences],
            "theirs_minor": [each.theirs_minor for each in differences],
            "ours_minor": [each.ours_minor for each in differences],
            "theirs": [_text(each.theirs) for each in found],
            "ours": [_text(each.ours) for each in found],
            "rows": [json.dumps(each.rows) for each in found],
            "explained_by": [each.explained_by.value if each.explained_by else None for each in differences],
            "explained_ref": [each.explained_ref for each in differences],
        },
    )


_Name = tuple[str, str, str, str, int | None, int | None]


def _name(found: Found) -> _Name:
    """What tells one difference from another. With the amounts: another amount is another difference of the same thing."""
    difference = found.difference
    return (
        found.about.value,
        difference.kind.value,
        found.external_id,
        difference.currency,
        difference.theirs_minor,
        difference.ours_minor,
    )


def _found_earlier(session: Session, known: Reconciliation, found: Sequence[Found]) -> Mapping[_Name, str]:
    """Public ids of the oldest differences of the same names that earlier reconciliations left unexplained."""
    asked = list({_name(each) for each in found if each.external_id})
    rows = fetch(
        session,
        """
        SELECT asked.*, before.id
        FROM unnest(CAST(:abouts AS text[]), CAST(:kinds AS text[]), CAST(:external_ids AS text[]),
                    CAST(:currencies AS text[]), CAST(:theirs_minor AS bigint[]), CAST(:ours_minor AS bigint[]))
             AS asked (about, kind, external_id, currency, theirs_minor, ours_minor)
        CROSS JOIN LATERAL (
            SELECT id FROM reconciliation_difference AS earlier
            WHERE earlier.merchant_id = :merchant_id AND earlier.about = asked.about
              AND earlier.external_id = asked.external_id AND earlier.kind = asked.kind
              AND earlier.currency = asked.currency
              AND earlier.theirs_minor IS NOT DISTINCT FROM asked.theirs_minor
              AND earlier.ours_minor IS NOT DISTINCT FROM asked.ours_minor
              AND earlier.explained_by IS NULL AND earlier.note_at IS NULL AND earlier.reconciliation_id < :id
            ORDER BY earlier.id LIMIT 1
        ) AS before
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "abouts": [each[0] for each in asked],
            "kinds": [each[1] for each in asked],
            "external_ids": [each[2] for each in asked],
            "currencies": [each[3] for each in asked],
            "theirs_minor": [each[4] for each in asked],
            "ours_minor": [each[5] for each in asked],
        },
    )
    return {
        (row.about, row.kind, row.external_id, row.currency, row.theirs_minor, row.ours_minor): encode("rdf", row.id)
        for row in rows
    }


def _text(told: JsonObject | None) -> str | None:
    return None if told is None else json.dumps(told, separators=(",", ":"))


def finish(session: Session, known: Reconciliation, *, now: datetime) -> None:
    """End a reconciliation well: all was compared. What it worked with goes."""
    touched = execute(
        session,
        """
        UPDATE reconciliation SET state = 'done', finished_at = :now, page = page + 1
        WHERE merchant_id = :merchant_id AND id = :id AND page = :page AND state = ANY(CAST(:open AS text[]))
        """,
        {
            "merchant_id": known.merchant_id,
            "id": known.id,
            "page": known.page,
            "open": list(_OPEN),
            "now": now + known.clock_offset,
        },
    )
    if touched:
        _delete(session, known.merchant_id, known.id, _WORKING_TABLES)


def fail(
    session: Session, merchant_id: UUID, reconciliation_id: UUID, *, code: str, detail: str, now: datetime
) -> None:
    """End a reconciliation that cannot go on, with the reason. What it found so far goes: half of it would mislead."""
    touched = execute(
        session,
        """
        UPDATE reconciliation
        SET state = 'failed', error_code = :code, error_detail = :detail, page = page + 1,
            finished_at = :now + (SELECT clock_offset_s FROM merchant WHERE id = :merchant_id) * interval '1 second'
        WHERE merchant_id = :merchant_id AND id = :id AND state = ANY(CAST(:open AS text[]))
        """,
        {
            "merchant_id": merchant_id,
            "id": reconciliation_id,
            "code": code,
            "detail": detail,
            "now": now,
            "open": list(_OPEN),
        },
    )
    if touched:
        _delete(session, merchant_id, reconciliation_id, _TABLES)


def ask_worker(session: Session, merchant_id: UUID, reconciliation_id: UUID, *, at: datetime) -> None:
    """Let a worker take a reconciliation up from a moment on, by our clock."""
    ask_for(session, merchant_id, MATCH_FILES, reconciliation_id, at=at)


def delete_all_of(session: Session, merchant_id: UUID, reconciliation_id: UUID) -> None:
    """Delete everything that hangs on a reconciliation, whose row the caller has locked and deletes then."""
    _delete(session, merchant_id, reconciliation_id, _TABLES)
    forget_all_of(session, merchant_id, MATCH_FILES, [reconciliation_id])


def _delete(session: Session, merchant_id: UUID, reconciliation_id: UUID, tables: Iterable[str]) -> None:
    for table in tables:
        execute(
            session,
            f"DELETE FROM {table} WHERE merchant_id = :merchant_id AND reconciliation_id = :id",  # noqa: S608 - put together from our own constants
            {"merchant_id": merchant_id, "id": reconciliation_id},
        )
