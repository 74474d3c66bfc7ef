"""Two persons say, by evidence, what became of a payout in a file that the bank says nothing of."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Session, col, select

from service.domain.errors import Conflict, Forbidden
from service.domain.ledger import MerchantTime
from service.domain.payout import Outcome, RunState
from service.domain.payout_file import Attested
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import fetch
from service.infra.security import Security
from service.payouts.file_lines import Line, lines_of
from service.payouts.find import lock_run_of
from service.payouts.persons import is_same_person
from service.payouts.record import record
from service.payouts.wake import wake
from service.tables.payout_files import PayoutAttestationRow
from service.tables.payouts import PayoutItemRow

NOT_SENT = "attested_not_sent"


class NothingToAttest(Conflict):
    code = "payout-not-attestable"
    title = "There is nothing to attest of this payout"


class SelfAttestation(Forbidden):
    code = "payout-self-attestation"
    title = "An attestation needs a second person"


class AttestationMissing(Conflict):
    code = "payout-attestation-missing"
    title = "Nobody has attested this of the payout"


def attest(
    session: Session,
    *,
    merchant_id: UUID,
    item_id: UUID,
    outcome: Attested,
    evidence: str,
    by: UUID,
    when: MerchantTime,
) -> PayoutItemRow:
    """Say what became of a payout whose file was handed over. It takes the place of what was said and not confirmed before.

    Nothing follows from it until another person confirms it. Raises NothingToAttest.
    """
    _, item = lock_run_of(session, merchant_id, item_id)
    line = _line(session, merchant_id, item_id)
    before = _open(session, merchant_id, line)
    if before is not None:
        before.withdrawn_at = when.now
        session.add(before)
        session.flush()
    session.add(
        PayoutAttestationRow(
            merchant_id=merchant_id,
            id=ids.new_id(),
            attempt_id=line.attempt.id,
            outcome=outcome,
            evidence=evidence,
            attested_by=by,
            attested_at=when.now,
        )
    )
    return item


def confirm(
    session: Session,
    security: Security,
    *,
    merchant_id: UUID,
    item_id: UUID,
    outcome: Attested,
    note: str,
    by: UUID,
    when: MerchantTime,
    now: datetime,
) -> PayoutItemRow:
    """Confirm what another person attested, and book it. outcome: as this person saw it too. now: by our clock.

    Raises NothingToAttest, AttestationMissing, SelfAttestation.
    """
    run, item = lock_run_of(session, merchant_id, item_id)
    line = _line(session, merchant_id, item_id)
    found = _open(session, merchant_id, line)
    if found is None or found.outcome != outcome:
        said = "nothing" if found is None else found.outcome
        raise AttestationMissing(
            f"Of payout {ids.encode('pay', item_id)} {said} was attested. Attest {outcome} with its evidence; another confirms it."
        )
    if is_same_person(session, merchant_id, by, found.attested_by):
        raise SelfAttestation(f"Key {ids.encode('key', by)} attested it; another key has to confirm it.")
    found.confirmed_by, found.confirmed_at, found.note = by, when.now, note or None
    session.add(found)
    verdict = (
        line.accepted(security, item.currency) if outcome is Attested.PAID else line.not_done(Outcome.ABSENT, NOT_SENT)
    )
    record(session, security, [verdict], run_id=run.id, when=when, now=now)
    if run.status == RunState.EXECUTING:
        wake(session, merchant_id=merchant_id, run_id=run.id, at=now)
    crash_point(CrashPoint.ATTEST_BEFORE_COMMIT)
    return item


def _line(session: Session, merchant_id: UUID, item_id: UUID) -> Line:
    """The line of an item's newest attempt, if nobody knows what became of it. Raises NothingToAttest."""
    rows = fetch(
        session,
        """
        SELECT line.file_id, attempt.id AS attempt_id FROM payout_attempt AS attempt
        JOIN payout_file_line AS line ON line.merchant_id = attempt.merchant_id AND line.attempt_id = attempt.id
        WHERE attempt.merchant_id = :merchant_id AND attempt.item_id = :item_id AND attempt.outcome = 'unknown'
        """,
        {"merchant_id": merchant_id, "item_id": item_id},
    )
    if not rows:
        raise NothingToAttest(
            f"Payout {ids.encode('pay', item_id)} is in no file that was handed over, or it is known what became of it."
        )
    [line] = lines_of(session, merchant_id, rows[0].file_id, attempt_ids=[rows[0].attempt_id]).values()
    return line


def _open(session: Session, merchant_id: UUID, line: Line) -> PayoutAttestationRow | None:
    return session.exec(
        select(PayoutAttestationRow).where(
            col(PayoutAttestationRow.merchant_id) == merchant_id,
            col(PayoutAttestationRow.attempt_id) == line.attempt.id,
            col(PayoutAttestationRow.withdrawn_at).is_(None),
        )
    ).one_or_none()
