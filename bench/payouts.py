"""A payout run of a hundred thousand payees, end to end: taxed, sent over a rail that fails in every way, reconciled."""

import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

import psutil
from sqlalchemy import Engine
from sqlmodel import Session

from bench import show
from bench.serve import database
from service.domain.ledger import Account, AccountKind, MerchantTime, Posting
from service.domain.payout import Answer, AnswerKind
from service.infra import ids
from service.infra.db import execute, fetch, let_statements_take, make_engine, read_session, run_unit
from service.infra.security import Security
from service.ledger.audit import check
from service.ledger.post import post
from service.payouts.approve import approve, execute_run, submit
from service.payouts.execute import Sender, advance
from service.payouts.providers.model import DESTINATION, Listing, Sending, Transfer
from service.payouts.reconcile import compare
from service.payouts.release import cancel
from service.payouts.reserve import Asked, reserve
from service.tables.payouts import PayoutRunRow

T = TypeVar("T")

PAYEES = 100_000
"""Unless N= says otherwise."""
LEAST = 100
AT_ONCE = 5_000
"""Payees made in one unit of work."""
CURRENCY, COUNTRY, RULE = "VND", "VN", "regime"
NOON = datetime(2026, 11, 20, 5, tzinfo=UTC)
MAKER, CHECKER = UUID(int=1), UUID(int=2)
FAULTS = {"lost": 20, "down": 20, "busy": 10, "refused": 10}
"""Of a thousand first sendings: done and not answered, neither, 429, refused for certain."""
RSS_MIB_CEILING = 2_000


@dataclass
class Rail:
    """A provider in memory that keeps what it did, answers as it likes, and never forgets a key."""

    name: str = "sandbox"
    at_once: int = 256
    keeps_transfers: bool = True
    made: dict[str, Transfer] = field(default_factory=dict)
    by_item: dict[UUID, list[Transfer]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    asked: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serves(self, *, is_test: bool) -> bool:
        return is_test

    def step_minor(self, currency: str) -> int | None:
        return 1 if currency == CURRENCY else None

    def available_minor(self, currency: str) -> int | Answer | None:
        assert currency == CURRENCY
        return 10**18

    def build_request(self, sending: Sending) -> bytes:
        return json.dumps(
            {
                "item": str(sending.item_id),
                "number": sending.number,
                "amount": sending.amount_minor,
                "destination": sending.destination,
            }
        ).encode()

    def send(self, request: bytes, idempotency_key: str) -> Answer:
        with self._lock:
            fault = None if idempotency_key in self.asked else _fault(idempotency_key)
            self.asked.add(idempotency_key)
            self.answers[fault or "done"] += 1
            if fault == "refused":
                return Answer(AnswerKind.REFUSED, code="account_closed")
            if fault in {"down", "busy"}:
                return Answer(AnswerKind.UNKNOWN, code=fault)
            made = self._do(request, idempotency_key)
            return Answer(AnswerKind.UNKNOWN, code="lost") if fault == "lost" else made.as_answer()

    def find(self, request: bytes) -> Listing:
        with self._lock:
            return Listing(tuple(self.by_item.get(UUID(json.loads(request)["item"]), ())))

    def made_for(self, run_id: UUID, *, since: datetime, until: datetime) -> Listing:  # noqa: ARG002 - named by the protocol; there is one run
        assert since < until
        return Listing(tuple(self.made.values()))

    def close(self) -> None:
        return

    def _do(self, request: bytes, key: str) -> Transfer:
        if key not in self.made:
            asked = json.loads(request)
            item_id = UUID(asked["item"])
            transfer = Transfer(
                item_id=item_id,
                number=asked["number"],
                reference=f"tr_{len(self.made) + 1}",
                amount_minor=asked["amount"],
                reversed_minor=0,
                currency=CURRENCY,
                destination=asked["destination"],
            )
            self.made[key] = transfer
            self.by_item.setdefault(item_id, []).append(transfer)
        return self.made[key]


def _fault(key: str) -> str | None:
    """What happens to the first sending under a key: chosen by the key, so that every run of the bench meets the same."""
    dice = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % 1000
    for fault, share in FAULTS.items():
        if dice < share:
            return fault
        dice -= share
    return None


@dataclass(slots=True)
class Clock:
    """Ours and the merchant's: real time from noon on, and the minutes that nobody waits for."""

    began: float = field(default_factory=time.monotonic)
    skipped: timedelta = timedelta()

    def now(self) -> datetime:
        return NOON + timedelta(seconds=time.monotonic() - self.began) + self.skipped


@dataclass(slots=True)
class _Stages:
    """How long each stage took, and how much memory there was at its end."""

    payees: int
    rows: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.rows.append((name, time.monotonic() - began, psutil.Process().memory_info().rss / 2**20))

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds, _ in self.rows)

    @property
    def rss_mib(self) -> float:
        return max(rss for _, _, rss in self.rows)


