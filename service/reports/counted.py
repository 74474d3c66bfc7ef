"""How far the writing of a report is."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counted:
    """rows: written so far, without the header."""

    rows: int = 0
