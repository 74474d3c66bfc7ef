"""What a bank answers to a file: stored line by line, folded, and booked as far as it proves something new.

In any order, any number of times: what was said of a line is a set, and what it means hangs on the set alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Session

from service.domain.errors import Conflict
from service.domain.ledger import MerchantTime
from service.domain.payout import FactKind, Outcome, RunState
from service.domain.payout_file import FileState, Said, contradict, meant
from service.domain.text import made_visible
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch
from service.infra.security import Security
from service.ledger.post import post
from service.outbox.emit import emit
from service.payouts import book
from service.payouts.adopt import set_back
from service.payouts.file_lines import CONTENT, HANDED_OVER, TAKEN, Line, lines_of, lock_file
from service.payouts.file_settings import rail_of_file
from service.payouts.files import FileNotBuilt
from service.payouts.find import items_of
from service.payouts.providers.file_model import REFERENCE_CHARS_MAX, ResultFile, Told
from service.payouts.reconcile import Told as ToldOfItem
from service.payouts.reconcile import reconcile
from service.payouts.record import ANSWER_DIFFERS, Verdict, record, stop
from service.payouts.wake import wake
from service.tables.payout_files import PayoutFileRow
from service.tables.payouts import PayoutItemRow, PayoutRunRow

CONTRADICTS = "result_contradicts"
"""Code with which a run stops: of one payment it is said that it went and that it did not."""

DUPLICATE = "result_duplicate"
"""Code with which a run stops: the bank calls a payment, or the whole file, the copy of one that it has."""

_NO_REASON = "rejected_by_bank"


class ResultOfAnotherFile(Conflict):
    code = "payout-result-of-another-file"
    title = "The result answers another file"


class LineResult(StrEnum):
    """What became of one line of a result."""

    APPLIED = "applied"
    ALREADY_KNOWN = "already_known"
    UNKNOWN_ID = "unknown_id"
    """No payment of the file has this end-to-end id."""
    DIFFERS = "differs"
    """Amount, currency or account are not what was asked for: nothing is booked, and the run stops."""
    CONTRADICTS = "contradicts"
    """It is kept, but what was booked before says otherwise: the run stops, and people look."""
    DUPLICATE = "duplicate"
    """The bank has rejected or sent back what it calls a copy of this payment: nothing is booked, and the run stops."""


@dataclass(frozen=True, slots=True)
class LineOutcome:
    """A line of a result and what became of it. item_id: None where it is of no payment of the file."""

    told: Told
    end_to_end_id: str
    result: LineResult
    item_id: UUID | None


@dataclass(frozen=True, slots=True)
class Imported:
    """A result as it was taken in. was_known: whether the same bytes had been sent before."""

    result_id: UUID
    format: str
    was_known: bool
    lines: tuple[LineOutcome, ...]
    stop_code: str | None


@dataclass(frozen=True, slots=True)
class _Fact:
    """Something new that a bank said of a line."""

    line: Line
    said: Said
    amount_minor: int
    told: Told


def import_results(
    session: Session,
    security: Security,
    *,
    merchant_id: UUID,
    file_id: UUID,
    content: bytes,
    by: UUID,
    when: MerchantTime,
    now: datetime,
) -> Imported:
    """Take in what a bank answered to a file. by: the key that sends it. now: by our clock.

    Raises FileMissing, FileNotBuilt, UnreadableResult, ResultOfAnotherFile.
    """
    run, file = lock_file(session, merchant_id, file_id)
    if file.state != FileState.HANDED_OVER:
        raise FileNotBuilt(
            f"{ids.encode('pfl', file_id)} is {file.state}: nobody has handed it over, so no bank can have answered it."
        )
    rail = rail_of_file(session, merchant_id, file.rail, file.template_version)
    read = rail.read_result(content, currency=file.currency)
    if read.message_id and read.message_id != file.message_id:
        raise ResultOfAnotherFile(f"It answers a file {read.message_id[:35]!r}; this one is {file.message_id}.")
    result_id, was_known = _keep(session, security, file, read, content, by=by, at=when.now)
    lines = lines_of(session, merchant_id, file_id)
    # In the order of every verb: the run is locked, now its items, then balances.
    locked = items_of(session, merchant_id, {line.item_id for line in lines.values()}, hold=True)
    items = {item.id: item for item in locked}
    outcomes, facts = _compare(security, read.told, lines, file)
    _store_facts(session, file, facts, result_id=result_id, now=now)
    touched = _with_facts(lines, facts)
    contradicting = _book(session, security, run, file, touched, items, when=when, now=now)
    stop_code = _why_stop({each.result for each in outcomes}, contradicting)
    if stop_code is not None and run.status == RunState.EXECUTING:
        emit(session, stop(session, run, stop_code, when=when))
    if run.status == RunState.EXECUTING:
        wake(session, merchant_id=merchant_id, run_id=run.id, at=now)
    crash_point(CrashPoint.RESULTS_BEFORE_COMMIT)
    told = tuple(
        replace(each, result=LineResult.CONTRADICTS)
        if each.result is LineResult.APPLIED and each.end_to_end_id in contradicting
        else each
        for each in outcomes
    )
    return Imported(result_id, read.format, was_known, told, stop_code)


def _why_stop(results: Collection[LineResult], contradicting: Collection[str]) -> str | None:
    """The code with which the run stops, of the worst there is; None where it goes on."""
    if LineResult.DIFFERS in results:
        return ANSWER_DIFFERS
    if contradicting:
        return CONTRADICTS
    return DUPLICATE if LineResult.DUPLICATE in results else None


def _keep(
    session: Session,
    security: Security,
    file: PayoutFileRow,
    read: ResultFile,
    content: bytes,
    *,
    by: UUID,
    at: datetime,
) -> tuple[UUID, bool]:
    """Keep the answer byte for byte, once. Returns its id, and whether it was here before."""
    asked = {
        "merchant_id": file.merchant_id,
        "id": ids.new_id(),
        "file_id": file.id,
        "sha256": hashlib.sha256(content).hexdigest(),
        "format": read.format,
        "content": security.encrypt(content, purpose=CONTENT),
        "lines": len(read.told),
        "by": by,
        "at": at,
    }
    made = fetch(
        session,
        """
        INSERT INTO payout_result (merchant_id, id, file_id, sha256, format, content, lines, imported_by, imported_at)
        VALUES (:merchant_id, :id, :file_id, :sha256, :format, :content, :lines, :by, :at)
        ON CONFLICT (merchant_id, file_id, sha256) DO NOTHING
        RETURNING id
        """,
        asked,
    )
    if made:
        return made[0].id, False
    known = fetch(
        session,
        "SELECT id FROM payout_result WHERE merchant_id = :merchant_id AND file_id = :file_id AND sha256 = :sha256",
        asked,
    )
    return known[0].id, True


def _compare(
    security: Security, told: Sequence[Told], lines: Mapping[str, Line], file: PayoutFileRow
) -> tuple[list[LineOutcome], list[_Fact]]:
    """What each line of a result is, and what is new about ours."""
    by_id = {end_to_end_id.upper(): line for end_to_end_id, line in lines.items()}
    known: dict[int, set[tuple[Said, int]]] = {line.number: set(line.said) for line in lines.values()}
    outcomes: list[LineOutcome] = []
    facts: list[_Fact] = []
    for each in told:
        # None stands for every line of the file.
        found = [by_id.get(each.reference.upper())] if each.reference is not None else list(lines.values())
        for line in found:
            if line is None:
                outcomes.append(LineOutcome(each, _told_id(each), LineResult.UNKNOWN_ID, None))
                continue
            amount_minor = _amount(each, line, file.currency)
            if amount_minor is None or _is_other_account(security, each, line):
                result = LineResult.DIFFERS
            elif each.is_of_a_copy:
                # No fact of the line, for it would refuse, or take back, what the bank may have done by the other copy.
                result = LineResult.DUPLICATE
            elif (each.said, amount_minor) in known[line.number]:
                result = LineResult.ALREADY_KNOWN
            else:
                known[line.number].add((each.said, amount_minor))
                facts.append(_Fact(line, each.said, amount_minor, each))
                result = LineResult.APPLIED
            outcomes.append(LineOutcome(each, line.end_to_end_id, result, line.item_id))
    return outcomes, facts


def _told_id(told: Told) -> str:
    """An id that is none of ours, as it may be told again."""
    return made_visible(told.reference or "")[:REFERENCE_CHARS_MAX]


def _amount(told: Told, line: Line, currency: str) -> int | None:
    """The amount that a line's fact is about; None where it is not what was asked for."""
    if told.amount_minor is None:
        return line.amount_minor
    if told.currency != currency:
        return None
    if told.said is Said.RETURNED:
        return told.amount_minor if 0 < told.amount_minor <= line.amount_minor else None
    return line.amount_minor if told.amount_minor == line.amount_minor else None


