"""Simulations: draft terms tried on the orders of the last days, or on those of a file. No live money moves."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi import Body as RawBody
from pydantic import Field, Strict
from sqlmodel import Session, col, func, select

from service.api.deps import Caller, FinanceMaker, Reader, ReadSession, WriteSession
from service.api.filters import Created
from service.api.paging import Page, Paging, newest_first, page
from service.api.programs import check_payees, find_program
from service.api.terms import TermsDocument
from service.api.views import (
    WRITTEN_FLAG,
    WRITTEN_INTEGER,
    Body,
    Currency,
    Moment,
    MoneyView,
    ProgramId,
    SimulationId,
    View,
)
from service.commissions import simulations
from service.domain.errors import Conflict, Invalid, Missing, TooLarge
from service.domain.simulation import Dimension
from service.infra import ids
from service.infra.clock import utc_now
from service.intake.mapping import read_mapping
from service.intake.try_file import FILE_BYTES_MAX, PARTS_MAX, add_part, check_last
from service.reports.simulated import Outcome, Ranking, ranked, totals
from service.tables.parties import AffiliateKind
from service.tables.simulations import SimulationPartRow, SimulationRow, SimulationState, Stage

router = APIRouter(tags=["simulations"])

DAYS, DAYS_MAX = 90, 400
OPEN_MAX = 5
"""Simulations of a merchant that may be under way at once."""


class TooManySimulations(Conflict):
    """Only so many are under way at once."""

    code = "too-many-simulations"
    title = "Too many simulations are under way"


class SimulationUnfinished(Conflict):
    """Results are shown once they are whole."""

    code = "simulation-unfinished"
    title = "The simulation is not done"


class NoFileAwaited(Conflict):
    """The simulation runs on stored orders, or has its file already."""

    code = "simulation-awaits-no-file"
    title = "The simulation awaits no file"


class SimulationFileTooLarge(TooLarge):
    """The parts of the file together are longer than we take here."""

    code = "simulation-file-too-large"
    title = "The file is larger than a simulation takes"


class FileOfOrders(Body):
    """That the orders come from a file, which is sent afterwards."""

    mapping: dict[str, Any]
    """Which column is which field: a mapping of `koc import` as JSON, see docs/imports.md."""


class SimulationCreate(Body):
    terms: TermsDocument
    """The draft. It counts as if it had been in force since ever."""
    days: Annotated[int, Strict(), Field(ge=1, le=DAYS_MAX)] | None = None
    """Orders placed in so many days up to now; 90 where nothing else says which orders."""
    placed_from: Moment | None = None
    """Instead: orders placed then or later, at most 400 days in all."""
    placed_before: Moment | None = None
    """Orders placed before then; null: now."""
    currency: Currency | None = None
    """Only orders in this one."""
    file: FileOfOrders | None = None
    """Instead of stored orders: those of a file."""


class ProgressView(View):
    stage: Stage
    orders_done: int
    orders_total: int | None
    """Null until they are counted: of a file once it is read."""


class RefusalView(View):
    row: int
    """The first row, as a spreadsheet counts: the header is 1."""
    rows: int
    reason_code: str
    detail: str


class FileView(View):
    rows_refused: int
    """Rows of which no order could be made; they are left out on both sides."""
    refusals: list[RefusalView]
    """The first of them."""


class CostView(View):
    """What all payees have, in one currency."""

    now: MoneyView
    """Under the terms that were in force for each order."""
    then: MoneyView
    """Under the draft."""
    difference: MoneyView
    """Then less now; above zero: the draft costs more."""
    now_orders: int
    """Orders of which something is earned now."""
    then_orders: int

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        return cls(**_costs(outcome))


def _costs(outcome: Outcome) -> dict[str, Any]:
    def money(amount_minor: int) -> MoneyView:
        return MoneyView(amount_minor=amount_minor, currency=outcome.currency)

    return {
        "now": money(outcome.now_minor),
        "then": money(outcome.then_minor),
        "difference": money(outcome.difference_minor),
        "now_orders": outcome.now_orders,
        "then_orders": outcome.then_orders,
    }


class SimulationView(View):
    id: SimulationId
    program_id: ProgramId
    state: SimulationState
    terms: TermsDocument
    placed_from: Moment | None
    """Null where the orders come from a file."""
    placed_before: Moment | None
    currency: str | None
    progress: ProgressView
    file: FileView | None
    """Null where the orders are those that are stored."""
    totals: list[CostView]
    """One for each currency; empty until it is done."""
    error_code: str | None
    """Why it failed."""
    error_detail: str
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None

    @classmethod
    def of(cls, row: SimulationRow, costs: Sequence[Outcome]) -> Self:
        """costs: its totals, so far."""
        file = FileView(rows_refused=row.rows_refused, refusals=[RefusalView(**each) for each in row.refusals])
        return cls(
            id=row.id,
            program_id=row.program_id,
            state=SimulationState(row.state),
            terms=TermsDocument.of(row.terms),
            placed_from=row.placed_from,
            placed_before=row.placed_before,
            currency=row.currency,
            progress=ProgressView(stage=Stage(row.stage), orders_done=row.orders_done, orders_total=row.orders_total),
            file=None if row.mapping is None else file,
            totals=[CostView.of(each) for each in costs] if row.state == SimulationState.DONE else [],
            error_code=row.error_code,
            error_detail=row.error_detail,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
        )


class By(StrEnum):
    """By what results are told apart; each adds up to the totals."""

    AFFILIATE = "affiliate"
    """Whoever is paid: KOCs, agencies, who takes a fee."""
    CATEGORY = "category"
    """Of the order's lines; empty for lines without one, and for what belongs to no line, such as a period's bonus."""
    DAY = "day"
    """On which orders were placed, or a period began, in the merchant's time zone."""