def bench(n: int | None, ceiling: float | None) -> bool:
    """Pay n payees in one run. Returns whether all came out right, with no more memory than the ceiling, in MiB."""
    number, most = max(n or PAYEES, LEAST), RSS_MIB_CEILING if ceiling is None else ceiling
    with database() as postgres:
        engine = make_engine(postgres.url, application_name="koc bench")
        security = Security(bytes(32))
        merchant_id = ids.new_id()
        _make(engine, security, merchant_id, number)
        clock, rail, stages = Clock(), Rail(), _Stages(number)
        run = _pay(engine, security, merchant_id, rail, clock, stages)
        with stages.stage("compare with the rail"):
            compared = compare(
                engine, rail, merchant_id=merchant_id, run_id=run.id, since=NOON, now=clock.now() + timedelta(hours=1)
            )
        with stages.stage("check the books"), read_session(engine) as session:
            findings = check(session, merchant_id)
        with read_session(engine) as session:
            ended = _ended(session, merchant_id)
        engine.dispose()
    doubled = sum(len(transfers) > 1 for transfers in rail.by_item.values())
    astray = abs(sum(transfer.amount_minor for transfer in rail.made.values()) - ended["sent_minor"])
    differences = len(compared.missing) + len(compared.unexplained) + len(findings) + ended["odd"] + doubled + astray
    for finding in findings[:10]:
        show.say(f"{finding.code}: {finding.detail}, expected {finding.expected}, found {finding.found}")
    show.table(
        f"One payout run, {number:,} payees, {len(rail.asked):,} sendings, faults {dict(rail.answers)}",
        ("stage", "seconds", "payees/s", "MiB at its end"),
        [
            (name, f"{seconds:.1f}", f"{number / max(seconds, 0.001):,.0f}", f"{rss:.0f}")
            for name, seconds, rss in stages.rows
        ],
    )
    show.result(
        "payouts",
        payees=number,
        sent=ended["sent"],
        released=ended["released"],
        sent_minor=ended["sent_minor"],
        tax_minor=ended["tax_minor"],
        seconds=f"{stages.seconds:.0f}",
        rss_mib=f"{stages.rss_mib:.0f}",
        differences=differences,
    )
    return differences == 0 and compared.complete and stages.rss_mib <= most


def _pay(
    engine: Engine, security: Security, merchant_id: UUID, rail: Rail, clock: Clock, stages: _Stages
) -> PayoutRunRow:
    """Take one run from its draft to its end."""

    def when() -> MerchantTime:
        return MerchantTime(clock.now(), "UTC")

    asked = Asked(merchant_id, CURRENCY, when().day, MAKER)
    with stages.stage("reserve"):
        run: PayoutRunRow = run_unit(engine, lambda session: _patient(session, reserve, asked, rail=rail, when=when()))
    told = {"merchant_id": merchant_id, "run_id": run.id}
    with stages.stage("submit"):
        run_unit(engine, lambda session: _patient(session, submit, **told, step_minor=1, by=MAKER, when=when()))
    with stages.stage("approve"):
        run_unit(engine, lambda session: _patient(session, approve, **told, approver=CHECKER, when=when()))
    with stages.stage("plan, send, record"), ThreadPoolExecutor(8) as calls:
        run_unit(engine, lambda session: execute_run(session, **told, when=when(), now=clock.now()))
        sender = Sender(engine, security, rail, "bench", calls, clock.now)
        with show.progress("Sending", stages.payees) as tell:
            sent = 0
            while sent < stages.payees:
                progress = advance(sender, **told, until=clock.now() + timedelta(seconds=30))
                sent += progress.sent
                tell(min(sent, stages.payees))
                if progress.next_at is None:
                    break
                if not progress.sent and _resolved(engine, run):
                    break
                # Nobody waits a minute until what is unknown is looked up.
                clock.skipped += max(timedelta(), progress.next_at - clock.now()) if not progress.sent else timedelta()
    with stages.stage("look up what is unknown"), ThreadPoolExecutor(8) as calls:
        sender = Sender(engine, security, rail, "bench", calls, clock.now)
        while not _resolved(engine, run):
            clock.skipped += timedelta(minutes=20)
            advance(sender, **told, until=clock.now() + timedelta(minutes=5))
    with stages.stage("release what was refused"):
        run_unit(engine, lambda session: _patient(session, cancel, **told, when=when(), now=clock.now()))
    with ThreadPoolExecutor(1) as calls:
        advance(
            Sender(engine, security, rail, "bench", calls, clock.now), **told, until=clock.now() + timedelta(minutes=5)
        )
    return run


