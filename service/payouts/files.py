"""Take a run on a rail without a network as far as it can go: plan, then build files of what is planned. Nothing leaves here.

What is built waits for a person to hand it over. The worker never looks up nor sends again what left in a file.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.events import EventType
from service.domain.ledger import MerchantTime
from service.domain.payout import Answer, AnswerKind, Outcome, RunState
from service.domain.payout_file import FileState, Recipient, recipient_of
from service.domain.withholding.model import PayeeKind
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, run_unit
from service.infra.security import Security
from service.outbox.emit import emit
from service.payouts import tell
from service.payouts.execute import PLAN_AT_ONCE, Progress, close
from service.payouts.file_lines import CONTENT, lock_file
from service.payouts.file_settings import FileSettings, settings_of
from service.payouts.find import demand, lock_run, merchant_time
from service.payouts.plan import plan
from service.payouts.providers.file_model import FileRail, Header, Rendered, Row, message_id_of, row_of
from service.payouts.providers.sheets import UnusableTemplate
from service.payouts.record import Verdict, record, stop
from service.payouts.release import void_built
from service.payouts.send import Leased
from service.payouts.wake import wake
from service.payouts.withdraw import end_planned, plan_anew, plan_waiting_anew
from service.tables.parties import AffiliateKind, MerchantRow, TaxRule
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutRunRow

NO_PAYER = "payer_account_missing"
"""Code with which a run stops whose files name an account that nobody has set."""


MAP_UNUSABLE = "column_map_unusable"
"""Code with which a run stops whose files' column map was set before a rule was known that it breaks."""
NAME_NOT_IN_ENCODING = "name_not_in_encoding"
"""Code with which a run stops whose files name the merchant or payer in letters that their encoding has not."""


class FileNotBuilt(Conflict):
    code = "payout-file-state"
    title = "The file's state does not allow this"


@dataclass(frozen=True, slots=True)
class Builder:
    """What one worker builds with. clock: ours, in UTC."""

    engine: Engine
    security: Security
    rail: FileRail
    clock: Callable[[], datetime]


def advance(builder: Builder, *, merchant_id: UUID, run_id: UUID, until: datetime) -> Progress:
    """Do all that is due of a run. until: begin nothing new after that, by our clock. Safe to repeat anywhere."""
    # A large run is planned in several turns, and only then built; what stands in a file is checked at its hand-over.
    plan_waiting_anew(builder.engine, merchant_id=merchant_id, run_id=run_id, now=builder.clock(), waits_at_most=None)
    built = 0
    while builder.clock() < until:
        planned = run_unit(
            builder.engine,
            partial(
                plan,
                rail=builder.rail,
                security=builder.security,
                merchant_id=merchant_id,
                run_id=run_id,
                limit=PLAN_AT_ONCE,
                now=builder.clock(),
            ),
        )
        if planned.attempts or planned.dropped:
            continue
        # All that can be planned is: so files are as full as they may be.
        rows = run_unit(
            builder.engine,
            partial(
                build,
                security=builder.security,
                rail=builder.rail,
                merchant_id=merchant_id,
                run_id=run_id,
                now=builder.clock(),
            ),
        )
        if not rows:
            break
        crash_point(CrashPoint.FILE_BUILT)
        built += rows
    next_at = run_unit(
        builder.engine,
        partial(close, merchant_id=merchant_id, run_id=run_id, now=builder.clock(), is_compared=False),
    )
    return Progress(built, next_at)


@dataclass(frozen=True, slots=True)
class _Fit:
    """An attempt that can stand in a file."""

    attempt: Leased
    row: Row


