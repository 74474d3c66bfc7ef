"""Issue statements: number what moved on payees' accounts in some days, and keep it for ever."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session, col, select

from service.commissions.work import ask_for
from service.domain.errors import Conflict, Invalid
from service.domain.events import EventType
from service.domain.ledger import SLOTS, MerchantTime
from service.domain.statement import (
    DAYS_MAX,
    FORMAT,
    OWED,
    digest_of,
    for_services_minor,
    number_text,
    sums_json,
)
from service.infra import ids
from service.infra.clock import utc_now
from service.infra.db import execute, fetch, run_unit
from service.infra.security import Security
from service.ledger.times import merchant_times
from service.outbox.emit import Event, emit
from service.reports.statement_books import Account, Days, Standing, Told, standings, told_of
from service.tables.parties import MerchantRow
from service.tables.statements import (
    StatementMark,
    StatementRow,
    StatementRunRow,
    StatementRunState,
    StatementSettingsRow,
)

JsonObject = dict[str, Any]

STATEMENTS: Final = "statements"
"""Kind of the job; its subject is the run."""
SUPPLIER: Final = "statement-supplier"
"""What the supplier of a self-billed statement is encrypted for."""
ANSWER_DAYS: Final = 14
"""Where the merchant has set nothing."""
AT_ONCE_MAX: Final = 50
"""Accounts that are seen to in the request that asks; more are the worker's."""
ACCOUNTS_AT_ONCE, LEGS_AT_ONCE = 250, 15_000
"""Most accounts in a unit of work, and most times they moved; one account is never divided."""
LEFT_OUT_SHOWN: Final = 100
_PERSON: Final = "tax-person"
"""What a tax profile's person was encrypted for."""
_RUNNING = (StatementRunState.QUEUED, StatementRunState.RUNNING)


class PeriodNotOver(Conflict):
    """Only days that are over by the merchant's clock can stand in a statement."""

    code = "statement-period-not-over"
    title = "The period is not over"


@dataclass(frozen=True, slots=True)
class Asked:
    """Statements somebody asks for. currency, affiliate_ids: None for all."""

    merchant_id: UUID
    days: Days
    by: UUID
    currency: str | None = None
    affiliate_ids: Sequence[UUID] | None = None


def ask(session: Session, security: Security, asked: Asked, *, when: MerchantTime) -> StatementRunRow:
    """Issue statements: at once where they are few, else by a worker. Raises PeriodNotOver, Invalid."""
    days = asked.days
    if not 0 <= (days.ends_on - days.begins_on).days < DAYS_MAX:
        raise Invalid(f"A statement is about 1 to {DAYS_MAX} days, the first one before the last.")
    if days.ends_on >= when.day:
        raise PeriodNotOver(f"{days.ends_on} is not over by the merchant's clock, whose day is {when.day}.")
    row = StatementRunRow(
        merchant_id=asked.merchant_id,
        id=ids.new_id(),
        state=StatementRunState.QUEUED,
        begins_on=days.begins_on,
        ends_on=days.ends_on,
        currency=asked.currency,
        affiliate_ids=None if asked.affiliate_ids is None else {"ids": [str(each) for each in asked.affiliate_ids]},
        asked_by=asked.by,
        created_at=when.now,
    )
    row.accounts_total = _count(session, row)
    session.add(row)
    session.flush()
    if row.accounts_total > AT_ONCE_MAX:
        ask_for(session, row.merchant_id, STATEMENTS, row.id, at=utc_now())
        return row
    while _issue_page(session, security, row, when):
        pass
    session.flush()
    return row


def advance(engine: Engine, security: Security, *, merchant_id: UUID, run_id: UUID, go_on: Callable[[], bool]) -> bool:
    """Take a run on, page by page, until it is done or told to pause. Returns whether there is more to do.

    Safe to repeat after a crash on any line, and beside another that does the same: each page is one unit of work under
    the run's lock.
    """
    while run_unit(engine, partial(_turn, security=security, merchant_id=merchant_id, run_id=run_id)):
        if not go_on():
            return True
    return False


