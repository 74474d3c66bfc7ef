"""Log lines: JSON for machines, colours for a terminal. Standard library loggers (uvicorn, alembic) come out the same way.

Every line passes through `_masked`, whoever wrote it: an exception's text may hold what its cause was given.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Literal
from urllib.parse import unquote, urlsplit

import structlog
from structlog.typing import EventDict, WrappedLogger

MASK = "[masked]"
_SECRET_MIN = 8
"""Characters of the shortest secret that is looked for as it is: a shorter one would blot out innocent words."""
_SHAPES = (
    # What PostgreSQL says of the row that offended it, and the driver of the values that were sent. A value may have
    # several lines, so it goes on to what can follow it.
    (
        re.compile(
            r"^([ \t]*)(DETAIL|CONTEXT):.*?"
            r"(?=\n(?:LINE |HINT:|CONTEXT:|[ \t]*\[SQL: |\nThe above exception |\nDuring handling )|\Z)",
            re.MULTILINE | re.DOTALL,
        ),
        rf"\1\2: {MASK}",
    ),
    (re.compile(r"input_value=.*?(?=, input_type=)", re.DOTALL), f"input_value={MASK}"),
    (re.compile(r"\bkoc_(live|test)_\w+"), MASK),
    (re.compile(r"\b(?:whsec|sk_live|sk_test|rk_live|rk_test)_[\w+/=-]+"), MASK),
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]+", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"(://[^\s:/@]*:)[^\s@]+(?=@)"), rf"\1{MASK}"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), MASK),
    (re.compile(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), MASK),
)
"""What must not stand in a log line, by its look: keys, secrets, passwords in addresses, e-mails, IBANs, rows."""


def configure(
    log_format: Literal["auto", "json", "pretty"] = "auto", *, level: str = "INFO", secrets: Iterable[str] = ()
) -> None:
    """Send every log line of the process to standard error.

    log_format: "auto" is pretty on a terminal, else JSON. level: the least level shown. secrets: texts that are masked
    wherever they stand. Calling again replaces it all.
    """
    pretty = sys.stderr.isatty() if log_format == "auto" else log_format == "pretty"
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    masked = _Masked(secrets)
    # Plain traces: the pretty ones of the library show every local, and those may be secrets.
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if pretty
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                masked,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # uvicorn brings handlers of its own, which would print each line a second time.
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def secrets_of(*addresses: str | None) -> list[str]:
    """Return the passwords in addresses, as written there and as meant."""
    written = [urlsplit(address).password for address in addresses if address]
    return [text for password in written if password for text in (password, unquote(password))]


class _Masked:
    """Takes out of every text of a line what must not stand there."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({each for each in secrets if len(each) >= _SECRET_MIN}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, _logger: WrappedLogger, _name: str, line: EventDict) -> EventDict:
        # uvicorn says its lines a second time, with colours in them.
        return {name: self._of(value) for name, value in line.items() if name != "color_message"}

    def _of(self, value: object) -> object:
        if value is None or isinstance(value, (bool, int, float)):
            return value
        # What is no text would be written as its own words.
        text = value if isinstance(value, str) else repr(value)
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text
