"""Compare our books with what a provider says happened afterwards, and book only the increase of what came back."""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from service.domain.ledger import MerchantTime, Posting
from service.domain.payout import FactKind
from service.infra import ids
from service.infra.crash import CrashPoint, crash_point
from service.infra.db import execute, fetch, read_session, run_unit
from service.ledger.post import post
from service.outbox.emit import Event, emit
from service.payouts import book, tell
from service.payouts.find import known_of, merchant_time
from service.payouts.providers.model import Rail, Transfer
from service.tables.payouts import PayoutItemRow

CLOCKS_APART = timedelta(hours=48)
"""How much earlier than a run began we look, for clocks that differ and for transfers dated by their request."""

_log = logging.getLogger(__name__)

_TOLD_AS = {
    FactKind.REVERSED: "reversed",
    FactKind.RETURNED: "returned",
    FactKind.PAID: "settled",
    FactKind.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class Told:
    """Something a provider told of a transfer. version: its own of the object, or the amount where it has none.

    amount_minor: of a reversal or return, all that came back so far. object_id: of the transfer.
    """

    item_id: UUID
    object_id: str
    kind: FactKind
    version: str
    amount_minor: int
    payload: dict[str, Any]


def told_of(transfer: Transfer) -> list[Told]:
    """Return the facts that a transfer, as its provider has it now, tells beyond that it was accepted."""
    payload = {"number": transfer.number}

    def fact(kind: FactKind, amount_minor: int, version: str) -> Told:
        return Told(transfer.item_id, transfer.reference, kind, version, amount_minor, payload)

    facts = []
    if transfer.booked:
        facts.append(fact(FactKind.PAID, transfer.amount_minor, "booked"))
    if transfer.reversed_minor:
        facts.append(fact(FactKind.REVERSED, transfer.reversed_minor, str(transfer.reversed_minor)))
    if transfer.returned_minor:
        facts.append(fact(FactKind.RETURNED, transfer.returned_minor, str(transfer.returned_minor)))
    return facts


def reconcile(
    session: Session, told: Sequence[Told], *, merchant_id: UUID, rail: str, when: MerchantTime, now: datetime
) -> int:
    """Store facts of one merchant's items and book what they change. Returns how many were new. now: by our clock.

    In any order, any number of times: a fact counts once, and of what came back only the increase is booked. Facts of
    items that are not known as sent are ignored, and told again at the next comparison: acceptance itself is only
    learnt by the attempt's own answer or look-up.
    """
    wanted = [each for each in told if each.kind is not FactKind.ACCEPTED]
    items = {
        item.id: item
        for item in session.exec(
            select(PayoutItemRow)
            .where(
                col(PayoutItemRow.merchant_id) == merchant_id,
                col(PayoutItemRow.id).in_(sorted({each.item_id for each in wanted})),
                col(PayoutItemRow.live).is_(False),
                col(PayoutItemRow.released_at).is_(None),
            )
            .order_by(col(PayoutItemRow.id))
            # Two tellings of one transfer at once must not both book the same increase.
            .with_for_update()
            .execution_options(populate_existing=True)
        ).all()
    }
    before = known_of(session, merchant_id, list(items))
    fresh = _store(session, [each for each in wanted if each.item_id in items], merchant_id, rail, now)
    after = known_of(session, merchant_id, list(items))
    postings: list[Posting] = []
    gave_back: list[PayoutItemRow] = []
    for item_id, item in items.items():
        came_back = after[item_id].came_back_minor(item.net_minor)
        increase = book.came_back(
            item, before_minor=before[item_id].came_back_minor(item.net_minor), now_minor=came_back
        )
        postings += increase
        if increase:
            gave_back.append(item)
    # Payable's version rises with every giving back, even by 0: it says which later item the amounts belong to now.
    kept = post(session, postings, when={merchant_id: when}, touched=[book.payable(item) for item in gave_back])
    whole = [item for item in gave_back if after[item.id].came_back_minor(item.net_minor) == item.net_minor]
    _hand_on(session, merchant_id, {item.id: kept[book.payable(item)].version for item in whole})
    events: list[Event] = [
        tell.of_item(items[each.item_id], _TOLD_AS[each.kind], at=when.now, amount_minor=each.amount_minor)
        for each in fresh
    ]
    emit(session, events)
    crash_point(CrashPoint.RECONCILE_BEFORE_COMMIT)
    return len(fresh)


def _hand_on(session: Session, merchant_id: UUID, versions: Mapping[UUID, int]) -> None:
    """Let items that gave back all they sent hand their versions on to the item that covers the giving back."""
    if not versions:
        return
    execute(
        session,
        """
        UPDATE payout_item SET gave_back_version = made.version
        FROM unnest(CAST(:ids AS uuid[]), CAST(:versions AS bigint[])) AS made (id, version)
        WHERE payout_item.merchant_id = :merchant_id AND payout_item.id = made.id
        """,
        {"merchant_id": merchant_id, "ids": list(versions), "versions": list(versions.values())},
    )


def _store(session: Session, told: Sequence[Told], merchant_id: UUID, rail: str, now: datetime) -> list[Told]:
    by_key = {(each.object_id, each.kind.value, each.version): each for each in told}
    rows = fetch(
        session,
        """
        INSERT INTO provider_fact (merchant_id, rail, object_id, kind, version, item_id, amount_minor, told_at, payload)
        SELECT :merchant_id, :rail, object_id, kind, version, item_id, amount_minor, :now, CAST(payload AS jsonb)
        FROM unnest(CAST(:object_ids AS text[]), CAST(:kinds AS text[]), CAST(:versions AS text[]),
                    CAST(:item_ids AS uuid[]), CAST(:amounts AS bigint[]), CAST(:payloads AS text[]))
             AS told (object_id, kind, version, item_id, amount_minor, payload)
        ON CONFLICT DO NOTHING
        RETURNING object_id, kind, version
        """,
        {
            "merchant_id": merchant_id,
            "rail": rail,
            "now": now,
            "object_ids": [object_id for object_id, _, _ in by_key],
            "kinds": [kind for _, kind, _ in by_key],
            "versions": [version for _, _, version in by_key],
            "item_ids": [each.item_id for each in by_key.values()],
            "amounts": [each.amount_minor for each in by_key.values()],
            "payloads": [json.dumps(each.payload) for each in by_key.values()],
        },
    )
    return [by_key[row.object_id, row.kind, row.version] for row in rows]


@dataclass(frozen=True, slots=True)
class Compared:
    """A run beside the provider's own list. complete: all of the list was read."""

    complete: bool
    matched: int = 0
    changed: int = 0
    missing: tuple[UUID, ...] = ()
    """Items we call sent and the provider does not list."""
    unexplained: tuple[str, ...] = ()
    """Transfers the provider lists for this run that are not what an accepted attempt recorded."""


def compare(engine: Engine, rail: Rail, *, merchant_id: UUID, run_id: UUID, since: datetime, now: datetime) -> Compared:
    """Read what a provider lists for a run and book what came back. Differences are logged and returned, never mended.

    since: when the run began. now: by our clock.
    """
    # Nothing is open while the provider is asked.
    listing = rail.made_for(run_id, since=since - CLOCKS_APART, until=now)
    if listing.trouble is not None:
        return Compared(complete=False)
    with read_session(engine) as session:
        sent = _sent(session, merchant_id, run_id)
    listed: dict[UUID, set[str]] = defaultdict(set)
    for transfer in listing.transfers:
        listed[transfer.item_id].add(transfer.reference)
    known = {reference for _, reference in sent}
    missing = tuple(item_id for item_id, reference in sent if reference not in listed[item_id])
    unexplained = tuple(
        transfer.reference
        for transfer in listing.transfers
        if transfer.reference not in known and transfer.out_minor > 0
    )
    told = [each for transfer in listing.transfers if transfer.reference in known for each in told_of(transfer)]

    def store(session: Session) -> int:
        _, when = merchant_time(session, merchant_id, now=now)
        return reconcile(session, told, merchant_id=merchant_id, rail=rail.name, when=when, now=now)

    changed = run_unit(engine, store)
    if missing or unexplained:
        _log.error(
            "Payout run %s does not match %s: %d sent item(s) not listed, transfers %s not explained",
            ids.encode("run", run_id),
            rail.name,
            len(missing),
            ", ".join(unexplained[:10]) or "none",
        )
    return Compared(
        complete=True,
        matched=len(sent) - len(missing),
        changed=changed,
        missing=missing,
        unexplained=unexplained,
    )


def _sent(session: Session, merchant_id: UUID, run_id: UUID) -> list[tuple[UUID, str]]:
    rows = fetch(
        session,
        """
        SELECT attempt.item_id, attempt.reference FROM payout_attempt AS attempt
        JOIN payout_item AS item ON item.merchant_id = attempt.merchant_id AND item.id = attempt.item_id
        WHERE attempt.merchant_id = :merchant_id AND item.run_id = :run_id AND attempt.outcome = 'accepted'
        """,
        {"merchant_id": merchant_id, "run_id": run_id},
    )
    return [(row.item_id, row.reference) for row in rows]
