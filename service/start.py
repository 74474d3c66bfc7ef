"""How a process of ours begins: the command `koc`, and the application of a server process.

Both import what they need only when they are called, so that it costs as little as it can: `koc` is also imported by the
server processes it starts, which have no use for the commands.
"""

from typing import TYPE_CHECKING

from service.infra import garbage

if TYPE_CHECKING:
    from fastapi import FastAPI


def koc() -> None:
    """Run the command that the arguments name."""
    with garbage.at_rest():
        from service.cli import app  # noqa: PLC0415 # server processes import this module and need no commands
    app()


def serve_app() -> "FastAPI":
    """Return the application of a server process, which starts with nothing but its environment."""
    with garbage.at_rest():
        from service.main import serve_app as make  # noqa: PLC0415 # while the collector rests

        return make()
