"""Log lines of structlog and of the standard library come out alike."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.infra import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_both_kinds_of_loggers_write_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")

    structlog.get_logger("koc").info("batch-done", orders=3)
    logging.getLogger("uvicorn.error").warning("slow %s", "start", extra={"port": 8000})

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["orders"], first["level"], first["logger"]) == ("batch-done", 3, "info", "koc")
    assert (second["event"], second["port"], second["level"]) == ("slow start", 8000, "warning")
    assert first["timestamp"].endswith("Z")


def test_an_exception_keeps_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")

    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("koc").exception("failed")

    assert "ValueError: broken" in json.loads(capsys.readouterr().err)["exception"]