def build(
    session: Session, security: Security, *, rail: FileRail, merchant_id: UUID, run_id: UUID, now: datetime
) -> int:
    """Build one file of planned attempts that are in none. Returns how many it took up; 0 when there is nothing to build.

    A row that the rail cannot write is refused instead, with the reason. now: by our clock.
    """
    run = lock_run(session, merchant_id, run_id)
    if run.status != RunState.EXECUTING or run.stopped_at is not None:
        return 0
    merchant, when = merchant_time(session, merchant_id, now=now)
    try:
        settings = settings_of(session, security, merchant_id, rail)
    except UnusableTemplate:
        # Only the merchant can mend it, and to try again and again would tell nobody. A run with nothing to build needs no map.
        if _unfiled(session, security, run, 1, when):
            emit(session, stop(session, run, MAP_UNUSABLE, when=when))
        return 0
    attempts = _unfiled(session, security, run, settings.rail.rows_max, when)
    if not attempts:
        return 0
    if settings.rail.needs_payer and settings.payer is None:
        emit(session, stop(session, run, NO_PAYER, when=when))
        return 0
    file_id = ids.new_id()
    header = _header(file_id, merchant, run, settings, when)
    fit: list[_Fit] = []
    refused: list[Verdict] = []
    for attempt, recipient in attempts:
        row = row_of(attempt.request, reference_chars_max=settings.rail.reference_chars_max, recipient=recipient)
        flaw = settings.rail.why_unfit(row, header)
        if flaw is None:
            fit.append(_Fit(attempt, row))
        else:
            refused.append(Verdict(attempt, Outcome.REFUSED, Answer(AnswerKind.REFUSED, code=flaw)))
    try:
        rendered = settings.rail.render([each.row for each in fit], header) if fit else None
    except UnusableTemplate:
        # The rows fit, and so do the map's own texts: what is left are names that the preamble is filled with.
        emit(session, stop(session, run, NAME_NOT_IN_ENCODING, when=when))
        return 0
    record(session, security, refused, run_id=run_id, when=when, now=now)
    if rendered is not None:
        _store(session, security, run, settings, header, fit, rendered, file_id=file_id, when=when)
    crash_point(CrashPoint.FILE_BEFORE_COMMIT)
    return len(attempts)


def void(
    session: Session, *, merchant_id: UUID, file_id: UUID, by: UUID, when: MerchantTime, now: datetime
) -> PayoutFileRow:
    """Withdraw a file that nobody has had, and let its payouts be planned anew, each checked as the first time.

    by: the key that asks for those attempts. Raises FileNotBuilt. Again it changes nothing.
    """
    run, file = lock_file(session, merchant_id, file_id)
    if file.state == FileState.VOID:
        return file
    demand(run, RunState.EXECUTING)
    if file.state != FileState.BUILT:
        raise FileNotBuilt(
            f"The file {ids.encode('pfl', file_id)} was handed over: what is in it may be paid. Wait for the bank's answer."
        )
    void_built(session, run, when=when, file_id=file_id)
    plan_anew(session, merchant_id, end_planned(session, run, file_id=file_id), by=by, when=when)
    wake(session, merchant_id=merchant_id, run_id=run.id, at=now)
    session.refresh(file)
    return file


def _unfiled(
    session: Session, security: Security, run: PayoutRunRow, limit: int, when: MerchantTime
) -> Sequence[tuple[Leased, Recipient]]:
    """Planned attempts of a locked run that are in no file, in the order of their items, each with what its payee is.

    Those planned on an earlier day stay out: a file is of one day, and they took their room in limits of another.
    """
    rows = fetch(
        session,
        """
        SELECT attempt.id, attempt.item_id, attempt.number, attempt.idempotency_key, attempt.request, attempt.fence,
               attempt.sends, attempt.created_at, affiliate.kind, affiliate.tax_rule, profile.kind AS tax_kind
        FROM payout_item AS item
        JOIN payout_attempt AS attempt ON attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
        JOIN affiliate ON affiliate.merchant_id = item.merchant_id AND affiliate.id = item.payee_id
        LEFT JOIN tax_profile AS profile
          ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
        WHERE item.merchant_id = :merchant_id AND item.run_id = :run_id AND item.live
          AND item.frozen_code IS NULL AND attempt.outcome = 'planned'
          AND CAST(item.handed_over_at AT TIME ZONE :time_zone AS date) = :today
          AND NOT EXISTS (SELECT FROM payout_file_line AS line
                          WHERE line.merchant_id = attempt.merchant_id AND line.attempt_id = attempt.id)
        ORDER BY item.id
        LIMIT :limit
        """,
        {
            "merchant_id": run.merchant_id,
            "run_id": run.id,
            "limit": limit,
            "time_zone": when.time_zone,
            "today": when.day,
        },
    )
    return [
        (
            Leased.of(run.merchant_id, row, security, first_sent_at=None, lease_until=row.created_at),
            recipient_of(
                None if row.tax_kind is None else PayeeKind(row.tax_kind),
                is_taxed_as_company=row.tax_rule == TaxRule.NONE_COMPANY,
                is_koc=row.kind == AffiliateKind.KOC,
            ),
        )
        for row in rows
    ]