def _is_other_account(security: Security, told: Told, line: Line) -> bool:
    return bool(told.account) and told.account != line.destination(security).account


def _store_facts(
    session: Session, file: PayoutFileRow, facts: Sequence[_Fact], *, result_id: UUID, now: datetime
) -> None:
    if not facts:
        return
    execute(
        session,
        """
        INSERT INTO payout_line_fact (merchant_id, file_id, line, said, amount_minor, reason, booked_on, result_id, told_at)
        SELECT :merchant_id, :file_id, line, said, amount_minor, reason, booked_on, :result_id, :now
        FROM unnest(CAST(:lines AS integer[]), CAST(:said AS text[]), CAST(:amounts AS bigint[]), CAST(:reasons AS text[]),
                    CAST(:booked_on AS date[])) AS told (line, said, amount_minor, reason, booked_on)
        """,
        {
            "merchant_id": file.merchant_id,
            "file_id": file.id,
            "result_id": result_id,
            "now": now,
            "lines": [fact.line.number for fact in facts],
            "said": [fact.said.value for fact in facts],
            "amounts": [fact.amount_minor for fact in facts],
            "reasons": [fact.told.reason for fact in facts],
            "booked_on": [fact.told.booked_on for fact in facts],
        },
    )


@dataclass(frozen=True, slots=True)
class _Touched:
    """A line of which something new was said, with all that was said of it. reason: of a rejection told now, the last by alphabet where there are several."""

    line: Line
    said: frozenset[tuple[Said, int]]
    reason: str

    @property
    def kinds(self) -> frozenset[Said]:
        return frozenset(said for said, _ in self.said)


