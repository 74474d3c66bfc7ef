"""Where a short link leads: which addresses are allowed, and the Location that carries the click id. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote, unquote_plus
from uuid import UUID

from service.domain.dated import Owner
from service.domain.errors import Invalid

PARAMETER = "koc_click"
"""The query parameter by which the shop's landing page learns the click id."""

URL_CHARACTERS_MAX = 2048
CODE = re.compile(r"[A-Za-z0-9_-]{4,32}")
"""The shape of a short code."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# The last label begins with a letter: browsers read a host that ends in a number, 0x7f.1 too, as an IPv4 address.
_HOST = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_URL = re.compile(r"[hH][tT][tT][pP][sS]://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
"""Blanks, controls and what browsers read as a slash. Tab and line feed they even drop unseen, wherever they stand."""
_READY = re.compile(r"https://[!-\[\]-~]+")
"""Printable ASCII without backslash: nothing in it can end a header line or change its meaning on the way."""
# All that may stand in a URL as it is; the rest (quotes, angle and curly brackets, letters beyond ASCII) is escaped.
_SAFE = "!#$%&'()*+,-./:;=?@[]_~"


class InvalidUrl(Invalid):
    code = "invalid-url"
    title = "The address cannot be used as a link's destination"


class DomainNotAllowed(Invalid):
    code = "domain-not-allowed"
    title = "The address is not on one of the programme's allowed domains"


class InvalidDomain(Invalid):
    code = "invalid-domain"
    title = "The domain cannot be allowed"


@dataclass(frozen=True, slots=True)
class Link:
    """A short link as the redirect needs it. owners: oldest first. updated_at: on the database's clock."""

    merchant_id: UUID
    id: UUID
    program_id: UUID
    code: str
    url: str
    paused: bool
    owners: tuple[Owner, ...]
    updated_at: datetime
    sub_ids: dict[str, str] = field(default_factory=dict)

    def owner_at(self, at: datetime) -> UUID:
        """Whose link it is; the first owner's also before its making, which only clocks that disagree can ask for."""
        begun = [owner.affiliate_id for owner in self.owners if owner.valid_from <= at]
        return begun[-1] if begun else self.owners[0].affiliate_id


def canonical_url(text: str) -> str:
    """Return the one spelling of an https address with a named host. Raises InvalidUrl, saying what is wrong.

    Refused is whatever two parsers may read differently: user information, backslashes, blanks and controls, hosts
    that are not plain ASCII names, addresses of machines. Letters beyond ASCII after the host are escaped.
    """
    return _parsed(text)[0]


def canonical_domain(text: str) -> str:
    """Return an entry of a programme's allowed domains in lower case. Raises InvalidDomain.

    An entry is a host, a host and port ("shop.example:8443"), or "*." and a host for all hosts below it.
    """
    host, colon, port = text.lower().removeprefix("*.").partition(":")
    if not text.isascii() or not _is_host(host) or (colon and not _is_port(port)):
        raise InvalidDomain(
            f"{text[:80]!r} is not a domain such as shop.example, shop.example:8443 or *.shop.example. "
            "Names beyond ASCII are written in their xn-- form."
        )
    return text.lower().removesuffix(":443")


def allowed_url(text: str, allowed_domains: Sequence[str]) -> str:
    """Return the canonical form of an address a link may lead to. Raises InvalidUrl, DomainNotAllowed.

    allowed_domains: entries as `canonical_domain` returns them. A port that is not listed is not allowed.
    """
    url, place = _parsed(text)
    if not any(_allows(entry, place) for entry in allowed_domains):
        raise DomainNotAllowed(f"{place} is none of: {', '.join(allowed_domains) or 'no domain is allowed yet'}.")
    return url


def destination(url: str, click_id: str) -> str:
    """Return the address with the click id as its last query parameter, in place of one it may already carry.

    url: as stored, canonical. click_id: from ClickSigner, so it needs no escaping. Everything else of the address stays
    as it is, byte for byte, fragment last. Raises InvalidUrl when the address could not stand in a header.
    """
    front, hash_sign, fragment = ready(url).partition("#")
    path, _, query = front.partition("?")
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) != PARAMETER]
    return f"{path}?{'&'.join([*kept, f'{PARAMETER}={click_id}'])}{hash_sign}{fragment}"


def ready(url: str) -> str:
    """Return the address if it can be sent as a Location as it is. Raises InvalidUrl: then it was not stored by us."""
    if not _READY.fullmatch(url):
        raise InvalidUrl("The stored address is not a plain https address.")
    return url


def _parsed(text: str) -> tuple[str, str]:
    """(canonical address, host with its port unless 443)."""
    if len(text) > URL_CHARACTERS_MAX:
        raise InvalidUrl(f"An address has at most {URL_CHARACTERS_MAX} characters.")
    if _FORBIDDEN.search(text):
        raise InvalidUrl("An address holds no blanks, control characters or backslashes.")
    match = _URL.fullmatch(text)
    if match is None:
        raise InvalidUrl("An address begins with https:// and a host.")
    authority, path, query, fragment = match.groups(default="")
    if "@" in authority:
        raise InvalidUrl("An address names no user before its host.")
    host, colon, port = authority.lower().partition(":")
    # Asked of what was written: there are letters beyond ASCII whose lower case is an ASCII one.
    if not authority.isascii() or not _is_host(host):
        raise InvalidUrl(
            "The host is not a plain domain name; names beyond ASCII are written in their xn-- form, "
            "and numbers in place of a name are refused."
        )
    if colon and not _is_port(port):
        raise InvalidUrl("The port is not a number from 1 to 65535.")
    place = host if port in {"", "443"} else f"{host}:{port}"
    url = f"https://{place}{_escaped(path) or '/'}{_escaped(query)}{_escaped(fragment)}"
    if len(url) > 2 * URL_CHARACTERS_MAX:
        raise InvalidUrl("The address is too long once its letters beyond ASCII are escaped.")
    return url, place


def _escaped(text: str) -> str:
    return quote(text, safe=_SAFE)


def _allows(entry: str, place: str) -> bool:
    return place.endswith(entry[1:]) if entry.startswith("*.") else place == entry


def _is_host(text: str) -> bool:
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) <= 65535
