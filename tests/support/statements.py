"""Statements of any books, cut anywhere, against the ledger itself."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from service.domain.ledger import MerchantTime
from service.domain.statement import CLOSING, DAYS_MAX, OPENING, OWED, digest_of
from service.infra.db import fetch, read_session, unit_of_work
from service.infra.ids import encode
from service.infra.security import Security
from service.reports.issue import Asked, ask, document_of
from service.reports.render_statement import CSV_COLUMNS, render_csv
from service.reports.statement_books import Days
from service.tables.statements import StatementRow, StatementRunRow

Json = dict[str, Any]
SECURITY = Security(bytes(32))
BY = UUID(int=3)


def issue(
    engine: Engine,
    merchant_id: UUID,
    days: Days,
    *,
    when: MerchantTime,
    affiliate_ids: Sequence[UUID] | None = None,
    currency: str | None = None,
    security: Security = SECURITY,
) -> StatementRunRow:
    asked = Asked(merchant_id, days, BY, currency, affiliate_ids)
    with unit_of_work(engine) as session:
        return ask(session, security, asked, when=when)


def statements(engine: Engine, merchant_id: UUID) -> list[StatementRow]:
    """All that were issued, by number."""
    with read_session(engine) as session:
        ids = fetch(
            session,
            "SELECT id FROM statement WHERE merchant_id = :merchant_id ORDER BY year, number",
            {"merchant_id": merchant_id},
        )
        return [session.get_one(StatementRow, (merchant_id, row.id)) for row in ids]


def booked_days(engine: Engine, merchant_id: UUID) -> tuple[date, date]:
    """The first and the last day on which anything was booked."""
    with read_session(engine) as session:
        [row] = fetch(
            session,
            "SELECT min(day) AS first, max(day) AS last FROM posting WHERE merchant_id = :merchant_id",
            {"merchant_id": merchant_id},
        )
    return row.first, row.last


def wrong_with(engine: Engine, merchant_id: UUID, *, time_zone: str, cuts: Iterable[date] = ()) -> list[str]:
    """Issue statements of all that was ever booked, in the pieces that end with the cuts, and say what does not agree.

    Each begins where the one before ended, the last ends with the balances that are kept, every figure is the sum of those
    below it, and the payouts and commissions named are those of the books.
    """
    first, last = booked_days(engine, merchant_id)
    ends = sorted({min(max(cut, first), last) for cut in cuts} | {last})
    # Longer ones than a statement may be are cut in between.
    ends = sorted(
        {*ends, *(first + timedelta(days=DAYS_MAX * n) for n in range(1, (last - first).days // DAYS_MAX + 1))}
    )
    begins = [first, *(end + timedelta(days=1) for end in ends[:-1])]
    when = MerchantTime(datetime.combine(last + timedelta(days=3), time(12), UTC), time_zone)
    wrong: list[str] = []
    closings: dict[tuple[UUID, str], dict[str, int]] = defaultdict(dict)
    known = len(statements(engine, merchant_id))
    for days in map(Days, begins, ends):
        issue(engine, merchant_id, days, when=when)
    issued = statements(engine, merchant_id)[known:]
    for row in issued:
        document = document_of(row, SECURITY)
        account = (row.affiliate_id, row.currency)
        wrong += [f"{document['number']}: {each}" for each in _within(row, document)]
        for place in document["places"]:
            before = closings[account].get(place["place"], 0)
            if place["opening_minor"] != before:
                wrong.append(
                    f"{document['number']}: {place['place']} begins with {place['opening_minor']}, not {before}"
                )
            closings[account][place["place"]] = place["closing_minor"]
    kept = _balances(engine, merchant_id)
    for account in {*closings, *kept}:
        ended = {place: amount for place, amount in closings[account].items() if amount}
        if ended != kept.get(account, {}):
            wrong.append(f"{account} ends with {ended}, and the books keep {kept.get(account, {})}")
    numbers = [row.number for row in issued]
    if numbers != list(range(known + 1, known + 1 + len(numbers))):
        wrong.append(f"numbers have gaps: {numbers}")
    return wrong + _told_of_commissions(engine, merchant_id, issued)


def _within(row: StatementRow, document: Json) -> list[str]:
    """What one statement says against itself."""
    wrong = []
    steps = {step["step"]: step["amount_minor"] for step in document["waterfall"]}
    opening, closing = (sum(place[f"{end}_minor"] for place in document["places"]) for end in (OPENING, CLOSING))
    between = sum(amount for step, amount in steps.items() if step not in {OPENING, CLOSING})
    if (steps[OPENING], steps[CLOSING], opening + between) != (opening, closing, closing):
        wrong.append(f"its steps are {steps}, its places go from {opening} to {closing}")
    if (row.opening_minor, row.closing_minor) != (opening, closing):
        wrong.append("its row says another opening or closing")
    movements = [
        movement
        for group in (
            *(each["movements"] for each in (*document["commissions"], *document["payouts"])),
            document["others"],
        )
        for movement in group
    ]
    by_kind: dict[str, int] = defaultdict(int)
    for movement in movements:
        by_kind[movement["kind"]] += movement["effect_minor"]
    told = {
        kind: amount
        for kind, amount in by_kind.items()
        if any(m["effect_minor"] for m in movements if m["kind"] == kind)
    }
    if told != {step: amount for step, amount in steps.items() if step not in {OPENING, CLOSING}}:
        wrong.append(f"its movements come to {told}, its steps to {steps}")
    for place in document["places"]:
        gained = sum(movement["amount_minor"] for movement in movements if movement["to"] == place["place"])
        lost = sum(movement["amount_minor"] for movement in movements if movement["from"] == place["place"])
        if (gained, lost) != (place["in_minor"], place["out_minor"]):
            wrong.append(f"{place['place']} got {gained} and gave {lost}, and the statement says otherwise")
    for payout in document["payouts"]:
        split = payout["split"]
        if split is not None:
            parts = sum(split[part] for part in ("fee_minor", "tax_minor", "remainder_minor", "net_minor"))
            if parts != payout["gross_minor"] + payout["carried_minor"]:
                wrong.append(f"payout {payout['id']} does not add up")
    if digest_of(document) != row.digest:
        wrong.append("its digest is another")
    rows = list(csv.DictReader(io.StringIO(render_csv(document))))
    owed: dict[str, int] = defaultdict(int)
    for each in rows:
        owed[each["row"]] += int(each["owed_minor"] or 0)
    if owed[OPENING] + owed["movement"] != owed[CLOSING] or owed[CLOSING] != closing:
        wrong.append(f"its CSV does not add up: {dict(owed)}")
    if tuple(rows[0]) != CSV_COLUMNS:
        wrong.append("its CSV has other columns")
    return wrong


def _told_of_commissions(engine: Engine, merchant_id: UUID, issued: Sequence[StatementRow]) -> list[str]:
    """Over all statements each commission has to come to what it is posted at, and be explained by the newest of them."""
    told: dict[str, int] = defaultdict(int)
    for row in issued:
        for commission in row.document["commissions"]:
            told[commission["id"]] += commission["effect_minor"]
    with read_session(engine) as session:
        rows = fetch(
            session,
            "SELECT id, target_minor, pending_minor + held_minor + settled_minor AS posted FROM commission WHERE merchant_id = :merchant_id",
            {"merchant_id": merchant_id},
        )
    return [
        f"commission {encode('com', row.id)} came to {told[encode('com', row.id)]}, and {row.posted} is posted"
        for row in rows
        if told[encode("com", row.id)] != row.posted
    ]


def _balances(engine: Engine, merchant_id: UUID) -> dict[tuple[UUID, str], dict[str, int]]:
    with read_session(engine) as session:
        rows = fetch(
            session,
            """
            SELECT owner_id, currency, kind, amount_minor FROM balance
            WHERE merchant_id = :merchant_id AND kind = ANY(CAST(:owed AS text[])) AND amount_minor <> 0
            """,
            {"merchant_id": merchant_id, "owed": [kind.value for kind in OWED]},
        )
    found: dict[tuple[UUID, str], dict[str, int]] = defaultdict(dict)
    for row in rows:
        found[row.owner_id, row.currency][row.kind] = row.amount_minor
    return dict(found)