def fail(session: Session, *, merchant_id: UUID, run_id: UUID, detail: str, now: datetime) -> None:
    """End a run that cannot be finished; what it issued stays, and the same can be asked for again."""
    row = _held(session, merchant_id, run_id)
    if row is not None:
        row.state, row.error_detail, row.finished_at = StatementRunState.FAILED, detail, now
        session.add(row)


def _turn(session: Session, *, security: Security, merchant_id: UUID, run_id: UUID) -> bool:
    row = _held(session, merchant_id, run_id)
    if row is None:
        return False
    return _issue_page(session, security, row, merchant_times(session, [merchant_id])[merchant_id])


def _held(session: Session, merchant_id: UUID, run_id: UUID) -> StatementRunRow | None:
    """A run that is under way, locked; None where it is over."""
    row = session.get(StatementRunRow, (merchant_id, run_id), with_for_update=True, populate_existing=True)
    return row if row is not None and row.state in _RUNNING else None


@dataclass(slots=True)
class _Issue:
    """A statement that is to be issued."""

    account: Account
    standing: Standing
    replaces: Row[Any] | None = None


@dataclass(slots=True)
class _Page:
    """What becomes of some accounts. left: whether others follow."""

    issue: list[_Issue] = field(default_factory=list)
    confirm: list[UUID] = field(default_factory=list)
    left_out: list[Account] = field(default_factory=list)
    kept: int = 0


def _issue_page(session: Session, security: Security, run: StatementRunRow, when: MerchantTime) -> bool:
    """Issue the next statements of a run. Returns whether there are more."""
    # First of all: two who issue the same do so one after the other, and the second finds what the first has issued.
    _number(session, run.merchant_id, when.day.year, 0)
    days = Days(run.begins_on, run.ends_on)
    accounts = _next_accounts(session, run)
    parties = _Parties.load(session, run.merchant_id, {account.payee_id for account in accounts}, when)
    is_sealed = _sealed(session, run.merchant_id, days)
    page, done = _decide(session, run, accounts, days, parties, is_sealed=is_sealed)
    _store(session, security, run, page.issue, days, parties, is_sealed=is_sealed, when=when)
    _confirm(session, run, page.confirm, when)
    last = accounts[done - 1] if done else None
    run.state = StatementRunState.RUNNING
    run.accounts_done += done
    run.issued += len(page.issue)
    run.kept += page.kept
    run.left_out_total += len(page.left_out)
    run.left_out = [*run.left_out, *(_left_out(account) for account in page.left_out)][:LEFT_OUT_SHOWN]
    if last is not None:
        run.after = {"payee_id": str(last.payee_id), "currency": last.currency}
    has_more = done < len(accounts) or len(accounts) == ACCOUNTS_AT_ONCE
    if not has_more:
        run.state, run.finished_at = StatementRunState.DONE, when.now
    session.add(run)
    session.flush()
    return has_more


def _left_out(account: Account) -> JsonObject:
    return {
        "affiliate_id": ids.encode("aff", account.payee_id),
        "currency": account.currency,
        "reason_code": "billed_already",
    }


_CHOSEN = """
    merchant_id = :merchant_id AND (CAST(:currency AS text) IS NULL OR currency = :currency)
    AND (CAST(:payee_ids AS uuid[]) IS NULL OR owner_id = ANY(CAST(:payee_ids AS uuid[])))
    """


def _chosen(run: StatementRunRow) -> dict[str, object]:
    asked = None if run.affiliate_ids is None else [UUID(each) for each in run.affiliate_ids["ids"]]
    return {"merchant_id": run.merchant_id, "currency": run.currency, "payee_ids": asked}


def _count(session: Session, run: StatementRunRow) -> int:
    statement = f"SELECT count(*) FROM (SELECT DISTINCT owner_id, currency FROM balance WHERE {_CHOSEN}) AS account"  # noqa: S608 - our own constant
    return int(fetch(session, statement, _chosen(run))[0][0])