def _header(
    file_id: UUID, merchant: MerchantRow, run: PayoutRunRow, settings: FileSettings, when: MerchantTime
) -> Header:
    return Header(
        message_id=message_id_of(file_id),
        built_at=when.now,
        # A bank refuses a day that is over.
        pays_on=max(run.pay_on, when.day),
        payer=settings.payer,
        run=ids.encode("run", run.id),
        merchant=merchant.name,
        is_test=merchant.is_test,
    )


def _store(
    session: Session,
    security: Security,
    run: PayoutRunRow,
    settings: FileSettings,
    header: Header,
    fit: Sequence[_Fit],
    rendered: Rendered,
    *,
    file_id: UUID,
    when: MerchantTime,
) -> None:
    numbers = fetch(
        session,
        "SELECT count(*) AS files FROM payout_file WHERE merchant_id = :merchant_id AND run_id = :run_id",
        {"merchant_id": run.merchant_id, "run_id": run.id},
    )
    file = PayoutFileRow(
        merchant_id=run.merchant_id,
        id=file_id,
        run_id=run.id,
        number=numbers[0].files + 1,
        rail=run.rail,
        state=FileState.BUILT,
        message_id=header.message_id,
        template_version=settings.template_version,
        payer_version=settings.payer_version if settings.rail.needs_payer else None,
        currency=run.currency,
        control_sum_minor=sum(each.row.amount_minor for each in fit),
        lines=len(fit),
        file_name=rendered.file_name,
        media_type=rendered.media_type,
        content=security.encrypt(rendered.content, purpose=CONTENT),
        sha256=hashlib.sha256(rendered.content).hexdigest(),
        built_at=when.now,
    )
    session.add(file)
    session.flush()
    emit(session, [tell.of_file(file, EventType.PAYOUT_FILE_BUILT, when=when)])
    execute(
        session,
        """
        INSERT INTO payout_file_line (merchant_id, file_id, line, item_id, attempt_id, end_to_end_id, amount_minor)
        SELECT :merchant_id, :file_id, line, item_id, attempt_id, end_to_end_id, amount_minor
        FROM unnest(CAST(:lines AS integer[]), CAST(:item_ids AS uuid[]), CAST(:attempt_ids AS uuid[]),
                    CAST(:end_to_end_ids AS text[]), CAST(:amounts AS bigint[]))
             AS made (line, item_id, attempt_id, end_to_end_id, amount_minor)
        """,
        {
            "merchant_id": run.merchant_id,
            "file_id": file_id,
            "lines": list(range(1, len(fit) + 1)),
            "item_ids": [each.attempt.item_id for each in fit],
            "attempt_ids": [each.attempt.id for each in fit],
            "end_to_end_ids": [each.row.reference for each in fit],
            "amounts": [each.row.amount_minor for each in fit],
        },
    )
    # Nobody looks it up: it waits for a person to hand the file over.
    execute(
        session,
        """
        UPDATE payout_attempt SET next_at = NULL
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:attempt_ids AS uuid[]))
        """,
        {"merchant_id": run.merchant_id, "attempt_ids": [each.attempt.id for each in fit]},
    )
