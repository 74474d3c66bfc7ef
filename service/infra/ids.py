"""Ids: UUIDv7 made here, and their public form, e.g. `ord_01h455vb4pex5vsknk084sn02q`."""

import re
import secrets
import threading
import time
from datetime import datetime
from uuid import UUID

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32 in lower case: no i, l, o, u."""
_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)
_TO_PYTHON = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")
# 26 digits hold 130 bits and an id has 128, so the first digit is at most 7.
_BODY = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}")

_lock = threading.Lock()
_last = 0


def new_id() -> UUID:
    """Return a new UUIDv7 (RFC 9562). Within this process each is larger than the one before."""
    global _last  # noqa: PLW0603 - the order of ids is a property of the whole process
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    # 48 bits of milliseconds, then 12 bits that divide one: RFC 9562, section 6.2, method 3.
    stamp = milliseconds << 12 | (rest << 12) // 1_000_000
    with _lock:
        # A burst within a 244 ns tick, or a clock set back, counts on from the last stamp.
        stamp = _last = max(stamp, _last + 1)
    return UUID(int=(stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | secrets.randbits(62))


def lowest_id(at: datetime) -> UUID:
    """Return an id below every id made at that moment or later, and above every one made a millisecond before it."""
    return UUID(int=max(0, int(at.timestamp() * 1000)) << 80)


def encode(prefix: str, value: UUID) -> str:
    """Return the public form: prefix, `_`, 26 digits. Forms of one prefix sort as their ids do."""
    number = value.int
    return prefix + "_" + "".join([_PAIRS[number >> shift & 0x3FF] for shift in range(120, -1, -10)])


def decode(prefix: str, text: str) -> UUID:
    """Return the id behind a public form. Raises ValueError unless `encode` could have made the text."""
    body = text.removeprefix(prefix + "_")
    if len(body) == len(text) or not _BODY.fullmatch(body):
        raise ValueError(f"{text[:40]!r} is not an id that begins with {prefix}_")
    return UUID(int=int(body.translate(_TO_PYTHON), 32))