def _patient(session: Session, verb: Callable[..., T], *given: object, **named: object) -> T:
    """Do what people do with a run of this size: no request's time limit is meant for it."""
    let_statements_take(session, 0)
    return verb(session, *given, **named)


def _resolved(engine: Engine, run: PayoutRunRow) -> bool:
    with read_session(engine) as session:
        rows = fetch(
            session,
            """
            SELECT NOT EXISTS (SELECT FROM payout_attempt WHERE merchant_id = :merchant_id
                               AND outcome IN ('planned', 'in_flight', 'unknown')) AS done
            """,
            {"merchant_id": run.merchant_id},
        )
    return bool(rows[0].done)


def _ended(session: Session, merchant_id: UUID) -> dict[str, int]:
    """What came of the payouts. odd: neither accepted once nor released."""
    rows = fetch(
        session,
        """
        SELECT count(*) FILTER (WHERE NOT live AND released_at IS NULL) AS sent,
               count(*) FILTER (WHERE released_at IS NOT NULL) AS released,
               count(*) FILTER (WHERE live) AS odd,
               CAST(coalesce(sum(net_minor) FILTER (WHERE NOT live AND released_at IS NULL), 0) AS bigint) AS sent_minor,
               CAST(coalesce(sum(tax_minor) FILTER (WHERE NOT live AND released_at IS NULL), 0) AS bigint) AS tax_minor
        FROM payout_item WHERE merchant_id = :merchant_id
        """,
        {"merchant_id": merchant_id},
    )
    return rows[0]._asdict()


def _make(engine: Engine, security: Security, merchant_id: UUID, number: int) -> None:
    """A merchant whose payees have each earned once, with books that agree."""
    source_id = ids.new_id()
    run_unit(engine, partial(_merchant, merchant_id=merchant_id, source_id=source_id))
    dice = random.Random(7)
    with show.progress("Making payees", number) as tell:
        for begin in range(0, number, AT_ONCE):
            some = [
                (begin + index, ids.new_id(), dice.randrange(100_000, 12_000_000))
                for index in range(min(AT_ONCE, number - begin))
            ]
            chunk = partial(_payees, security=security, merchant_id=merchant_id, source_id=source_id, some=some)
            run_unit(engine, chunk)
            tell(begin + len(some))


def _merchant(session: Session, *, merchant_id: UUID, source_id: UUID) -> None:
    given = {"merchant_id": merchant_id, "source_id": source_id, "now": NOON - timedelta(days=60), "id": ids.new_id()}
    execute(
        session,
        """
        INSERT INTO merchant (id, name, is_test, time_zone, clock_offset_s, created_at)
        VALUES (:merchant_id, 'Bench', true, 'UTC', 0, :now)
        """,
        given,
    )
    execute(
        session,
        """
        INSERT INTO source (id, merchant_id, platform, name, created_at)
        VALUES (:source_id, :merchant_id, 'desk', 'Desk', :now)
        """,
        given,
    )
    execute(
        session,
        """
        INSERT INTO tax_regime (merchant_id, id, country, valid_from, regime, mode, gross_up, vat, declared_by, recorded_at)
        VALUES (:merchant_id, :id, 'VN', '2026-01-01', 'vn', 'withhold', false, false, :id, :now)
        """,
        given,
    )


