"""The web application: every router in one place, and what a process makes when it starts."""

import base64
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import Semaphore
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Scope

from service.api import (
    acceptances,
    accounting,
    affiliates,
    api_keys,
    audit,
    balances,
    bindings,
    book_closes,
    browser,
    browser_config,
    budgets,
    claims,
    clicks,
    commissions,
    conventions,
    corrections,
    coupons,
    customers,
    described,
    events,
    exports,
    grades,
    health,
    inbox,
    intake,
    jobs,
    ledger,
    links,
    llms,
    me,
    merchants,
    my_statements,
    order_events,
    orders,
    pauses,
    payer_accounts,
    payout_files,
    payout_gate,
    payout_limits,
    payout_methods,
    payout_runs,
    payout_templates,
    payouts,
    periods,
    problems,
    programs,
    provider_events,
    provider_reconciliations,
    receipts,
    reconciliations,
    redirect,
    report_jobs,
    reports,
    rosters,
    run_review,
    simulations,
    sources,
    statements,
    stripe_accounts,
    tax,
    tax_profiles,
    tax_registers,
    webhook_endpoints,
    words,
)
from service.api.deps import Service
from service.api.door import CHECK_ORDERS
from service.api.front import Front
from service.api.gauges import Gauges
from service.api.strict import Strict
from service.api.usage import Usage
from service.infra import crash, garbage, logs
from service.infra.db import Admission, make_engine
from service.infra.metrics import BatcherMetrics
from service.infra.pace import Pacer
from service.infra.security import Security
from service.infra.settings import Settings, SettingsError, load
from service.payouts.providers.stripe_accounts import StripeAccounts
from service.payouts.providers.stripe_api import StripeApi
from service.tracking.links import LinkMemory

ROUTERS = (
    merchants.router,
    api_keys.router,
    sources.router,
    programs.router,
    words.router,
    pauses.router,
    budgets.router,
    affiliates.router,
    tax_profiles.router,
    grades.router,
    rosters.router,
    links.router,
    coupons.router,
    bindings.router,
    customers.router,
    clicks.router,
    orders.router,
    order_events.router,
    inbox.router,
    commissions.router,
    receipts.router,
    periods.router,
    claims.router,
    simulations.router,
    balances.router,
    ledger.router,
    payout_methods.router,
    book_closes.router,
    accounting.router,
    reconciliations.router,
    payout_runs.router,
    run_review.router,
    payouts.router,
    payout_limits.router,
    payout_gate.router,
    tax.router,
    tax_registers.router,
    corrections.router,
    statements.router,
    stripe_accounts.router,
    provider_reconciliations.router,
    payout_files.router,
    payer_accounts.router,
    payout_templates.router,
    jobs.router,
    reports.router,
    report_jobs.router,
    events.router,
    webhook_endpoints.router,
    exports.router,
    audit.router,
    me.router,
    my_statements.router,
    acceptances.router,
    browser_config.router,
    browser.router,
    health.router,
    problems.router,
    llms.router,
)

_STATIC = Path(__file__).parent / "api" / "static"
_VERSION = metadata.version("koc-commission-service")

STRIPE_TIMEOUTS_S = (5, 20)
"""Seconds to connect to Stripe, and to wait for its answer, while somebody waits for ours."""

SWITCH_S = 0.001
"""Seconds after which a thread that waits for the interpreter gets it."""

_DESCRIPTION = """
Pays KOCs (key opinion consumers; here: *affiliates*) for the orders they bring, and explains every cent of it.

Send an API key as `Authorization: Bearer koc_…`. Amounts are integers in minor units with an ISO 4217 code, times are
RFC 3339 in UTC. Lists come in pages: pass `next_cursor` on as `cursor`. Every failure is a problem document (RFC 9457)
whose `code` never changes. Orders arrive as signed webhooks at `/intake/{source}`.
"""

