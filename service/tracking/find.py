"""Click ids: made at the redirect, carried by the buyer's browser and the order, read here. No row is needed."""

import binascii
import hmac
import itertools
import re
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from service.domain.order import Touch, TouchKind
from service.infra.security import Security

_PREFIX = "clk_"
_VERSION = 1
"""First byte of every id; it names the key. A new key takes the next number, and ids already out stay readable."""
_PURPOSES = {_VERSION: "click"}
_MAC_BYTES = 11
_BODY_BYTES = 31
"""Version 1, link 16, milliseconds 6, nonce 4, sequence 4. With the MAC 42 bytes, which fill 56 characters of base64
to the last bit: if some were left over, a changed last character could mean the same bytes."""
_SHAPE = re.compile(r"clk_([A-Za-z0-9_-]{56})")
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = str.maketrans("-_", "+/")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class ClickSigner:
    """Makes and reads the click ids of this installation. Safe to share among threads; not to be copied by a fork."""

    def __init__(self, security: Security) -> None:
        self._security = security
        # No two processes share a nonce but by chance, and within one the sequence tells ids of a millisecond apart.
        self._nonce = secrets.token_bytes(4)
        self._sequence = itertools.count()

    def make(self, link_id: UUID, at: datetime) -> str:
        """Return a click id that no other call returns: 60 characters of [A-Za-z0-9_-]. at: kept to the millisecond."""
        milliseconds = (at - _EPOCH) // _MILLISECOND
        sequence = next(self._sequence) & 0xFFFF_FFFF
        body = b"".join(
            (
                bytes((_VERSION,)),
                link_id.bytes,
                milliseconds.to_bytes(6, "big"),
                self._nonce,
                sequence.to_bytes(4, "big"),
            )
        )
        signed = body + self._security.sign(_PURPOSES[_VERSION], body, _MAC_BYTES)
        return _PREFIX + binascii.b2a_base64(signed, newline=False).translate(_TO_URL).decode("ascii")

    def read(self, text: str) -> Touch:
        """Return the touch a click id stands for; without link and time when we did not sign it, whatever it says."""
        match = _SHAPE.fullmatch(text)
        if match is None:
            return Touch(TouchKind.CLICK, text)
        signed = binascii.a2b_base64(match[1].translate(_FROM_URL), strict_mode=True)
        purpose = _PURPOSES.get(signed[0])
        if purpose is None:
            return Touch(TouchKind.CLICK, text)
        body, mac = signed[:_BODY_BYTES], signed[_BODY_BYTES:]
        if not hmac.compare_digest(self._security.sign(purpose, body, _MAC_BYTES), mac):
            return Touch(TouchKind.CLICK, text)
        at = _EPOCH + int.from_bytes(body[17:23], "big") * _MILLISECOND
        return Touch(TouchKind.CLICK, text, UUID(bytes=body[1:17]), at)
