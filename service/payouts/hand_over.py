"""Give a file to a person. The first time all in it may be paid from then on, which is written down before a byte leaves."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict, InvariantBroken
from service.domain.events import EventType
from service.domain.ledger import MerchantTime
from service.domain.payout import RunState
from service.domain.payout_file import FileState
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute
from service.infra.security import Security
from service.outbox.emit import emit
from service.payouts import tell
from service.payouts.control import closed
from service.payouts.file_lines import CONTENT, HANDED_OVER, lines_of, lock_file
from service.payouts.find import demand, items_of
from service.payouts.gate import notice
from service.payouts.plan import check
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutRunRow

_NAMED_MAX = 5


class FileVoid(Conflict):
    code = "payout-file-void"
    title = "The file of payouts was withdrawn"


class FileOutdated(Conflict):
    code = "payout-file-outdated"
    title = "The file is out of date"


class RunStopped(Conflict):
    code = "payout-run-stopped"
    title = "The payout run has stopped"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A file and its bytes. is_first: whether nobody had them before."""

    file: PayoutFileRow
    content: bytes
    is_first: bool


def hand_over(
    session: Session,
    security: Security,
    *,
    merchant_id: UUID,
    file_id: UUID,
    by: UUID,
    when: MerchantTime,
    now: datetime,
) -> HandedOver:
    """Return a file's bytes, the same each time. The first time its attempts become unknown, as sent once. now: our clock.

    What changed since it was built counts until then: one payee who must not be paid keeps the file here, and so does the
    end of the day it is for.
    Raises FileVoid, FileOutdated, RunStopped, WrongRunState.
    """
    run, file = lock_file(session, merchant_id, file_id)
    if file.state == FileState.VOID:
        raise FileVoid(
            f"{ids.encode('pfl', file_id)} was withdrawn before anybody had it. See the run for its other files."
        )
    is_first = file.state == FileState.BUILT
    if is_first:
        demand(run, RunState.EXECUTING)
        if run.stopped_at is not None:
            raise RunStopped(
                f"It stopped with {run.stop_code}. When the cause is gone, execute payout run {ids.encode('run', run.id)} again."
            )
        # The worker that notices a restored database may not have run yet, and this leaves without it.
        notice(session, now=now)
        waits_for = closed(session, run)
        if waits_for is not None:
            raise RunStopped(f"Nothing is handed to {run.rail} now ({waits_for}); try again when that is over.")
        _check(session, run, file, when)
        _mark(session, file, now=now)
        file.state = FileState.HANDED_OVER
        file.handed_over_at, file.handed_over_by = when.now, by
        emit(session, [tell.of_file(file, EventType.PAYOUT_FILE_HANDED_OVER, when=when)])
    file.downloads += 1
    content = security.decrypt(file.content, purpose=CONTENT)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise InvariantBroken(f"the file {ids.encode('pfl', file_id)} is not what was built")
    session.add(file)
    session.flush()
    crash_point(CrashPoint.HAND_OVER_BEFORE_COMMIT)
    return HandedOver(file, content, is_first)


def _check(session: Session, run: PayoutRunRow, file: PayoutFileRow, when: MerchantTime) -> None:
    """Raise FileOutdated unless it is of today, and everything in it is still what was approved."""
    withdraw = f"Withdraw it with POST /v1/payout-files/{ids.encode('pfl', file.id)}/void"
    day = tell.day_of(file, when.time_zone)
    if when.day > day:
        raise FileOutdated(
            f"It was built for {day}, the day its payments are dated and counted in limits, and today is {when.day}. "
            f"{withdraw}: another is built with today's date, of those that may be paid today."
        )
    item_ids = [line.item_id for line in lines_of(session, run.merchant_id, file.id).values()]
    items = items_of(session, run.merchant_id, item_ids, hold=True)
    _, why = check(session, run, items, when=when)
    dropped: dict[UUID, str] = {item.id: item.frozen_code for item in items if item.frozen_code is not None}
    dropped |= why
    if dropped:
        named = ", ".join(f"{ids.encode('pay', each)} ({dropped[each]})" for each in sorted(dropped)[:_NAMED_MAX])
        more = f" and {len(dropped) - _NAMED_MAX} more" if len(dropped) > _NAMED_MAX else ""
        raise FileOutdated(
            f"Since it was built things have changed for {named}{more}. {withdraw}: another is built of those that may be "
            "paid."
        )


def _mark(session: Session, file: PayoutFileRow, *, now: datetime) -> None:
    """Call all of a file's attempts unknown, as sent once and looked up by nobody."""
    marked = execute(
        session,
        """
        UPDATE payout_attempt AS attempt
        SET outcome = 'unknown', code = :code, fence = attempt.fence + 1, sends = 1, first_sent_at = :now, next_at = NULL
        FROM payout_file_line AS line
        WHERE line.merchant_id = :merchant_id AND line.file_id = :file_id
          AND attempt.merchant_id = line.merchant_id AND attempt.id = line.attempt_id
          AND attempt.outcome = 'planned' AND attempt.sends = 0
        """,
        {"merchant_id": file.merchant_id, "file_id": file.id, "code": HANDED_OVER, "now": now},
    )
    if marked != file.lines:
        raise InvariantBroken(f"{marked} of {file.lines} lines of {ids.encode('pfl', file.id)} were still to be sent")