class ResultView(View):
    key: str
    """The affiliate's id, the category, the day."""
    name: str | None
    """Of the affiliate; null for other dimensions."""
    kind: AffiliateKind | None
    now: MoneyView
    then: MoneyView
    difference: MoneyView
    now_orders: int
    then_orders: int

    @classmethod
    def of(cls, outcome: Outcome, by: By) -> Self:
        key = ids.encode("aff", UUID(outcome.key)) if by is By.AFFILIATE else outcome.key
        kind = None if outcome.kind is None else AffiliateKind(outcome.kind)
        return cls(key=key, name=outcome.name, kind=kind, **_costs(outcome))


@router.post("/v1/programs/{program_id}/simulate", status_code=202)
def simulate_program(
    program_id: ProgramId, asked: SimulationCreate, caller: FinanceMaker, session: WriteSession
) -> SimulationView:
    """Try draft terms on orders that were placed already: what they cost now, and what they would then.

    Answers at once; a worker does it and `GET /v1/simulations/{simulation_id}` says how far it is. No commission, balance or
    event comes of it. With `file` it waits for `POST /v1/simulations/{simulation_id}/file`.
    """
    terms = asked.terms.terms()
    find_program(session, caller.merchant_id, program_id)
    check_payees(session, caller.merchant_id, terms)
    placed_from, placed_before = _span(asked, caller.now)
    if asked.file is not None:
        read_mapping(asked.file.mapping)
    _check_room(session, caller)
    row = SimulationRow(
        merchant_id=caller.merchant_id,
        id=ids.new_id(),
        program_id=program_id,
        state=SimulationState.QUEUED if asked.file is None else SimulationState.AWAITING_FILE,
        stage=Stage.ORDERS if asked.file is None else Stage.FILE,
        terms=terms.as_json(),
        placed_from=placed_from,
        placed_before=placed_before,
        currency=asked.currency,
        mapping=None if asked.file is None else asked.file.mapping,
        created_at=caller.now,
    )
    session.add(row)
    session.flush()
    if asked.file is None:
        simulations.ask_worker(session, caller.merchant_id, row.id, at=utc_now())
    return SimulationView.of(row, [])


@router.post("/v1/simulations/{simulation_id}/file", status_code=202)
def send_simulation_file(
    simulation_id: SimulationId,
    content: Annotated[
        bytes,
        RawBody(
            media_type="text/csv",
            description="The file, or a part of it, byte for byte: CSV, or NDJSON where the mapping says so.",
        ),
    ],
    caller: FinanceMaker,
    session: WriteSession,
    part: Annotated[
        int,
        WRITTEN_INTEGER,
        Query(ge=1, le=PARTS_MAX, description="Which part of the file, from 1; sent again it is replaced."),
    ] = 1,
    last: Annotated[bool, WRITTEN_FLAG, Query(description="False: another part follows.")] = True,
) -> SimulationView:
    """Send the file of orders that a simulation waits for; with its last part it begins.

    It is read as `koc import` reads it, and only for this: no order of it is booked or kept. A file longer than a body may be
    (`KOC_BODY_BYTES_MAX`) is cut anywhere and sent in parts, at most 64 MiB in all.
    """
    row = _locked(session, caller, simulation_id)
    if row.state != SimulationState.AWAITING_FILE:
        raise NoFileAwaited(f"It is {row.state}. Another simulation can be made with another file.")
    add_part(session, caller.merchant_id, simulation_id, number=part, body=content)
    parts, size = session.exec(
        select(func.count(), func.sum(SimulationPartRow.size_bytes)).where(
            col(SimulationPartRow.merchant_id) == caller.merchant_id,
            col(SimulationPartRow.simulation_id) == simulation_id,
        )
    ).one()
    if size > FILE_BYTES_MAX:
        raise SimulationFileTooLarge(
            f"A simulation takes {FILE_BYTES_MAX} bytes; import the orders to a test merchant."
        )
    if last:
        check_last(part, parts=parts)
        row.state = SimulationState.QUEUED
        simulations.ask_worker(session, caller.merchant_id, simulation_id, at=utc_now())
    session.flush()
    return SimulationView.of(row, [])