def _next_accounts(session: Session, run: StatementRunRow) -> list[Account]:
    """The next accounts a run is about, in the order of payee and currency: each that has a balance, be it 0."""
    rows = fetch(
        session,
        f"""
        SELECT DISTINCT owner_id, currency FROM balance
        WHERE {_CHOSEN}
          AND (CAST(:after AS uuid) IS NULL OR (owner_id, currency) > (CAST(:after AS uuid), CAST(:after_currency AS text)))
        ORDER BY owner_id, currency LIMIT :limit
        """,  # noqa: S608 - our own constant
        {
            **_chosen(run),
            "after": UUID(run.after["payee_id"]) if run.after else None,
            "after_currency": run.after.get("currency"),
            "limit": ACCOUNTS_AT_ONCE,
        },
    )
    return [Account(row.owner_id, row.currency) for row in rows]


def _sealed(session: Session, merchant_id: UUID, days: Days) -> bool:
    """Whether nothing can be booked any more on any of the days. Those before the merchant's first day need no seal."""
    [row] = fetch(
        session,
        """
        WITH first AS (
            SELECT least(CAST(merchant.created_at AT TIME ZONE merchant.time_zone AS date),
                         (SELECT min(day) FROM day_slot WHERE merchant_id = :merchant_id)) AS day
            FROM merchant WHERE id = :merchant_id)
        SELECT (CAST(:ends_on AS date) - greatest(CAST(:begins_on AS date), first.day) + 1) * :slots AS wanted,
               (SELECT count(*) FROM day_slot
                WHERE merchant_id = :merchant_id AND day BETWEEN :begins_on AND :ends_on AND sealed_at IS NOT NULL
                  AND day >= first.day) AS sealed
        FROM first
        """,
        {"merchant_id": merchant_id, "slots": SLOTS, **days.as_parameters()},
    )
    return bool(row.sealed >= row.wanted)


def _decide(
    session: Session,
    run: StatementRunRow,
    accounts: Sequence[Account],
    days: Days,
    parties: "_Parties",
    *,
    is_sealed: bool,
) -> tuple[_Page, int]:
    """What becomes of the accounts, and of how many: a page ends early where they moved very often."""
    known = _known(session, run.merchant_id, accounts, days)
    fixed = {account for account, row in known.items() if not row.provisional or row.confirmed}
    open_accounts = [account for account in accounts if account not in fixed]
    found = standings(session, run.merchant_id, [account.payee_id for account in open_accounts], days)
    billed = _billed(session, run.merchant_id, [account for account in open_accounts if parties.bills(account)], days)
    page, legs, done = _Page(), 0, 0
    for account in accounts:
        standing, before = found.get(account, Standing()), known.get(account)
        if legs and account not in fixed and legs + standing.legs > LEGS_AT_ONCE:
            break
        done += 1
        if account in fixed:
            page.kept += 1
        elif before is not None and before.legs == standing.legs + standing.legs_before:
            # Postings are only ever added: as many as then are the same as then.
            page.kept += 1
            if is_sealed:
                page.confirm.append(before.id)
        elif before is None and account in billed:
            page.left_out.append(account)
        elif standing.legs or before is not None or (run.affiliate_ids is not None and standing.legs_before):
            legs += standing.legs
            page.issue.append(_Issue(account, standing, before))
    return page, done


