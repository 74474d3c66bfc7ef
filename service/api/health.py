"""Whether the process lives, whether it can do its work, and what it has counted."""

from functools import lru_cache
from typing import Literal

from fastapi import APIRouter, Request, Response

from service.api.deps import ReadSession, Services
from service.api.owners import PUBLIC
from service.api.views import View
from service.domain.errors import Unavailable
from service.infra import metrics, migrate
from service.infra.db import fetch

router = APIRouter(tags=["health"])


class NotReady(Unavailable):
    """The process runs, but a part that its work needs does not."""

    code = "not-ready"
    title = "The service is not ready"
    retry_after_s = 5


class HealthView(View):
    status: Literal["ok"]


class ReadinessView(View):
    status: Literal["ready"]
    revision: str
    """Of the database's tables."""


@lru_cache(maxsize=1)
def _newest_revision() -> str:
    return migrate.revisions()[-1]


@router.get("/healthz", openapi_extra=PUBLIC)
async def get_health() -> HealthView:
    """Whether the process answers at all. Restart it if it does not."""
    return HealthView(status="ok")


@router.get("/readyz", openapi_extra=PUBLIC)
def get_readiness(session: ReadSession, service: Services) -> ReadinessView:
    """Whether the process can do its work: database there and migrated, writers alive. Send no requests while it says 503."""
    for batcher in (service.orders, service.clicks):
        if not batcher.running:
            raise NotReady(f"The writer of {batcher.name} is not running.")
    is_there = fetch(session, "SELECT to_regclass('alembic_version') IS NOT NULL")[0][0]
    revision = fetch(session, "SELECT version_num FROM alembic_version")[0][0] if is_there else "none"
    if revision != _newest_revision():
        raise NotReady(f"The tables are at revision {revision}, this release needs {_newest_revision()}: koc migrate.")
    return ReadinessView(status="ready", revision=revision)


@router.get("/metrics", openapi_extra=PUBLIC, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def get_metrics(request: Request) -> Response:
    """What this server has counted since it started, and what the database says of the business, in Prometheus' text format."""
    return Response(metrics.exposition(request.app.state.gauges), media_type=metrics.CONTENT_TYPE)