@router.get("/v1/simulations")
def list_simulations(
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    created: Created,
    program_id: Annotated[ProgramId | None, Query(description="Only those of this programme's drafts.")] = None,
    state: Annotated[SimulationState | None, Query(description="Only those in this state.")] = None,
) -> Page[SimulationView]:
    """List the merchant's simulations, newest first. They are kept for 90 days."""
    found = select(SimulationRow).where(col(SimulationRow.merchant_id) == caller.merchant_id)
    if program_id is not None:
        found = found.where(col(SimulationRow.program_id) == program_id)
    if state is not None:
        found = found.where(col(SimulationRow.state) == state)
    found = created.narrow(found, col(SimulationRow.created_at))
    rows = session.exec(newest_first(found, paging, SimulationRow.id)).all()
    costs = totals(session, caller.merchant_id, [row.id for row in rows])
    return page(rows, paging, key=lambda row: (row.id,), view=lambda row: SimulationView.of(row, costs[row.id]))


@router.get("/v1/simulations/{simulation_id}")
def get_simulation(simulation_id: SimulationId, caller: Reader, session: ReadSession) -> SimulationView:
    """Return how far a simulation is, and once it is done what it came to."""
    row = _found(session, caller, simulation_id)
    return SimulationView.of(row, totals(session, caller.merchant_id, [row.id])[row.id])


@router.get("/v1/simulations/{simulation_id}/results")
def list_simulation_results(
    simulation_id: SimulationId,
    caller: Reader,
    session: ReadSession,
    paging: Paging,
    dimension: Annotated[By, Query(description="By what costs are told apart.")] = By.AFFILIATE,
    order: Annotated[
        Ranking,
        Query(description="Winners cost more under the draft, losers less, the biggest difference first; key: all."),
    ] = Ranking.KEY,
    currency: Annotated[Currency | None, Query(description="Only this one; else one after the other.")] = None,
) -> Page[ResultView]:
    """List whom or what the draft would cost more or less for. 409 until the simulation is done."""
    row = _found(session, caller, simulation_id)
    if row.state != SimulationState.DONE:
        raise SimulationUnfinished(f"It is {row.state}; ask again when it is done.")
    skip = paging.after_number() or 0
    found = ranked(
        session,
        caller.merchant_id,
        simulation_id,
        dimension=Dimension(dimension.value),
        ranking=order,
        currency=currency,
        skip=skip,
        limit=paging.limit + 1,
    )
    # A category may be longer than a cursor: the place in the list is told instead, and a list that is done stands still.
    return page(
        found, paging, key=lambda _last: (str(skip + paging.limit),), view=lambda each: ResultView.of(each, dimension)
    )


@router.delete("/v1/simulations/{simulation_id}", status_code=204)
def delete_simulation(simulation_id: SimulationId, caller: FinanceMaker, session: WriteSession) -> None:
    """Stop a simulation if it is under way, and forget it with its file and results."""
    row = _locked(session, caller, simulation_id)
    simulations.delete_all_of(session, caller.merchant_id, [simulation_id])
    session.delete(row)
    session.flush()


_NONE_SUCH = "This merchant has no such simulation."


def _found(session: Session, caller: Caller, simulation_id: UUID) -> SimulationRow:
    row = session.get(SimulationRow, (caller.merchant_id, simulation_id))
    if row is None:
        raise Missing(_NONE_SUCH)
    return row


def _locked(session: Session, caller: Caller, simulation_id: UUID) -> SimulationRow:
    """The row under its lock, before all that hangs on it: so a worker that adds a page waits, and finds it changed."""
    row = session.get(SimulationRow, (caller.merchant_id, simulation_id), with_for_update=True)
    if row is None:
        raise Missing(_NONE_SUCH)
    return row


def _span(asked: SimulationCreate, now: datetime) -> tuple[datetime, datetime] | tuple[None, None]:
    """From and before when orders are placed; neither for those of a file. Raises Invalid."""
    if asked.file is not None:
        if asked.days is not None or asked.placed_from is not None or asked.placed_before is not None:
            raise Invalid("A file is tried whole: leave out days, placed_from and placed_before.")
        return None, None
    before = asked.placed_before or now
    if asked.days is not None and asked.placed_from is not None:
        raise Invalid("Give days or placed_from, not both.")
    since = asked.placed_from or before - timedelta(days=asked.days or DAYS)
    if not timedelta(0) < before - since <= timedelta(days=DAYS_MAX):
        raise Invalid(f"placed_from lies before placed_before, by at most {DAYS_MAX} days.")
    return since, before


def _check_room(session: Session, caller: Caller) -> None:
    under_way = session.exec(
        select(func.count()).where(
            col(SimulationRow.merchant_id) == caller.merchant_id,
            col(SimulationRow.state).not_in([SimulationState.DONE, SimulationState.FAILED]),
        )
    ).one()
    if under_way >= OPEN_MAX:
        raise TooManySimulations(f"{under_way} are under way: wait for one to end, or delete one.")