_TAGS = {
    "merchants": "Shops, and the clock of those that are only a test.",
    "api keys": "Bearer keys and their scopes; each is shown once.",
    "sources": "Where signed order webhooks come from.",
    "programs": "Programmes and their numbered, immutable terms.",
    "words": "What codes and terms mean, for people, in English, Vietnamese and Chinese.",
    "bindings": "Customers and products that are bound to a KOC.",
    "customers": "Lists of customers, such as staff, by keyed hashes.",
    "rosters": "Agencies, and which KOCs agreed to share with them.",
    "claims": "What KOCs claim about orders, and what merchants decide.",
    "affiliates": "KOCs: registration, approval, enrolment, how they are paid.",
    "links": "Tracked links with QR codes.",
    "coupons": "Codes typed at checkout, and whom they belong to.",
    "clicks": "Visits through links.",
    "orders": "Orders as understood, what they earn and why.",
    "inbox": "Deliveries, byte for byte: waiting, parked, replayed.",
    "commissions": "What affiliates earn, with receipts and decisions.",
    "receipts": "Receipts computed again, and terms tried on an example order.",
    "simulations": "Draft terms tried on orders that were placed already.",
    "balances": "What is owed, by place and currency.",
    "ledger": "Postings: one debit, one credit, for ever.",
    "payout methods": "Where affiliates' money goes; changes wait and can be stopped.",
    "payout runs": "Payouts approved together, by two persons.",
    "payout control": "What stops money: limits, fees, rails switched off, the gate after a restore.",
    "payouts": "Money sent to one affiliate, with its statement.",
    "corrections": "What two persons put right: taxes not due, debts given up, money paid by another way.",
    "tax": "Regimes, dated tables, profiles, what is withheld and owed on, registers for filing.",
    "statements": "What affiliates were owed, what moved, what they are owed: numbered, for ever.",
    "stripe accounts": "Affiliates' accounts at Stripe: made, onboarded, what is wanted of them.",
    "reconciliations": "A merchant's order file, our commissions and the bank's lines, side by side.",
    "provider reconciliations": "Days of our books beside those of the provider.",
    "payout files": "Payouts that leave in files: who pays, by which column map, and what banks answer.",
    "jobs": "Work that runs by itself, asked for now.",
    "reports": "Figures as CSV, as workbooks and as Parquet, streamed or written by a worker.",
    "events": "What happened, in order.",
    "webhook endpoints": "Who is told what happens, and what came of telling.",
    "exports": "Everything a merchant owns, to take away.",
    "audit": "Who changed what.",
    "browser": "What a shop's pages load, and ask with a publishable key.",
    "me": "An affiliate's own view.",
    "intake": "Where shops deliver.",
    "providers": "Where providers of payments tell what happened.",
    "problems": "Every code a failure may have.",
    "description": "What there is here, told to language models.",
    "health": "For those who run the service.",
}


def _is_untraced(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.startswith(UNTRACED)


TELEMETRY: TelemetryConfig = {
    "tracing": True,
    # Prometheus counts, and lines go to standard error.
    "metrics": False,
    "logs": False,
    # A span for each dependency of each request costs more than most requests.
    "operation_spans": False,
    # By OpenTelemetry's own variables: nothing is sent, and no span made, where OTEL_EXPORTER_OTLP_ENDPOINT is unset.
    "auto_configure": True,
    "exclude": _is_untraced,
}


class Application(FastAPI):
    """FastAPI behind our front, with an API description that is complete."""

    front_body_bytes_max: int = 0

    def build_middleware_stack(self) -> ASGIApp:
        # Around the framework's own outermost layer, so that its answers to crashes carry a request id too.
        strict = Strict(super().build_middleware_stack(), body_bytes_max=self.front_body_bytes_max)
        return Front(strict, body_bytes_max=self.front_body_bytes_max, refusal=intake.refusal)

    def openapi(self) -> dict[str, Any]:
        """Return the API's description, made once."""
        if not self.openapi_schema:
            self.openapi_schema = described.complete(
                super().openapi(),
                {
                    route.name: described.allowed_of(route)
                    for router in ROUTERS
                    for route in router.routes
                    if isinstance(route, APIRoute)
                },
            )
        return self.openapi_schema


UNTRACED = ("/r/", "/t.js", "/static/", "/healthz", "/readyz", "/metrics")
"""Beginnings of paths whose requests are too many, or too dull, for a span each."""


def create_app(settings: Settings | None = None, *, telemetry: TelemetryConfig | None = None) -> FastAPI:
    """Return the application; its database and writers are opened when it starts.

    settings: of the environment if None. telemetry: in place of parts of TELEMETRY.
    """
    chosen = settings or load()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        service = await _open(app, chosen)
        _warm_up(app)
        garbage.settle()
        _share_time()
        try:
            yield {CHECK_ORDERS: service.orders.check}
        finally:
            await _close(service)
            app.state.gauges.close()

    app = Application(
        title="KOC commission service",
        version=_VERSION,
        summary="Commissions for key opinion consumers, explained to the cent.",
        description=_DESCRIPTION,
        contact={"name": "Whoever runs this service"},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "This service"}],
        openapi_tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        max_body_size=chosen.body_bytes_max,
        telemetry={**TELEMETRY, **(telemetry or {})},
        lifespan=lifespan,
        responses=described.FAILURES,
    )
    app.front_body_bytes_max = chosen.body_bytes_max
    problems.install(app)
    # Raw routes first: they are the hot ones, and routes are tried in this order.
    app.router.routes.extend([*intake.routes, *redirect.routes, *provider_events.routes])
    conventions.honour(ROUTERS)
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.append(Route("/docs", _docs, include_in_schema=False))
    app.router.routes.append(Mount("/static", StaticFiles(directory=_STATIC), name="static"))
    return app