def _with_facts(lines: Mapping[str, Line], facts: Sequence[_Fact]) -> list[_Touched]:
    new: dict[str, list[_Fact]] = defaultdict(list)
    for fact in facts:
        new[fact.line.end_to_end_id].append(fact)
    return [
        _Touched(
            lines[end_to_end_id],
            lines[end_to_end_id].said | {(fact.said, fact.amount_minor) for fact in of_line},
            max((fact.told.reason for fact in of_line if fact.said is Said.REJECTED), default=""),
        )
        for end_to_end_id, of_line in new.items()
    ]


def _book(
    session: Session,
    security: Security,
    run: PayoutRunRow,
    file: PayoutFileRow,
    touched: Sequence[_Touched],
    items: Mapping[UUID, PayoutItemRow],
    *,
    when: MerchantTime,
    now: datetime,
) -> set[str]:
    """Bring attempts and books to what lines now mean. Returns the end-to-end ids of those that contradict what is booked."""
    contradicting = {each.line.end_to_end_id for each in touched if contradict(each.kinds)}
    verdicts: list[Verdict] = []
    adopted: list[_Touched] = []
    newest = _newest_attempts(session, file.merchant_id, [each.line.item_id for each in touched])
    for each in touched:
        line, wanted = each.line, meant(each.kinds)
        match line.outcome, wanted:
            case (Outcome.UNKNOWN, Outcome.ACCEPTED):
                verdicts.append(line.accepted(security, file.currency))
            case (Outcome.UNKNOWN, Outcome.REFUSED):
                verdicts.append(line.not_done(Outcome.REFUSED, each.reason or _NO_REASON))
            case (Outcome.REFUSED | Outcome.ABSENT, Outcome.ACCEPTED):
                # Only while its money is still here, and nothing else was done with it, can it be what was booked.
                if items[line.item_id].live and newest[line.item_id] == line.attempt.id:
                    adopted.append(each)
                    verdicts.append(line.accepted(security, file.currency))
                if line.outcome is Outcome.ABSENT or not items[line.item_id].live:
                    contradicting.add(line.end_to_end_id)
            case (Outcome.ACCEPTED, Outcome.REFUSED):
                contradicting.add(line.end_to_end_id)
            case _:
                # As it is booked, or only that the bank has it.
                pass
    _adopt(session, file.merchant_id, adopted, items, when=when)
    record(session, security, verdicts, run_id=run.id, when=when, now=now)
    _take(session, file.merchant_id, [each for each in touched if Said.ACCEPTED in each.kinds])
    reconcile(
        session,
        [fact for each in touched for fact in _facts_of(each)],
        merchant_id=file.merchant_id,
        rail=file.rail,
        when=when,
        now=now,
    )
    return contradicting