def _known(session: Session, merchant_id: UUID, accounts: Sequence[Account], days: Days) -> Mapping[Account, Row[Any]]:
    """The newest statement of each account for just these days."""
    rows = fetch(
        session,
        """
        SELECT DISTINCT ON (statement.affiliate_id, statement.currency)
               statement.affiliate_id, statement.currency, statement.id, statement.year, statement.number,
               statement.revision, statement.provisional, statement.legs, mark.kind IS NOT NULL AS confirmed
        FROM statement
        LEFT JOIN statement_mark AS mark
          ON mark.merchant_id = statement.merchant_id AND mark.statement_id = statement.id AND mark.kind = 'confirmed'
        WHERE statement.merchant_id = :merchant_id AND statement.affiliate_id = ANY(CAST(:payee_ids AS uuid[]))
          AND statement.begins_on = :begins_on AND statement.ends_on = :ends_on
        ORDER BY statement.affiliate_id, statement.currency, statement.revision DESC
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": sorted({account.payee_id for account in accounts}),
            **days.as_parameters(),
        },
    )
    return {Account(row.affiliate_id, row.currency): row for row in rows}


def _billed(session: Session, merchant_id: UUID, accounts: Sequence[Account], days: Days) -> set[Account]:
    """Those of the accounts that a self-billed statement of other days holds some of these days of."""
    if not accounts:
        return set()
    rows = fetch(
        session,
        """
        SELECT DISTINCT affiliate_id, currency FROM statement
        WHERE merchant_id = :merchant_id AND affiliate_id = ANY(CAST(:payee_ids AS uuid[])) AND self_billed
          AND begins_on <= :ends_on AND ends_on >= :begins_on
          AND (begins_on, ends_on) <> (CAST(:begins_on AS date), CAST(:ends_on AS date))
        """,
        {
            "merchant_id": merchant_id,
            "payee_ids": sorted({account.payee_id for account in accounts}),
            **days.as_parameters(),
        },
    )
    return {Account(row.affiliate_id, row.currency) for row in rows} & set(accounts)


@dataclass(frozen=True, slots=True)
class _Parties:
    """Who statements are from and to."""

    merchant: MerchantRow
    settings: StatementSettingsRow | None
    affiliates: Mapping[UUID, Row[Any]]
    """With the agreement that counts and the tax profile's sealed person."""
    today: date

    @classmethod
    def load(cls, session: Session, merchant_id: UUID, payee_ids: set[UUID], when: MerchantTime) -> "_Parties":
        rows = fetch(
            session,
            """
            SELECT affiliate.id, affiliate.external_id, affiliate.name, affiliate.country, profile.person,
                   agreement.agreed, agreement.agreed_on, agreement.reference
            FROM affiliate
            LEFT JOIN tax_profile AS profile
              ON profile.merchant_id = affiliate.merchant_id AND profile.id = affiliate.tax_profile_id
            LEFT JOIN LATERAL (
                SELECT agreed, agreed_on, reference FROM self_billing_agreement AS each
                WHERE each.merchant_id = affiliate.merchant_id AND each.affiliate_id = affiliate.id
                  AND each.agreed_on <= :today
                ORDER BY each.id DESC LIMIT 1
            ) AS agreement ON true
            WHERE affiliate.merchant_id = :merchant_id AND affiliate.id = ANY(CAST(:payee_ids AS uuid[]))
            """,
            {"merchant_id": merchant_id, "payee_ids": sorted(payee_ids), "today": when.day},
        )
        return cls(
            session.exec(select(MerchantRow).where(col(MerchantRow.id) == merchant_id)).one(),
            session.get(StatementSettingsRow, merchant_id),
            {row.id: row for row in rows},
            when.day,
        )

    def bills(self, account: Account) -> bool:
        """Whether a statement of the account is a self-billed invoice."""
        return (
            self.settings is not None and self.settings.self_billing and bool(self.affiliates[account.payee_id].agreed)
        )

    @property
    def answer_by(self) -> date:
        days = ANSWER_DAYS if self.settings is None else self.settings.answer_days
        return self.today + timedelta(days=days)

    def merchant_json(self) -> JsonObject:
        settings = self.settings
        return {
            "id": ids.encode("mer", self.merchant.id),
            "name": (settings.legal_name if settings else "") or self.merchant.name,
            "address": settings.address if settings else "",
            "vat_id": settings.vat_id if settings else "",
        }

    def affiliate_json(self, account: Account) -> JsonObject:
        row = self.affiliates[account.payee_id]
        return {
            "id": ids.encode("aff", row.id),
            "external_id": row.external_id,
            "name": row.name,
            "country": row.country,
        }

    def supplier(self, account: Account, security: Security) -> JsonObject:
        """Who the invoice is from, as far as its tax profile says."""
        row = self.affiliates[account.payee_id]
        told = {} if row.person is None else json.loads(security.decrypt(bytes(row.person), purpose=_PERSON))
        return {
            "name": told.get("legal_name") or row.name,
            "vat_id": told.get("vat_id"),
            "street": told.get("street"),
            "postcode": told.get("postcode"),
            "town": told.get("town"),
            "country": told.get("country") or row.country,
        }


@dataclass(frozen=True, slots=True)
class _Made:
    """A statement as it is kept."""

    id: UUID
    issue: _Issue
    document: JsonObject
    """Without its supplier."""
    supplier: bytes | None
    digest: bytes
    closing_minor: int
    number: int


def _store(
    session: Session,
    security: Security,
    run: StatementRunRow,
    issue: Sequence[_Issue],
    days: Days,
    parties: _Parties,
    *,
    is_sealed: bool,
    when: MerchantTime,
) -> None:
    if not issue:
        return
    merchant_id = run.merchant_id
    told = told_of(session, merchant_id, [each.account for each in issue], days, time_zone=when.time_zone)
    year, last = _number(session, merchant_id, when.day.year, len(issue))
    made = []
    for number, each in enumerate(issue, start=last - len(issue) + 1):
        head = {
            "number": number_text(year, number),
            "replaces": None if each.replaces is None else number_text(each.replaces.year, each.replaces.number),
            "provisional": not is_sealed,
        }
        made.append(_made(each, number, head, told[each.account], days, parties, security, when))
    _insert(session, run, made, year, days, parties, is_sealed=is_sealed, when=when)
    emit(session, [_event(run, each, days, when) for each in made])


def _made(
    issue: _Issue,
    number: int,
    head: JsonObject,
    told: Told,
    days: Days,
    parties: _Parties,
    security: Security,
    when: MerchantTime,
) -> _Made:
    account = issue.account
    document: JsonObject = {
        "format": FORMAT,
        **head,
        "issued_at": when.now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "issued_on": when.day.isoformat(),
        "answer_by": parties.answer_by.isoformat(),
        "merchant": parties.merchant_json(),
        "affiliate": parties.affiliate_json(account),
        "period": {
            "begins_on": days.begins_on.isoformat(),
            "ends_on": days.ends_on.isoformat(),
            "time_zone": when.time_zone,
        },
        "currency": account.currency,
        "self_billing": None,
        **sums_json(issue.standing.opening, told.movements),
        "commissions": told.commissions,
        "payouts": told.payouts,
        "others": told.others,
    }
    supplier = None
    if parties.bills(account):
        assert parties.settings is not None
        agreement = parties.affiliates[account.payee_id]
        document["self_billing"] = {
            "agreed_on": agreement.agreed_on.isoformat(),
            "reference": agreement.reference,
            "amount_minor": for_services_minor(told.movements),
            "vat_note": parties.settings.vat_note,
        }
        supplier = parties.supplier(account, security)
    return _Made(
        ids.new_id(),
        issue,
        document,
        None if supplier is None else security.encrypt(json.dumps(supplier).encode(), purpose=SUPPLIER),
        digest_of(whole(document, supplier)),
        document["waterfall"][-1]["amount_minor"],
        number,
    )


def whole(document: JsonObject, supplier: JsonObject | None) -> JsonObject:
    """A statement's document with its supplier, as it is shown and as its digest is of it."""
    if supplier is None:
        return document
    return {**document, "self_billing": {**document["self_billing"], "supplier": supplier}}


def document_of(row: StatementRow, security: Security) -> JsonObject:
    """The whole document of a statement that was issued."""
    if row.supplier is None:
        return row.document
    return whole(row.document, json.loads(security.decrypt(row.supplier, purpose=SUPPLIER)))


def _number(session: Session, merchant_id: UUID, year: int, how_many: int) -> tuple[int, int]:
    """Take the next numbers. Returns (year, the last of them). Held until the unit of work ends; 0 only holds.

    A process whose clock is behind at the turn of the year goes on in the year that has begun.
    """
    [row] = fetch(
        session,
        """
        INSERT INTO statement_counter AS kept (merchant_id, year, last) VALUES (:merchant_id, :year, :how_many)
        ON CONFLICT (merchant_id) DO UPDATE
        SET year = greatest(kept.year, excluded.year),
            last = CASE WHEN excluded.year > kept.year THEN 0 ELSE kept.last END + excluded.last
        RETURNING year, last
        """,
        {"merchant_id": merchant_id, "year": year, "how_many": how_many},
    )
    return row.year, row.last


def _insert(
    session: Session,
    run: StatementRunRow,
    made: Sequence[_Made],
    year: int,
    days: Days,
    parties: _Parties,
    *,
    is_sealed: bool,
    when: MerchantTime,
) -> None:
    execute(
        session,
        """
        INSERT INTO statement (merchant_id, id, affiliate_id, currency, begins_on, ends_on, revision, replaces_id, year,
                               number, run_id, provisional, legs, opening_minor, closing_minor, self_billed, document,
                               supplier, digest, answer_by, issued_by, issued_at)
        SELECT :merchant_id, id, affiliate_id, currency, :begins_on, :ends_on, revision, replaces_id, :year,
               number, :run_id, :provisional, legs, opening_minor, closing_minor, self_billed, CAST(document AS jsonb),
               supplier, digest, :answer_by, :by, :now
        FROM unnest(CAST(:ids AS uuid[]), CAST(:affiliate_ids AS uuid[]), CAST(:currencies AS text[]),
                    CAST(:revisions AS integer[]), CAST(:replaces AS uuid[]), CAST(:numbers AS bigint[]),
                    CAST(:legs AS bigint[]), CAST(:openings AS bigint[]), CAST(:closings AS bigint[]),
                    CAST(:billed AS boolean[]), CAST(:documents AS text[]), CAST(:suppliers AS bytea[]),
                    CAST(:digests AS bytea[]))
             AS made (id, affiliate_id, currency, revision, replaces_id, number, legs, opening_minor, closing_minor,
                      self_billed, document, supplier, digest)
        """,
        {
            "merchant_id": run.merchant_id,
            "year": year,
            "run_id": run.id,
            "provisional": not is_sealed,
            "answer_by": parties.answer_by,
            "by": run.asked_by,
            "now": when.now,
            **days.as_parameters(),
            "ids": [each.id for each in made],
            "affiliate_ids": [each.issue.account.payee_id for each in made],
            "currencies": [each.issue.account.currency for each in made],
            "revisions": [1 if each.issue.replaces is None else each.issue.replaces.revision + 1 for each in made],
            "replaces": [None if each.issue.replaces is None else each.issue.replaces.id for each in made],
            "numbers": [each.number for each in made],
            "legs": [each.issue.standing.legs + each.issue.standing.legs_before for each in made],
            "openings": [sum(each.issue.standing.opening.get(kind, 0) for kind in OWED) for each in made],
            "closings": [each.closing_minor for each in made],
            "billed": [each.supplier is not None for each in made],
            "documents": [json.dumps(each.document, ensure_ascii=False) for each in made],
            "suppliers": [each.supplier for each in made],
            "digests": [each.digest for each in made],
        },
    )


def _confirm(session: Session, run: StatementRunRow, statement_ids: Sequence[UUID], when: MerchantTime) -> None:
    if not statement_ids:
        return
    execute(
        session,
        """
        INSERT INTO statement_mark (merchant_id, statement_id, kind, note, marked_by, marked_at)
        SELECT :merchant_id, id, :kind, '', :by, :now FROM unnest(CAST(:ids AS uuid[])) AS confirmed (id)
        ON CONFLICT DO NOTHING
        """,
        {
            "merchant_id": run.merchant_id,
            "kind": StatementMark.CONFIRMED.value,
            "ids": list(statement_ids),
            "by": run.asked_by,
            "now": when.now,
        },
    )


def _event(run: StatementRunRow, made: _Made, days: Days, when: MerchantTime) -> Event:
    document, replaces = made.document, made.issue.replaces
    payload = {
        "statement_id": ids.encode("stm", made.id),
        "number": document["number"],
        "affiliate_id": ids.encode("aff", made.issue.account.payee_id),
        "currency": made.issue.account.currency,
        "begins_on": days.begins_on.isoformat(),
        "ends_on": days.ends_on.isoformat(),
        "closing_minor": made.closing_minor,
        "provisional": document["provisional"],
        "self_billed": made.supplier is not None,
        "answer_by": document["answer_by"],
        "digest": made.digest.hex(),
        "replaces_id": None if replaces is None else ids.encode("stm", replaces.id),
    }
    return Event(run.merchant_id, EventType.STATEMENT_ISSUED, made.id, payload, when.now)
