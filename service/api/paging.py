"""Lists in pages: a cursor names the last row seen, so a page costs the same at any depth and new rows shift nothing."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import ConfigDict, Field
from sqlalchemy import ColumnElement, Select, tuple_

from service.api.views import WRITTEN_INTEGER, View
from service.domain.errors import Invalid
from service.infra import strict_json

LIMIT_MAX = 200
LIMIT = 50
_CURSOR_MAX = 400

Item = TypeVar("Item")
Row = TypeVar("Row")
Chosen = TypeVar("Chosen", bound=Select[*tuple[Any, ...]])


class InvalidCursor(Invalid):
    """The cursor is none that a page of this list returned."""

    code = "invalid-cursor"
    title = "The cursor does not belong to this list"


class Page(View, Generic[Item]):
    """A part of a list."""

    # For each kind of item the library would look for docstrings anew, through all modules that import each other.
    model_config = ConfigDict(use_attribute_docstrings=False)

    data: list[Item]
    has_more: bool
    next_cursor: Annotated[
        str | None, Field(description="Send it as `cursor` for the page after this one; null on the last page.")
    ]


@dataclass(frozen=True, slots=True)
class PageQuery:
    """What part of a list is asked for. after: the key of the last row seen, empty at the beginning."""

    limit: int
    after: tuple[str, ...]

    def after_id(self) -> UUID | None:
        """The id of the last row seen, of lists kept in the order of ids. Raises InvalidCursor."""
        return self._read(1, lambda parts: UUID(hex=parts[0]))

    def after_moment(self) -> tuple[datetime, UUID] | None:
        """Time and id of the last row seen, of lists kept in the order of a time. Raises InvalidCursor."""
        return self._read(2, lambda parts: (_aware(parts[0]), UUID(hex=parts[1])))

    def after_moment_text(self) -> tuple[datetime, str] | None:
        """Time and text key of the last row seen, of lists kept in the order of a time. Raises InvalidCursor."""
        return self._read(2, lambda parts: (_aware(parts[0]), parts[1]))

    def after_number(self) -> int | None:
        """The number of the last row seen, of lists kept in the order of numbers. Raises InvalidCursor."""
        return self._read(1, lambda parts: _number(parts[0]))

    def after_text(self) -> str | None:
        """The text key of the last row seen. Raises InvalidCursor."""
        return self._read(1, lambda parts: parts[0])

    def after_day_and_texts(self) -> tuple[date, str, str] | None:
        """Day and two text keys of the last row seen, of lists kept in the order of days. Raises InvalidCursor."""
        return self._read(3, lambda parts: (date.fromisoformat(parts[0]), parts[1], parts[2]))

    def _read(self, size: int, reader: Callable[[tuple[str, ...]], Row]) -> Row | None:
        if not self.after:
            return None
        if len(self.after) != size:
            raise InvalidCursor("Use next_cursor of a page of the same list.")
        try:
            return reader(self.after)
        except ValueError:
            raise InvalidCursor("Use next_cursor of a page of the same list.") from None


def page_query(
    limit: Annotated[int, WRITTEN_INTEGER, Query(ge=1, le=LIMIT_MAX, description="Most rows in the page.")] = LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=_CURSOR_MAX, description="`next_cursor` of the page before.")
    ] = None,
) -> PageQuery:
    return PageQuery(limit, () if cursor is None else _decode(cursor))


Paging = Annotated[PageQuery, Depends(page_query)]
"""Parameter of an endpoint that lists."""


def newest_first(statement: Chosen, asked: PageQuery, column: Any) -> Chosen:
    """Narrow a SELECT to one page, larger ids first. column: the id, unique within what is selected."""
    after = asked.after_id()
    if after is not None:
        statement = statement.where(column < after)
    return statement.order_by(column.desc()).limit(asked.limit + 1)


def latest_first(statement: Chosen, asked: PageQuery, moment: Any, column: Any) -> Chosen:
    """Narrow a SELECT to one page, later times first, larger ids first among equal times."""
    after = asked.after_moment()
    if after is not None:
        key: ColumnElement[Any] = tuple_(moment, column)
        statement = statement.where(key < tuple_(*after))
    return statement.order_by(moment.desc(), column.desc()).limit(asked.limit + 1)


def page(
    rows: Sequence[Row],
    asked: PageQuery,
    *,
    key: Callable[[Row], Sequence[UUID | datetime | str]],
    view: Callable[[Row], Item],
) -> Page[Item]:
    """Make a page of rows selected with one more than the limit, which only tells that there are more.

    key: what the list is ordered by, as `PageQuery.after_…` reads it: (id,) or (time, id).
    """
    shown = rows[: asked.limit]
    has_more = len(rows) > asked.limit
    return Page[Item](
        data=[view(row) for row in shown],
        has_more=has_more,
        next_cursor=_encode(key(shown[-1])) if has_more else None,
    )


def _encode(key: Sequence[UUID | datetime | str]) -> str:
    parts = [
        part.hex if isinstance(part, UUID) else part.isoformat() if isinstance(part, datetime) else part for part in key
    ]
    return base64.urlsafe_b64encode(json.dumps(parts, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, ...]:
    try:
        # As strict as a body: a cursor may be anybody's, and half a surrogate pair can be asked of no database.
        parts = strict_json.load(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise InvalidCursor("Use next_cursor of a page of the same list.")
    return tuple(parts)


def _number(text: str) -> int:
    # No more digits than a column of ours holds.
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise ValueError("a cursor's number is a count")
    return int(text)


def _aware(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a cursor's time has a zone")
    return moment
