"""How a person is known: kinds of identities, and one spelling for all spellings of one of them.

An identity is compared with others of its own kind only. What leaves this module is still readable; whoever stores it
hashes it first (`infra/security.identity`).
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from service.domain.calling_codes import LONG_TRUNKS, PLANS, TRUNK_ZERO


class IdentityKind(StrEnum):
    ADDRESS = "address"
    """Where goods are sent, or else the bill."""
    EMAIL = "email"
    ID = "id"
    """The shop's own id of the customer."""
    PAYMENT = "payment"
    """The fingerprint of a card or account, as the one who takes the payment makes it; never a number that is masked."""
    PHONE = "phone"


Identified = tuple[tuple[str, str], ...]
"""Pairs of kind and keyed hash, sorted. A kind may come several times."""

_NO_DIGIT = re.compile(r"\D+")
_COUNTRY = re.compile(r"[A-Za-z]{2}")
_MASKS = frozenset("*\u2022\u25cf\u2217\uff0a")
"""Signs that marketplaces and card processors put in place of what they do not show."""
# Letters that no decomposition of Unicode takes apart.
_PLAIN = str.maketrans({"đ": "d", "ø": "o", "ł": "l", "ı": "i", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th"})


def normalised(kind: str, value: str, country: str = "") -> str:
    """Return one spelling for all spellings of an identity; an id as it is, empty where nothing is left of the value.

    E-mail: NFC, no surrounding blanks, lower case. Phone: + and its digits in ASCII, with country code and without the
    0 that is dialled inside a country; 00 in front counts as +. country: ISO alpha-2, where a number without its country
    code belongs; without one it stays without. Payment: no blanks. Address: as `Address.text` made it. What is masked is
    nobody's: two buyers may look alike under the same stars.
    """
    if kind != IdentityKind.ID and not _MASKS.isdisjoint(value):
        return ""
    match kind:
        case IdentityKind.EMAIL:
            if value.isascii():
                return value.strip().lower()
            # Lower case can take a letter and its accent apart again.
            return unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).lower()).strip()
        case IdentityKind.PHONE:
            number = _phone(value, country)
            return "" if number == "+" else number
        case IdentityKind.PAYMENT:
            return "".join(value.split())
        case _:
            return value


def _phone(value: str, country: str) -> str:
    # A digit of any script is worth its number.
    digits = _NO_DIGIT.sub("", value)
    digits = digits if digits.isascii() else "".join([str(int(digit)) for digit in digits])
    if not digits:
        return ""
    head = value[: next(place for place, sign in enumerate(value) if sign.isdecimal())]
    if "+" in head or "＋" in head:
        return "+" + _without_trunk(digits)
    if digits.startswith("00"):
        return "+" + _without_trunk(digits[2:])
    plan = PLANS.get(country)
    if plan is None:
        return "+" + _without_trunk(digits)
    code, longest = plan
    if code == "1" and digits.startswith("011"):
        return "+" + _without_trunk(digits[3:])
    if digits.startswith(code) and len(digits) > longest:
        # Too long for a number of that country: it has its code, and the + was lost.
        return "+" + _without_trunk(digits)
    trunk = LONG_TRUNKS.get(code, "")
    if trunk and len(digits) > longest:
        digits = digits.removeprefix(trunk)
    return "+" + _without_trunk(code + digits)


def _without_trunk(digits: str) -> str:
    """An international number without the 0 that some write behind the country code: +44 (0)20 … is +44 20 …."""
    for size in (1, 2, 3):
        if digits[:size] in TRUNK_ZERO:
            return digits[:size] + digits[size:].lstrip("0")
    return digits


def country_code(value: object) -> str:
    """Return an ISO alpha-2 code in capitals; empty for whatever is none by its look."""
    return value.upper() if type(value) is str and _COUNTRY.fullmatch(value) else ""


@dataclass(frozen=True, slots=True)
class Address:
    """A postal address as far as a shop tells its parts. country: ISO alpha-2, or empty. house: where it is told apart."""

    line1: str = ""
    line2: str = ""
    house: str = ""
    postal_code: str = ""
    city: str = ""
    country: str = ""

    @property
    def text(self) -> str:
        """One text for all ways to write one address: country, postal code, numbers and letters of the street.

        The numbers keep their order, since 12/3 and 3/12 are two houses. Letter case, accents, blanks and punctuation do not count, nor in which field a part stands: some shops tell the
        house apart, before or after the street, so the letters are sorted. The city counts only where there is no
        postal code, since it is written in many ways. Empty where it would fit many houses: without a country, a street,
        or both postal code and city. Empty where a part is masked.
        """
        parts = (self.house, self.line1, self.line2)
        if not all(_MASKS.isdisjoint(part) for part in (*parts, self.postal_code, self.city)):
            return ""
        street = " ".join([_folded(part) for part in parts])
        place = _joined(_folded(self.postal_code)) or _joined(_folded(self.city))
        numbers = "-".join(re.findall("[0-9]+", street))
        letters = "".join(sorted(sign for sign in street if sign not in " 0123456789"))
        return f"{self.country}|{place}|{numbers}|{letters}" if self.country and place and (numbers or letters) else ""


def _folded(text: str) -> str:
    """Letters without accents and case, digits in ASCII; a blank for everything else."""
    plain = unicodedata.normalize("NFKD", text.casefold()).casefold().translate(_PLAIN)
    return "".join([_sign(sign) for sign in plain if not unicodedata.combining(sign)])


def _sign(sign: str) -> str:
    if sign.isdecimal():
        return str(int(sign))
    # Vowel signs of some scripts are marks, no letters.
    return sign if sign.isalpha() or unicodedata.category(sign)[0] == "M" else " "


def _joined(text: str) -> str:
    return text.replace(" ", "")


def stored(identified: Iterable[tuple[str, str]]) -> dict[str, str | list[str]]:
    """Return pairs of kind and hash by kind, as a document holds them: one hash as a text, several as a sorted list."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for kind, hashed in sorted(set(identified)):
        by_kind[kind].append(hashed)
    # One alone as a text: the release before reads nothing else.
    return {kind: hashes[0] if len(hashes) == 1 else hashes for kind, hashes in by_kind.items()}


def identified(document: Mapping[str, str | list[str]]) -> Identified:
    """Return the pairs that `stored` put into a document."""
    return tuple(
        sorted(
            (kind, hashed)
            for kind, hashes in document.items()
            for hashed in ([hashes] if isinstance(hashes, str) else hashes)
        )
    )
