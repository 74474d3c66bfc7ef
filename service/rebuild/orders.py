"""First half: every delivery that counts is read and booked again in the order received, with the settle runs in between.

Money out takes no part: what is settled stays here, so a freeze finds all of it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.commissions.reassess import reassess_due
from service.commissions.settle import settle_due
from service.domain.ledger import MerchantTime
from service.infra import ids
from service.infra.db import fetch, run_unit
from service.infra.security import Security
from service.intake import desk
from service.intake.adapters.model import Delivery, NotUnderstood, Reading
from service.intake.receive import KnownSource, reading_of, receive
from service.intake.record import OrderName, Received, apply
from service.rebuild.differences import Differences, RebuiltCode, apply_all
from service.rebuild.snapshot import stream
from service.tables.orders import InboxState
from service.tables.parties import Platform
from service.tracking.find import ClickSigner

BATCH_MIN = 256
"""Deliveries that make a unit of work full, about as many as the service books in one."""
GATHERED_MAX = 1024
"""Deliveries read before any of them is booked."""
BODIES_AT_ONCE = 16
"""Inbox rows fetched in one go; a body may have megabytes. What was gathered to be booked keeps none."""

_COUNTS = {InboxState.APPLIED, InboxState.WAITING}


@dataclass(slots=True)
class Deliveries:
    """How many counted and were booked again, and how many parked ones would be understood today."""

    booked: int = 0
    parked_but_readable: int = 0


@dataclass(frozen=True, slots=True)
class _Read:
    """A delivery that counts, as it is read today."""

    received: Received
    inbox_id: UUID
    received_at: datetime


def last_settled_at(live: Session, merchant_id: UUID) -> datetime | None:
    """The merchant's last settle date, by its clock; None when nothing was ever settled."""
    [known] = fetch(
        live,
        "SELECT max(created_at) AS at FROM commission_entry WHERE merchant_id = :merchant_id AND kind = 'settle'",
        {"merchant_id": merchant_id},
    )
    at: datetime | None = known.at
    return at


def replay_orders(
    live: Session,
    into: Engine,
    differences: Differences,
    *,
    time_zone: str,
    security: Security,
    tell: Callable[[int], None],
) -> Deliveries:
    """Book a merchant's deliveries again and settle when it was settled. tell: is given each number of rows read."""
    merchant_id = differences.merchant_id

    def settle(at: datetime) -> None:
        reassess_due(into, merchant_id, at=at)
        settle_due(into, merchant_id=merchant_id, at=at)

    moments = _settle_moments(live, merchant_id)
    due = next(moments, None)
    last = last_settled_at(live, merchant_id)
    reading = reading_of(security, ClickSigner(security), merchant_id)
    books = _Books(into, differences, time_zone, reading)
    for row in stream(live, _INBOX, {"merchant_id": merchant_id}, rows_at_once=BODIES_AT_ONCE):
        while due is not None and due < row.received_at:
            books.book()
            settle(due)
            due = next(moments, None)
        read = books.read(row)
        if read is not None:
            books.add(read)
        tell(1)
    books.book()
    if last is not None:
        settle(last)
    else:
        reassess_due(into, merchant_id)
    return books.deliveries


_INBOX = """
SELECT inbox.id, inbox.source_id, delivery_id, topic, body, body_hash, state, received_at, order_source_id,
       order_external_id, grammar, settings_version, source.platform, source.shop_domain AS own_domain,
       coalesce(inbox.shop_domain, CASE reason_code WHEN 'other_shop_domain' THEN '?' ELSE '' END) AS shop_domain,
       coalesce(source_settings.settings, CAST('{}' AS jsonb)) AS settings,
       (SELECT is_test FROM merchant WHERE merchant.id = inbox.merchant_id) AS is_test
FROM inbox JOIN source ON source.id = inbox.source_id
LEFT JOIN source_settings ON source_settings.source_id = inbox.source_id
                         AND source_settings.version = inbox.settings_version
WHERE inbox.merchant_id = :merchant_id
ORDER BY received_at, inbox.id
"""


def _settle_moments(live: Session, merchant_id: UUID) -> Iterator[datetime]:
    """The settle dates after which something was told of an order that was settled then, oldest first.

    The others make no difference: until the last settle date is reached, the next one settles what they would have.
    """
    rows = stream(
        live,
        """
        SELECT DISTINCT entry.created_at
        FROM commission_entry AS entry
        JOIN commission ON commission.merchant_id = entry.merchant_id AND commission.id = entry.commission_id
        JOIN orders ON orders.merchant_id = commission.merchant_id AND orders.id = commission.order_id
        WHERE entry.merchant_id = :merchant_id AND entry.kind = 'settle'
          AND EXISTS (SELECT FROM inbox
                      WHERE inbox.merchant_id = orders.merchant_id AND inbox.order_source_id = orders.source_id
                        AND inbox.order_external_id = orders.external_id AND inbox.received_at > entry.created_at)
        ORDER BY entry.created_at
        """,
        {"merchant_id": merchant_id},
    )
    return (row.created_at for row in rows)


