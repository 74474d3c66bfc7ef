"""What a country's rules ask of a payee beyond kind, country and tax code, by name; absent means unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, assert_never

from service.domain.errors import InvalidTaxDetail
from service.domain.withholding.model import PayeeKind, Profile


class Supplies(StrEnum):
    """What somebody sells on a platform in Vietnam."""

    GOODS = "goods"
    SERVICES = "services"
    TRANSPORT = "transport"


class Form(StrEnum):
    """Which form of the United States a payee has given."""

    W9 = "w9"
    """A person or company of the United States."""
    W8BEN = "w8ben"
    """A person from abroad."""
    W8BENE = "w8bene"
    """A company from abroad."""
    NONE = "none"


class TinStatus(StrEnum):
    """What is known of a payee's taxpayer number in the United States."""

    GIVEN = "given"
    MISSING = "missing"
    INCORRECT = "incorrect"
    """The authority says that it does not belong to the name."""


class Kind(StrEnum):
    """What a detail is written as."""

    FLAG = "flag"
    YEAR = "year"
    CHOICE = "choice"


YEARS: Final = range(2000, 2101)
_PEOPLE: Final = frozenset({PayeeKind.INDIVIDUAL, PayeeKind.HOUSEHOLD})


@dataclass(frozen=True, slots=True)
class Detail:
    """name: as it stands in a profile. choices: of a choice. asked_of: the kinds of payees it concerns."""

    name: str
    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    asked_of: frozenset[PayeeKind] = _PEOPLE


def _resident(country: str) -> Detail:
    return Detail("resident", Kind.FLAG, f"Whether the payee is resident in {country} for tax.")


BY_COUNTRY: Final[Mapping[str, tuple[Detail, ...]]] = {
    "VN": (
        _resident("Vietnam"),
        Detail(
            "requests_withholding", Kind.FLAG, "Whether the payee asks to be withheld from below the threshold too."
        ),
        Detail(
            "commitment_08_until",
            Kind.YEAR,
            "The last year for which a commitment 08/CK-TNCN was given. It counts only with a tax code.",
        ),
        Detail("supplies", Kind.CHOICE, "What the payee sells on a platform.", tuple(Supplies)),
    ),
    "CN": (_resident("China"),),
}
"""By the payee's country of tax residence."""

OF_US_PAYERS: Final = (
    Detail(
        "form",
        Kind.CHOICE,
        "The form the payee has given: w9 of the United States, w8ben a person and w8bene a company from abroad. Without one "
        "backup withholding holds.",
        tuple(Form),
        frozenset(PayeeKind),
    ),
    Detail(
        "tin_status",
        Kind.CHOICE,
        "What is known of the taxpayer number; incorrect once the authority said so. Left out: given where there is a tax code.",
        tuple(TinStatus),
    ),
    Detail("works_in_us", Kind.FLAG, "Whether any of the work of a payee from abroad is done in the United States."),
    Detail(
        "return_required_last_year",
        Kind.FLAG,
        "Whether the payer had to report payments to the payee for last year, beyond what is in the books here.",
    ),
    Detail(
        "backup_withheld_last_year",
        Kind.FLAG,
        "Whether the payee was subject to backup withholding last year, beyond what is in the books here.",
    ),
)
"""Asked of payees of every country, for payers in the United States pay people abroad too."""


def asked(country: str, kind: PayeeKind) -> tuple[Detail, ...]:
    """What may be told of a payee, in the order in which to ask."""
    return tuple(each for each in (*BY_COUNTRY.get(country, ()), *OF_US_PAYERS) if kind in each.asked_of)


def check_details(country: str, kind: PayeeKind, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """The details as they are kept: only names that are asked for, None left out.

    Raises InvalidTaxDetail, which names the first that is wrong.
    """
    known = {each.name: each for each in asked(country, kind)}
    for name, value in details.items():
        if name not in known:
            names = ", ".join(known)
            raise InvalidTaxDetail(
                f"Nobody asks {name[:40]!r} of a payee that is {kind} in {country}; there are {names}."
            )
        if value is not None:
            _check(known[name], value)
    form = details.get("form")
    if form == Form.W8BEN and kind is PayeeKind.COMPANY:
        raise InvalidTaxDetail("form: w8ben is of a person; a company from abroad gives w8bene.")
    if form == Form.W8BENE and kind is not PayeeKind.COMPANY:
        raise InvalidTaxDetail("form: w8bene is of a company; a person from abroad gives w8ben.")
    if form in {Form.W8BEN, Form.W8BENE} and country == "US":
        raise InvalidTaxDetail(f"form: {form} is of payees from abroad; one resident in the United States gives w9.")
    return {name: value for name, value in details.items() if value is not None}


def _check(detail: Detail, value: object) -> None:
    match detail.kind:
        case Kind.FLAG:
            if not isinstance(value, bool):
                raise InvalidTaxDetail(f"{detail.name} has to be true or false.")
        case Kind.YEAR:
            if not isinstance(value, int) or value not in YEARS:
                raise InvalidTaxDetail(f"{detail.name} has to be a year from {YEARS[0]} to {YEARS[-1]}.")
        case Kind.CHOICE:
            if not isinstance(value, str) or value not in detail.choices:
                raise InvalidTaxDetail(f"{detail.name} has to be one of {', '.join(detail.choices)}.")
        case _:
            assert_never(detail.kind)


def is_resident(profile: Profile, home: str) -> bool | None:
    """Whether a payee is resident in a country; None where the profile does not say.

    Somebody whose tax residence is another country is not, whatever else the profile says.
    """
    if profile.country != home:
        return False
    told = profile.details.get("resident")
    return None if told is None else told is True
