"""The audit trail: what a request changed, written beside the change in its own unit of work.

One mechanism for all: rows that the session is about to store are compared with what they were, and whoever changes rows
by a statement says so with `note`. A request that did neither leaves a row all the same: that it was made.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import event, inspect
from sqlalchemy.orm import InstanceState, UOWTransaction
from sqlmodel import Session, SQLModel

from service.infra import ids
from service.infra.db import execute
from service.tables import (
    answers,
    audit,
    bindings,
    books,
    claims,
    control,
    money,
    orders,
    parties,
    payout_files,
    payouts,
    programs,
    providers,
    reconciliations,
    reports,
    scopes,
    simulations,
    statements,
    taxes,
    webhooks,
)

NOBODYS = UUID(int=0)
"""Stands for the merchant where there is none: keys of operators."""
MASKED = "•••"
"""Stands for a value that was there and is not shown."""

_KEPT_AT = "audit trail"


@dataclass(frozen=True, slots=True)
class Shown:
    """How rows of a table appear. prefix and column: of the public id under which a change is found.

    masked: columns whose values are never shown, besides all that hold bytes. left_out: notes that are no change.
    """

    prefix: str
    column: str
    masked: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()


SHOWN: Mapping[type[SQLModel], Shown] = {
    parties.MerchantRow: Shown("mer", "id"),
    parties.ApiKeyRow: Shown("key", "id", left_out=frozenset({"last_used_at"})),
    parties.SourceRow: Shown("src", "id", left_out=frozenset({"last_delivery_at"})),
    # What tells who a person is: the trail is kept for ever, and a person may ask to be forgotten.
    parties.AffiliateRow: Shown("aff", "id", masked=frozenset({"name", "email", "profile", "identities"})),
    parties.AffiliateApprovalRow: Shown("aff", "affiliate_id"),
    parties.AffiliateGradeRow: Shown("aff", "affiliate_id"),
    parties.RosterOfferRow: Shown("rof", "id"),
    parties.RosterRow: Shown("aff", "affiliate_id"),
    parties.PayoutMethodRow: Shown("aff", "affiliate_id", masked=frozenset({"fingerprint"})),
    programs.ProgramRow: Shown("prg", "id"),
    programs.ProgramVersionRow: Shown("prg", "program_id"),
    programs.ProgramPauseRow: Shown("prg", "program_id"),
    programs.EnrollmentRow: Shown("aff", "affiliate_id"),
    programs.TermsAcceptanceRow: Shown("aff", "affiliate_id"),
    programs.LinkRow: Shown("lnk", "id", masked=frozenset({"sub_ids"})),
    programs.BudgetRow: Shown("bud", "id", left_out=frozenset({"updated_at"})),
    programs.LinkOwnerRow: Shown("lnk", "link_id"),
    programs.CouponRow: Shown("cpn", "id"),
    programs.CouponOwnerRow: Shown("cpn", "coupon_id"),
    # No id of theirs to be found under, and what binds to nobody names no affiliate.
    bindings.CustomerBindingRow: Shown("mer", "merchant_id", masked=frozenset({"hash"})),
    bindings.ProductBindingRow: Shown("mer", "merchant_id"),
    parties.SourceSettingsRow: Shown("src", "source_id", masked=frozenset({"settings"})),
    webhooks.WebhookEndpointRow: Shown(
        "whk", "id", left_out=frozenset({"failures", "failing_since", "rests_until", "updated_at"})
    ),
    claims.ClaimRow: Shown("clm", "id", masked=frozenset({"note", "evidence", "decision_note", "decision_evidence"})),
    taxes.TaxRegimeRow: Shown("trg", "id"),
    taxes.TaxProfileRow: Shown("aff", "affiliate_id", masked=frozenset({"tax_code_hint"})),
    taxes.TaxEntryRow: Shown("aff", "payee_id"),
    taxes.CorrectionRow: Shown("cor", "id"),
    taxes.TaxRemittanceRow: Shown("txr", "id"),
    control.PayoutLimitRow: Shown("lim", "id"),
    control.PayoutFeeRow: Shown("fee", "id"),
    control.PayoutGateRow: Shown("gat", "id", left_out=frozenset({"report"})),
    payouts.PayoutRunRow: Shown("run", "id", left_out=frozenset({"excluded"})),
    payout_files.PayerAccountRow: Shown("mer", "merchant_id"),
    payout_files.PayoutTemplateRow: Shown("mer", "merchant_id"),
    payout_files.PayoutFileRow: Shown("pfl", "id"),
    payout_files.PayoutAttestationRow: Shown("pat", "id", masked=frozenset({"evidence", "note"})),
    simulations.SimulationRow: Shown("sim", "id", left_out=frozenset({"page", "cursor", "refusals"})),
    statements.StatementSettingsRow: Shown("mer", "merchant_id", left_out=frozenset({"updated_at"})),
    statements.SelfBillingAgreementRow: Shown("aff", "affiliate_id"),
    statements.StatementRunRow: Shown("srn", "id", left_out=frozenset({"after", "left_out"})),
    statements.StatementMarkRow: Shown("stm", "statement_id", masked=frozenset({"note"})),
    books.BookCloseRow: Shown("bcl", "id"),
    books.AccountingChartRow: Shown("mer", "merchant_id"),
    reconciliations.ReconciliationRow: Shown("rec", "id", left_out=frozenset({"page", "cursor", "refusals"})),
    reconciliations.ReconciliationDifferenceRow: Shown("rdf", "id", masked=frozenset({"note"})),
    reports.ReportJobRow: Shown("job", "id", left_out=frozenset({"attempt", "rows", "size_bytes"})),
    providers.StripeAccountRow: Shown("aff", "affiliate_id", masked=frozenset({"fingerprint"})),
}
"""Tables whose rows people change one by one."""

NOT_SHOWN: Mapping[type[SQLModel], str] = {
    audit.AuditRow: "is the trail",
    programs.LinkCodeRow: "says again what its link says",
    programs.LinkLabelRow: "says again what its link says",
    bindings.CustomerListingRow: "hundreds in a request, and kept for ever; how many went on a list is noted",
    payouts.PayoutItemRow: "thousands in a run, whose row and content hash stand for them; steps with one are noted",
    payouts.PayoutLeftOutRow: "thousands in a run, whose row stands for them",
    payouts.PayoutAttemptRow: "the worker's, and kept for ever",
    payouts.ProviderFactRow: "the rail's, and kept for ever",
    payout_files.PayoutFileLineRow: "thousands in a file, whose row and digest stand for them",
    payout_files.PayoutResultRow: "a bank's answer, kept for ever; that it was sent is noted",
    payout_files.PayoutLineFactRow: "the bank's, and kept for ever with the file it stood in",
    orders.InboxRow: "a delivery or decision, kept for ever; a replay is noted",
    orders.FactRow: "kept for ever",
    orders.OrderRow: "computed from facts",
    orders.AssessmentRow: "computed from facts",
    scopes.RulePeriodRow: "summed from commissions",
    scopes.CustomerScopeRow: "a lock",
    scopes.ReassessRow: "work that waits",
    simulations.SimulationSumRow: "the worker's sums; no money hangs on them",
    simulations.SimulationPeriodRow: "the worker's sums; no money hangs on them",
    simulations.SimulationPartRow: "a file that was only tried; that it was sent is noted",
    simulations.SimulationOrderRow: "read from a file that was only tried",
    taxes.TaxBaseRow: "a lock",
    taxes.TaxRemittanceLineRow: "a share of a remittance, which is told",
    control.RailSwitchRow: "there while a rail is stopped; both steps are noted",
    control.DatabaseMarkRow: "about the server",
    reconciliations.ReconciliationPartRow: "a file laid beside our books; that it was sent is noted",
    reconciliations.ReconciliationOrderRow: "read from a file laid beside our books",
    reconciliations.ReconciliationLineRow: "read from a file laid beside our books",
    reports.ReportChunkRow: "the worker's: what can be read elsewhere, for a week",
    money.CommissionRow: "computed from facts; decisions are noted",
    money.CommissionEntryRow: "append-only",
    money.AdvanceRow: "append-only",
    money.PostingRow: "append-only",
    money.BalanceRow: "the sum of postings",
    money.DaySlotRow: "counts postings",
    money.DaySumRow: "the sum of postings",
    money.ChainBlockRow: "append-only",
    money.ChainHeadRow: "the end of an append-only list",
    money.OutboxRow: "append-only",
    payouts.JobRow: "what the worker does next",
    programs.ClickRow: "a visitor's",
    answers.KeptAnswerRow: "what was answered, for a day",
    statements.StatementRow: "thousands in a run, whose row stands for them; append-only",
    statements.StatementCounterRow: "counts statements",
    webhooks.WebhookQueueRow: "what the worker does next",
    webhooks.WebhookDeliveryRow: "what the worker sends; a replay is noted as asked for",
    webhooks.WebhookAttemptRow: "the worker's",
    providers.BankPayoutRow: "the provider's, and kept for ever",
    providers.ProviderEventRow: "the provider's, and kept for ever",
    providers.ProviderReconciliationRow: "what the worker found, computed from the books and the provider's",
    providers.ServiceJobRow: "what the worker does next",
}
"""All other tables, and why nothing is compared there."""

_PREFIXES = {
    "merchant_id": "mer",
    "affiliate_id": "aff",
    "payee_id": "aff",
    "agency_id": "aff",
    "program_id": "prg",
    "link_id": "lnk",
    "coupon_id": "cpn",
    "source_id": "src",
    "key_id": "key",
    "created_by": "key",
    "submitted_by": "key",
    "approved_by": "key",
    "retry_by": "key",
    "decided_by": "key",
    "declared_by": "key",
    "set_by": "key",
    "ended_by": "key",
    "opened_by": "key",
    "asked_by": "key",
    "recorded_by": "key",
    "order_id": "ord",
    "commission_id": "com",
    "replaced_by": "key",
    "offered_by": "key",
    "marked_by": "key",
    "statement_id": "stm",
    "sharing_confirmed_by": "key",
    "replaces": "pmt",
    "closed_by": "key",
    "note_by": "key",
    "reconciliation_id": "rec",
    "item_id": "pay",
    "run_id": "run",
    "handed_over_by": "key",
    "attested_by": "key",
    "confirmed_by": "key",
}
"""Of public ids, by the name of the column that holds one."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who asked for what. key_id: None at the command line. subject: the id in the path, if any."""

    operation: str
    key_id: UUID | None
    merchant_id: UUID | None
    """Of the key; None for an operator, whose changes belong to the merchant they were made at."""
    request_id: str | None
    subject: str = ""


