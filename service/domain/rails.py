"""The rails there are, what kinds of accounts each pays to, and in which countries."""

from collections.abc import Mapping
from enum import StrEnum

from service.domain.destination import AccountType
from service.domain.errors import Invalid


class RailNotForPayee(Invalid):
    """Each rail pays to some kinds of accounts, and to some of them in certain countries only."""

    code = "rail-not-for-payee"
    title = "The rail does not pay to this account or country"


class RailName(StrEnum):
    SANDBOX = "sandbox"
    """Moves no money; for test merchants."""
    STRIPE_CONNECT = "stripe_connect"
    STRIPE_GLOBAL_PAYOUTS = "stripe_global_payouts"
    SEPA_FILE = "sepa_file"
    """A file of SEPA credit transfers for the merchant's bank."""
    VN_BANK_FILE = "vn_bank_file"
    """A sheet of transfers for a bank in Vietnam."""
    ALIPAY_FILE = "alipay_file"
    WECHAT_FILE = "wechat_file"
    PAYPAL_FILE = "paypal_file"
    WISE_FILE = "wise_file"


_SEPA = """
AD AL AT AX BE BG BL CH CY CZ DE DK EE ES FI FR GB GF GG GI GP GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MF MK MQ
MT NC NL NO PF PL PM PT RE RO RS SE SI SK SM TF VA WF YT
"""
SEPA = frozenset(_SEPA.split())
"""Countries by which IBANs of the SEPA area begin, and the territories that bank as one of them does. Source: European
Payments Council, EPC409-09, "List of SEPA scheme countries", with those that joined in 2024 and 2025 (AL MD ME MK RS)."""
BANK_COUNTRIES = frozenset({"CN", "VN"})
"""Where account numbers that are no IBANs can be checked."""

_ANYWHERE = None

PAYS: Mapping[RailName, Mapping[AccountType, frozenset[str] | None]] = {
    # Where somebody can have an account at a provider is the provider's own knowledge: it would not have made it.
    RailName.SANDBOX: {AccountType.PROVIDER: _ANYWHERE},
    RailName.STRIPE_CONNECT: {AccountType.PROVIDER: _ANYWHERE},
    RailName.STRIPE_GLOBAL_PAYOUTS: {AccountType.PROVIDER: _ANYWHERE},
    RailName.SEPA_FILE: {AccountType.IBAN: SEPA},
    RailName.VN_BANK_FILE: {AccountType.BANK: frozenset({"VN"})},
    # Merchants of both pay yuan to people with Chinese papers.
    RailName.ALIPAY_FILE: {AccountType.ALIPAY: frozenset({"CN"})},
    RailName.WECHAT_FILE: {AccountType.WECHAT: frozenset({"CN"})},
    RailName.PAYPAL_FILE: {AccountType.PAYPAL: _ANYWHERE},
    RailName.WISE_FILE: {
        AccountType.WISE: _ANYWHERE,
        AccountType.IBAN: _ANYWHERE,
        AccountType.BANK: BANK_COUNTRIES,
    },
}
"""Rail → kinds of accounts → countries, None for all: of the bank, where the account is at one; else of the payee."""

_OF_THE_PAYEE = frozenset(AccountType) - {AccountType.IBAN, AccountType.BANK}


def check_fits(rail: RailName, type_: AccountType, *, account_in: str, payee_in: str | None) -> None:
    """Raise RailNotForPayee unless the rail pays to such an account.

    account_in: country of the bank, empty where the account is at none. payee_in: the payee's country, None if unknown.
    """
    kinds = PAYS[rail]
    if type_ not in kinds:
        raise RailNotForPayee(
            f"The rail {rail} pays to {_listed(kinds)} accounts. For {type_} accounts there is {_listed(_rails(type_))}."
        )
    countries = kinds[type_]
    country = payee_in if type_ in _OF_THE_PAYEE else account_in
    if countries is None or country in countries:
        return
    if country is None:
        raise RailNotForPayee(
            f"The rail {rail} pays to payees in {_listed(countries)} only. Set the affiliate's country first."
        )
    whose = "payees" if type_ in _OF_THE_PAYEE else "banks"
    raise RailNotForPayee(
        f"The rail {rail} pays to {whose} in {_listed(countries)} only; this one is in {country}. Rails for a payee there: "
        f"{_listed(_rails_to(country))}."
    )


def _rails(type_: AccountType) -> list[RailName]:
    return [rail for rail, kinds in PAYS.items() if type_ in kinds]


def _rails_to(country: str) -> list[RailName]:
    """Rails that pay to somebody of a country in some way; the sandbox, which pays nobody, is none."""
    return [
        rail
        for rail, kinds in PAYS.items()
        if rail is not RailName.SANDBOX and any(each is None or country in each for each in kinds.values())
    ]


def _listed(names: Mapping[AccountType, object] | frozenset[str] | list[RailName]) -> str:
    return ", ".join(sorted(names))
