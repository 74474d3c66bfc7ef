"""Log lines of structlog and of the standard library come out alike."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

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


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("key koc_live_aqrS3HqSNg8BbK36l8hfNFo7Nf8zet10fUtj is unknown", "key [masked] is unknown"),
        ("secret whsec_c2VjcmV0+/= of a source", "secret [masked] of a source"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer [masked]"),
        ("postgresql://koc:hunter2@db/koc", "postgresql://koc:[masked]@db/koc"),
        ("mail to anna.b+c@shop.example bounced", "mail to [masked] bounced"),
        ("to DE89 3704 0044 0532 0130 00 at once", "to [masked] at once"),
        ("broken\nDETAIL:  Failing row contains (7, Anna).\nLINE 1", "broken\nDETAIL: [masked]\nLINE 1"),
        ("broken\nDETAIL:  Row (7, of Hanoi\n\nlives at 1).\n[SQL: x]", "broken\nDETAIL: [masked]\n[SQL: x]"),
        ("[type=int, input_value='Anna, 7', input_type=str]", "[type=int, input_value=[masked], input_type=str]"),
        ("the root of all keys is c2VjcmV0LW9m", "the root of all keys is [masked]"),
        ("12 orders, 3.5 s, order ord_01 of aff_02", "12 orders, 3.5 s, order ord_01 of aff_02"),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "pretty"])
def test_what_is_nobodys_business_is_masked(
    capsys: pytest.CaptureFixture[str], said: str, kept: str, log_format: Literal["json", "pretty"]
) -> None:
    logs.configure(log_format, secrets=["c2VjcmV0LW9m", "short"])

    logging.getLogger("koc").error("%s", said)
    try:
        raise ValueError(said)
    except ValueError:
        structlog.get_logger("koc").exception("failed", given=[said])

    lines = capsys.readouterr().err
    if log_format == "json":
        plain, failed = map(json.loads, lines.splitlines())
        assert plain["event"] == kept
        assert f"ValueError: {kept}" in failed["exception"]
    assert (said in lines) == (said == kept)


def test_no_trace_shows_what_its_functions_held(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("pretty")
    held = "a-local-of-the-test"

    try:
        raise ValueError(len(held))
    except ValueError:
        structlog.get_logger("koc").exception("failed")

    lines = capsys.readouterr().err
    assert "ValueError" in lines
    assert held not in lines


def test_passwords_are_found_as_written_and_as_meant() -> None:
    assert logs.secrets_of("postgresql://koc:p%40ssword@db/koc", None, "http://host/") == ["p%40ssword", "p@ssword"]
