"""Many of one kind in one request: each item gets an answer of its own, and one that cannot be done spoils no other.

Items are read one by one and written together, in as many statements as one item takes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import Session, SQLModel

from service.api.problems import ProblemPart, parts_of, status_of
from service.api.views import Body, View
from service.domain.errors import Invalid, ServiceError

ITEMS_MAX = 500

Item = TypeVar("Item", bound=Body)
Found = TypeVar("Found")


class BulkProblem(View):
    """Why an item was not done."""

    code: str
    title: str
    detail: str
    errors: list[ProblemPart]


class BulkResult(View):
    """What became of one item."""

    index: int
    """Its place in the request, from 0."""
    status: int
    """The HTTP status it would have got in a request of its own."""
    id: str | None
    """What was made or changed; null where nothing was, or where it has no id of its own."""
    problem: BulkProblem | None


class BulkView(View):
    """What became of each item, in the order of the request."""

    results: list[BulkResult]
    succeeded: int
    failed: int


class Batch(Generic[Item]):
    """The items of a request on their way to their results."""

    def __init__(self, given: Sequence[Any], model: type[Item], *, named: str = "items") -> None:
        """Read the items. given: as they came, in the field `named`; what is not as described is refused here."""
        self._results: dict[int, BulkResult] = {}
        self._size = len(given)
        self.open: dict[int, Item] = {}
        """Items that were not refused, by their place."""
        for index, each in enumerate(given):
            try:
                self.open[index] = model.model_validate(each)
            except ValidationError as error:
                parts = parts_of(error.errors(), each, named, index)
                detail = f"{len(parts)} part(s) of the item are not as described; see errors."
                self._fail(index, Invalid(detail), parts)

    def refuse(self, index: int, error: ServiceError) -> None:
        """Let an item have failed."""
        self._fail(index, error, [])

    def refuse_repeated(self, key: Callable[[Item], Hashable | None], refusal: ServiceError) -> None:
        """Refuse items whose key an earlier one has; None is no key."""
        seen: set[Hashable] = set()
        for index, item in list(self.open.items()):
            name = key(item)
            if name is not None and name in seen:
                self.refuse(index, refusal)
            seen.add(name)

    def each(self, work: Callable[[Item], Found]) -> dict[int, Found]:
        """Do something with every open item and return what came of it; an item for which it raises is refused."""
        found = {}
        for index, item in list(self.open.items()):
            try:
                found[index] = work(item)
            except ServiceError as error:
                self.refuse(index, error)
        return found

    def done(self, index: int, *, status: int, public_id: str | None = None) -> None:
        """Let an item have been done. public_id: of what was made or changed, where that has one."""
        self._results[index] = BulkResult(index=index, status=status, id=public_id, problem=None)

    def view(self) -> BulkView:
        """Return the results; every item has one by now."""
        results = [self._results[index] for index in range(self._size)]
        failed = sum(each.problem is not None for each in results)
        return BulkView(results=results, succeeded=len(results) - failed, failed=failed)

    def _fail(self, index: int, error: ServiceError, parts: list[ProblemPart]) -> None:
        self.open.pop(index, None)
        self._results[index] = BulkResult(
            index=index,
            status=status_of(type(error)),
            id=None,
            problem=BulkProblem(code=error.code, title=error.title, detail=error.detail, errors=parts),
        )


def insert_new(session: Session, rows: Mapping[int, SQLModel], *, key: str) -> set[int]:
    """Insert rows that break no unique constraint, in the order of a column, and return the places of those inserted.

    key: by which all who insert such rows sort them, so that none waits for another that waits for it.
    """
    if not rows:
        return set()
    ordered = sorted(rows.values(), key=lambda row: (getattr(row, key) or "", row.id))  # type: ignore[attr-defined] # every row here has an id
    table = SQLModel.metadata.tables[str(ordered[0].__tablename__)]
    statement = insert(table).values([row.model_dump() for row in ordered]).on_conflict_do_nothing()
    inserted: set[UUID] = set(session.connection().execute(statement.returning(table.c.id)).scalars())
    return {place for place, row in rows.items() if row.id in inserted}  # type: ignore[attr-defined] # every row here has an id
