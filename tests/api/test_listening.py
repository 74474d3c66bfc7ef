"""A server that has more to do than it can lets new callers in all the same."""

import asyncio
import socket
from collections import Counter

import uvicorn
import uvloop

from service.cli import ACCEPTED_IN_A_TURN, _listen

CALLERS = 64


def test_each_turn_of_the_event_loop_lets_many_callers_in() -> None:
    sockets = _listen(uvicorn.Config("service.start:serve_app", host="127.0.0.1", port=0, log_config=None))
    address = sockets[0].getsockname()
    turns = 0
    came_in: list[int] = []

    class Host(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            came_in.append(turns)
            transport.close()

    async def serve() -> None:
        nonlocal turns
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Host, sock=each) for each in sockets]
        callers = [socket.create_connection(address) for _ in range(CALLERS)]
        while len(came_in) < CALLERS:
            turns += 1
            await asyncio.sleep(0)
        for caller in callers:
            caller.close()
        for server in servers:
            server.close()

    uvloop.run(serve())

    assert max(Counter(came_in).values()) == ACCEPTED_IN_A_TURN