def serve_app() -> FastAPI:
    """Return the application of a server process, which starts with nothing but its environment."""
    settings = load()
    logs.configure(settings.log_format, secrets=settings.secrets())
    crash.arm(os.environ)
    # The metrics count requests; a line for each would cost the hot routes more than their own work.
    logging.getLogger("uvicorn.access").propagate = False
    return create_app(settings)


def _operation_id(route: APIRoute) -> str:
    return route.name


async def _open(app: FastAPI, settings: Settings) -> Service:
    if settings.database_url is None:
        raise SettingsError("DATABASE_URL is not set. Set it, or let `koc serve` start the embedded PostgreSQL.")
    engine = make_engine(settings.database_url, pool_size=settings.db_pool_size, application_name="koc serve")
    security = Security(base64.b64decode(settings.secret_key))
    observer = BatcherMetrics()
    service = Service(
        settings=settings,
        engine=engine,
        admission=Admission(settings.db_admission),
        security=security,
        orders=intake.orders_batcher(
            engine, batch_max=settings.batch_max, queue_max=settings.orders_at_once, observer=observer
        ),
        clicks=redirect.clicks_batcher(
            engine, batch_max=settings.batch_max, queue_max=settings.queue_max, observer=observer
        ),
        links=LinkMemory(engine, observer=observer),
        usage=Usage(engine),
        pacer=Pacer(),
        paces={},
        downloads=Semaphore(max(1, settings.db_admission // 4)),
        stripe=_stripe(settings),
    )
    app.state.service = service
    app.state.gauges = Gauges(settings.database_url)
    app.state.intake = intake.Intake(engine, security, service.admission)
    service.orders.start()
    service.clicks.start()
    service.usage.start()
    await service.links.start()
    return service


async def _close(service: Service) -> None:
    """Do what was accepted, then let go of the database."""
    await service.links.stop()
    await run_in_threadpool(service.usage.stop)
    await run_in_threadpool(service.orders.stop)
    await run_in_threadpool(service.clicks.stop)
    if service.stripe is not None:
        service.stripe.close()
    service.engine.dispose()


def _stripe(settings: Settings) -> StripeAccounts | None:
    """Affiliates' accounts at Stripe, if it is set up. People wait for these answers, so not for long."""
    if settings.stripe_secret_key is None:
        return None
    return StripeAccounts(
        StripeApi(settings.stripe_secret_key, api_base=settings.stripe_api_base, timeouts_s=STRIPE_TIMEOUTS_S)
    )


def _warm_up(app: FastAPI) -> None:
    """Let the framework make what it makes of each route when the first request asks: a third of a second in all."""
    for route in app.router.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})


@cache
def _share_time() -> None:
    """Let the thread that answers requests have its turn back sooner from the writers.

    It gives way at each signature it computes; with Python's own 5 ms, requests wait for seconds once there are too many.
    """
    sys.setswitchinterval(SWITCH_S)


async def _docs(request: Request) -> HTMLResponse:
    """Show the API's description for reading and trying, from files of our own."""
    root = request.scope.get("root_path", "")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="KOC commission service",
        swagger_js_url=f"{root}/static/swagger-ui/swagger-ui-bundle.js",
        swagger_css_url=f"{root}/static/swagger-ui/swagger-ui.css",
        swagger_favicon_url=f"{root}/static/swagger-ui/favicon-32x32.png",
    )