@dataclass(slots=True)
class _Books:
    """Gathers deliveries and books them together.

    Two deliveries of one order are booked together only if they once were: then they bear one time of receipt. Else an
    order that was held and released would never have been held. So each order's next delivery goes to the next layer,
    and the layers are booked one after the other; what is told of other orders meanwhile makes no difference.
    """

    into: Engine
    differences: Differences
    time_zone: str
    reading: Reading
    deliveries: Deliveries = field(default_factory=Deliveries)
    _layers: list[dict[OrderName, list[_Read]]] = field(default_factory=list)
    _newest: dict[OrderName, tuple[int, datetime]] = field(default_factory=dict)
    """Layer and time of the newest delivery gathered of each order."""
    _gathered: int = 0

    def add(self, read: _Read) -> None:
        order = read.received.order
        assert order is not None
        layer, told_at = self._newest.get(order, (-1, None))
        if told_at != read.received_at:
            if self._gathered >= GATHERED_MAX:
                self.book()
                layer = -1
            layer += 1
        if layer == len(self._layers):
            self._layers.append({})
        self._layers[layer].setdefault(order, []).append(read)
        self._newest[order] = (layer, read.received_at)
        self._gathered += 1

    def book(self) -> None:
        """Book what was gathered."""
        for layer in self._layers:
            batch: list[_Read] = []
            for reads in layer.values():
                batch += reads
                if len(batch) >= BATCH_MIN:
                    apply_all(batch, self._apply, self._refused)
                    batch = []
            apply_all(batch, self._apply, self._refused)
        self.deliveries.booked += self._gathered
        self._layers.clear()
        self._newest.clear()
        self._gathered = 0

    def _apply(self, reads: Sequence[_Read]) -> None:
        merchant_id = self.differences.merchant_id
        latest = max(each.received_at for each in reads)
        when: Mapping[UUID, MerchantTime] = {merchant_id: MerchantTime(latest, self.time_zone)}
        filed = [(each.received, each.inbox_id) for each in reads]
        run_unit(self.into, lambda session: apply(session, filed, when))

    def _refused(self, read: _Read, error: Exception) -> None:
        self.differences.add(
            RebuiltCode.DELIVERY,
            ids.encode("inb", read.inbox_id),
            f"order {read.received.order[1] if read.received.order else ''}",
            expected="refused by the books",
            found=f"counts; {type(error).__name__}: {str(error).splitlines()[0][:200]}",
        )

    def read(self, row: Row[Any]) -> _Read | None:
        """What a delivery says when it is read today, if it counts."""
        received = self._received(row)
        if InboxState(row.state) not in _COUNTS:
            readable = row.state == InboxState.PARKED and received.state is InboxState.APPLIED
            self.deliveries.parked_but_readable += int(readable)
            return None
        subject, detail = ids.encode("inb", row.id), f"order {row.order_external_id}, delivery {row.delivery_id}"
        if received.body_hash != bytes(row.body_hash):
            self.differences.add(
                RebuiltCode.DELIVERY,
                subject,
                detail,
                expected=f"a body that hashes to {received.body_hash.hex()[:12]}",
                found=f"the hash {bytes(row.body_hash).hex()[:12]}",
            )
        if received.state is not InboxState.APPLIED or received.order is None:
            why = f"{received.state.value}: {received.reason_code} {received.detail}"
            self.differences.add(RebuiltCode.DELIVERY, subject, detail, expected=why, found=row.state)
            return None
        if received.order != (row.order_source_id, row.order_external_id):
            self.differences.add(
                RebuiltCode.DELIVERY,
                subject,
                detail,
                expected=f"about order {received.order[1]}",
                found=f"about order {row.order_external_id}",
            )
        return _Read(replace(received, body=b""), row.id, row.received_at)

    def _received(self, row: Row[Any]) -> Received:
        merchant_id, body = self.differences.merchant_id, bytes(row.body)
        if row.platform != Platform.DESK:
            source = KnownSource(
                row.source_id,
                merchant_id,
                Platform(row.platform),
                b"",
                row.own_domain,
                settings=row.settings,
                settings_version=row.settings_version,
                is_test=row.is_test,
            )
            grammar = Platform(row.grammar) if row.grammar else None
            return receive(source, Delivery(row.delivery_id, row.topic, body, row.shop_domain), self.reading, grammar)
        kept = Received(merchant_id, row.source_id, row.delivery_id, row.topic, body, hashlib.sha256(body).digest())
        try:
            order, facts = desk.read_again(body)
        except NotUnderstood as error:
            return kept.parked(error.reason_code, error.detail)
        return replace(kept, order=order, facts=facts)