def _newest_attempts(session: Session, merchant_id: UUID, item_ids: Sequence[UUID]) -> Mapping[UUID, UUID]:
    rows = fetch(
        session,
        """
        SELECT DISTINCT ON (item_id) item_id, id FROM payout_attempt
        WHERE merchant_id = :merchant_id AND item_id = ANY(CAST(:item_ids AS uuid[]))
        ORDER BY item_id, number DESC
        """,
        {"merchant_id": merchant_id, "item_ids": list(item_ids)},
    )
    return {row.item_id: row.id for row in rows}


def _adopt(
    session: Session,
    merchant_id: UUID,
    adopted: Sequence[_Touched],
    items: Mapping[UUID, PayoutItemRow],
    *,
    when: MerchantTime,
) -> None:
    """Set attempts that seemed to have done nothing back to unknown: the bank has booked them after all."""
    if not adopted:
        return
    postings = [
        posting
        for each in adopted
        for posting in book.adopted(items[each.line.item_id], number=each.line.attempt.number)
    ]
    post(session, postings, when={merchant_id: when})
    set_back(session, merchant_id, [each.line.attempt.id for each in adopted], code=HANDED_OVER)
    execute(
        session,
        """
        UPDATE payout_item SET handed_over_at = :at, retry_by = NULL
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[]))
        """,
        {"merchant_id": merchant_id, "at": when.now, "ids": [each.line.item_id for each in adopted]},
    )


def _take(session: Session, merchant_id: UUID, taken: Sequence[_Touched]) -> None:
    """Note for people that the bank has taken lines of which nothing else is known."""
    execute(
        session,
        """
        UPDATE payout_attempt SET code = :taken
        WHERE merchant_id = :merchant_id AND id = ANY(CAST(:ids AS uuid[])) AND outcome = 'unknown' AND code = :before
        """,
        {
            "merchant_id": merchant_id,
            "taken": TAKEN,
            "before": HANDED_OVER,
            "ids": [each.line.attempt.id for each in taken],
        },
    )


def _facts_of(touched: _Touched) -> list[ToldOfItem]:
    """What a line says of a payout that was sent: that it was booked, and how much came back."""
    line = touched.line
    kinds = {Said.BOOKED: FactKind.PAID, Said.RETURNED: FactKind.RETURNED}
    return [
        ToldOfItem(
            item_id=line.item_id,
            object_id=line.end_to_end_id,
            kind=kinds[said],
            version=str(amount_minor),
            amount_minor=amount_minor,
            payload={"attempt": line.attempt.number},
        )
        for said, amount_minor in sorted(touched.said)
        if said in kinds
    ]
