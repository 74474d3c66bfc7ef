"""Filters that many lists have, written once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query
from sqlalchemy import Select

from service.api.views import ExternalId, Moment

Chosen = TypeVar("Chosen", bound=Select[*tuple[Any, ...]])

ExternalIdFilter = Annotated[ExternalId | None, Query(description="Only what you know under this id.")]


@dataclass(frozen=True, slots=True)
class CreatedQuery:
    """When what is listed was made: from a moment on, before a moment, both or neither."""

    since: datetime | None
    before: datetime | None

    def narrow(self, statement: Chosen, column: Any) -> Chosen:
        """Narrow a SELECT by the column that says when."""
        if self.since is not None:
            statement = statement.where(column >= self.since)
        if self.before is not None:
            statement = statement.where(column < self.before)
        return statement

    def conditions(self, column: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield (name of a parameter, SQL condition with it, value) of what is asked for. column: our own SQL."""
        if self.since is not None:
            yield "created_from", f"{column} >= :created_from", self.since
        if self.before is not None:
            yield "created_before", f"{column} < :created_before", self.before


async def _created(
    created_from: Annotated[Moment | None, Query(description="Only what was made then or later.")] = None,
    created_before: Annotated[Moment | None, Query(description="Only what was made before then.")] = None,
) -> CreatedQuery:
    return CreatedQuery(created_from, created_before)


Created = Annotated[CreatedQuery, Depends(_created)]
"""Parameter of a list of things that were made at some time."""
