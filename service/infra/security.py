"""Everything that needs a key: encryption at rest, MACs, keyed hashes, API keys. All of it hangs on one master key."""

import hashlib
import hmac
import os
import re
import secrets
import zlib
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from service.domain.identity import normalised

_KEY_ID = 1
"""First byte of every ciphertext. A later master key takes the next number, and old ciphertexts stay readable."""
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HASH_BYTES = 16
"""Keyed hashes are cut to 128 bits: 32 hex characters, far beyond chance meetings and half the index."""

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_API_KEY = re.compile(r"(koc_(?:live|test)_[0-9A-Za-z]{30})([0-9A-Za-z]{6})")
_PUBLISHABLE_KEY = re.compile(r"(koc_pub_(?:live|test)_[0-9A-Za-z]{30})([0-9A-Za-z]{6})")


class CannotDecrypt(Exception):
    """The bytes were not encrypted by us with this master key for this purpose, or were changed since."""


class Security:
    """Keys derived from one master key, one per purpose (HKDF-SHA256), so that nothing made for one serves another.

    A purpose's name is part of its key: renaming one makes what it protected unreadable. Safe to share among threads.
    """

    def __init__(self, master: bytes) -> None:
        """master: at least 32 random bytes."""
        if len(master) < 32:
            raise ValueError("the master key must be at least 32 bytes")
        self._master = master
        self._keys: dict[str, bytes] = {}
        self._ciphers: dict[str, AESGCM] = {}

    def encrypt(self, data: bytes, *, purpose: str) -> bytes:
        """Return key id, random nonce and AES-256-GCM ciphertext; the purpose is authenticated with it."""
        nonce = os.urandom(_NONCE_BYTES)
        return bytes((_KEY_ID,)) + nonce + self._cipher(purpose).encrypt(nonce, data, _bound_to(purpose))

    def decrypt(self, data: bytes, *, purpose: str) -> bytes:
        """Return what `encrypt` was given. Raises CannotDecrypt."""
        if len(data) < 1 + _NONCE_BYTES + _TAG_BYTES or data[0] != _KEY_ID:
            raise CannotDecrypt(f"not a ciphertext of key {_KEY_ID} for {purpose}")
        nonce = data[1 : 1 + _NONCE_BYTES]
        try:
            return self._cipher(purpose).decrypt(nonce, data[1 + _NONCE_BYTES :], _bound_to(purpose))
        except InvalidTag:
            raise CannotDecrypt(f"a ciphertext for {purpose} does not fit this master key") from None

    def sign(self, purpose: str, data: bytes, size: int) -> bytes:
        """Return a MAC of the data: the first `size` bytes of HMAC-SHA256. Compare with `hmac.compare_digest`.

        size: 8 to 32 bytes.
        """
        if not 8 <= size <= 32:
            raise ValueError("a MAC has 8 to 32 bytes")
        return hmac.digest(self._key(f"sign/{purpose}"), data, "sha256")[:size]

    def identity(self, merchant_id: UUID, kind: str, value: str, country: str = "") -> str:
        """Return a keyed hash of how a person is known, 32 hex characters; equal for two spellings of one address.

        kind: an `IdentityKind`; hashes of two kinds or two merchants never meet. country: ISO alpha-2, where a phone
        number without its country code belongs. Empty when nothing is left of the value (a phone of "n/a", stars):
        that is no identity, and must not be stored or compared.
        """
        normal = normalised(kind, value, country)
        return self._hashed("hash/identity", merchant_id.bytes + f"{kind}\0{normal}".encode()) if normal else ""

    def ip_hash(self, text: str) -> str:
        """Return a keyed hash of an IP address as written, 32 hex characters."""
        return self._hashed("hash/ip", text.encode())

    def fingerprint(self, merchant_id: UUID, rail: str, account: str) -> str:
        """Return a keyed hash of a rail and an account there, 32 hex characters: equal accounts show unread.

        Spaces and letter case of the account do not count, as people write both as they like.
        """
        normal = "".join(account.split()).casefold()
        return self._hashed("hash/fingerprint", merchant_id.bytes + f"{rail}\0{normal}".encode())

    def _hashed(self, purpose: str, message: bytes) -> str:
        """message: parts of fixed size, then a name of ours and NUL, then the value: no two lists are the same bytes."""
        return hmac.digest(self._key(purpose), message, "sha256")[:_HASH_BYTES].hex()

    def _key(self, purpose: str) -> bytes:
        key = self._keys.get(purpose)
        if key is None:
            # Two threads may both derive it: they come to the same bytes.
            hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"koc/" + purpose.encode())
            key = self._keys[purpose] = hkdf.derive(self._master)
        return key

    def _cipher(self, purpose: str) -> AESGCM:
        cipher = self._ciphers.get(purpose)
        if cipher is None:
            cipher = self._ciphers[purpose] = AESGCM(self._key(f"encrypt/{purpose}"))
        return cipher


def _bound_to(purpose: str) -> bytes:
    return bytes((_KEY_ID,)) + purpose.encode()


def new_api_key(is_test: bool) -> str:
    """Return a new key: `koc_live_` or `koc_test_`, 30 random base-62 digits (178 bits), 6 digits of checksum."""
    return _new_key("koc_test_" if is_test else "koc_live_")


def new_publishable_key(is_test: bool) -> str:
    """Return a new key that may be read in a page: `koc_pub_live_` or `koc_pub_test_`, then as in any key."""
    return _new_key("koc_pub_test_" if is_test else "koc_pub_live_")


def check_api_key(text: str) -> bool:
    """Whether the text could be a key of ours: format and checksum. A typo is refused before the database is asked."""
    return _fits(_API_KEY, text)


def check_publishable_key(text: str) -> bool:
    """As `check_api_key`, for publishable keys: no text passes both."""
    return _fits(_PUBLISHABLE_KEY, text)


def is_test_key(text: str) -> bool:
    """Whether a key is a test merchant's; its checksum covers that word."""
    return text.startswith(("koc_test_", "koc_pub_test_"))


def hash_api_key(text: str) -> bytes:
    """Return what is stored of a key. Plain SHA-256: a slow hash adds nothing to 178 random bits."""
    return hashlib.sha256(text.encode()).digest()


def _new_key(kind: str) -> str:
    body = kind + "".join([secrets.choice(_BASE62) for _ in range(30)])
    return body + _checksum(body)


def _fits(form: re.Pattern[str], text: str) -> bool:
    match = form.fullmatch(text)
    return match is not None and hmac.compare_digest(_checksum(match[1]), match[2])


def _checksum(body: str) -> str:
    """CRC-32 of all that stands before it, in six base-62 digits; the kind of key is covered too."""
    rest = zlib.crc32(body.encode())
    digits = []
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