@dataclass(slots=True)
class _Change:
    merchant_id: UUID | None
    """None where the row does not say: then it is of the merchant whose key asked."""
    kind: str
    subject: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(slots=True)
class _Trail:
    """What the unit of work of one session has changed so far, in the order in which it was first touched."""

    changes: dict[object, _Change] = field(default_factory=dict)
    undone: bool = False
    """Whether all of it was undone, so that nothing is to be told."""

    def add(self, key: object, change: _Change) -> None:
        """Take one change; the second of one thing goes on from the first."""
        known = self.changes.get(key)
        if known is None:
            self.changes[key] = change
            return
        if known.before is not None and change.before is not None:
            known.before = {**change.before, **known.before}
        known.after = None if change.after is None else {**(known.after or {}), **change.after}


def follow(session: Session) -> None:
    """Compare from now on what the session stores."""
    session.info[_KEPT_AT] = _Trail()


def forget(session: Session) -> None:
    """Tell nothing of this unit of work: what it changed was undone, and it goes on only to keep a refusal."""
    session.info[_KEPT_AT] = _Trail(undone=True)


def note(
    session: Session,
    *,
    merchant_id: UUID,
    kind: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Say what a statement changed that went past the session's own rows. Values: as JSON, no secrets, nobody's name."""
    trail: _Trail | None = session.info.get(_KEPT_AT)
    if trail is not None:
        change = _Change(
            merchant_id, kind, subject, None if before is None else dict(before), None if after is None else dict(after)
        )
        trail.add((kind, subject), change)


def note_new(session: Session, rows: Iterable[SQLModel]) -> None:
    """Say which rows a statement stored that went past the session."""
    trail: _Trail | None = session.info.get(_KEPT_AT)
    if trail is not None:
        for row in rows:
            change = _change(row, SHOWN[type(row)], is_new=True, is_gone=False)
            if change is not None:
                trail.add(_key(row), change)


def write(session: Session, author: Author, *, at: datetime) -> None:
    """Store what was followed, last in the unit of work. at: by our clock.

    Where nothing was compared or noted, one row says what was asked for: it may have been so already, or be done later.
    """
    session.flush()
    trail: _Trail | None = session.info.pop(_KEPT_AT, None)
    if trail is not None and trail.undone:
        return
    changes = list(trail.changes.values()) if trail else []
    if not changes:
        changes = [_Change(None, "request", author.subject, None, None)]
    execute(
        session,
        """
        INSERT INTO audit (merchant_id, id, key_id, by_operator, operation, kind, subject, before, after, request_id, at)
        SELECT merchant_id, id, CAST(:key_id AS uuid), :by_operator, :operation, kind, subject, CAST(before AS jsonb),
               CAST(after AS jsonb), CAST(:request_id AS text), :at
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:kinds AS text[]),
                    CAST(:subjects AS text[]), CAST(:befores AS text[]), CAST(:afters AS text[]))
             AS changed (merchant_id, id, kind, subject, before, after)
        """,
        {
            "key_id": author.key_id,
            "by_operator": author.merchant_id is None,
            "operation": author.operation,
            "request_id": author.request_id,
            "at": at,
            "merchant_ids": [change.merchant_id or author.merchant_id or NOBODYS for change in changes],
            "ids": [ids.new_id() for _ in changes],
            "kinds": [change.kind for change in changes],
            "subjects": [change.subject for change in changes],
            "befores": [_text(change.before) for change in changes],
            "afters": [_text(change.after) for change in changes],
        },
    )


@event.listens_for(Session, "before_flush")
def _compare(session: Session, _context: UOWTransaction, _instances: object) -> None:
    """Take note of each row that is about to be stored otherwise than it was."""
    trail: _Trail | None = session.info.get(_KEPT_AT)
    if trail is None:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        shown = SHOWN.get(type(row))
        if shown is not None:
            change = _change(row, shown, is_new=row in session.new, is_gone=row in session.deleted)
            if change is not None:
                trail.add(_key(row), change)


def _key(row: SQLModel) -> object:
    return (type(row), *(getattr(row, key.name) for key in inspect(type(row)).primary_key))


def _change(row: SQLModel, shown: Shown, *, is_new: bool, is_gone: bool) -> _Change | None:
    """What is different about a row; None if nothing that is shown is."""
    state: InstanceState[Any] = inspect(row)
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for column in state.mapper.column_attrs:
        name = column.key
        if name in shown.left_out:
            continue
        history = state.attrs[name].history
        if is_new or is_gone:
            value = getattr(row, name)
            if value is not None:
                (after if is_new else before)[name] = _told(name, value, shown)
        elif history.has_changes():
            old, new = (part[0] if part else None for part in (history.deleted, history.added))
            before[name], after[name] = _told(name, old, shown), _told(name, new, shown)
    if not before and not after:
        return None
    merchant_id = row.id if isinstance(row, parties.MerchantRow) else getattr(row, "merchant_id", None)
    return _Change(
        merchant_id,
        str(type(row).__tablename__),
        ids.encode(shown.prefix, getattr(row, shown.column)),
        None if is_new else before,
        None if is_gone else after,
    )


def _told(name: str, value: Any, shown: Shown) -> Any:
    """The value as the trail shows it."""
    if value is None or value == NOBODYS:
        return None
    if name in shown.masked or isinstance(value, bytes):
        return MASKED
    if isinstance(value, UUID):
        prefix = shown.prefix if name == "id" and shown.column == "id" else _PREFIXES.get(name)
        return str(value) if prefix is None else ids.encode(prefix, value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _text(told: dict[str, Any] | None) -> str | None:
    return None if told is None else json.dumps(told, separators=(",", ":"))
