"""Who changed what, and when: the trail that `api/trail.py` writes, for reading."""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Query
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.api import trail
from service.api.deps import Admin, Operator, ReadSession
from service.api.paging import Page, Paging, newest_first, page
from service.api.views import AuditId, KeyId, MerchantId, Moment, Text, View
from service.tables.audit import AuditRow

router = APIRouter(tags=["audit"])


class AuditView(View):
    """One thing that somebody changed."""

    id: AuditId
    at: Moment
    """By the service's clock."""
    key_id: KeyId | None
    """Whose key it was; null for somebody at the service's own command line."""
    by_operator: bool
    """Whether it was one of those who run the service."""
    operation: str
    """What was asked for: the operation's id in this API's description, or the command."""
    kind: str
    """What was changed; `request` where nothing was compared, because it was so already or is done later."""
    subject: str
    """The id of what was changed; empty where it has none."""
    before: dict[str, Any] | None
    """The fields that changed, as they were; null for what is new. Secrets and what tells who a person is are masked."""
    after: dict[str, Any] | None
    """The same fields, as they became."""
    request_id: str | None

    @classmethod
    def of(cls, row: AuditRow) -> Self:
        return cls(
            id=row.id,
            at=row.at,
            key_id=row.key_id,
            by_operator=row.by_operator,
            operation=row.operation,
            kind=row.kind,
            subject=row.subject,
            before=row.before,
            after=row.after,
            request_id=row.request_id,
        )


@router.get("/v1/audit")
def list_audit(
    caller: Admin,
    session: ReadSession,
    paging: Paging,
    subject: Annotated[Text | None, Query(description="Only changes of this: aff_…, lnk_…, run_… and so on.")] = None,
    key_id: Annotated[KeyId | None, Query(description="Only changes made with this key.")] = None,
    operation: Annotated[Text | None, Query(description="Only changes by this operation, such as create_link.")] = None,
    since: Annotated[Moment | None, Query(description="Only changes from this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Only changes before this time.")] = None,
) -> Page[AuditView]:
    """List who changed what at the merchant, newest first, the operator's changes too. Nothing is ever removed from it."""
    changes = select(AuditRow).where(col(AuditRow.merchant_id) == caller.merchant_id)
    if subject is not None:
        changes = changes.where(col(AuditRow.subject) == subject)
    if key_id is not None:
        changes = changes.where(col(AuditRow.key_id) == key_id)
    if operation is not None:
        changes = changes.where(col(AuditRow.operation) == operation)
    if since is not None:
        changes = changes.where(col(AuditRow.at) >= since)
    if until is not None:
        changes = changes.where(col(AuditRow.at) < until)
    return _page(session, changes, paging)


@router.get("/v1/operator/audit")
def list_operator_audit(
    caller: Operator,  # noqa: ARG001 # asking for one is the check: the dependency lets operators in only
    session: ReadSession,
    paging: Paging,
    merchant_id: Annotated[
        MerchantId | None, Query(description="What operators did at this merchant; otherwise what belongs to none.")
    ] = None,
) -> Page[AuditView]:
    """List what those who run the service changed, newest first: their own keys, or what they did at one merchant."""
    changes = select(AuditRow).where(
        col(AuditRow.merchant_id) == (merchant_id or trail.NOBODYS), col(AuditRow.by_operator)
    )
    return _page(session, changes, paging)


def _page(session: ReadSession, changes: SelectOfScalar[AuditRow], paging: Paging) -> Page[AuditView]:
    rows = session.exec(newest_first(changes, paging, col(AuditRow.id))).all()
    return page(rows, paging, key=lambda row: (row.id,), view=AuditView.of)
