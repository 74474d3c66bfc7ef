"""Links in memory: what the redirect needs of every link, so that it answers while the database is away."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row
from sqlmodel import Session

from service.domain.dated import Owner
from service.domain.errors import Unavailable
from service.infra.batcher import Batcher, Observer
from service.infra.db import fetch, read_session
from service.tracking.redirect import CODE, Link

REFRESH_S = 1.0
"""Seconds between two looks at what changed."""
MISS_S = 1.0
"""Seconds for which a code that no link has is not asked for again."""
_MISSES_MAX = 10_000
_PAGE = 5_000
"""Links read by one statement."""
# updated_at is set while a unit of work runs and seen only once it has committed, so each look reaches back some way.
# Most units last milliseconds; the longest the database lets live is far below the deep look's reach.
_OVERLAP = timedelta(seconds=10)
_DEEP_OVERLAP = timedelta(minutes=5)
_DEEP_EVERY = 60
"""Every how many looks one reaches back the longer way."""
_REFRESH = ""
"""What is asked of the reader instead of a code to make it look at what changed."""
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_log = logging.getLogger(__name__)


class LinkMemory:
    """All links by code, the clocks of test merchants, and where paused links lead; refreshed every second.

    One reader, a batcher, does all the asking: codes that several visitors miss at one time are one question.
    """

    def __init__(self, engine: Engine, *, observer: Observer | None = None) -> None:
        self._engine = engine
        self._reader: Batcher[str, Link | None] = Batcher(
            "links", self._answer, self._give_up, batch_max=512, queue_max=4096, observer=observer
        )
        self._links: dict[str, Link] = {}
        self._fallbacks: dict[UUID, str] = {}
        self._paused: set[UUID] = set()
        """Programmes of which a link was ever paused; their fallbacks are read with every look."""
        self._offsets: dict[UUID, timedelta] = {}
        self._misses: dict[str, float] = {}
        """Until when, by the monotonic clock, a code counts as nobody's."""
        self._seen = _BEGINNING
        """The database's time of the last look."""
        self._looks = 0
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load all links and keep up with them. With the database away it begins empty and goes on trying."""
        self._reader.start()
        with contextlib.suppress(Unavailable):
            await self.refresh()
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """End the refreshing; what is in memory can still be found."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        await asyncio.to_thread(self._reader.stop)

    async def refresh(self) -> None:
        """Look now at what changed, instead of within the next second. Raises Unavailable."""
        await self._reader.submit(_REFRESH)

    def get(self, code: str) -> Link | None:
        """Return the link of a code if it is in memory."""
        return self._links.get(code)

    async def find(self, code: str) -> Link | None:
        """Return the link of a code, from the database where memory has none. Raises Unavailable when it cannot be asked."""
        link = self._links.get(code)
        if link is not None or not CODE.fullmatch(code) or self._is_missed(code):
            return link
        return await self._reader.submit(code)

    def fallback_url(self, link: Link) -> str:
        """Return where the link leads while it is paused."""
        return self._fallbacks[link.program_id]

    def now(self, merchant_id: UUID, now: datetime) -> datetime:
        """Return the present by a merchant's own clock. now: by ours."""
        offset = self._offsets.get(merchant_id)
        return now if offset is None else now + offset

    def set_clock(self, merchant_id: UUID, offset_s: int) -> None:
        """Take over a test merchant's clock at once; the other processes learn of it within a second."""
        # Clocks only move forward, so what a look read before the move was committed changes nothing any more.
        offset = timedelta(seconds=offset_s)
        if offset > self._offsets.get(merchant_id, timedelta()):
            self._offsets[merchant_id] = offset

    async def _tick(self) -> None:
        away = False
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except Unavailable as error:
                if not away:
                    _log.warning("Links cannot be refreshed and are served from memory: %s", error)
                away = True
                continue
            if away:
                _log.info("Links are refreshed again.")
            away = False

    def _answer(self, asked: Sequence[str]) -> list[Link | None]:
        """Read what changed, or the links of codes; the reader's work."""
        with read_session(self._engine) as session:
            if _REFRESH in asked:
                self._look(session)
            # Asked again here: one of an earlier batch may have brought the answer meanwhile.
            unknown = {
                code for code in asked if code != _REFRESH and code not in self._links and not self._is_missed(code)
            }
            if unknown:
                self._keep(session, _read_by_code(session, sorted(unknown)))
                self._miss(unknown - self._links.keys())
        return [self._links.get(code) for code in asked]

    def _give_up(self, asked: str, error: Exception) -> Link | None:
        """Pass on what went wrong for one code. A failed look is logged by the reader; the next second has another."""
        if asked == _REFRESH:
            return None
        raise error

    def _look(self, session: Session) -> None:
        deep = self._looks % _DEEP_EVERY == 0
        since = self._seen - (_DEEP_OVERLAP if deep else _OVERLAP)
        # Before the links are read: what commits while we read is in the next look.
        now: datetime = fetch(session, "SELECT clock_timestamp() AS now")[0].now
        place: tuple[datetime, UUID, UUID] | None = (since, UUID(int=0), UUID(int=0))
        while place is not None:
            rows = _read_changed(session, place)
            self._keep(session, rows)
            place = (rows[-1].updated_at, rows[-1].merchant_id, rows[-1].id) if len(rows) == _PAGE else None
        self._fallbacks |= _read_fallbacks(session, sorted(self._paused))
        for row in _read_clocks(session):
            self.set_clock(row.id, row.clock_offset_s)
        self._seen, self._looks = now, self._looks + 1

    def _keep(self, session: Session, rows: Sequence[Row[Any]]) -> None:
        owners = _read_owners(session, rows) if rows else {}
        for row in rows:
            self._fallbacks[row.program_id] = row.fallback_url
            if row.paused_at is not None:
                self._paused.add(row.program_id)
            self.set_clock(row.merchant_id, row.clock_offset_s)
            self._links[row.code] = Link(
                merchant_id=row.merchant_id,
                id=row.id,
                program_id=row.program_id,
                code=row.code,
                url=row.url,
                paused=row.paused_at is not None,
                owners=tuple(owners[row.merchant_id, row.id]),
                updated_at=row.updated_at,
                sub_ids=row.sub_ids,
            )

    def _is_missed(self, code: str) -> bool:
        return self._misses.get(code, 0) > time.monotonic()

    def _miss(self, codes: set[str]) -> None:
        if len(self._misses) + len(codes) > _MISSES_MAX:
            self._misses.clear()
        self._misses.update(dict.fromkeys(codes, time.monotonic() + MISS_S))