def _payees(
    session: Session, *, security: Security, merchant_id: UUID, source_id: UUID, some: Sequence[tuple[int, UUID, int]]
) -> None:
    let_statements_take(session, 0)
    payee_ids = [payee_id for _, payee_id, _ in some]
    profile_ids, order_ids, commission_ids = ([ids.new_id() for _ in some] for _ in range(3))
    names = [f"sandbox_{place}" for place, _, _ in some]
    given: dict[str, object] = {
        "merchant_id": merchant_id,
        "source_id": source_id,
        "now": NOON - timedelta(days=30),
        "currency": CURRENCY,
        "payees": payee_ids,
        "profiles": profile_ids,
        "orders": order_ids,
        "commissions": commission_ids,
        "methods": [ids.new_id() for _ in some],
        "names": names,
        "amounts": [amount for _, _, amount in some],
        "destinations": [security.encrypt(name.encode(), purpose=DESTINATION) for name in names],
        "fingerprints": [security.fingerprint(merchant_id, "sandbox", name) for name in names],
    }
    for statement in _PAYEES:
        execute(session, statement, given)

    def account(owner_id: UUID, kind: AccountKind) -> Account:
        return Account(merchant_id, owner_id, kind, CURRENCY)

    when = {merchant_id: MerchantTime(NOON - timedelta(days=20), "UTC")}
    for seq, (kind, source, destination) in enumerate(
        (
            ("accrue", AccountKind.COMMISSION_EXPENSE, AccountKind.PENDING),
            ("settle", AccountKind.PENDING, AccountKind.PAYABLE),
        ),
        start=1,
    ):
        postings = [
            Posting(
                ids.new_id(),
                f"bench/{commission_id}/{kind}",
                0,
                account(merchant_id if seq == 1 else payee_id, source),
                account(payee_id, destination),
                amount,
            )
            for commission_id, (_, payee_id, amount) in zip(commission_ids, some, strict=True)
        ]
        kept = post(session, postings, when=when)
        execute(
            session,
            """
            INSERT INTO commission_entry (merchant_id, commission_id, seq, kind, source, destination, amount_minor,
                                          posting_id, payable_version, created_at)
            SELECT :merchant_id, commission_id, :seq, :kind, :source, :destination, amount_minor, posting_id, version, :now
            FROM unnest(CAST(:commissions AS uuid[]), CAST(:amounts AS bigint[]), CAST(:postings AS uuid[]),
                        CAST(:versions AS bigint[])) AS made (commission_id, amount_minor, posting_id, version)
            """,
            given
            | {
                "seq": seq,
                "kind": kind,
                "source": "commission_expense" if seq == 1 else "pending",
                "destination": "pending" if seq == 1 else "payable",
                "postings": [posting.id for posting in postings],
                "versions": [kept[posting.credit].version if seq == 2 else None for posting in postings],
            },
        )


_PAYEES = (
    """
    INSERT INTO affiliate (merchant_id, id, kind, name, country, profile, identities, status, tax_rule, tax_profile_id,
                           created_at, updated_at)
    SELECT :merchant_id, id, 'koc', name, 'VN', CAST('{}' AS jsonb), CAST('{}' AS jsonb), 'approved', 'regime', profile,
           :now, :now
    FROM unnest(CAST(:payees AS uuid[]), CAST(:names AS text[]), CAST(:profiles AS uuid[])) AS made (id, name, profile)
    """,
    """
    INSERT INTO tax_profile (merchant_id, id, affiliate_id, kind, country, details, tax_code_hint, recorded_by, recorded_at)
    SELECT :merchant_id, id, payee, 'individual', 'VN', CAST('{"resident": true}' AS jsonb), '…123', payee, :now
    FROM unnest(CAST(:profiles AS uuid[]), CAST(:payees AS uuid[])) AS made (id, payee)
    """,
    """
    INSERT INTO payout_method (merchant_id, id, affiliate_id, rail, destination, destination_hint, fingerprint, created_at)
    SELECT :merchant_id, id, payee, 'sandbox', destination, 'end', fingerprint, :now
    FROM unnest(CAST(:methods AS uuid[]), CAST(:payees AS uuid[]), CAST(:destinations AS bytea[]),
                CAST(:fingerprints AS text[])) AS made (id, payee, destination, fingerprint)
    """,
    """
    INSERT INTO orders (merchant_id, id, source_id, external_id, seen, created_at)
    SELECT :merchant_id, id, :source_id, name, 1, :now
    FROM unnest(CAST(:orders AS uuid[]), CAST(:names AS text[])) AS made (id, name)
    """,
    """
    INSERT INTO commission (merchant_id, id, order_id, payee_id, currency, target_minor, pending_minor, held_minor,
                            settled_minor, reason_code, entry_seq, receipt, created_at, updated_at)
    SELECT :merchant_id, id, order_id, payee, :currency, amount, 0, 0, amount, 'settled', 2, CAST('{}' AS jsonb), :now, :now
    FROM unnest(CAST(:commissions AS uuid[]), CAST(:orders AS uuid[]), CAST(:payees AS uuid[]), CAST(:amounts AS bigint[]))
         AS made (id, order_id, payee, amount)
    """,
)
