"""The time. Decisions take it as an argument; edges and jobs ask here."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present instant in UTC."""
    return datetime.now(UTC)
