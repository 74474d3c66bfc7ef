"""The cheapest redirect there is: one bare route, a constant answer, no database."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def redirect(_request: Request) -> Response:
    """Send everybody to one place."""
    return Response(status_code=302, headers={"location": "https://shop.example/"})


app = Starlette(routes=[Route("/r/{code}", redirect)])
