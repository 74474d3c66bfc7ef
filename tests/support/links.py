"""Links straight in the tables, for tests of what lies below HTTP."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Session

from service.infra.db import execute, fetch, unit_of_work
from service.infra.ids import new_id
from service.tables.programs import LinkCodeRow, LinkOwnerRow, LinkRow
from tests.support.books import LONG_AGO, Books


def database_now(session: Session) -> datetime:
    now: datetime = fetch(session, "SELECT clock_timestamp() AS now")[0].now
    return now


def add_link(
    session: Session,
    books: Books,
    code: str,
    *,
    url: str = "https://shop.example/",
    owner: UUID | None = None,
    sub_ids: dict[str, str] | None = None,
) -> UUID:
    """Add a link within the caller's unit of work."""
    link_id, affiliate_id = new_id(), owner or books.ann
    session.add(
        LinkRow(
            merchant_id=books.merchant_id,
            id=link_id,
            program_id=books.program_id,
            affiliate_id=affiliate_id,
            code=code,
            url=url,
            sub_ids=sub_ids or {},
            created_at=LONG_AGO,
            updated_at=database_now(session),
        )
    )
    session.flush()
    session.add(LinkCodeRow(code=code, merchant_id=books.merchant_id, link_id=link_id))
    session.add(
        LinkOwnerRow(
            merchant_id=books.merchant_id,
            link_id=link_id,
            valid_from=LONG_AGO,
            affiliate_id=affiliate_id,
            recorded_at=LONG_AGO,
        )
    )
    session.flush()
    return link_id


def a_link(
    books: Books,
    code: str,
    *,
    url: str = "https://shop.example/",
    owner: UUID | None = None,
    sub_ids: dict[str, str] | None = None,
) -> UUID:
    """Add and commit a link."""
    with unit_of_work(books.engine) as session:
        return add_link(session, books, code, url=url, owner=owner, sub_ids=sub_ids)


def change(books: Books, code: str, assignment: str) -> None:
    """Update a link as the API does, its time of change included."""
    with unit_of_work(books.engine) as session:
        execute(
            session,
            f"UPDATE link SET {assignment}, updated_at = clock_timestamp() WHERE code = :code",
            {"code": code},
        )