def _read_changed(session: Session, after: tuple[datetime, UUID, UUID]) -> Sequence[Row[Any]]:
    # Not narrowed by merchant, here and below: this memory is for every merchant's visitors.
    return fetch(
        session,
        """
        SELECT link.merchant_id, link.id, link.program_id, link.code, link.url, link.sub_ids, link.paused_at,
               link.updated_at, program.fallback_url, merchant.clock_offset_s
        FROM link
        JOIN program ON program.merchant_id = link.merchant_id AND program.id = link.program_id
        JOIN merchant ON merchant.id = link.merchant_id
        WHERE (link.updated_at, link.merchant_id, link.id) > (:updated_at, :merchant_id, :id)
        ORDER BY link.updated_at, link.merchant_id, link.id
        LIMIT :page
        """,
        {"updated_at": after[0], "merchant_id": after[1], "id": after[2], "page": _PAGE},
    )


def _read_by_code(session: Session, codes: Sequence[str]) -> Sequence[Row[Any]]:
    return fetch(
        session,
        """
        SELECT link.merchant_id, link.id, link.program_id, link.code, link.url, link.sub_ids, link.paused_at,
               link.updated_at, program.fallback_url, merchant.clock_offset_s
        FROM link_code
        JOIN link ON link.merchant_id = link_code.merchant_id AND link.id = link_code.link_id
        JOIN program ON program.merchant_id = link.merchant_id AND program.id = link.program_id
        JOIN merchant ON merchant.id = link.merchant_id
        WHERE link_code.code = ANY(CAST(:codes AS text[]))
        """,
        {"codes": list(codes)},
    )


def _read_owners(session: Session, links: Sequence[Row[Any]]) -> dict[tuple[UUID, UUID], list[Owner]]:
    """Maps (merchant, link) to the owners, oldest first."""
    rows = fetch(
        session,
        """
        SELECT link_owner.merchant_id, link_owner.link_id, link_owner.valid_from, link_owner.affiliate_id
        FROM unnest(CAST(:merchant_ids AS uuid[]), CAST(:ids AS uuid[])) AS asked (merchant_id, id)
        JOIN link_owner ON link_owner.merchant_id = asked.merchant_id AND link_owner.link_id = asked.id
        ORDER BY link_owner.valid_from
        """,
        {"merchant_ids": [link.merchant_id for link in links], "ids": [link.id for link in links]},
    )
    owners: dict[tuple[UUID, UUID], list[Owner]] = defaultdict(list)
    for row in rows:
        owners[row.merchant_id, row.link_id].append(Owner(row.valid_from, row.affiliate_id))
    return owners


def _read_fallbacks(session: Session, program_ids: Sequence[UUID]) -> dict[UUID, str]:
    if not program_ids:
        return {}
    rows = fetch(
        session,
        "SELECT id, fallback_url FROM program WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(program_ids)},
    )
    return {row.id: row.fallback_url for row in rows}


def _read_clocks(session: Session) -> Sequence[Row[Any]]:
    return fetch(session, "SELECT id, clock_offset_s FROM merchant WHERE clock_offset_s <> 0")
