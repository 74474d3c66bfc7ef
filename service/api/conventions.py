"""What every operation of /v1 keeps to, in one place: `docs/api.md` tells callers, `honour` sees to it.

No endpoint does any of this itself: keys of requests, unknown parameters, absent bodies, tags, links to next pages,
versions.
"""

import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from service.api import etags, idempotency, versions
from service.api.paging import Page
from service.api.strict import told_again
from service.api.versions import Deprecated
from service.domain.errors import Invalid

PREFIX = "/v1/"
_CHANGES = frozenset({"PUT", "PATCH"})
# A page is written in the order of its fields, without blanks.
_NEXT = re.compile(rb'"has_more":true,"next_cursor":"([A-Za-z0-9_-]+)"\}\Z')


class UnknownParameter(Invalid):
    """A misspelt filter must not list everything, so a parameter that the operation does not have is refused."""

    code = "unknown-parameter"
    title = "The operation has no such query parameter"


class RepeatedParameter(Invalid):
    """Of a filter given twice one would count and the other not, so the list would be another than asked for."""

    code = "repeated-parameter"
    title = "A query parameter stands there more than once"


class Operation(APIRoute):
    """A route of /v1."""

    has_tag = False
    """Whether its answer shows something that can be changed by PUT or PATCH."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        # What it returns runs inside the unit of work: that ends after the response is made and before it is sent.
        handle = self._completed(super().get_route_handler())
        parameters = frozenset(parameters_of(self.dependant))
        is_post = "POST" in methods_of(self)
        reads_object = self.body_field is not None

        async def answer(request: Request) -> Response:
            versions.choose(request)
            _check_query(request, parameters)
            if reads_object and not await request.body():
                request = _with_empty_object(request)
            keeping = await idempotency.keeping_of(request) if is_post else None
            response = await (handle(request) if keeping is None else keeping.answer(request, handle))
            return versions.marked(response, request.scope)

        return answer

    def _completed(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Add what hangs on the response alone."""
        if self.has_tag:

            async def tagged(request: Request) -> Response:
                return etags.tagged(request, await handle(request))

            return tagged
        if is_page(self):

            async def linked(request: Request) -> Response:
                return _linked(request, await handle(request))

            return linked
        return handle


def honour(routers: Iterable[APIRouter]) -> None:
    """Let all routes of /v1 keep to the conventions. Before the application includes them; once more does no harm."""
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    under = [route for route in routes if route.path.startswith(PREFIX)]
    changed = {id(route.response_model) for route in under if methods_of(route) & _CHANGES}
    for route in under:
        # The framework makes routes where they are declared; here they become ours, wherever that was.
        route.__class__ = Operation
        assert isinstance(route, Operation)
        route.has_tag = id(route.response_model) in changed
        if any(isinstance(each.dependency, Deprecated) for each in route.dependencies):
            route.deprecated = True


def parameters_of(dependant: Dependant) -> Iterator[str]:
    """Names of the query parameters of an operation and of all it depends on."""
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from parameters_of(each)


def methods_of(route: APIRoute) -> frozenset[str]:
    """The methods of a route, which has some."""
    return frozenset(route.methods or ())


def is_page(route: APIRoute) -> bool:
    """Whether the route lists in pages."""
    return isinstance(route.response_model, type) and issubclass(route.response_model, Page)


def _check_query(request: Request, parameters: frozenset[str]) -> None:
    """Raise UnknownParameter or RepeatedParameter."""
    if not request.url.query:
        return
    given = request.query_params
    if not parameters.issuperset(given):
        known = f"It takes {', '.join(sorted(parameters))}." if parameters else "It takes none."
        raise UnknownParameter(f"A query parameter is not one of this operation. {known}")
    if len(given.multi_items()) != len(given):
        raise RepeatedParameter("Give each query parameter once; ask for several values one by one.")


def _with_empty_object(request: Request) -> Request:
    """The request with `{}` in place of no body: where no field is needed that is enough, else each one is named."""
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-type"]
    scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
    return Request(scope, told_again(b"{}", request.receive))


def _linked(request: Request, response: Response) -> Response:
    """Add where the next page is, if there is one."""
    found = _NEXT.search(bytes(response.body)[-1000:])
    if found is not None:
        # Also those that are empty: without them the next page would be one of a wider list.
        given = parse_qsl(request.url.query, keep_blank_values=True)
        query = [(name, value) for name, value in given if name != "cursor"]
        target = f"{quote(request.url.path)}?{urlencode([*query, ('cursor', found[1].decode())])}"
        response.headers.append("Link", f'<{target}>; rel="next"')
    return response
