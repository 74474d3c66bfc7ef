"""Clicks as rows: one COPY for all that came while the last one ran. Counting needs them, attribution does not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from uuid import UUID

from crawlerdetect import CrawlerDetect  # type: ignore[import-untyped] # it has annotations but no py.typed
from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.sql import SQL, Identifier
from sqlalchemy import Engine
from sqlmodel import Session

from service.infra.db import execute, unit_of_work

USER_AGENT_MAX = 500
REFERRER_MAX = 500
_COLUMNS = (
    "merchant_id",
    "id",
    "link_id",
    "affiliate_id",
    "at",
    "is_bot",
    "ip_hash",
    "user_agent",
    "referrer",
    "country",
    "sub_ids",
)
_COPY = SQL("COPY click ({}) FROM STDIN").format(SQL(", ").join(map(Identifier, _COLUMNS)))
_detector = CrawlerDetect()


@dataclass(frozen=True, slots=True)
class Click:
    """One visit through a link.

    id: the signed click id. at: on the merchant's clock. ip_hash: keyed; the address itself never comes here.
    only_looked: the visitor asked for the headers alone, as programs do.
    """

    merchant_id: UUID
    id: str
    link_id: UUID
    affiliate_id: UUID
    at: datetime
    ip_hash: str
    user_agent: str = ""
    referrer: str = ""
    country: str = ""
    only_looked: bool = False
    sub_ids: Mapping[str, str] | None = None


def write(engine: Engine, clicks: Sequence[Click]) -> list[None]:
    """Store clicks in a unit of work of their own, each once however often it comes. The work of the clicks batcher.

    One try only: a visitor waits, and the redirect needs no row.
    """
    try:
        with unit_of_work(engine) as session:
            copy(session, clicks)
    except UniqueViolation:
        # COPY knows no "on conflict". An id comes twice only when a batch is done again.
        with unit_of_work(engine) as session:
            add_missing(session, clicks)
    return [None] * len(clicks)


def copy(session: Session, clicks: Sequence[Click]) -> None:
    """Store clicks by COPY, the fastest way in. Raises UniqueViolation when one is there already."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, Connection)
    with connection.cursor() as cursor, cursor.copy(_COPY) as rows:
        for click in clicks:
            rows.write_row(_row(click))


def add_missing(session: Session, clicks: Sequence[Click]) -> None:
    """Store those of the clicks that are not there yet."""
    # In key order, as every batch writes, so that two processes never wait for each other's rows crosswise.
    rows = [_row(click) for click in sorted(clicks, key=lambda click: (click.merchant_id, click.id))]
    execute(
        session,
        """
        INSERT INTO click (merchant_id, id, link_id, affiliate_id, at, is_bot, ip_hash, user_agent, referrer, country,
                           sub_ids)
        SELECT merchant_id, id, link_id, affiliate_id, at, is_bot, ip_hash, user_agent, referrer, country,
               CAST(sub_ids AS jsonb)
        FROM unnest(
            CAST(:merchant_id AS uuid[]), CAST(:id AS text[]), CAST(:link_id AS uuid[]), CAST(:affiliate_id AS uuid[]),
            CAST(:at AS timestamptz[]), CAST(:is_bot AS boolean[]), CAST(:ip_hash AS text[]),
            CAST(:user_agent AS text[]), CAST(:referrer AS text[]), CAST(:country AS text[]), CAST(:sub_ids AS text[])
        ) AS came (merchant_id, id, link_id, affiliate_id, at, is_bot, ip_hash, user_agent, referrer, country, sub_ids)
        ON CONFLICT (merchant_id, id) DO NOTHING
        """,
        {name: list(values) for name, values in zip(_COLUMNS, zip(*rows, strict=True), strict=True)},
    )


@lru_cache(maxsize=4096)
def is_bot(user_agent: str) -> bool:
    """Whether a visitor is no person, as far as it says so itself. One who says nothing is no browser."""
    return not user_agent.strip() or bool(_detector.is_crawler(user_agent))


def _row(click: Click) -> tuple[object, ...]:
    return (
        click.merchant_id,
        click.id,
        click.link_id,
        click.affiliate_id,
        click.at,
        click.only_looked or is_bot(click.user_agent),
        click.ip_hash,
        click.user_agent,
        click.referrer,
        click.country,
        json.dumps(click.sub_ids or {}),
    )
